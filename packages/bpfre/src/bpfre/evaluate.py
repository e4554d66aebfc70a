"""Measuring weights on pairs of faces (Tables 1, 2 and 4), always beside doing nothing.

Every table has the row "output = input": where a retoucher changed a few pixels, it already scores high. PSNR and SSIM
are computed by a named convention (:mod:`retouch_common.metrics.conventions`), the figures inside and outside the
retouched area as :mod:`retouch_common.metrics.protocols` says. The hard subset is the fifth of the pairs whose raw
picture has the lowest PSNR; FFHQR-Hard, a list that its authors drew up by hand, was never published.
"""

import json
import sys
from collections.abc import Callable, Sized
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal, cast

import torch
from retouch_common.data.pairs import Split
from retouch_common.files import write_atomically
from retouch_common.metrics.conventions import CONVENTIONS
from retouch_common.metrics.quality import LPIPS, LPIPSUnavailable, mean_figures, psnr, true_mask
from retouch_common.weights import resolve_weights, sha256
from torch import Tensor

from bpfre.attention import merged_map
from bpfre.data import open_data
from bpfre.inference import Inference, prepare
from bpfre.model import BPFRe, BPFReOutput

IDENTITY, COARSE, REFINED = "identity (output = input)", "stage one", "stage two"
HARD_SHARE = 0.2
HARD = "hard subset (lowest raw PSNR)"
FIGURE_ROWS, FIGURE_SIDE = 6, 320
_COLUMNS = (
    ("psnr", "PSNR dB", ".2f"),
    ("ssim", "SSIM", ".4f"),
    ("lpips-alex-v0.1", "LPIPS", ".4f"),
    ("psnr-rgb8-inside", "PSNR inside", ".2f"),
    ("psnr-rgb8-outside", "PSNR outside", ".2f"),
)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is measured, and how.

    Attributes:
        task: "retouching", or "inpainting" of white strokes over the target pictures.
        convention: Name of how PSNR and SSIM are computed.
        split: "val", "test" or "all" of the data.
        limit: Only the first so many pairs.
        lpips: True: measure it or refuse to start. None: where its weights are. False: never.
        device: "auto", "cpu" or "cuda".
        precision: Of the convolutions; "fp32" by default, since the figures go into tables.
    """

    task: Literal["retouching", "inpainting"] = "retouching"
    convention: str = "png8"
    split: Split = "val"
    limit: int | None = None
    lpips: bool | None = None
    device: str = "auto"
    precision: str = "fp32"


@dataclass(kw_only=True)
class Evaluation:
    """All that was measured.

    Attributes:
        header: Weights, data, options and environment, as JSON values.
        images: For each pair its figures by row, its name, and the area under the precision-recall curve of each map.
        notes: What a reader of the tables must know.
    """

    header: dict[str, Any]
    images: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def subsets(self) -> dict[str, list[dict[str, Any]]]:
        """All pairs, and the hard ones."""
        by_difficulty = sorted(self.images, key=lambda image: image[IDENTITY]["psnr"])
        return {"all": self.images, HARD: by_difficulty[: max(1, round(HARD_SHARE * len(self.images)))]}

    def rows(self, subset: str) -> dict[str, dict[str, float]]:
        """Means over a subset: row -> figure -> value."""
        images = self.subsets[subset]
        names = [row for row in (IDENTITY, COARSE, REFINED) if row in images[0]]
        return {row: mean_figures([image[row] for image in images]) for row in names}

    @property
    def attention(self) -> dict[str, float]:
        """Mean area under the precision-recall curve of each map, over the pictures that differ."""
        return mean_figures([image["attention"] for image in self.images])


def evaluate(
    weights: str | Path, data: str, options: Options, *, out: Path | None = None, report: Callable[[str], None] = print
) -> Evaluation:
    """Measure weights on a set of pairs.

    Args:
        weights: What :meth:`bpfre.model.BPFRe.from_pretrained` reads.
        data: What :func:`bpfre.data.open_data` reads.
        options: What is measured.
        out: Folder for ``evaluation.json`` and ``figures.png``; None writes nothing.
        report: Receives lines for the user.

    Raises:
        ValueError: Unusable weights, data or options.
        OSError: ``out`` cannot be written.
    """
    from retouch_common.cli import progress_bar

    if options.convention not in CONVENTIONS:
        raise ValueError(f"no convention {options.convention!r}; there are {', '.join(CONVENTIONS)}")
    found = resolve_weights(weights, bundled=resources.files("bpfre") / "weights")
    model = prepare(BPFRe.from_pretrained(found.path), options.device, options.precision)
    pairs = open_data(data, size=model.config.size, split=options.split, seed=0, task=options.task)
    number = len(cast(Sized, pairs)) if options.limit is None else min(options.limit, len(cast(Sized, pairs)))
    result = Evaluation(header=_header(weights, found.path, data, options, model))
    lpips = _open_lpips(options.lpips, model.device, result.notes)
    for note in result.notes:
        report(f"note: {note}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    sheet: list[dict[str, Tensor]] = []
    with progress_bar(unit="images") as bar:
        for index in bar.track(range(number), total=number, description="measuring"):
            sample = pairs[index]
            raw, target = sample["raw"], sample["target"]
            output = model(raw[None])
            result.images.append({"index": index, **_figures(raw, output, target, options.convention, lpips)})
            if len(sheet) < FIGURE_ROWS:
                sheet.append(sheet_row(raw, output, target))
    if out is not None:
        _write(out, result, sheet)
    return result


def stages(raw: Tensor, output: BPFReOutput) -> dict[str, Tensor]:
    """The pictures that tables compare, (3, S, S) on the CPU, by row."""
    pictures = {IDENTITY: raw}
    for row, picture in ((COARSE, output.coarse), (REFINED, output.refined)):
        if picture is not None:
            pictures[row] = picture[0].float().cpu()
    return pictures


def average_precision(M: Tensor, wanted: Tensor) -> float:
    """Area under the precision-recall curve of a map (H, W) in [0, 1] for pixels (H, W) bool."""
    from torchmetrics.functional.classification import binary_average_precision

    return float(binary_average_precision(M.flatten().float(), wanted.flatten().long()))


def sheet_row(raw: Tensor, output: BPFReOutput, target: Tensor) -> dict[str, Tensor]:
    """Pictures and maps of one pair, side by side."""
    size = raw.shape[-1]
    row = dict(zip(("raw", "stage one", "stage two"), stages(raw, output).values(), strict=False))
    for name, maps in (("M E2D", output.attention_coarse), ("M D2G", output.attention_refined)):
        if maps:
            row[name] = merged_map(maps, size)[0].cpu()
    return {name: picture.clamp(0, 1) for name, picture in {**row, "target": target}.items()}


def _figures(raw: Tensor, output: BPFReOutput, target: Tensor, convention: str, lpips: LPIPS | None) -> dict[str, Any]:
    """Everything measured on one pair."""
    inside = true_mask(raw, target)
    figures: dict[str, Any] = {"attention": {}}
    for row, picture in stages(raw, output).items():
        figures[row] = CONVENTIONS[convention].measure(picture, target)
        for region, mask in (("inside", inside), ("outside", ~inside)):
            if mask.any():
                figures[row][f"psnr-rgb8-{region}"] = psnr(picture, target, mask)
        if lpips is not None:
            figures[row]["lpips-alex-v0.1"] = lpips(picture.clamp(0, 1), target)
    if inside.any():
        for name, maps in (("M E2D", output.attention_coarse), ("M D2G", output.attention_refined)):
            if maps:
                figures["attention"][name] = average_precision(merged_map(maps, raw.shape[-1])[0, 0].cpu(), inside)
    return figures


def _open_lpips(wanted: bool | None, device: torch.device, notes: list[str]) -> LPIPS | None:
    if wanted is False:
        return None
    try:
        return LPIPS(device=device)
    except LPIPSUnavailable as error:
        if wanted:
            raise
        notes.append(f"no LPIPS: {error}")
        return None


def _header(weights: str | Path, path: Path, data: str, options: Options, model: Inference) -> dict[str, Any]:
    from retouch_common.testing.environment import environment

    return {
        "weights": {"name": str(weights), "sha256": sha256(path)},
        "data": {"spec": data, "split": options.split, "limit": options.limit, "task": options.task},
        "size": model.config.size,
        "convention": {options.convention: CONVENTIONS[options.convention].description},
        "device": str(model.device),
        "precision": options.precision,
        "environment": environment(),
    }


def as_json(result: Evaluation) -> dict[str, Any]:
    """The evaluation as JSON values."""
    return {
        **result.header,
        "notes": result.notes,
        "subsets": {name: {"pairs": len(images), "rows": result.rows(name)} for name, images in result.subsets.items()},
        "attention": result.attention,
        "images": result.images,
    }


def show(result: Evaluation) -> None:
    """Print the tables to standard output, with what must be known to read them."""
    from rich.console import Console
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=100)
    (name, description), *_ = result.header["convention"].items()
    for subset, images in result.subsets.items():
        table = Table(title=f"{subset}: {len(images)} pairs at {result.header['size']} x {result.header['size']}")
        table.add_column("")
        for _, title, _ in _COLUMNS:
            table.add_column(title, justify="right")
        for row, means in result.rows(subset).items():
            table.add_row(row, *(format(means[key], style) if key in means else "-" for key, _, style in _COLUMNS))
        console.print(table)
    for map_name, value in result.attention.items():
        console.print(f"{map_name} against the true difference: area under the precision-recall curve {value:.3f}")
    console.print(f"PSNR and SSIM by the convention {name}: {description}.", markup=False, highlight=False)
    console.print("Inside and outside: 8 bits; where target and raw differ by more than 3 levels.", markup=False)
    for note in result.notes:
        console.print(note, markup=False, highlight=False)


def _write(out: Path, result: Evaluation, sheet: list[dict[str, Tensor]]) -> None:
    from retouch_common.training.sheets import save_sheet

    text = json.dumps(as_json(result), indent=2, allow_nan=False) + "\n"
    write_atomically(out / "evaluation.json", text.encode())
    save_sheet(out / "figures.png", sheet, max_side=FIGURE_SIDE)
