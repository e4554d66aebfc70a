"""Table 3: does a face parser improve when generated faces are added to its training set?

Three arms: the labelled faces as they are; the same augmented by mirroring, scale, rotation and shift; the same
augmented, with generated faces added. The paper reports one "accuracy" of one training each, 0.728, 0.863 and 0.871.
Since 0.008 means little without the variance of trainings, every arm is trained with several seeds, and all usual
definitions of accuracy are reported.
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
from retouch_common.parsing.data import find_pairs
from retouch_common.parsing.evaluate import evaluate
from retouch_common.parsing.labels import read_labels
from retouch_common.parsing.parser import FaceParser
from retouch_common.parsing.train import train
from retouch_common.training.fingerprint import fingerprint, refuse_output_in_data

from maskgan.data import read_aligned_pair

ARMS = ("no augmentation", "augmentation", "augmentation + drawn")
METRICS = {
    "pixel_accuracy": "pixel accuracy",
    "class_accuracy": "class accuracy",
    "miou": "mIoU",
    "f1_mean": "mean F1",
    "f1_helen": "Helen overall F1",
}
"""Titles of the metrics of :func:`retouch_common.parsing.evaluate.evaluate`."""


@dataclass(frozen=True)
class Comparison:
    """Metrics on the test split.

    Attributes:
        metrics: By arm, for every seed, values by metric.
    """

    metrics: dict[str, list[dict[str, float]]]

    def means(self, arm: str) -> dict[str, float]:
        """Return means over seeds and, under "± …", standard deviations of several."""
        runs = self.metrics[arm]
        found = {name: mean(run[name] for run in runs) for name in METRICS}
        if len(runs) > 1:
            found |= {f"± {name}": stdev(run[name] for run in runs) for name in METRICS}
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
    """Train and evaluate all arms, skipping finished trainings.

    Args:
        data: Specification for :func:`retouch_common.parsing.data.open_data`, with a test split.
        generated: A folder with ``images/`` and ``labels/``.
        out: Folder for a run directory of every arm and seed, and ``comparison.json``, the results so far.
        preset: Preset of the parser's training.
        steps: Optimiser steps of every training; None for the preset's.
        seeds: Trainings of every arm.
        device: "auto", "cpu" or "cuda".
        report: Called with lines for the user.

    Raises:
        ValueError: Unusable data or preset, a generated face has a test face's mask, ``out`` is inside the data or has
            other settings, or a training was stopped.
        OSError: ``out`` cannot be written.
    """
    if preset not in PRESETS:
        raise ValueError(f"--preset: unknown preset {preset!r}; choose from {', '.join(PRESETS)}")
    if not (generated / "images").is_dir() or not (generated / "labels").is_dir():
        raise ValueError(f"{generated}: needs the folders images and labels; maskgan-synthesize writes them")
    refuse_output_in_data(out, data, generated)
    images = [fingerprint(data), fingerprint(generated)]
    settings = {"data": data, "generated": str(generated), "images": images, "preset": preset, "steps": steps}
    refuse_other_settings(out / "comparison.json", settings)
    refuse_test_masks(data, generated)
    out.mkdir(parents=True, exist_ok=True)
    metrics: dict[str, list[dict[str, float]]] = {arm: [] for arm in ARMS}
    values = settings | {"seeds": seeds, "arms": metrics}
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
                raise ValueError(f"{run}: stopped; rerun the same command to resume")
            metrics[arm].append(evaluate(FaceParser(weights, device), data, "test"))
    write_atomically(out / "comparison.json", (json.dumps(values, indent=2) + "\n").encode())
    return Comparison(metrics)


def refuse_test_masks(data: str, generated: Path) -> None:
    """Refuse generated faces with the label image of a test face.

    Raises:
        ValueError: There is one; both files are named.
    """
    truth = [pair for pair in find_pairs(data, "test") if pair[1].suffix == ".png"]  # not templates and meshes
    drawn = {file: read_labels(file) for file in sorted((generated / "labels").glob("*.png"))}
    sizes = {labels.shape[0] for labels in drawn.values()}
    tested = {read_aligned_pair(labels, image, size)[0].tobytes(): labels for image, labels in truth for size in sizes}
    for file, mask in drawn.items():
        leaked = tested.get(mask.tobytes())
        if leaked is not None:
            raise ValueError(
                f"{file}: is the mask of a test face, {leaked}; synthesize with masks of training faces only "
                "(maskgan-synthesize --split train)"
            )


def show(result: Comparison) -> None:
    """Print the table to standard output."""
    columns = [(name, title, ".4f") for name, title in METRICS.items()]
    rows: dict[str, dict[str, float]] = {}
    for arm, runs in result.metrics.items():
        means = result.means(arm)
        rows[arm] = {name: means[name] for name in METRICS}
        if len(runs) > 1:
            rows[f"  ± over {len(runs)} seeds, {arm}"] = {name: means[f"± {name}"] for name in METRICS}
    console().print(draw_table("Face parsing on the test split", rows, columns))
