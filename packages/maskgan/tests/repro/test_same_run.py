"""Training repeats to the bit in a fresh process, and goes on to the bit after a kill."""

import pytest
from retouch_common.testing.training_runs import TRAIN_AND_DIE, assert_same
from retouch_common.training import checkpoint

pytestmark = pytest.mark.repro


def test_two_fresh_processes_train_the_same(train_tiny, run, tmp_path):
    assert_same(train_tiny(tmp_path / "b"), run)


def test_ten_steps_and_ten_more_after_a_kill_are_twenty(train_tiny, run, tmp_path):
    killed = train_tiny(tmp_path / "c", code=TRAIN_AND_DIE, succeeds=False)
    assert checkpoint.latest(killed.folder / "checkpoints").step == 10
    assert not (killed.folder / "weights").exists()
    assert_same(train_tiny(tmp_path / "c"), run)


def test_the_state_is_complete(run):
    networks = {"model", "ema", "optimizer-model", "discriminators", "optimizer-discriminators"}
    assert networks | {"random", "meta"} <= run.state().keys()


def test_another_seed_is_another_run(train_tiny, run, tmp_path):
    other = train_tiny(tmp_path / "d", "--set", "train.seed=1", code=TRAIN_AND_DIE, succeeds=False)
    first = checkpoint.latest(other.folder / "checkpoints").tensors("model")
    assert first.keys() == run.state()["model"].keys()
    assert any((first[name] != value).any() for name, value in run.state()["model"].items())
