"""Measuring weights on pairs of photographs, at the resolutions of Table 3, always beside doing nothing.

Every table has the row "output = input": where a retoucher changed a few pixels, it already scores high. Figures
carry the names of their protocols (:mod:`retouch_common.metrics.protocols`).
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
from retouch_common.data.pairs import ImagePairs, open_pairs
from retouch_common.files import sha256
from retouch_common.losses.region import CHANGED_LEVELS
from retouch_common.metrics.evaluation import (
    CHANGED,
    IDENTITY,
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

from abpn.retouch import Retoucher

MODEL = "ABPN"
LARGEST_FACES = 768  # pixels: faces:DIR makes no larger crops
FIGURE_ROWS, FIGURE_SIDE, AMPLIFIED = 6, 512, 8


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured, and how.

    Attributes:
        resolutions: Sides in pixels that the pairs are brought to, one table each.
        split: "val", "test" or "all" of the data.
        limit: Only the first so many pairs.
        lpips: True: measure it or refuse to start. None: where its weights are. False: never.
        device: "auto", "cpu" or "cuda".
        precision: Of the network's convolutions.
    """

    resolutions: tuple[int, ...] = (1024,)
    split: Split = "val"
    limit: int | None = None
    lpips: bool | None = None
    device: str = "auto"
    precision: str = "auto"


@dataclass(kw_only=True)
class Evaluation:
    """All that was measured; :func:`as_json` and :func:`show` write it down.

    Attributes:
        header: Weights, data, options and environment, as JSON values.
        measured: One for each resolution.
        notes: What a reader of the tables must know.
    """

    header: dict[str, Any]
    measured: list[Measured] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def evaluate(
    weights: str, data: str, options: Options, *, out: Path | None = None, report: Callable[[str], None] = print
) -> Evaluation:
    """Measure weights on a set of pairs.

    Args:
        weights: What :meth:`abpn.model.ABPN.from_pretrained` reads.
        data: What :func:`retouch_common.data.pairs.open_pairs` reads.
        options: What is measured.
        out: Folder for ``evaluation.json`` and ``figures.png``; None writes nothing.
        report: Receives lines for the user.

    Raises:
        ValueError: Unusable weights, data or options; a pair that cannot be read is named.
        OSError: ``out`` cannot be written.
    """
    from retouch_common.progress import progress_bar

    found = resolve_weights(weights, bundled=resources.files("abpn") / "weights")
    retoucher = Retoucher(found.path, device=options.device, precision=options.precision)
    result = Evaluation(header=_header(weights, found.path, data, options, retoucher))
    lpips = open_lpips(options.lpips, retoucher.device, result.notes)
    sizes = _resolutions(data, options.resolutions, result.notes)
    for note in result.notes:
        report(f"note: {note}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    opened = {size: _open(data, size, options) for size in sizes}  # at once: faults show before anything is measured
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


def _open(data: str, size: int, options: Options) -> Pairs:
    pairs = open_pairs(data, size=size, split=options.split, fit="whole")
    return Pairs(pairs, limit=options.limit, files=pairs if isinstance(pairs, ImagePairs) else None)


def _resolutions(data: str, wanted: Sequence[int], notes: list[str]) -> list[int]:
    if not data.startswith("faces:"):
        return list(dict.fromkeys(wanted))
    sizes = list(dict.fromkeys(min(size, LARGEST_FACES) for size in wanted))
    too_large = sorted({size for size in wanted if size > LARGEST_FACES})
    if too_large:
        asked = ", ".join(map(str, too_large))
        notes.append(
            f"{data} makes crops of up to {LARGEST_FACES} pixels; measured at {LARGEST_FACES} instead of {asked}"
        )
    return sizes


def _retouch(retoucher: Retoucher, raw: Tensor, *, warm_up: bool) -> tuple[Tensor, float]:
    """The output and the seconds from array to array."""
    image = np.ascontiguousarray((quantise(raw) * 255).round().byte().permute(1, 2, 0).numpy())
    if warm_up:
        retoucher(image)
    start = time.perf_counter()
    output = retoucher(image)  # an array on the host: the device has finished
    seconds = time.perf_counter() - start
    return torch.from_numpy(output).permute(2, 0, 1).float() / 255, seconds


def _figure(raw: Tensor, output: Tensor, target: Tensor) -> dict[str, Tensor]:
    """One line of the picture sheet; the difference is what the output still lacks, around grey."""
    pictures = {name: _reduced(image) for name, image in (("raw", raw), ("output", output), ("target", target))}
    error = pictures["output"] - pictures["target"]
    return pictures | {f"error x{AMPLIFIED}": (0.5 + AMPLIFIED * error).clamp(0, 1)}


def _reduced(image: Tensor) -> Tensor:
    if image.shape[-1] <= FIGURE_SIDE:
        return image
    return F.interpolate(image[None], size=(FIGURE_SIDE, FIGURE_SIDE), mode="bilinear", antialias=True)[0]


def _header(weights: str, path: Path, data: str, options: Options, retoucher: Retoucher) -> dict[str, Any]:
    from retouch_common.metrics.environment import environment

    pairs = "whole photographs, longer side resized, shorter side padded by repeating its edges; the padding counts"
    if data.startswith("faces:"):
        pairs = "drawn blemishes on crops of portraits, with varied light, background and camera"
    return {
        "weights": {"name": weights, "sha256": sha256(path)},
        "data": {"spec": data, "split": options.split, "limit": options.limit, "pairs": pairs},
        "device": str(retoucher.device),
        "precision": options.precision,
        "seconds": "array to array, after one call to warm up, mean over images",
        "changed": CHANGED,
        "environment": environment(),
    }


def as_json(result: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON values: header, notes, and for each resolution protocols, means, counts and images."""
    return {
        **result.header,
        "notes": result.notes,
        "resolutions": [measured.as_json() for measured in result.measured],
    }


def show(result: Evaluation) -> None:
    """Print a table for each resolution to standard output, with what must be known to read it."""
    screen = console()
    for measured in result.measured:
        size, number = measured.resolution, len(measured.images)
        title = f"{size} x {size}, {number} pairs; the target changes {measured.target_changes:.2%} of the pixels"
        rows = {row: measured.means(row) for row in measured.rows}
        screen.print(draw_table(title, rows, (*columns("png8"), ("seconds", "s/image", ".3f"))))
        for line in measured.footnotes():
            screen.print(line, markup=False, highlight=False)
        screen.print()
    legend = (
        "RGB, 8 bits; means over images, PSNR too; nothing differs = 100 dB. Inside: where target and raw differ by "
    )
    for note in (f"{legend}more than {CHANGED_LEVELS} levels.", *result.notes):
        screen.print(note, markup=False, highlight=False)
