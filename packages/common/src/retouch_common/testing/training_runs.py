"""Training runs of the preset tiny, each in a fresh process, on pairs that are equal on every machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyvips
from click.testing import CliRunner
from safetensors.torch import load_file

from retouch_common.training import checkpoint
from retouch_common.weights import non_finite, state_hash

STEPS = 20  # of the preset tiny
DIE_AFTER_CHECKPOINT = """
import os, signal
from retouch_common.training import checkpoint

save = checkpoint.save

def save_and_die(*args, **kwargs):
    save(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save = save_and_die
"""


@dataclass(frozen=True)
class Run:
    """A run directory."""

    folder: Path

    def state(self, step: int = STEPS) -> dict[str, Any]:
        """Return everything a checkpoint holds: weights, average, optimiser, random state, configuration."""
        path = self.folder / "checkpoints" / f"step-{step:08}"
        state = json.loads((path / "state.json").read_text(encoding="utf-8"))
        found = checkpoint.Checkpoint(path, state["step"], state["meta"])
        return {"meta": found.meta, **{group: found.tensors(group) for group in found.groups()}}

    def last_step(self) -> int | None:
        """Return the step of the last checkpoint, which is intact, or None."""
        found = checkpoint.latest(self.folder / "checkpoints")
        return found.step if found else None

    def hashes(self, step: int = STEPS) -> dict[str, str]:
        """Return a hash for each part of the state, so that a difference names the part."""
        return {part: state_hash(value) for part, value in self.state(step).items()}

    def weights_hash(self) -> str:
        """Return a hash of the final weights."""
        return state_hash(load_file(self.folder / "weights" / "model.safetensors"))

    def losses(self, steps: int = STEPS) -> list[float]:
        """Return the losses of all steps, in order."""
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
        assert list(losses) == list(range(1, steps + 1))
        return list(losses.values())


def draw_pairs(folder: Path, number: int = 20) -> None:
    """Write pairs of soft gradients, the raw ones with a dark spot; integers only, equal on every machine."""
    size = 64
    y, x = np.mgrid[:size, :size]
    for name in ("raw", "target"):
        (folder / name).mkdir(parents=True)
    for index in range(number):
        generator = np.random.default_rng(index)
        slope, base = generator.integers(0, 2, (2, 3)), generator.integers(90, 130, 3)
        image = (
            base + slope[0] * x[..., None] + slope[1] * y[..., None] // 2 + generator.integers(-4, 5, (size, size, 1))
        )
        centre, radius = generator.integers(12, size - 12, 2), generator.integers(3, 7)
        spot = (x - centre[0]) ** 2 + (y - centre[1]) ** 2 < radius**2
        for name, depth in (("raw", 60), ("target", 0)):
            pixels = np.clip(image - depth * spot[..., None], 0, 255).astype(np.uint8)
            pyvips.Image.new_from_array(pixels).write_to_file(str(folder / name / f"{index:02}.png"))


def train(package: str, data: Path, out: Path, *, options: tuple[str, ...] = (), killed: bool = False) -> Run:
    """Run the training command of a package on one thread of the CPU.

    Args:
        package: Import name of the paper.
        data: Folder of pairs.
        out: Run directory.
        options: Further options of the command.
        killed: Kill the process right after its first checkpoint.
    """
    code = DIE_AFTER_CHECKPOINT * killed + f"from {package}.cli import train; train()"
    command = [sys.executable, "-c", code, *options, "--preset", "tiny", "--data", str(data), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([*command, "--device", "cpu"], env=environment, capture_output=True, text=True)
    assert result.returncode == (-signal.SIGKILL if killed else 0), result.stdout + result.stderr
    return Run(out)


def assert_same(run: Run, other: Run) -> None:
    """Assert that two runs ended in the same bits and saw the same losses."""
    assert run.last_step() == other.last_step() == STEPS
    assert run.hashes() == other.hashes()
    assert run.weights_hash() == other.weights_hash()
    assert run.losses() == other.losses()


def assert_infinite_rate_is_survived(command: click.Command, arguments: Sequence[object], folder: Path) -> None:
    """Assert that a run whose weights become NaN ends with a message, keeps its last good state, and can be resumed.

    ``arguments`` are options of the preset tiny, with data and run directory, without steps and learning rate.
    """

    def run(*more: str) -> Any:
        every = ["--set", "train.checkpoint_every=1", "--device", "cpu"]
        return CliRunner().invoke(command, [*map(str, arguments), *every, *more])

    result = run("--steps", "1", "--set", "train.lr=.inf", "--set", "train.sheet_every=100")
    assert result.exit_code == 1 and "step 1: " in result.output, result.output
    assert not (folder / "weights").exists() and checkpoint.latest(folder / "checkpoints") is None
    assert run("--steps", "1").exit_code == 0
    shutil.rmtree(folder / "weights")  # as if killed before they were written
    good = checkpoint.latest(folder / "checkpoints")
    assert good is not None and good.step == 1

    result = run("--steps", "3", "--set", "train.lr=.inf")
    network = next(iter(set(good.groups()) & {"model", "part"}))
    assert result.exit_code == 1 and f"Error: step 2: {network}/" in result.output, result.output
    assert "NaN or infinite values after the update" in result.output
    assert not (folder / "weights").exists()
    assert checkpoint.latest(folder / "checkpoints") == good

    result = run("--steps", "3", "--set", "train.lr=1e-5")
    assert result.exit_code == 0 and "after step 1" in result.output, result.output
    assert not non_finite(load_file(folder / "weights" / "model.safetensors"))
    last = checkpoint.latest(folder / "checkpoints")
    assert last is not None and last.step == 3 and last.meta["config"]["train"]["lr"] == 1e-5
    optimizer = next(group for group in last.meta if group.startswith("optimizer-"))
    assert last.meta[optimizer]["group-0"]["initial_lr"] <= 1e-5
