"""Evaluations of all papers: named pairs, metrics beside the identity baseline, subsets, tables and files.

Every table has the row "output = input": where a retoucher changed a few pixels, it already scores high.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from torch.utils.data import Dataset

from retouch_common.data.pairs import ImagePairs
from retouch_common.files import refuse_existing, write_atomically
from retouch_common.losses.region import CHANGED_LEVELS
from retouch_common.metrics.protocols import METRICS, PROTOCOLS
from retouch_common.metrics.quality import LPIPS, LPIPSUnavailable, counts, mean_metrics, quantise, true_mask

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

IDENTITY = "identity (output = input)"
HARD = "hard-subset (lowest raw PSNR)"
HARD_SHARE = 0.2  # as FFHQR-Hard's 1,400 of 7,000, a list drawn up by hand and never published
CHANGED = f"share of pixels that differ from the input by more than {CHANGED_LEVELS} levels in a channel"
LEGEND = (
    "means over images, PSNR too; identical images count as 100 dB. Inside: where target and raw differ by more than "
    f"{CHANGED_LEVELS} levels."
)

Column = tuple[str, str, str]  # metric, title, format


class Pairs:
    """The pairs of a data set in order.

    Args:
        data: Samples ``dict(raw, target)`` of (3, S, S) in [0, 1].
        limit: Use only the first pairs.
        files: The files of ``data``, if any: gives names, and is checked here.

    Raises:
        ValueError: A limit below 1, or unusable pairs; names the first.
    """

    def __init__(self, data: Dataset[Any], *, limit: int | None = None, files: ImagePairs | None = None) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f"limit must be at least 1, not {limit}")
        self.data = data
        self.photos = [] if files is None else [raw for raw, _ in files.pairs[:limit]]
        self.names = [photo.name for photo in self.photos]
        if files is None:
            self.names = [f"{index:05d}" for index in range(len(cast(Sized, data)))][:limit]
        elif faults := files.check(limit):
            more = f" (and {len(faults) - 1} more pairs cannot be used)" if len(faults) > 1 else ""
            raise ValueError(faults[0] + more)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        """Yield name, raw and target, both rounded to 8 bits."""
        for index, name in enumerate(self.names):
            sample = self.data[index]
            yield name, quantise(sample["raw"]), quantise(sample["target"])

    def smaller_than(self, size: int) -> int:
        """Return the number of photographs whose longer side is below ``size`` pixels."""
        from retouch_common.photo.io import Photo

        return sum(max(photo.width, photo.height) < size for photo in map(Photo.open, self.photos))


@dataclass(kw_only=True)
class Measured:
    """Metrics at one resolution.

    Attributes:
        resolution: Side in pixels.
        rows: Names of what is compared, IDENTITY first, the evaluated network last.
        images: One entry for each pair whose target differs from raw: its name, the share of pixels the target changes,
            and a dict of metrics for each row.
        clean: The same for pairs without a difference.
        enlarged: Number of photographs smaller than the resolution.
    """

    resolution: int
    rows: tuple[str, ...]
    images: list[dict[str, Any]] = field(default_factory=list)
    clean: list[dict[str, Any]] = field(default_factory=list)
    enlarged: int = 0

    def add(
        self,
        name: str,
        raw: torch.Tensor,
        target: torch.Tensor,
        outputs: Mapping[str, torch.Tensor],
        *,
        protocols: Sequence[str] = ("png8",),
        lpips: LPIPS | None = None,
    ) -> dict[str, Any]:
        """Measure one pair of (3, H, W) images in [0, 1] and store its metrics.

        Args:
            name: Name of the pair.
            raw: The photograph; the row IDENTITY.
            target: The retouched photograph.
            outputs: Images of the other rows.
            protocols: Names in :data:`retouch_common.metrics.protocols.PROTOCOLS`.
            lpips: The network; None skips LPIPS.

        Returns:
            The entry of the pair, to which more metrics can be added.
        """
        entry: dict[str, Any] = {"name": name, "target_changes": float(true_mask(raw, target).float().mean())}
        for row, image in {IDENTITY: raw, **outputs}.items():
            entry[row] = {"changed": float(true_mask(raw, image).float().mean())}
            for protocol in protocols:
                entry[row] |= PROTOCOLS[protocol].measure(image, raw, target, lpips=lpips)
        (self.clean if torch.equal(raw, target) else self.images).append(entry)
        return entry

    def means(self, row: str) -> dict[str, float]:
        """Return each metric's mean over the images that have it."""
        return mean_metrics([image[row] for image in self.images])

    def hardest(self, share: float = HARD_SHARE) -> Measured:
        """Return the subset of pairs whose raw photographs have the lowest PSNR: a ``share`` of them, at least one."""
        number = max(1, round(share * len(self.images)))
        images = sorted(self.images, key=lambda image: image[IDENTITY]["psnr-rgb8"])[:number]
        return replace(self, images=images, clean=[])

    @property
    def target_changes(self) -> float:
        """Mean share of pixels that the target changes."""
        return sum(image["target_changes"] for image in self.images) / max(1, len(self.images))

    def as_json(self) -> dict[str, Any]:
        """Return protocols, means, numbers of images for each row, and the images, as JSON values."""
        means = {row: self.means(row) for row in self.rows}
        numbers = {row: counts([image[row] for image in self.images]) for row in self.rows}
        used = {name for row in means.values() for name in row if name in METRICS}
        return {
            "resolution": self.resolution,
            "enlarged": self.enlarged,
            "protocols": {name: METRICS[name].at(self.resolution).description for name in sorted(used)},
            "rows": {row: {"mean": means[row], "images": numbers[row]} for row in self.rows},
            "images": self.images,
            "pairs_without_difference": self.clean,
        }

    def footnotes(self) -> list[str]:
        """Return the remarks a reader of the tables needs."""
        lines, last = [], self.rows[-1]
        empty = sum(image["target_changes"] == 0 for image in self.images)
        if empty:
            number = len(self.images)
            lines.append(f"inside: mean over {number - empty} of {number} pairs; the others' masks are empty")
        if self.clean:
            own = mean_metrics([image[last] for image in self.clean])
            psnr = next(own[protocol.psnr] for protocol in PROTOCOLS.values() if protocol.psnr in own)
            lines.append(
                f"not in the table: {len(self.clean)} pairs whose target equals raw; there the output reaches "
                f"{psnr:.2f} dB and changes {own['changed']:.2%} of the pixels"
            )
        if self.enlarged:
            lines.append(f"{self.enlarged} photographs are smaller than {self.resolution} pixels and were enlarged")
        return lines


def open_lpips(wanted: bool | None, device: torch.device, notes: list[str]) -> LPIPS | None:
    """Return LPIPS unless ``wanted`` is False; append the reason to ``notes`` if it cannot be measured.

    Raises:
        LPIPSUnavailable: ``wanted`` is True and the weights are missing.
    """
    if wanted is False:
        notes.append("LPIPS is disabled")
        return None
    try:
        return LPIPS(device=device)
    except LPIPSUnavailable as error:
        if wanted:
            raise
        notes.append(f"no LPIPS: {error}")
        return None


def columns(protocol: str) -> tuple[Column, ...]:
    """Return the columns of a table by one protocol; no table mixes two."""
    names = PROTOCOLS[protocol]
    return (
        (names.psnr, "PSNR dB", ".2f"),
        (names.ssim, "SSIM", ".4f"),
        (names.lpips, "LPIPS", ".4f"),
        (f"{names.psnr}-inside", "PSNR inside", ".2f"),
        (f"{names.psnr}-outside", "PSNR outside", ".2f"),
        ("changed", "changed", ".2%"),
    )


def draw_table(title: str, rows: Mapping[str, Mapping[str, float]], columns: Sequence[Column]) -> Table:
    """Return a table of means with a dash for what was not measured."""
    from rich.table import Table

    table = Table(title=title)
    table.add_column("")
    for _, name, _ in columns:
        table.add_column(name, justify="right")
    for row, means in rows.items():
        table.add_row(row, *(format(means[name], style) if name in means else "-" for name, _, style in columns))
    return table


def console() -> Console:
    """Return a console on standard output for plain text and tables, 120 columns wide where it is not a terminal."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 120, markup=False, highlight=False)


def refuse_evaluated(out: Path | None, *, overwrite: bool = False, also: Sequence[str] = ()) -> None:
    """Refuse a folder that holds an evaluation, or files ``also``, before a new one is measured."""
    if out is not None:
        refuse_existing([out / name for name in ("evaluation.json", "figures.png", *also)], overwrite=overwrite)


def write_evaluation(
    out: Path, values: Mapping[str, Any], sheet: Sequence[Mapping[str, torch.Tensor]], *, max_side: int
) -> None:
    """Write evaluation.json and, if ``sheet`` has rows, figures.png, each atomically."""
    from retouch_common.training.sheets import save_sheet

    write_atomically(out / "evaluation.json", (json.dumps(values, indent=2, allow_nan=False) + "\n").encode())
    if sheet:
        save_sheet(out / "figures.png", sheet, max_side=max_side)
