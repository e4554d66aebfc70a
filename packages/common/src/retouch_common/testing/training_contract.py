"""The contract of training: bit-exact repetition and resumption, as a test suite to subclass.

class TestTraining(TrainingContract):
    state = frozenset({"model", "ema", "optimizer-model"})

Fixtures that the package defines: ``train_tiny``, which trains 20 steps in a fresh process as :func:`train` does with a
run directory, options and ``killed``, and ``run``, such a run.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from retouch_common.testing.training_runs import Run, assert_same

Train = Callable[..., Run]


class TrainingContract:
    """Tests that the training of every paper must pass."""

    state: ClassVar[frozenset[str]]
    """Groups of a checkpoint besides the random state and the metadata."""
    network: ClassVar[str] = "model"
    """Group of the trained weights."""

    def test_ten_steps_and_ten_more_after_a_kill_are_twenty(self, train_tiny: Train, run: Run, tmp_path: Path) -> None:
        """Training repeats to the bit in a fresh process, and a killed run resumes to the bit."""
        killed = train_tiny(tmp_path / "b", killed=True)
        assert killed.last_step() == 10 and not (killed.folder / "weights").exists()
        assert killed.hashes(10) == run.hashes(10)
        assert killed.losses(10) == run.losses()[:10]
        assert_same(train_tiny(tmp_path / "b"), run)

    def test_the_state_is_complete(self, run: Run) -> None:
        """A checkpoint holds every group."""
        assert self.state | {"random", "meta"} <= run.state().keys()

    def test_another_seed_is_another_run(self, train_tiny: Train, run: Run, tmp_path: Path) -> None:
        """The seed matters from the first step on, and changes no names."""
        other = train_tiny(tmp_path / "c", "--set", "train.seed=1", "--set", "train.checkpoint_every=1", killed=True)
        first, twentieth = other.state(1)[self.network], run.state()[self.network]
        assert first.keys() == twentieth.keys()
        assert other.losses(1) != run.losses()[:1]
