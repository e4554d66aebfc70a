"""Evaluation on pairs of faces (Tables 1, 2 and 4), with the identity for comparison.

Both stages are measured on all pairs and on a hard subset, those whose raw images have the lowest PSNR (FFHQR-Hard, a
hand-picked list, was never published), by the protocols in :mod:`retouch_common.metrics.protocols`. Attention maps are
compared with the true difference.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import torch
from retouch_common.data.ffhqr import is_ffhqr
from retouch_common.data.pair_files import Split
from retouch_common.data.pairs import ImagePairs
from retouch_common.files import sha256
from retouch_common.inference.network import InferenceModel
from retouch_common.metrics.distribution import FID
from retouch_common.metrics.evaluation import (
    CHANGED,
    HARD,
    HARD_SHARE,
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
from retouch_common.metrics.protocols import PROTOCOLS
from retouch_common.metrics.quality import LPIPS, average_precision
from retouch_common.weights import resolve_weights
from torch import Tensor

from bpfre.attention import merged_map
from bpfre.data import open_face_pairs
from bpfre.model import BPFRe, BPFReOutput

COARSE, REFINED = "coarse (stage one)", "refined (stage two)"
ALL = "all"
HEADLINE = "png8"
FIGURE_ROWS, FIGURE_SIDE = 6, 320
FFHQR_TEST = 7000
PRECISION = "fp32"
PUBLISHED = {ALL: (43.89, 0.9910), HARD: (37.69, 0.982)}  # PSNR and SSIM of raw images in Table 2; HARD: FFHQR-Hard


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What to measure, and how.

    Attributes:
        task: "retouching", or "inpainting" of white strokes on the target images; None for what the weights are for.
        protocols: Protocols, a table for each; "png8" is always measured.
        split: "val", "test" or "all".
        limit: Use only the first ``limit`` pairs.
        hard_share: Share of the pairs in the hard subset.
        lpips: True requires LPIPS, None measures it if its weights are available, False skips it.
        fid: File of Inception's weights; None skips FID.
        device: "auto", "cpu" or "cuda".
    """

    task: Literal["retouching", "inpainting"] | None = None
    protocols: tuple[str, ...] = (HEADLINE,)
    split: Split = "val"
    limit: int | None = None
    hard_share: float = HARD_SHARE
    lpips: bool | None = None
    fid: str | None = None
    device: str = "auto"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.protocols) - set(PROTOCOLS))
        if unknown:
            raise ValueError(f"unknown protocol {unknown[0]!r}; choose from {', '.join(PROTOCOLS)}")


@dataclass(kw_only=True)
class Evaluation:
    """Results of :func:`evaluate`.

    Attributes:
        header: Weights, data, options and environment, as JSON values.
        options: What was measured.
        measured: Metrics of all pairs.
        fid: FID by row, if measured.
        notes: Remarks that belong to the tables.
    """

    header: dict[str, Any]
    options: EvaluationOptions
    measured: Measured
    fid: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def subsets(self) -> dict[str, Measured]:
        """All pairs and the hard ones."""
        return {ALL: self.measured, HARD: self.measured.hardest(self.options.hard_share)}


def evaluate(
    weights: str | Path,
    data: str,
    options: EvaluationOptions,
    *,
    out: Path | None = None,
    report: Callable[[str], None] = print,
) -> Evaluation:
    """Evaluate weights on pairs of faces.

    Args:
        weights: Name, path or hub id of weights.
        data: Specification for :func:`bpfre.data.open_face_pairs`.
        options: What to measure.
        out: Folder for ``evaluation.json`` and ``figures.png``; None writes nothing.
        report: Called with notes for the user.

    Raises:
        ValueError: If weights, data or options cannot be used; names a pair that cannot be read.
        OSError: If ``out`` cannot be written.
    """
    found = resolve_weights(weights, bundled=resources.files("bpfre") / "weights")
    network = BPFRe.from_pretrained(found.path)
    task = options.task or network.metadata.get("task", "retouching")
    options = replace(options, task=task)  # type: ignore[arg-type]  # of metadata
    model = InferenceModel(network, options.device, PRECISION)
    measured = Measured(resolution=model.config.size, rows=_rows(model))
    result = Evaluation(header=_header(found.path, data, options, model), options=options, measured=measured)
    lpips = open_lpips(options.lpips, model.device, result.notes)
    fid = _open_fid(options.fid, measured.rows, model.device, result.notes)
    for note in result.notes:
        report(f"note: {note}")
    pairs = _open(data, model.config.size, options)
    measured.enlarged = pairs.smaller_than(model.config.size)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    sheet = _measure(model, pairs, result, lpips, fid)
    result.fid = {row: distance.value() for row, distance in fid.items()}
    if fid:
        result.notes.append(fid[IDENTITY].description)
    complete = len(measured.images) + len(measured.clean) == FFHQR_TEST
    if complete and options.split == "test" and is_ffhqr(Path(str(data).removeprefix("ffhqr:"))):
        result.notes += calibration(result.subsets, options.protocols)
    if out is not None:
        write_evaluation(out, as_json(result), sheet, max_side=FIGURE_SIDE)
    return result


def _measure(
    model: InferenceModel, pairs: Pairs, result: Evaluation, lpips: LPIPS | None, fid: dict[str, FID]
) -> list[dict[str, Tensor]]:
    """Add the metrics of all pairs to ``result`` and ``fid``; return rows of figures.png."""
    from retouch_common.progress import progress_bar

    sheet: list[dict[str, Tensor]] = []
    protocols = tuple(dict.fromkeys((HEADLINE, *result.options.protocols)))
    with progress_bar(unit="images") as bar:
        for name, raw, target in bar.track(pairs, total=len(pairs), description="Measuring"):
            output = model(raw[None])
            before, truth = raw.to(model.device), target.to(model.device)
            images = _stage_images(output)
            entry = result.measured.add(name, before, truth, images, protocols=protocols, lpips=lpips)
            for row, maps in ((COARSE, output.attention_coarse), (REFINED, output.attention_refined)):
                score = average_precision(merged_map(maps, raw.shape[-1]), before, truth) if maps else None
                if score is not None:
                    entry[row]["average-precision"] = score
            for row, distance in fid.items():
                distance.add(truth, real=True)
                distance.add({IDENTITY: before, **images}[row], real=False)
            if len(sheet) < FIGURE_ROWS and not torch.equal(raw, target):
                sheet.append(_sheet_row(raw, output, target))
    return sheet


def _header(path: Path, data: str, options: EvaluationOptions, model: InferenceModel) -> dict[str, Any]:
    from retouch_common.metrics.environment import environment

    return {
        **evaluation_key(path, data, options),
        "size": model.config.size,
        "device": str(model.device),
        "changed": CHANGED,
        "environment": environment(),
    }


def evaluation_key(path: Path, data: str, options: EvaluationOptions) -> dict[str, Any]:
    """Return what an evaluation depends on besides the machine: weights, data and options, as JSON values."""
    return {
        "weights": {"sha256": sha256(path)},
        "data": {"spec": str(data), "split": options.split, "limit": options.limit, "task": options.task},
        "options": {
            "protocols": list(options.protocols),
            "hard_share": options.hard_share,
            "lpips": options.lpips,
            "fid": options.fid is not None,
            "precision": PRECISION,
        },
    }


def calibration(measured: dict[str, Measured], protocols: Sequence[str]) -> list[str]:
    """Compare raw images of FFHQR's test split with Table 2, to identify the paper's protocol."""
    lines = []
    for subset, (psnr, ssim) in PUBLISHED.items():
        means = measured[subset].means(IDENTITY)
        found = "; ".join(
            f"{name} {means[PROTOCOLS[name].psnr]:.2f} dB, {means[PROTOCOLS[name].ssim]:.4f}" for name in protocols
        )
        printed = f"{psnr} dB, {ssim:.4f}" + (" on FFHQR-Hard, another selection" if subset == HARD else "")
        lines.append(f"calibration, {subset}, doing nothing: {found}; Table 2 prints {printed}")
    return lines


def as_json(result: Evaluation) -> dict[str, Any]:
    """Return JSON values: header, notes, means for both subsets, and the metrics of all images."""
    subsets = {
        name: {"pairs": len(measured.images), "rows": {row: measured.means(row) for row in measured.rows}}
        for name, measured in result.subsets.items()
    }
    return {**result.header, "notes": result.notes, "subsets": subsets, "fid": result.fid, **result.measured.as_json()}


def show(result: Evaluation) -> None:
    """Print a table for each protocol and subset, with notes."""
    screen = console()
    size = result.measured.resolution
    for protocol in result.options.protocols:
        for name, measured in result.subsets.items():
            rows = {row: measured.means(row) for row in measured.rows}
            shown = [*columns(protocol), ("average-precision", "AUPRC", ".3f")]
            if name == ALL and result.fid:  # not measured on the hard subset
                rows = {row: means | {"fid": result.fid[row]} for row, means in rows.items()}
                shown.append(("fid", "FID", ".2f"))
            title = f"{protocol}, {name}: {len(measured.images)} pairs at {size} x {size}; the target changes "
            title += f"{measured.target_changes:.2%} of the pixels"
            screen.print(draw_table(title, rows, shown))
        screen.print(f"{protocol}: {PROTOCOLS[protocol].about}")
        screen.print()
    legend = (
        f"RGB; {LEGEND} AUPRC: area under the precision-recall curve of the stage's attention map for these "
        "pixels; a random map has their share."
    )
    for line in (legend, *result.measured.footnotes(), *result.notes):
        screen.print(line)


def _rows(model: InferenceModel) -> tuple[str, ...]:
    config = model.config
    stages = ((COARSE, config.decoder), (REFINED, config.generator))
    return (IDENTITY, *(row for row, present in stages if present))


def _stage_images(output: BPFReOutput) -> dict[str, Tensor]:
    stages = ((COARSE, output.coarse), (REFINED, output.refined))
    return {row: image[0].float() for row, image in stages if image is not None}


def _open(data: str, size: int, options: EvaluationOptions) -> Pairs:
    pairs = open_face_pairs(data, size=size, split=options.split, seed=0, task=options.task or "retouching")
    files = getattr(pairs, "data", pairs)  # InpaintingPairs wraps another data set
    return Pairs(pairs, limit=options.limit, files=files if isinstance(files, ImagePairs) else None)


def _open_fid(path: str | None, rows: Sequence[str], device: torch.device, notes: list[str]) -> dict[str, FID]:
    if path is None:
        notes.append("no FID: it needs the weights of Inception, --fid FILE")
        return {}
    first = FID(path, device=device)
    return {row: first if row == rows[0] else first.another() for row in rows}


def _sheet_row(raw: Tensor, output: BPFReOutput, target: Tensor) -> dict[str, Tensor]:
    """Return a row of figures.png."""
    maps = {"M E2D": output.attention_coarse, "M D2G": output.attention_refined}
    merged = {name: merged_map(M, raw.shape[-1])[0] for name, M in maps.items() if M}
    row = {"raw": raw, **_stage_images(output), **merged, "target": target}
    return {name: image.cpu().clamp(0, 1) for name, image in row.items()}
