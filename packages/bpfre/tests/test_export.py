"""ONNX graphs compute what PyTorch does, for any number of images."""

import json

import pytest
import torch
from bpfre import export as export_module
from bpfre.cli import export as command
from bpfre.config import PRESETS
from bpfre.export import export
from bpfre.model import BPFRe
from click.testing import CliRunner
from retouch_common.config import apply_overrides
from retouch_common.inference.onnx import run_onnx


def busy_model(**changes):
    torch.manual_seed(0)
    overrides = {f"model.{name}": value for name, value in {"size": 32, **changes}.items()}
    model = BPFRe(apply_overrides(PRESETS["tiny"], overrides).model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    model = busy_model()
    model.save_pretrained(folder / "weights")
    result = CliRunner().invoke(command, ["--weights", str(folder / "weights"), "--out", str(folder / "m.onnx")])
    assert result.exit_code == 0, result.output
    assert "agree" in result.output
    return model, folder / "m.onnx"


@pytest.mark.parametrize("number", [1, 3])
def test_any_number_of_images(exported, number):
    model, path = exported
    image = torch.rand(number, 3, 32, 32)
    found = run_onnx(path.read_bytes(), {"image": image})
    with torch.no_grad():
        expected = model(image)
    assert torch.allclose(found["refined"], expected.refined, atol=1e-4)
    assert torch.allclose(found["coarse"], expected.coarse, atol=1e-4)
    assert found["attention_coarse"].shape == found["attention_refined"].shape == (number, 1, 32, 32)


def test_the_file_says_what_it_is(exported):
    import onnx

    metadata = {entry.key: entry.value for entry in onnx.load(exported[1]).metadata_props}
    assert metadata["size"] == "32" and json.loads(metadata["config"])["norm"] == "group"


@pytest.mark.parametrize(
    ("changes", "outputs"),
    [
        ({"generator": False, "norm": "none", "activation": "leaky"}, {"coarse", "attention_coarse"}),
        ({"decoder": False, "attention": False, "patch": 2}, {"refined"}),
    ],
)
def test_every_part_exports(changes, outputs, tmp_path):
    differences = export(busy_model(**changes), tmp_path / "m.onnx")
    assert set(differences) == outputs and max(differences.values()) < 1e-4


@pytest.mark.parametrize(
    ("missing", "outputs"),
    [
        ("generator", ["coarse", "attention_coarse"]),
        ("decoder", ["refined", "attention_refined"]),
        ("attention", ["coarse", "refined"]),
    ],
)
def test_outputs_of_missing_parts_are_omitted(missing, outputs):
    whole = export_module._Whole(busy_model(**{missing: False}))
    with torch.no_grad():
        values = whole(torch.rand(1, 3, 32, 32))
    assert whole.names == outputs and all(value is not None for value in values) and len(values) == len(outputs)


@pytest.mark.parametrize(("part", "change"), [("decoder.to_rgb", 0.5), ("generator.stages.32.to_rgb", torch.nan)])
def test_a_graph_that_differs_is_not_written(exported, tmp_path, monkeypatch, part, change):
    graph = exported[1].read_bytes()
    monkeypatch.setattr(export_module, "to_onnx", lambda *args, **kwargs: graph)
    other = busy_model()
    with torch.no_grad():
        other.get_submodule(part).bias.add_(change)
    with pytest.raises(ValueError, match="differ by"):
        export(other, tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "message"), [("m.pt", "must end in .onnx"), ("no/m.onnx", "does not exist; create it")]
)
def test_wrong_names_are_refused(tmp_path, name, message):
    with pytest.raises(ValueError, match=message):
        export(busy_model(), tmp_path / name)


def test_a_file_that_is_there_is_not_replaced(tmp_path):
    path = tmp_path / "a.onnx"
    path.write_bytes(b"kept")
    result = CliRunner().invoke(command, ["--out", str(tmp_path / "a.onnx")])
    assert result.exit_code == 1 and f"{path}: already exists" in result.output
    assert path.read_bytes() == b"kept" and list(tmp_path.iterdir()) == [path]
