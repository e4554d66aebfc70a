"""The training loop on pairs of a few pixels: every configuration of Table 2, the schedule, refusals."""

import json
import shutil

import numpy as np
import pytest
import pyvips
import torch
from abpn.cli import train as command
from abpn.config import PRESETS, TrainConfig
from abpn.model import ABPN
from abpn.train import RetouchingTask, cut, levels_of_step, train
from click.testing import CliRunner
from retouch_common.cli.training import STOPPED
from retouch_common.config import apply_overrides
from retouch_common.testing.training_runs import assert_infinite_rate_is_survived
from retouch_common.training.fit import dry_run
from retouch_common.training.runner import Runner


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    generator = np.random.default_rng(0)
    for name in ("raw", "target"):
        (folder / name).mkdir()
    for number in range(4):
        target = generator.integers(60, 200, (80, 80, 3), dtype=np.uint8)
        raw = target.copy()
        raw[20:30, 20 + number : 30 + number] = 20
        pyvips.Image.new_from_array(raw).write_to_file(str(folder / "raw" / f"{number}.png"))
        pyvips.Image.new_from_array(target).write_to_file(str(folder / "target" / f"{number}.png"))
    return str(folder)


def configured(**changes):
    overrides = {"train.steps": 1, **{name.replace("__", "."): value for name, value in changes.items()}}
    return apply_overrides(PRESETS["tiny"], overrides)


@pytest.mark.parametrize(
    "changes",
    [
        {"model__mask_branch": False},
        {"model__attention": "pcb"},
        {"model__refine": False},
        {"model__blend": "rgb"},
        {"model__blend": "addition"},
        {"model__blend": "soft_light"},
        {"model__blend": "convolutional"},
        {"model__blend": "adaptive", "model__pyramid": "burt", "model__residual": False},
        {"loss__adversarial": 0.1, "loss__tv": 0.1, "loss__reduction": "sum"},
        {"train__accumulate": 2, "train__batch_size": 4, "loss__adversarial": 0.1},
        {"train__precision": "bf16", "train__channels_last": True},
    ],
    ids=lambda changes: ",".join(f"{name}={value}" for name, value in changes.items()),
)
def test_every_row_of_table_2_takes_a_step(pairs, tmp_path, changes):
    weights = train(configured(**changes), pairs, tmp_path / "run", device="cpu", report=lambda line: None)
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert np.isfinite(lines[0]["loss"])
    assert ("discriminator" in lines[0]) == ("loss__adversarial" in changes)
    assert any("val_psnr_identity" in line for line in lines)
    model = ABPN.from_pretrained(weights)
    assert model.config == configured(**changes).model


def test_a_longer_run_continues_and_another_is_refused(pairs, tmp_path):
    said = []
    train(configured(train__steps=2), pairs, tmp_path, device="cpu", report=said.append)
    train(configured(train__steps=3), pairs, tmp_path, device="cpu", report=said.append)
    assert f"resuming {tmp_path} after step 2, on cpu in fp32" in said
    with pytest.raises(ValueError, match=r"model.blend=neutral, not rgb"):
        train(configured(train__steps=3, model__blend="rgb"), pairs, tmp_path, device="cpu")


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_checkpoint(pairs, tmp_path):
    train(configured(train__steps=1), pairs, tmp_path, device="cpu", report=lambda line: None)
    before = sorted((tmp_path / "checkpoints").iterdir())
    broken = configured(train__steps=2, train__lr=0.002)
    import abpn.losses

    original = abpn.losses.JointLoss._reconstruction
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            abpn.losses.JointLoss,
            "_reconstruction",
            lambda *args: {name: term * float("nan") for name, term in original(*args).items()},
        )
        with pytest.raises(ValueError, match="step 2"):
            train(broken, pairs, tmp_path, device="cpu", report=lambda line: None)
    assert sorted((tmp_path / "checkpoints").iterdir()) == before


def test_dry_run_writes_nothing(pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    dry_run(RetouchingTask(configured(), pairs), device="cpu", report=said.append)
    assert "dry run: no run directory was written" in said
    assert not list(tmp_path.iterdir())


def test_the_learning_rate_drops_after_epochs_of_the_data_at_hand(pairs):
    """Three pairs for training and batches of two: two epochs are three steps."""
    config = configured(train__schedule="step", train__step_at_epoch=2, train__steps=100, train__warmup=2)
    task = RetouchingTask(config, pairs)
    task.setup(Runner(cpu=True))
    assert (len(task.data), config.train.batch_size) == (3, 2)
    rates = []
    for _ in range(5):
        rates.append(task.optimizers["model"].param_groups[0]["lr"])
        task.optimizers["model"].step()
        task.schedulers["model"].step()
    assert rates == pytest.approx([1e-3, 2e-3, 2e-3, 2e-4, 2e-4])
    assert PRESETS["paper"].train.step_at_epoch == 100 and PRESETS["paper"].train.schedule == "step"


@pytest.mark.parametrize(("steps", "warned"), [(3, True), (4, False)])
def test_a_run_that_ends_before_the_drop_is_warned_of(pairs, caplog, steps, warned):
    config = configured(train__schedule="step", train__step_at_epoch=2, train__steps=steps)
    RetouchingTask(config, pairs).setup(Runner(cpu=True))
    assert [text for text in caplog.messages if "would drop after step 3" in text] == caplog.messages
    assert bool(caplog.messages) == warned


def test_levels_depend_on_the_step_alone():
    cfg = TrainConfig(levels=(0, 1, 2))
    drawn = [levels_of_step(step, cfg) for step in range(50)]
    assert set(drawn) == {0, 1, 2}
    assert drawn == [levels_of_step(step, cfg) for step in range(50)]


def test_crops_are_cut_to_the_thumbnail():
    cfg = TrainConfig(size=64, levels=(0, 1, 2), thumbnail=32)
    image = torch.arange(64.0).expand(1, 3, 64, 64)
    assert cut(image, 0, cfg).shape == (1, 3, 32, 32)
    assert cut(image, 0, cfg)[0, 0, 0, 0] == 16
    assert cut(image, 1, cfg) is image
    assert cut(image, 2, cfg) is image


def test_an_infinite_learning_rate_leaves_no_broken_weights(pairs, tmp_path):
    arguments = ["--preset", "tiny", "--data", pairs, "--out", tmp_path / "run", "--set", "loss.adversarial=0.1"]
    assert_infinite_rate_is_survived(command, arguments, tmp_path / "run")


def test_a_run_replaces_neither_its_own_configuration_file_nor_weights_without_checkpoints(pairs, tmp_path):
    given = tmp_path / "run" / "config.yaml"
    given.parent.mkdir()
    given.write_text("train: {steps: 1}  # mine")
    arguments = ["--preset", "tiny", "--data", pairs, "--out", str(given.parent), "--device", "cpu"]
    result = CliRunner().invoke(command, [*arguments, "--config", str(given)])
    assert result.exit_code == 1 and f"--config {given} would be written over" in result.output
    assert given.read_text().endswith("# mine")
    moved = given.rename(tmp_path / "config.yaml")
    assert CliRunner().invoke(command, [*arguments, "--config", str(moved)]).exit_code == 0
    shutil.rmtree(given.parent / "checkpoints")
    before = (given.parent / "weights" / "model.safetensors").read_bytes()
    result = CliRunner().invoke(command, [*arguments, "--config", str(moved), "--steps", "2"])
    assert result.exit_code == 1 and "holds weights but no checkpoint" in result.output
    assert (given.parent / "weights" / "model.safetensors").read_bytes() == before


def test_a_run_that_is_stopped_before_its_end_says_so_in_its_exit_status(pairs, tmp_path, monkeypatch):
    arguments = ["--preset", "tiny", "--data", pairs, "--steps", "2", "--device", "cpu", "--out", str(tmp_path / "run")]
    with monkeypatch.context() as patched:
        patched.setattr("retouch_common.training.runner.Runner.stop_requested", lambda runner: True)
        assert CliRunner().invoke(command, arguments).exit_code == STOPPED
    assert not (tmp_path / "run" / "weights").exists()
    assert CliRunner().invoke(command, arguments).exit_code == 0
    assert (tmp_path / "run" / "weights").is_dir()


def test_weights_of_another_configuration_are_refused_before_the_data_are_opened(tmp_path):
    with pytest.raises(ValueError, match="another model configuration"):
        train(configured(train__init="small"), "faces:missing", tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ()}, r"train\.levels must be numbers from 0 on"),
        ({"levels": (-1,)}, r"train\.levels must be numbers from 0 on"),
        ({"thumbnail": -4}, r"train\.thumbnail must be at least 0, not -4"),
        ({"size": 30, "levels": (0, 2)}, r"train\.size=30 is not a multiple of 2\*\*2"),
    ],
)
def test_options_that_fit_no_pyramid_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**options)
