import hashlib
import json
import zipfile
from pathlib import Path

import huggingface_hub
import pytest
import torch
from huggingface_hub import errors
from retouch_common import weights
from retouch_common.config import to_dict
from retouch_common.files import sha256
from retouch_common.weights import bundled_names, load_state, resolve_weights, save_weights
from safetensors.torch import save_file


def a_state():
    return {"conv.weight": torch.arange(12.0).view(3, 4), "half": torch.ones(2, dtype=torch.bfloat16)}


@pytest.fixture
def bundled(tmp_path):
    folder = tmp_path / "bundled"
    folder.mkdir()
    for name in ("small", "large"):
        save_weights(folder / f"{name}.safetensors", a_state(), config={"width": 32}, metadata={"recipe": "x"})
    sums = [f"{sha256(file)}  {file.name}\n" for file in sorted(folder.iterdir())]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return folder


def message(call, *args, **kwargs):
    with pytest.raises(ValueError) as caught:
        call(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bundled_names_are_sorted_and_may_be_none(bundled, tmp_path):
    assert bundled_names(bundled) == ["large", "small"]
    assert bundled_names(tmp_path / "nowhere") == []


def test_bundled_weights_are_verified_and_bring_their_configuration(bundled):
    found = resolve_weights("small", bundled=bundled)
    assert (found.config, found.metadata["recipe"]) == ({"width": 32}, "x")
    state = load_state(found)
    assert state.keys() == a_state().keys()
    for key, value in a_state().items():
        assert state[key].dtype == value.dtype and torch.equal(state[key], value)


def test_a_changed_bundled_file_is_refused(bundled):
    file = bundled / "small.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert "damaged" in message(resolve_weights, "small", bundled=bundled)


def test_a_bundled_file_without_a_checksum_is_refused(bundled):
    (bundled / "SHA256SUMS").write_text("")
    assert "not listed" in message(resolve_weights, "small", bundled=bundled)


def test_bundled_weights_inside_a_zip(bundled, tmp_path):
    archive = tmp_path / "package.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in bundled.iterdir():
            file.write(name, f"weights/{name.name}")
    inside = zipfile.Path(archive, "weights/")
    assert resolve_weights("small", bundled=inside).config == {"width": 32}


def test_checksums_are_in_the_format_of_sha256sum(bundled):
    digest, name = (bundled / "SHA256SUMS").read_text().splitlines()[0].split("  ")
    assert hashlib.sha256((bundled / name).read_bytes()).hexdigest() == digest


def test_a_file_by_path(bundled):
    found = resolve_weights(bundled / "large.safetensors", bundled=bundled)
    assert found.config == {"width": 32}


def test_a_path_object_is_never_taken_for_a_bundled_name(bundled):
    assert "'small'" in message(resolve_weights, Path("small"), bundled=bundled)


def test_a_folder_with_its_configuration_beside_the_weights(bundled, tmp_path):
    from safetensors.torch import save_file

    folder = tmp_path / "saved"
    folder.mkdir()
    save_file(a_state(), folder / "model.safetensors")
    assert resolve_weights(str(folder), bundled=bundled).config is None
    (folder / "config.json").write_text(json.dumps({"width": 8}))
    found = resolve_weights(str(folder), bundled=bundled)
    assert (found.config, found.path.name) == ({"width": 8}, "model.safetensors")


def test_the_folder_of_a_finished_training_run(bundled, tmp_path):
    (tmp_path / "run" / "weights").mkdir(parents=True)
    save_weights(tmp_path / "run" / "weights" / "model.safetensors", a_state(), config={"width": 2})
    assert resolve_weights(str(tmp_path / "run"), bundled=bundled).config == {"width": 2}


def test_a_folder_that_holds_no_weights_or_several(bundled, tmp_path):
    assert "no model.safetensors" in message(resolve_weights, str(tmp_path), bundled=bundled)
    assert "name one" in message(resolve_weights, str(bundled), bundled=bundled)


@pytest.mark.parametrize("config", ["{", "[1]"])
def test_a_configuration_that_is_none_is_refused(bundled, tmp_path, config):
    from safetensors.torch import save_file

    save_file(a_state(), tmp_path / "w.safetensors", metadata={"config": config})
    assert "w.safetensors" in message(resolve_weights, str(tmp_path / "w.safetensors"), bundled=bundled)


def test_truncated_and_foreign_files_are_refused(bundled, tmp_path):
    data = (bundled / "small.safetensors").read_bytes()
    for length in (0, 4, 40, len(data) - 1):
        (tmp_path / "cut.safetensors").write_bytes(data[:length])
        assert "cut.safetensors" in message(resolve_weights, str(tmp_path / "cut.safetensors"), bundled=bundled)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt"])
def test_pickles_are_refused_unread(bundled, tmp_path, suffix):
    (tmp_path / f"w{suffix}").write_bytes(b"anything")
    assert "pickled" in message(resolve_weights, str(tmp_path / f"w{suffix}"), bundled=bundled)


def test_an_unknown_name_gets_the_nearest_one(bundled, tmp_path):
    text = message(resolve_weights, "smal", bundled=bundled)
    assert "did you mean 'small'?" in text and "large, small" in text
    assert "did you mean" not in message(resolve_weights, "zzzzz", bundled=bundled)
    assert "bundles none" in message(resolve_weights, "small", bundled=tmp_path / "nowhere")
    assert "no such file" in message(resolve_weights, "./runs/small.safetensors", bundled=bundled)
    assert "no such file" in message(resolve_weights, "runs/small.safetensors", bundled=bundled)
    assert "no such file" in message(resolve_weights, "~nosuchuser/small.safetensors", bundled=bundled)


def test_a_mistyped_path_is_not_asked_of_the_hub(bundled, tmp_path, monkeypatch):
    def ask(*arguments, **options):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr(weights.hub, "verified_file", ask)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    assert "the folder runs holds no mien" in message(resolve_weights, "runs/mien", bundled=bundled)
    for name in ("runs/mien@main", "owner/name"):
        with pytest.raises(AssertionError, match="asked"):
            resolve_weights(name, bundled=bundled)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": %s}' % ("9" * 5000)])
def test_a_configuration_that_json_cannot_read_is_refused_in_one_line(bundled, tmp_path, text):
    path = tmp_path / "deep.safetensors"
    save_file(a_state(), path, metadata={"config": text})
    assert message(resolve_weights, path, bundled=bundled).startswith(f"{path} (metadata key 'config')")


@pytest.mark.parametrize(
    "change",
    [{"channels": [10**6, 16, 16]}, {"channels": [10**9] * 3}, {"channels": [10**30] * 3}, {"blocks": 10**7}],
    ids=repr,
)
def test_weights_that_describe_a_huge_network_are_refused_at_once(tmp_path, change):
    """Building it would take all memory, or for ever."""
    from retouch_common.parsing.config import PRESETS
    from retouch_common.parsing.model import ParsingUNet

    model = ParsingUNet(PRESETS["tiny"].model)
    path = tmp_path / "huge.safetensors"
    save_weights(path, model.state_dict(), config=to_dict(model.config))
    assert ParsingUNet.from_pretrained(path).config == model.config
    save_weights(path, model.state_dict(), config=to_dict(model.config) | change)
    line = message(ParsingUNet.from_pretrained, path)
    assert line.startswith(f"{path}: ") and len(line) < 500


def test_numbers_that_no_network_has_are_refused_before_it_is_built(tmp_path, monkeypatch):
    """A billion layers take gigabytes before the first tensor is created."""
    from retouch_common.parsing.config import PRESETS
    from retouch_common.parsing.model import ParsingUNet

    model = ParsingUNet(PRESETS["tiny"].model)
    path = tmp_path / "huge.safetensors"
    monkeypatch.setattr(ParsingUNet, "__init__", lambda self, config: pytest.fail("it was built"))
    for change in ({"channels": [8, 10**9]}, {"size": 10**9}):
        save_weights(path, model.state_dict(), config=to_dict(model.config) | change)
        line = message(ParsingUNet.from_pretrained, path)
        assert line == f"{path}: its configuration has an implausibly large number, above 65536"


def test_weights_of_another_width_are_refused_with_the_shapes(tmp_path):
    from retouch_common.parsing.config import PRESETS
    from retouch_common.parsing.model import ParsingUNet

    model = ParsingUNet(PRESETS["tiny"].model)
    path = tmp_path / "other.safetensors"
    save_weights(path, model.state_dict(), config=to_dict(model.config) | {"channels": [8, 16, 32]})
    line = message(ParsingUNet.from_pretrained, path)
    assert "do not fit its configuration" in line and "in the file" in line and len(line) < 500


def test_saving_never_leaves_a_partial_file(tmp_path, monkeypatch):
    target = tmp_path / "w.safetensors"
    save_weights(target, a_state(), config={})
    before = target.read_bytes()

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(weights.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_weights(target, {"other": torch.zeros(3)}, config={})
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"] and target.read_bytes() == before


def test_saving_refuses_a_second_configuration(tmp_path):
    text = message(save_weights, tmp_path / "w.safetensors", a_state(), config={}, metadata={"config": "{}"})
    assert "taken" in text


def hub_answers(monkeypatch, answer):
    def download(repo, file, revision=None, local_files_only=False):
        assert not local_files_only
        result = answer(repo, file, revision)
        if isinstance(result, Exception):
            raise result
        return str(result)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", lambda url, timeout: None)


def http_error(kind):
    """An error of the hub without the response that its own constructor wants (of httpx or requests)."""
    return type(kind.__name__, (kind,), {"__init__": lambda self, text: None})("first line\nsecond line")


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (errors.LocalEntryNotFoundError("offline"), "cannot reach the Hugging Face hub"),
        (errors.EntryNotFoundError("no file"), "has no model.safetensors"),
        (RuntimeError("peer closed connection"), "broke off (peer closed connection); try again"),
        (http_error(errors.RepositoryNotFoundError), "nothing of that name"),
        (http_error(errors.GatedRepoError), "accept its terms"),
        (http_error(errors.RevisionNotFoundError), "no revision 'v2'"),
        (http_error(errors.HfHubHTTPError), "answered with an error"),
    ],
)
def test_what_a_hub_that_fails_tells_the_user(bundled, monkeypatch, error, says):
    hub_answers(monkeypatch, lambda *_: error)
    assert says in message(resolve_weights, "someone/abpn@v2", bundled=bundled)


def test_without_a_network_the_hub_says_what_to_do(bundled, monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    text = message(resolve_weights, "someone/abpn", bundled=bundled)
    assert "cannot reach" in text and "give its path" in text


def test_a_hub_that_does_not_answer_is_asked_once_and_for_seconds(bundled, monkeypatch, tmp_path):
    """The hub's own client tries six times, and so for half a minute."""
    timeouts = []

    def connect(url, timeout):
        timeouts.append(timeout)
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", connect)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    text = message(resolve_weights, "runs/modle", bundled=bundled)
    assert "no such file or folder here, and cannot reach the Hugging Face hub" in text and "give its path" in text
    assert timeouts == [5.0]


def test_without_the_hub_the_cache_is_used(bundled, monkeypatch, tmp_path):
    link = hub_cache(tmp_path, bundled, sha256(bundled / "small.safetensors"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def download(repo, file, revision=None, local_files_only=False):
        assert local_files_only
        if file == "model.safetensors":
            return str(link)
        raise errors.LocalEntryNotFoundError("no config")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert resolve_weights("someone/abpn", bundled=bundled).path == link


def hub_cache(tmp_path, bundled, digest):
    """A tree as the hub's cache keeps it: the snapshot links to a blob named by its checksum."""
    blob = tmp_path / "hub" / "blobs" / digest
    blob.parent.mkdir(parents=True)
    blob.write_bytes((bundled / "small.safetensors").read_bytes())
    link = tmp_path / "hub" / "snapshots" / "abc" / "model.safetensors"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    return link


def test_a_download_is_verified_by_the_name_of_its_blob(bundled, monkeypatch, tmp_path):
    link = hub_cache(tmp_path, bundled, sha256(bundled / "small.safetensors"))
    asked = []

    def answer(repo, file, revision):
        asked.append((repo, file, revision))
        return link if file == "model.safetensors" else errors.EntryNotFoundError("no config")

    hub_answers(monkeypatch, answer)
    found = resolve_weights("someone/abpn@v1", bundled=bundled)
    assert found.config == {"width": 32}
    assert asked[0] == ("someone/abpn", "model.safetensors", "v1")


def test_a_damaged_download_is_refused(bundled, monkeypatch, tmp_path):
    link = hub_cache(tmp_path, bundled, "0" * 64)
    hub_answers(monkeypatch, lambda repo, file, revision: link)
    assert "damaged" in message(resolve_weights, "someone/abpn", bundled=bundled)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_values_that_are_no_numbers_are_neither_saved_nor_loaded(tmp_path, value):
    state = a_state() | {"bias": torch.tensor([0.0, value])}
    path = tmp_path / "a.safetensors"
    assert f"{path}: tensor 'bias' holds NaN or infinite" in message(save_weights, path, state, config={})
    assert not path.exists()
    save_file(state, path)
    assert f"{path}: tensor 'bias' holds NaN" in message(load_state, resolve_weights(path, bundled=tmp_path))


def test_integers_are_no_weights_but_batch_normalisation_may_count(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({"norm.num_batches_tracked": torch.tensor(3)}, path)
    assert load_state(resolve_weights(path, bundled=tmp_path))["norm.num_batches_tracked"] == 3
    save_file({"conv.weight": torch.ones(2, dtype=torch.int8)}, path)
    assert "tensor 'conv.weight' is int8, not floating" in message(load_state, resolve_weights(path, bundled=tmp_path))
