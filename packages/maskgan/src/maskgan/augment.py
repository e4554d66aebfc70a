"""Table 3: does a face parser learn better when faces drawn by the network are added to its training set?

Three arms: the labelled faces as they are; the same augmented by mirroring, scale, rotation and shift; the same
augmented, with drawn faces among them. The paper reports one "accuracy" of one training each, 0.728, 0.863 and 0.871;
a difference of 0.008 says little without knowing how much trainings differ, so every arm is trained with several seeds,
and what "accuracy" is left open is reported in all its usual readings.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from retouch_common.config import apply_overrides
from retouch_common.files import refuse_other_settings, write_atomically
from retouch_common.metrics.evaluation import console, draw_table
from retouch_common.parsing.config import PRESETS
from retouch_common.parsing.evaluate import evaluate
from retouch_common.parsing.train import train

ARMS = ("no augmentation", "augmentation", "augmentation + drawn")
FIGURES = {
    "pixel_accuracy": "pixel accuracy",
    "class_accuracy": "class accuracy",
    "miou": "mIoU",
    "f1_mean": "mean F1",
    "f1_helen": "Helen overall F1",
}
"""Titles of what :func:`retouch_common.parsing.evaluate.evaluate` measures."""


@dataclass(frozen=True)
class Comparison:
    """What the arms reach on the test split.

    Attributes:
        figures: By arm, of every seed: figure to value.
    """

    figures: dict[str, list[dict[str, float]]]

    def means(self, arm: str) -> dict[str, float]:
        """Mean over seeds, and under "± …" the standard deviation where there are several."""
        runs = self.figures[arm]
        found = {name: mean(run[name] for run in runs) for name in FIGURES}
        if len(runs) > 1:
            found |= {f"± {name}": stdev(run[name] for run in runs) for name in FIGURES}
        return found


def compare(
    data: str,
    generated: Path,
    out: Path,
    *,
    preset: str = "recommended",
    steps: int | None = None,
    seeds: int = 3,
    device: str = "auto",
    report: Callable[[str], None] = print,
) -> Comparison:
    """Train and measure all arms; finished trainings are not repeated.

    Args:
        data: What :func:`retouch_common.parsing.data.open_data` reads, with a split for testing.
        generated: A folder with ``images/`` and ``labels/``.
        out: A run directory for every arm and seed, and ``comparison.json``, what is known so far.
        preset: Of the parser's training.
        steps: Of every training; None for the preset's.
        seeds: Trainings of every arm.
        device: "auto", "cpu" or "cuda".
        report: Receives lines for the user.

    Raises:
        ValueError: Unusable data or preset, ``out`` was begun with others, or a training was stopped.
        OSError: ``out`` cannot be written.
    """
    if preset not in PRESETS:
        raise ValueError(f"--preset {preset}: there are {', '.join(PRESETS)}")
    if not (generated / "images").is_dir() or not (generated / "labels").is_dir():
        raise ValueError(f"{generated}: needs the folders images and labels; maskgan-synthesize writes them")
    settings = {"data": data, "generated": str(generated), "preset": preset, "steps": steps}
    refuse_other_settings(out / "comparison.json", settings)
    out.mkdir(parents=True, exist_ok=True)
    figures: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    values = settings | {"seeds": seeds, "arms": figures}
    for seed in range(seeds):
        for arm in ARMS:
            changes = {
                "train.seed": seed,
                "train.augmentation": "none" if arm == ARMS[0] else "paper",
                "train.extra": str(generated) if arm == ARMS[2] else "",
            } | ({"train.steps": steps} if steps else {})
            run = out / f"{arm.replace(' + ', '-').replace(' ', '-')}-{seed}"
            report(f"{arm}, seed {seed}: {run}")
            write_atomically(out / "comparison.json", (json.dumps(values, indent=2) + "\n").encode())
            weights = train(apply_overrides(PRESETS[preset], changes), data, run, device=device, report=report)
            if weights is None:
                raise ValueError(f"{run}: stopped; the same command continues")
            figures[arm].append(evaluate(weights, data, "test", device=device))
    write_atomically(out / "comparison.json", (json.dumps(values, indent=2) + "\n").encode())
    return Comparison(figures)


def show(result: Comparison) -> None:
    """Print the table to standard output."""
    columns = [(name, title, ".4f") for name, title in FIGURES.items()]
    rows: dict[str, dict[str, float]] = {}
    for arm, runs in result.figures.items():
        means = result.means(arm)
        rows[arm] = {name: means[name] for name in FIGURES}
        if len(runs) > 1:
            rows[f"  ± over {len(runs)} seeds, {arm}"] = {name: means[f"± {name}"] for name in FIGURES}
    console().print(draw_table("Face parsing on the test split", rows, columns))
