"""Evaluation on pairs of photographs at the resolutions of Table 3, with the identity for comparison.

Metrics are named after their protocols (:mod:`retouch_common.metrics.protocols`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.data.pair_files import Split
from retouch_common.data.pairs import ImagePairs
from retouch_common.files import sha256
from retouch_common.metrics.evaluation import (
    CHANGED,
    IDENTITY,
    LEGEND,
    Measured,
    Pairs,
    columns,
    console,
    draw_table,
    open_lpips,
    write_evaluation,
)
from retouch_common.metrics.quality import quantise
from retouch_common.weights import resolve_weights
from torch import Tensor

from abpn.data import open_pairs
from abpn.retouch import Retoucher

MODEL = "ABPN"
LARGEST_FACES = 768  # pixels: faces:DIR makes no larger crops
POSTPROCESSED = "what abpn-retouch writes: R_0 without faint changes and with uncertain ones limited"
R_0 = "R_0, as in the paper, with all its changes"
FIGURE_ROWS, FIGURE_SIDE, AMPLIFIED = 6, 512, 8


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What to measure, and how.

    Attributes:
        resolutions: Sides in pixels to resize the pairs to, a table for each.
        split: "val", "test" or "all".
        limit: Use only the first ``limit`` pairs.
        postprocess: Measure what ``abpn-retouch`` writes, not the paper's R_0; see :class:`abpn.retouch.Retoucher`.
        lpips: True requires LPIPS, None measures it if its weights are available, False skips it.
        device: "auto", "cpu" or "cuda".
        precision: Number format of the convolutions.
    """

    resolutions: tuple[int, ...] = (1024,)
    split: Split = "val"
    limit: int | None = None
    postprocess: bool = True
    lpips: bool | None = None
    device: str = "auto"
    precision: str = "auto"


@dataclass(kw_only=True)
class Evaluation:
    """Results of :func:`evaluate`.

    Attributes:
        header: Weights, data, options and environment, as JSON values.
        measured: Metrics, for each resolution.
        notes: Remarks that belong to the tables.
    """

    header: dict[str, Any]
    measured: list[Measured] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def evaluate(
    weights: str,
    data: str,
    options: EvaluationOptions,
    *,
    out: Path | None = None,
    report: Callable[[str], None] = print,
) -> Evaluation:
    """Evaluate weights on pairs of photographs.

    Args:
        weights: Name, path or hub id of weights.
        data: Specification for :func:`retouch_common.data.pairs.open_pairs`.
        options: What to measure.
        out: Folder for ``evaluation.json`` and ``figures.png``; None writes nothing.
        report: Called with notes for the user.

    Raises:
        ValueError: If weights, data or options cannot be used; names a pair that cannot be read.
        OSError: If ``out`` cannot be written.
    """
    from retouch_common.progress import progress_bar

    found = resolve_weights(weights, bundled=resources.files("abpn") / "weights")
    retoucher = Retoucher(
        found.path, device=options.device, precision=options.precision, postprocess=options.postprocess
    )
    result = Evaluation(header=_header(weights, found.path, data, options, retoucher))
    lpips = open_lpips(options.lpips, retoucher.device, result.notes)
    sizes = _resolutions(data, options.resolutions, result.notes)
    for note in result.notes:
        report(f"note: {note}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    opened = {size: _open(data, size, options) for size in sizes}  # all at first, to fail before measuring
    figures: list[dict[str, Tensor]] = []
    with progress_bar(unit="images") as bar:
        for size, pairs in opened.items():
            measured = Measured(resolution=size, rows=(IDENTITY, MODEL), enlarged=pairs.smaller_than(size))
            result.measured.append(measured)
            for name, raw, target in bar.track(pairs, total=len(pairs), description=f"{size} x {size}"):
                output, seconds = _retouch(retoucher, raw, warm_up=not (measured.images or measured.clean))
                before, after, truth = (image.to(retoucher.device) for image in (raw, output, target))
                entry = measured.add(name, before, truth, {MODEL: after}, lpips=lpips)
                entry[MODEL]["seconds"] = seconds
                if size == sizes[0] and not torch.equal(raw, target) and len(figures) < FIGURE_ROWS:
                    figures.append(_figure(raw, output, target))
    if out is not None:
        write_evaluation(out, as_json(result), figures, max_side=FIGURE_SIDE)
    return result


def _open(data: str, size: int, options: EvaluationOptions) -> Pairs:
    pairs = open_pairs(data, size=size, split=options.split, fit="whole")
    return Pairs(pairs, limit=options.limit, files=pairs if isinstance(pairs, ImagePairs) else None)


def _resolutions(data: str, sizes: Sequence[int], notes: list[str]) -> list[int]:
    too_large = sorted({size for size in sizes if size > LARGEST_FACES and data.startswith("faces:")})
    if too_large:
        asked = ", ".join(map(str, too_large))
        notes.append(
            f"{data} makes crops of up to {LARGEST_FACES} pixels; measured at {LARGEST_FACES} instead of {asked}"
        )
    return list(dict.fromkeys(LARGEST_FACES if size in too_large else size for size in sizes))


def _retouch(retoucher: Retoucher, raw: Tensor, *, warm_up: bool) -> tuple[Tensor, float]:
    """Return the output and the seconds it took, from array to array."""
    image = np.ascontiguousarray((quantise(raw) * 255).round().byte().permute(1, 2, 0).numpy())
    if warm_up:
        retoucher(image)
    start = time.perf_counter()
    output = retoucher(image)  # an array on the host, so the device has finished
    seconds = time.perf_counter() - start
    return torch.from_numpy(output).permute(2, 0, 1).float() / 255, seconds


def _figure(raw: Tensor, output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Return a row of figures.png; the error is amplified around grey."""
    images = {"raw": raw, "output": output, "target": target}
    if raw.shape[-1] > FIGURE_SIDE:
        size = (FIGURE_SIDE, FIGURE_SIDE)
        for name, image in images.items():
            images[name] = F.interpolate(image[None], size=size, mode="bilinear", antialias=True)[0]
    error = images["output"] - images["target"]
    return images | {f"error x{AMPLIFIED}": (0.5 + AMPLIFIED * error).clamp(0, 1)}


def _header(weights: str, path: Path, data: str, options: EvaluationOptions, retoucher: Retoucher) -> dict[str, Any]:
    from retouch_common.metrics.environment import environment

    pairs = "whole photographs, longer side resized, shorter side padded by repeating its edges; the padding counts"
    if data.startswith("faces:"):
        pairs = "drawn blemishes on crops of portraits, with varied light, background and camera"
    return {
        "weights": {"name": weights, "sha256": sha256(path)},
        "data": {"spec": data, "split": options.split, "limit": options.limit, "pairs": pairs},
        "device": str(retoucher.device),
        "precision": options.precision,
        "output": POSTPROCESSED if options.postprocess else R_0,
        "seconds": "array to array, after one call to warm up, mean over images",
        "changed": CHANGED,
        "environment": environment(),
    }


def as_json(result: Evaluation) -> dict[str, Any]:
    """Return JSON values: header, notes, and for each resolution protocols, means, counts and images."""
    resolutions = [measured.as_json() for measured in result.measured]
    return {**result.header, "notes": result.notes, "resolutions": resolutions}


def show(result: Evaluation) -> None:
    """Print a table for each resolution, with notes."""
    screen = console()
    for measured in result.measured:
        size, number = measured.resolution, len(measured.images)
        title = f"{size} x {size}, {number} pairs; the target changes {measured.target_changes:.2%} of the pixels"
        rows = {row: measured.means(row) for row in measured.rows}
        screen.print(draw_table(title, rows, (*columns("png8"), ("seconds", "s/image", ".3f"))))
        for line in measured.footnotes():
            screen.print(line)
        screen.print()
    legend = f"RGB, 8 bits; {LEGEND}"
    output = f"{MODEL}: {result.header['output']}."
    for note in (legend, output, *result.notes):
        screen.print(note)
