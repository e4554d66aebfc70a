"""Measuring weights on pairs of photographs, at the resolutions of Table 3, always beside doing nothing.

Every table has the row "output = input": where a retoucher changed a few pixels, it already scores high. Figures
carry the names of their protocols (:mod:`retouch_common.metrics.protocols`).
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence, Sized
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.data.pairs import ImagePairs, Split, open_pairs
from retouch_common.files import write_atomically
from retouch_common.metrics.protocols import MASK_THRESHOLD, PROTOCOLS
from retouch_common.metrics.quality import LPIPS, LPIPSUnavailable, counts, mean_figures, measure, quantise, true_mask
from retouch_common.weights import resolve_weights, sha256
from torch import Tensor

from abpn.retouch import Retoucher

if TYPE_CHECKING:
    from rich.table import Table

IDENTITY = "identity (output = input)"
MODEL = "ABPN"
LARGEST_FACES = 768  # pixels: faces:DIR makes no larger crops
FIGURE_ROWS, FIGURE_SIDE, AMPLIFIED = 6, 512, 8

# Columns of the tables: figure, title, format.
_COLUMNS = (
    ("psnr-rgb8", "PSNR dB", ".2f"),
    ("ssim-rgb8", "SSIM", ".4f"),
    ("lpips-alex-v0.1", "LPIPS", ".4f"),
    ("psnr-rgb8-inside", "PSNR inside", ".2f"),
    ("psnr-rgb8-outside", "PSNR outside", ".2f"),
    ("changed", "changed", ".2%"),
    ("seconds", "s/image", ".3f"),
)


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
class Measured:
    """One resolution.

    Attributes:
        resolution: Side in pixels.
        images: For each pair whose target differs from its raw photograph: its name, the share of pixels the target
            changes, and a dict of figures for each row.
        clean: The same for the pairs that do not differ, where only leaving alone is right.
        enlarged: Number of photographs that are smaller than the resolution.
    """

    resolution: int
    images: list[dict[str, Any]] = field(default_factory=list)
    clean: list[dict[str, Any]] = field(default_factory=list)
    enlarged: int = 0

    def means(self, row: str) -> dict[str, float]:
        """Each figure's mean over the images that have it, of IDENTITY or MODEL."""
        return mean_figures([image[row] for image in self.images])


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
    from retouch_common.cli import progress_bar

    if options.limit is not None and options.limit < 1:
        raise ValueError(f"limit must be at least 1, not {options.limit}")
    found = resolve_weights(weights, bundled=resources.files("abpn") / "weights")
    retoucher = Retoucher(found.path, device=options.device, precision=options.precision)
    result = Evaluation(header=_header(weights, found.path, data, options, retoucher))
    lpips = _open_lpips(options.lpips, retoucher.device, result.notes)
    sizes = _resolutions(data, options.resolutions, result.notes)
    for note in result.notes:
        report(f"note: {note}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    opened = {size: _Pairs(data, size, options) for size in sizes}  # at once: faults show before anything is measured
    figures: list[dict[str, Tensor]] = []
    with progress_bar(unit="images") as bar:
        for size, pairs in opened.items():
            measured = Measured(resolution=size, enlarged=pairs.enlarged)
            result.measured.append(measured)
            for name, raw, target in bar.track(pairs, total=len(pairs), description=f"{size} x {size}"):
                output, seconds = _retouch(retoucher, raw, warm_up=not (measured.images or measured.clean))
                differs = not np.array_equal(raw, target)
                images = measured.images if differs else measured.clean
                images.append({"name": name} | _figures(raw, output, target, retoucher.device, lpips))
                images[-1][MODEL]["seconds"] = seconds
                if size == sizes[0] and differs and len(figures) < FIGURE_ROWS:
                    figures.append(_figure(raw, output, target))
    if out is not None:
        _write(out, result, figures)
    return result


class _Pairs:
    """Names and (H, W, 3) uint8 arrays of the pairs at one resolution, in order."""

    def __init__(self, data: str, size: int, options: Options) -> None:
        from retouch_common.photo.io import Photo

        self.data = open_pairs(data, size=size, split=options.split, fit="whole")
        self.number = min(len(cast(Sized, self.data)), options.limit or len(cast(Sized, self.data)))
        self.names = [f"{index:05d}" for index in range(self.number)]
        self.enlarged = 0
        if isinstance(self.data, ImagePairs):
            self.data.pairs = self.data.pairs[: self.number]
            faults = self.data.check()
            if faults:
                more = f" (and {len(faults) - 1} more pairs cannot be used)" if len(faults) > 1 else ""
                raise ValueError(faults[0] + more)
            self.names = [raw.name for raw, _ in self.data.pairs]
            photos = (Photo.open(raw) for raw, _ in self.data.pairs)
            self.enlarged = sum(max(photo.width, photo.height) < size for photo in photos)

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
        for index, name in enumerate(self.names):
            sample = self.data[index]
            yield name, _to_array(sample["raw"]), _to_array(sample["target"])


def _open_lpips(wanted: bool | None, device: torch.device, notes: list[str]) -> LPIPS | None:
    if wanted is False:
        notes.append("LPIPS was not asked for")
        return None
    try:
        return LPIPS(device=device)
    except LPIPSUnavailable as error:
        if wanted:
            raise
        notes.append(f"no LPIPS: {error}")
        return None


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


def _retouch(retoucher: Retoucher, raw: np.ndarray, *, warm_up: bool) -> tuple[np.ndarray, float]:
    """The output and the seconds from array to array."""
    if warm_up:
        retoucher(raw)
    start = time.perf_counter()
    output = retoucher(raw)  # an array on the host: the device has finished
    return output, time.perf_counter() - start


def _figures(
    raw: np.ndarray, output: np.ndarray, target: np.ndarray, device: torch.device, lpips: LPIPS | None
) -> dict[str, Any]:
    """Everything measured on one pair but the time."""
    before, after, truth = (_to_tensor(array).to(device) for array in (raw, output, target))
    figures: dict[str, Any] = {"target_changes": float(true_mask(before, truth).float().mean())}
    for row, image in ((IDENTITY, before), (MODEL, after)):
        changed = float(true_mask(before, image).float().mean())
        figures[row] = measure(image, before, truth, lpips=lpips) | {"changed": changed}
    return figures


def _figure(raw: np.ndarray, output: np.ndarray, target: np.ndarray) -> dict[str, Tensor]:
    """One line of the picture sheet; the difference is what the output still lacks, around grey."""
    row = {"raw": raw, "output": output, "target": target}
    pictures = {name: _reduced(_to_tensor(array)) for name, array in row.items()}
    error = pictures["output"] - pictures["target"]
    return pictures | {f"error x{AMPLIFIED}": (0.5 + AMPLIFIED * error).clamp(0, 1)}


def _reduced(image: Tensor) -> Tensor:
    if image.shape[-1] <= FIGURE_SIDE:
        return image
    return F.interpolate(image[None], size=(FIGURE_SIDE, FIGURE_SIDE), mode="bilinear", antialias=True)[0]


def _to_array(image: Tensor) -> np.ndarray:
    """(3, H, W) in [0, 1] to (H, W, 3) uint8."""
    return np.ascontiguousarray((quantise(image) * 255).round().byte().permute(1, 2, 0).numpy())


def _to_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array).permute(2, 0, 1).float() / 255


def _header(weights: str, path: Path, data: str, options: Options, retoucher: Retoucher) -> dict[str, Any]:
    from retouch_common.testing.environment import environment

    pairs = "whole photographs, longer side resized, shorter side padded by repeating its edges; the padding counts"
    if data.startswith("faces:"):
        pairs = "drawn blemishes on crops of portraits, with varied light, background and camera"
    return {
        "weights": {"name": weights, "sha256": sha256(path)},
        "data": {"spec": data, "split": options.split, "limit": options.limit, "pairs": pairs},
        "device": str(retoucher.device),
        "precision": options.precision,
        "seconds": "array to array, after one call to warm up, mean over images",
        "changed": f"share of pixels that differ from the input by more than {MASK_THRESHOLD} levels in a channel",
        "environment": environment(),
    }


def as_json(result: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON values: header, notes, and for each resolution protocols, means, counts and images."""
    resolutions = []
    for measured in result.measured:
        means = {row: measured.means(row) for row in (IDENTITY, MODEL)}
        numbers = {row: counts([image[row] for image in measured.images]) for row in means}
        rows = {row: {"mean": means[row], "images": numbers[row]} for row in means}
        used = {name for row in means.values() for name in row if name in PROTOCOLS}
        resolutions.append(
            {
                "resolution": measured.resolution,
                "enlarged": measured.enlarged,
                "protocols": {name: PROTOCOLS[name].at(measured.resolution).description for name in sorted(used)},
                "rows": rows,
                "images": measured.images,
                "pairs_without_difference": measured.clean,
            }
        )
    return {**result.header, "notes": result.notes, "resolutions": resolutions}


def show(result: Evaluation) -> None:
    """Print a table for each resolution to standard output, with what must be known to read it."""
    from rich.console import Console

    console = Console() if sys.stdout.isatty() else Console(width=100)
    for measured in result.measured:
        console.print(_table(measured))
        for line in _footnotes(measured):
            console.print(line, markup=False, highlight=False)
        console.print()
    legend = (
        "RGB, 8 bits; means over images, PSNR too; nothing differs = 100 dB. Inside: where target and raw differ by "
    )
    for note in (f"{legend}more than {MASK_THRESHOLD} levels.", *result.notes):
        console.print(note, markup=False, highlight=False)


def _table(measured: Measured) -> "Table":
    from rich.table import Table

    size, number = measured.resolution, len(measured.images)
    share = sum(image["target_changes"] for image in measured.images) / max(1, number)
    table = Table(title=f"{size} x {size}, {number} pairs; the target changes {share:.2%} of the pixels")
    table.add_column("")
    for _, title, _ in _COLUMNS:
        table.add_column(title, justify="right")
    for row in (IDENTITY, MODEL):
        means = measured.means(row)
        table.add_row(row, *(format(means[name], style) if name in means else "-" for name, _, style in _COLUMNS))
    return table


def _footnotes(measured: Measured) -> list[str]:
    lines = []
    inside = counts([image[MODEL] for image in measured.images]).get("psnr-rgb8-inside", 0)
    if inside < len(measured.images):
        lines.append(f"inside: mean over {inside} of {len(measured.images)} pairs; the others' masks are empty")
    if measured.clean:
        own = mean_figures([image[MODEL] for image in measured.clean])
        lines.append(
            f"not in the table: {len(measured.clean)} pairs whose target equals raw; there the output reaches "
            f"{own['psnr-rgb8']:.2f} dB and changes {own['changed']:.2%} of the pixels"
        )
    if measured.enlarged:
        lines.append(f"{measured.enlarged} photographs are smaller than {measured.resolution} pixels and were enlarged")
    return lines


def _write(out: Path, result: Evaluation, figures: list[dict[str, Tensor]]) -> None:
    """Write evaluation.json and figures.png; each is complete or not there."""
    from retouch_common.training.sheets import save_sheet

    text = json.dumps(as_json(result), indent=2, allow_nan=False) + "\n"
    write_atomically(out / "evaluation.json", text.encode())
    if figures:
        save_sheet(out / "figures.png", figures, max_side=FIGURE_SIDE)
