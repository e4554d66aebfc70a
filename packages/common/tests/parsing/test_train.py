"""Training: learns, stops, continues to the bit, refuses what it must; the command and the measuring of weights."""

import math
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from maskgan.parser_cli import train_parser
from retouch_common.config import apply_overrides
from retouch_common.parsing.config import PRESETS
from retouch_common.parsing.evaluate import evaluate
from retouch_common.parsing.losses import parsing_loss
from retouch_common.parsing.model import ParsingUNet
from retouch_common.parsing.parser import FaceParser
from retouch_common.parsing.train import ParsingTask, train
from retouch_common.testing.training_runs import assert_infinite_rate_is_survived
from retouch_common.training.fit import dry_run
from retouch_common.training.monitor import read_metrics
from retouch_common.training.run_state import initial_weights
from retouch_common.training.runner import Runner


def configured(**changes):
    return apply_overrides(PRESETS["tiny"], {name.replace("__", "."): value for name, value in changes.items()})


@pytest.fixture(scope="module", autouse=True)
def quick_validation():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("retouch_common.parsing.train.HARD_SAMPLES", 2)
        yield


@pytest.fixture(scope="module")
def run(people, tmp_path_factory):
    """A parser that learnt drawn people, by the command."""
    out = tmp_path_factory.mktemp("runs") / "run"
    options = ["--preset", "tiny", "--data", people, "--out", str(out), "--device", "cpu", "--steps", "60"]
    options += ["--set", "train.augmentation=paper", "--set", "train.sheet_every=60", "--set", "train.batch_size=8"]
    answer = CliRunner().invoke(train_parser, options)
    assert answer.exit_code == 0, answer.output
    assert f"wrote {out / 'weights'}" in answer.output
    return out


def test_loss_is_the_mean_cross_entropy():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]]).T.reshape(1, 2, 1, 2)
    logits = torch.cat([logits, torch.full((1, 9, 1, 2), -1e4)], dim=1)
    labels = torch.tensor([[[0, 0]]])
    expected = (np.log(1 + np.exp(-2)) + np.log(1 + np.exp(1))) / 2
    assert float(parsing_loss(logits, labels)) == pytest.approx(expected, rel=1e-5)
    weights = (1.0, *[5.0] * 10)
    labels = torch.tensor([[[0, 1]]])
    expected = (np.log(1 + np.exp(-2)) + 5 * np.log(1 + np.exp(-1))) / 6
    assert float(parsing_loss(logits, labels, weights)) == pytest.approx(expected, rel=1e-5)


def test_a_run_leaves_what_it_should(run):
    assert {".lock", "config.yaml", "metrics.jsonl", "sheets", "checkpoints", "weights"} == {
        path.name for path in run.iterdir()
    }
    assert (run / "sheets" / "step-00000060.png").is_file()
    last = read_metrics(run / "metrics.jsonl")[-2:]
    measured = next(line for line in last if "val_pixel_accuracy" in line)
    assert {"val_f1_mean", "hard_miou", "val_class_accuracy", "val_f1_helen", "val_loss"} <= measured.keys()


def test_it_learns_drawn_people(run, people, monkeypatch):
    """Held-out people are measured afresh, from the weights that were written; training keeps outliers."""
    monkeypatch.setattr("retouch_common.parsing.parser.ONE_PIECE", ())
    parser = FaceParser(run / "weights", "cpu")
    measured = evaluate(parser, people, "val")
    assert measured["faces"] == 2
    assert measured["pixel_accuracy"] > 0.85 and measured["f1_skin"] > 0.85 and measured["f1_hair"] > 0.7
    written = next(line for line in read_metrics(run / "metrics.jsonl") if "val_miou" in line)
    checked = evaluate(parser, people, "dev")
    assert checked["miou"] == pytest.approx(written["val_miou"], abs=1e-4)


def built(people, **changes):
    """A task, ready for a step."""
    task = ParsingTask(configured(**changes), str(people))
    task.setup(Runner(cpu=True))
    return task


def test_the_loss_is_the_weighted_sum_of_its_terms(people):
    task = built(people, loss__dice=3.0)
    losses = {name: float(value) for name, value in task.training_step(1, task.batches(0)).items()}
    assert losses["loss"] == pytest.approx(losses["cross_entropy"] + 3 * losses["dice"]) and losses["dice"] > 0


def test_the_moving_average_is_measured_and_saved(people, tmp_path):
    task = built(people, train__ema=0.9)
    average = {name: value.clone() for name, value in task.ema.module.state_dict().items()}
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.fill_(math.nan)
    metrics, _ = task.validate()
    assert all(math.isfinite(value) for value in metrics.values())
    task.save_weights(tmp_path)
    saved = ParsingUNet.from_pretrained(tmp_path).state_dict()
    assert saved.keys() == average.keys() and all(torch.equal(saved[name], average[name]) for name in average)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_killed_run_continues_to_the_bit(people, tmp_path, accumulate):
    changes = {"train__accumulate": accumulate, "train__checkpoint_every": 2, "train__sheet_every": 50}
    quick = {**changes, "model__size": 16, "train__steps": 4}
    train(configured(**quick), people, tmp_path / "whole", device="cpu", report=print)
    train(configured(**{**quick, "train__steps": 2}), people, tmp_path / "parts", device="cpu", report=print)
    shutil.rmtree(tmp_path / "parts" / "weights")  # as if it had been killed at step 2
    said = []
    train(configured(**quick), people, tmp_path / "parts", device="cpu", report=said.append)
    assert said[0].startswith("resuming") and said[0].endswith("after step 2, on cpu in fp32")
    a, b = ((tmp_path / part / "weights" / "model.safetensors").read_bytes() for part in ("whole", "parts"))
    assert a == b
    losses = [
        [line["loss"] for line in read_metrics(tmp_path / part / "metrics.jsonl") if "loss" in line]
        for part in ("whole", "parts")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 4


def test_another_configuration_does_not_continue(run, people):
    with pytest.raises(ValueError, match=r"holds a run with train\.lr=0\.01, not 0\.5"):
        train(configured(train__lr=0.5, train__augmentation="paper", train__batch_size=8), people, run, device="cpu")


def test_training_starts_from_weights(run, people, tmp_path):
    options = {"train__init": str(run / "weights"), "train__steps": 1, "train__lr": 1e-9, "train__ema": 0.0}
    train(configured(**options), people, tmp_path / "on", device="cpu", report=print)
    start, end = (FaceParser(path / "weights", "cpu").model.state_dict() for path in (run, tmp_path / "on"))
    assert torch.allclose(start["ups.2.weight"], end["ups.2.weight"], atol=1e-6)
    with pytest.raises(ValueError, match="another model configuration"):
        other = configured(train__init=str(run / "weights"), model__blocks=0)
        train(other, "faces:missing", tmp_path / "x", device="cpu")  # refused before the data are opened


def test_tensors_that_fit_are_taken_from_another_configuration(run, caplog):
    options = {"train__init": str(run / "weights"), "train__ignore_mismatched_sizes": True}
    network = ParsingUNet(configured(model__blocks=0).model)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    initial_weights(network, configured(**options).train)
    trained, after = FaceParser(run / "weights", "cpu").model.state_dict(), network.state_dict()
    fitting = {name for name, value in after.items() if name in trained and trained[name].shape == value.shape}
    assert 0 < len(fitting) < len(trained)
    for name, value in after.items():
        assert torch.equal(value, trained[name] if name in fitting else before[name]), name
    assert f"initialises {len(fitting)} of {len(after)} tensors" in caplog.text


def test_weights_in_half_the_space_parse_alike(people, tmp_path):
    for half in (False, True):
        out = tmp_path / str(half)
        train(configured(train__half=half, train__steps=2), people, out, device="cpu", report=print)
    full, half = (tmp_path / name / "weights" / "model.safetensors" for name in ("False", "True"))
    assert half.stat().st_size < 0.6 * full.stat().st_size
    face = np.random.default_rng(0).random((64, 64, 3), dtype=np.float32)
    one, other = (FaceParser(path, "cpu") for path in (full, half))
    assert other.model.state_dict()["ups.2.weight"].dtype == torch.float32
    np.testing.assert_allclose(one.probabilities(face), other.probabilities(face), atol=0.01)


def test_a_dry_run_writes_nothing(people, tmp_path):
    options = ["--preset", "tiny", "--data", people, "--out", str(tmp_path / "run"), "--device", "cpu", "--dry-run"]
    answer = CliRunner().invoke(train_parser, options)
    assert answer.exit_code == 0, answer.output
    assert "data: 9 samples for training, 1 for validation" in answer.output
    assert "dry run: no run directory was written" in answer.output and not (tmp_path / "run").exists()
    said = []
    dry_run(ParsingTask(configured(), people), device="cpu", report=said.append)
    assert said[-1] == "dry run: no run directory was written"


def test_mistakes_are_one_line(tmp_path):
    options = ["--preset", "small", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "run"), "--device", "cpu"]
    answer = CliRunner().invoke(train_parser, options)
    assert answer.exit_code == 1 and answer.output.startswith("Error: ") and "no such folder" in answer.output
    answer = CliRunner().invoke(train_parser, [*options, "--set", "model.chanels=[8,8]"])
    assert "did you mean 'model.channels'?" in answer.output


def test_an_infinite_learning_rate_leaves_no_broken_weights(people, tmp_path):
    arguments = ["--preset", "tiny", "--data", people, "--out", tmp_path / "run", "--set", "train.batch_size=2"]
    assert_infinite_rate_is_survived(train_parser, arguments, tmp_path / "run")
