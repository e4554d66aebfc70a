from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import pytest
import safetensors
import torch
from retouch_common.training import checkpoint

TENSORS = {"model": {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.zeros(0)}}


def write(folder, step):
    return checkpoint.save(folder, step, tensors=TENSORS, meta={"note": f"step {step}"})


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_round_trip_keeps_values_types_and_nesting(tmp_path):
    tensors = {
        "model": {"w": torch.randn(3, 4), "half": torch.randn(2).bfloat16(), "n": torch.tensor(7)},
        "optimizer": {"state-0": {"exp_avg": torch.randn(3, 4), "step": torch.tensor(3.0)}},
        "nothing": {},
    }
    path = checkpoint.save(tmp_path, 12, tensors=tensors, meta={"lr": 0.1, "betas": [0.9, 0.999]})
    found = checkpoint.latest(tmp_path)
    assert found is not None
    assert (found.path, found.step, found.meta) == (path, 12, {"lr": 0.1, "betas": [0.9, 0.999]})
    assert path.name == "step-00000012"
    assert found.groups() == ["model", "nothing", "optimizer"]
    assert found.tensors("nothing") == {}
    for name, tensor in tensors["model"].items():
        assert torch.equal(found.tensors("model")[name], tensor)
        assert found.tensors("model")[name].dtype == tensor.dtype
    assert torch.equal(found.tensors("optimizer")["state-0"]["exp_avg"], tensors["optimizer"]["state-0"]["exp_avg"])


def test_model_file_carries_the_configuration(tmp_path):
    path = checkpoint.save(tmp_path, 1, tensors=TENSORS, meta={"config": {"model": {"width": 8}}})
    with safetensors.safe_open(path / "model.safetensors", "pt") as file:
        assert json.loads(file.metadata()["config"]) == {"model": {"width": 8}}


def test_equal_state_makes_equal_files(tmp_path):
    paths = [
        checkpoint.save(tmp_path / str(i), 1, tensors=TENSORS, meta={"config": {"a": 1, "b": [2]}, "note": i})
        for i in range(8)
    ]
    assert len({(path / "model.safetensors").read_bytes() for path in paths}) == 1


def test_tied_transposed_and_channels_last_tensors_are_written_by_value(tmp_path):
    base = torch.arange(24.0).reshape(2, 3, 2, 2)
    tensors = {"tied": base, "again": base, "part": base[1], "turned": base.transpose(0, 1)}
    tensors["last"] = base.to(memory_format=torch.channels_last)
    checkpoint.save(tmp_path, 1, tensors={"model": tensors}, meta={})
    loaded = checkpoint.latest(tmp_path).tensors("model")
    for name, tensor in tensors.items():
        assert torch.equal(loaded[name], tensor), name


def test_keeps_the_newest(tmp_path):
    for step in (1, 2, 3, 4):
        write(tmp_path, step)
    assert names(tmp_path) == ["step-00000003", "step-00000004"]


def test_damaged_checkpoints_do_not_count_as_kept(tmp_path):
    write(tmp_path, 1)
    write(tmp_path, 2)
    (tmp_path / "step-00000002" / "model.safetensors").write_bytes(b"")
    write(tmp_path, 3)
    assert "step-00000001" in names(tmp_path)


def test_the_same_step_again_replaces_the_old_one_after_it_is_complete(tmp_path):
    write(tmp_path, 5)
    checkpoint.save(tmp_path, 5, tensors=TENSORS, meta={"note": "second"})
    assert names(tmp_path) == ["step-00000005.1"]
    assert checkpoint.latest(tmp_path).meta == {"note": "second"}
    checkpoint.save(tmp_path, 6, tensors=TENSORS, meta={"note": "third"})
    assert checkpoint.latest(tmp_path).step == 6


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda p: os.truncate(p / "model.safetensors", 40), "has 40 bytes instead of"),
        (lambda p: flip(p / "model.safetensors"), "does not match its checksum"),
        (lambda p: flip(p / "state.json"), "does not match its checksum"),
        (lambda p: (p / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda p: (p / "manifest.json").unlink(), "manifest.json is missing"),
        (lambda p: (p / "manifest.json").write_text("{"), "manifest.json is unreadable"),
        (lambda p: (p / "manifest.json").write_text("[]"), "manifest.json is unreadable"),
        (lambda p: (p / "manifest.json").write_text('{"files": {}}'), "does not name state.json"),
    ],
)
def test_a_damaged_checkpoint_is_passed_over_and_named(tmp_path, caplog, harm, complaint):
    write(tmp_path, 1)
    bad = write(tmp_path, 2)
    harm(bad)
    assert checkpoint.latest(tmp_path).step == 1
    assert str(bad) in caplog.text
    assert complaint in caplog.text
    write(tmp_path, 2)  # training again to the damaged step works and clears it away
    assert checkpoint.latest(tmp_path).step == 2
    assert not bad.exists()


def test_what_is_not_finite_is_not_saved(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(ValueError, match=r"step 2: optimizer/state-0/exp_avg_sq holds NaN or infinite values"):
        checkpoint.save(
            tmp_path, 2, tensors={"optimizer": {"state-0": {"exp_avg_sq": torch.tensor([1.0, torch.inf])}}}, meta={}
        )
    assert names(tmp_path) == ["step-00000001"]


def test_a_checkpoint_with_nan_is_passed_over_and_named(tmp_path, caplog, monkeypatch):
    """As earlier versions wrote them."""
    write(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "check_state", lambda *arguments: None)
        checkpoint.save(tmp_path, 2, tensors={"model": {"w": torch.tensor([torch.nan])}}, meta={})
    assert checkpoint.latest(tmp_path).step == 1
    assert f"{tmp_path / 'step-00000002'}: in model.safetensors, w holds NaN or infinite values" in caplog.text
    write(tmp_path, 2)  # training again to that step replaces it
    assert names(tmp_path) == ["step-00000001", "step-00000002.1"] and checkpoint.latest(tmp_path).step == 2


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def test_a_damaged_later_checkpoint_is_removed_by_the_next_save(tmp_path):
    write(tmp_path, 1)
    flip(write(tmp_path, 3) / "model.safetensors")
    write(tmp_path, 2)
    assert names(tmp_path) == ["step-00000001", "step-00000002"]


def test_a_sound_later_checkpoint_is_not_overruled(tmp_path):
    write(tmp_path, 3)
    with pytest.raises(ValueError, match="later than step 2"):
        write(tmp_path, 2)


def test_nothing_there(tmp_path):
    assert checkpoint.latest(tmp_path) is None
    assert checkpoint.latest(tmp_path / "none") is None
    (tmp_path / "step-00000001").write_text("a file, not a directory")
    assert checkpoint.latest(tmp_path) is None


def test_unknown_group_names_the_known_ones(tmp_path):
    write(tmp_path, 1)
    with pytest.raises(ValueError, match="has no 'ema', only model"):
        checkpoint.latest(tmp_path).tensors("ema")


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk(tmp_path, monkeypatch, number):
    good = write(tmp_path, 1)
    real = os.fsync
    calls = []

    def full(handle):
        calls.append(handle)
        if len(calls) == 2:
            raise OSError(number, os.strerror(number))
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"disk full while writing checkpoint .*step-00000002") as caught:
        write(tmp_path, 2)
    assert str(good) in str(caught.value)
    assert names(tmp_path) == ["step-00000001"]
    assert checkpoint.latest(tmp_path).step == 1


def test_full_disk_without_an_earlier_checkpoint(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="there is no earlier checkpoint"):
        write(tmp_path, 2)
    assert names(tmp_path) == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_FSIZE stands in for a small disk")
def test_the_kernel_refuses_the_write_in_the_middle_of_a_file(tmp_path):
    good = write(tmp_path, 1)
    code = """
        import resource, signal, sys
        import torch
        from retouch_common.training import checkpoint
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
        try:
            checkpoint.save(sys.argv[1], 2, tensors={"model": {"w": torch.zeros(100_000)}}, meta={})
        except OSError as error:
            print(error)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert "disk full while writing checkpoint" in said
    assert str(good) in said
    assert names(tmp_path) == ["step-00000001"]


@pytest.fixture
def saving(tmp_path):
    """A process with nothing but one thread that, for a step on its standard input, forks one that saves without end.

    The fork, which need not import torch, says its pid and every step that it has saved; at its end "ended" is said.
    """
    code = """
        import os, sys
        import torch
        from retouch_common.training import checkpoint
        torch.set_num_threads(1)
        for line in sys.stdin:
            if (pid := os.fork()) == 0:
                print(os.getpid(), flush=True)
                step = int(line)
                while True:
                    step += 1
                    full = torch.full((300_000,), float(step))
                    tensors = {"model": {"w": full}, "ema": {"w": -full}}
                    checkpoint.save(sys.argv[1], step, tensors=tensors, meta={"step": step})
                    print(step, flush=True)
            os.waitpid(pid, 0)
            print("ended", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "bufsize": 1}
    with subprocess.Popen(command, start_new_session=True, **pipes) as process:
        yield process
        os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(os.name != "posix", reason="SIGKILL")
def test_kill_in_the_middle_of_writing(tmp_path, saving):
    """Killed at random instants, the newest sound checkpoint is the last one announced or the next."""
    dice = random.Random(0)
    start = interrupted = 0
    for _ in range(40):
        print(start, file=saving.stdin)
        pid, announced = int(saving.stdout.readline()), int(saving.stdout.readline())
        time.sleep(dice.uniform(0, 0.015))
        os.kill(pid, signal.SIGKILL)
        while (said := saving.stdout.readline()) != "ended\n":
            announced = int(said)
        interrupted += any(path.name.endswith(".tmp") for path in tmp_path.iterdir())
        found = checkpoint.latest(tmp_path)
        assert found is not None
        assert announced <= found.step <= announced + 1
        assert found.meta == {"step": found.step}
        assert found.tensors("model")["w"].unique().tolist() == [found.step]
        assert found.tensors("ema")["w"].unique().tolist() == [-found.step]
        start = found.step
    assert interrupted >= 5, "hardly a kill hit a save; the test shows nothing"
    checkpoint.save(tmp_path, start + 1, tensors=TENSORS, meta={})
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


def test_a_read_only_folder_is_an_os_error(tmp_path):
    if os.name == "posix" and os.geteuid() == 0:
        target = tmp_path / "file"
        target.write_text("")
        with pytest.raises(OSError):
            write(target, 1)
    else:
        tmp_path.chmod(0o500)
        with pytest.raises(OSError):
            write(tmp_path, 1)
        tmp_path.chmod(0o700)


def manifest_of_state_only(path):
    manifest = path / "manifest.json"
    files = json.loads(manifest.read_text())["files"]
    manifest.write_text(json.dumps({"files": {"state.json": files["state.json"]}}))


def deep_manifest(path):
    (path / "manifest.json").write_text("[" * 100_000)


def folder_of_another_step(path):
    path.rename(path.with_name("step-00000009"))


@pytest.mark.parametrize("spoil", [manifest_of_state_only, deep_manifest, folder_of_another_step])
def test_a_checkpoint_that_contradicts_itself_is_skipped(tmp_path, spoil):
    state = {"model": {"weight": torch.zeros(2)}}
    checkpoint.save(tmp_path, 1, tensors=state, meta={})
    spoil(checkpoint.save(tmp_path, 2, tensors=state, meta={}))
    found = checkpoint.latest(tmp_path)
    assert found is not None and found.step == 1
