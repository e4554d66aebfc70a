"""Training runs of the preset tiny, each in a fresh process, on pairs that every machine draws alike."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pyvips
from retouch_common.testing.golden import state_hash
from retouch_common.training import checkpoint
from safetensors.torch import load_file

TRAIN = "from abpn.cli import train; train()"
TRAIN_AND_DIE = """
import os, signal
from retouch_common.training import checkpoint

save = checkpoint.save

def save_and_die(*args, **kwargs):
    save(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)

checkpoint.save = save_and_die
from abpn.cli import train; train()
"""


@dataclass(frozen=True)
class Run:
    """A run directory."""

    folder: Path

    def state(self):
        """Everything the last checkpoint holds: weights, average, optimiser, random state, configuration."""
        found = checkpoint.latest(self.folder / "checkpoints")
        assert found is not None and found.step == 20
        return {"meta": found.meta, **{group: found.tensors(group) for group in found.groups()}}

    def hashes(self):
        """A hash for each part of the state, so that a difference names the part."""
        return {part: state_hash(value) for part, value in self.state().items()}

    def weights_hash(self):
        return state_hash(load_file(self.folder / "weights" / "model.safetensors"))

    def losses(self):
        """The losses of all steps, in order."""
        lines = [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]
        losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
        assert list(losses) == list(range(1, 21))
        return list(losses.values())


def draw_pairs(folder, number=20, size=64):
    """Soft gradients; the raw ones with a dark spot. Integers only, so that every machine draws the same."""
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


def train(data, out, *, code=TRAIN, succeeds=True):
    command = [sys.executable, "-c", code, "--preset", "tiny", "--data", str(data), "--out", str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run([*command, "--device", "cpu"], env=environment, capture_output=True, text=True)
    assert (result.returncode == 0) == succeeds, result.stdout + result.stderr
    return Run(out)


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    draw_pairs(folder)
    return folder


@pytest.fixture(scope="session")
def run(data, tmp_path_factory):
    """Twenty steps at once."""
    return train(data, tmp_path_factory.mktemp("run") / "a")
