"""Evaluation as in Tables 2-4: every operation alone, several at once, and untouched faces.

Rows are the input, the baselines of a run if it has some, and MoFRR. ``--style`` with a style that training left out is
the cross-generator test (Table 3). PSNR and SSIM are this project's "png8"; Table 2 names no protocol. With a face
recognition network also the similarity of faces to their originals (Fig. 6).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from retouch_common.data.pair_files import Split
from retouch_common.files import sha256
from retouch_common.metrics.evaluation import IDENTITY, Measured, console, draw_table, write_evaluation
from retouch_common.metrics.protocols import PROTOCOLS
from retouch_common.metrics.quality import quantise
from retouch_common.ranges import to_signed
from retouch_common.weights import load_state, resolve_weights
from torch import Tensor, nn

from mofrr.baselines import BASELINES, build_baseline
from mofrr.config import OPERATIONS
from mofrr.data import FACES, Kind, NoImages, Pair, RetouchedFaces, open_retouched_faces
from mofrr.inference import InferenceMoFRR
from mofrr.model import MoFRR, to_unit
from mofrr.similarity import Embedder, plot_distributions, summarize

MOFRR = "MoFRR"
PROTOCOL = "png8"
SHEET_ROWS, SHEET_SIDE = 2, 256  # faces of each kind in the image sheet, and their side
SIMILARITY = "similarity.png"


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """What is measured, and how.

    Attributes:
        split: "val", "test" or "all" of the data.
        limit: Number of faces of each kind.
        styles: Styles of retouching, for faces: data; empty takes all.
        apis: Programs that retouched the images, for folders; empty takes all.
        seed: Seed of faces: data and of the sampler.
        steps: DDIM steps; None for the configuration's.
        samples: Samples to average.
        baselines: Run directory with trained baselines, ``baseline-unet`` and so on.
        device: "auto", "cpu" or "cuda".
        precision: Of the convolutions; "fp32" by default, since the metrics go into tables.
    """

    split: Split = "test"
    limit: int = 50
    styles: tuple[str, ...] = ()
    apis: tuple[str, ...] = ()
    seed: int = 0
    steps: int | None = None
    samples: int = 1
    baselines: str | None = None
    device: str = "auto"
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit must be at least 1, not {self.limit}")


@dataclass(kw_only=True)
class Evaluation:
    """Results of an evaluation.

    Attributes:
        header: Weights, data, options and environment, as JSON values.
        kinds: Every operation alone, "multi" and "clean".
        accuracy: Of the router by operation, over all kinds; empty without a router.
        similarity: Cosines of all retouched faces and their originals by row; empty without an embedder.
        active: Mean number of active experts by kind.
    """

    header: dict[str, Any]
    kinds: dict[str, Measured] = field(default_factory=dict)
    accuracy: dict[str, float] = field(default_factory=dict)
    similarity: dict[str, list[float]] = field(default_factory=dict)
    active: dict[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the evaluation as JSON values."""
        return {
            **self.header,
            "router": self.accuracy,
            "active experts": self.active,
            "similarity": {row: summarize(cosines) for row, cosines in self.similarity.items()},
            "kinds": {name: measured.as_json() for name, measured in self.kinds.items()},
        }


def evaluate(
    weights: str | Path,
    data: str,
    options: EvaluationOptions,
    *,
    embedder: Embedder | None = None,
    out: Path | None = None,
    report: Callable[[str], None] = print,
) -> Evaluation:
    """Measure weights.

    Args:
        weights: See :meth:`mofrr.model.MoFRR.from_pretrained`.
        data: See :func:`mofrr.data.open_retouched_faces`.
        options: What is measured.
        embedder: A face recognition network.
        out: Folder for ``evaluation.json``, ``figures.png`` and, with an embedder, ``similarity.png``; None writes
            nothing.
        report: Receives messages for the user.

    Raises:
        ValueError: Unusable weights, data or options.
        OSError: ``out`` cannot be written.
    """
    from retouch_common.progress import progress_bar

    found = resolve_weights(weights, bundled=resources.files("mofrr") / "weights")
    model = InferenceMoFRR(MoFRR.from_pretrained(found.path), options.device, options.precision, copied=False)
    baselines, operations = open_baselines(options.baselines, model), model.config.operations
    result = Evaluation(header=_header(found.path, data, options, model, embedder))
    rows = (IDENTITY, *baselines, MOFRR)
    correct: list[list[bool]] = []
    sheet: list[dict[str, Tensor]] = []
    cosines: dict[str, list[float]] = {row: [] for row in rows}
    kinds = _open_kinds(data, model, options, report)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    with progress_bar(unit="faces") as bar:
        for kind, faces in kinds.items():
            measured = result.kinds[kind] = Measured(resolution=model.config.size, rows=rows)
            # Portraits are retouched in another way every time.
            count = options.limit if data.startswith(FACES) else min(options.limit, len(faces))
            active = 0
            for index in bar.track(range(count), description=kind):
                pair = faces.pair(index)
                image, Y = pair.retouched, pair.original
                images, gates = _restore(model, baselines, pair, index, options)
                measured.add(f"{index:05d}", image.to(model.device), Y.to(model.device), images, protocols=(PROTOCOL,))
                active += sum(gates)
                correct.append([gate == (name in pair.applied) for name, gate in zip(operations, gates, strict=True)])
                views = {IDENTITY: image} | {row: view.cpu() for row, view in images.items()}
                if embedder is not None and kind != "clean":
                    embedding = embedder(Y[None])[0]  # one by one: exported networks may take no other batch
                    for row, view in views.items():
                        cosines[row].append(float(embedder(quantise(view)[None])[0] @ embedding))
                if index < SHEET_ROWS:
                    sheet.append({"retouched": image, **{row: views[row] for row in images}, "original": Y})
            result.active[kind] = active / count
    if model.config.router:
        result.accuracy = dict(zip(operations, np.mean(correct, axis=0).tolist(), strict=True))
    result.similarity = {row: values for row, values in cosines.items() if values}
    if out is not None:
        write_evaluation(out, result.as_json(), sheet, max_side=SHEET_SIDE)
        if result.similarity:
            try:
                plot_distributions(out / SIMILARITY, result.similarity)
            except ImportError:
                report(f"note: {SIMILARITY} is not drawn, matplotlib is missing: pip install 'mofrr[plot]'")
    return result


def _restore(
    model: InferenceMoFRR, baselines: Mapping[str, nn.Module], pair: Pair, index: int, options: EvaluationOptions
) -> tuple[dict[str, Tensor], list[bool]]:
    """Return a face restored by the baselines and the network, by row, and which experts were active."""
    images = {}
    for row, part in baselines.items():
        with torch.inference_mode():
            images[row] = to_unit(part(to_signed(pair.retouched[None].to(model.device)))[0])
    seed = int(np.random.default_rng((options.seed, index)).integers(2**31))
    output = model(
        pair.retouched[None], traces=pair.traces[None], seeds=seed, steps=options.steps, samples=options.samples
    )
    return images | {MOFRR: output.result[0].float()}, output.gates[0].tolist()


def _header(
    weights: Path, data: str, options: EvaluationOptions, model: InferenceMoFRR, embedder: Embedder | None
) -> dict[str, Any]:
    from retouch_common.metrics.environment import environment

    return {
        "weights": {"sha256": sha256(weights)},
        "data": {
            "spec": str(data),
            "split": options.split,
            "limit": options.limit,
            "styles": list(options.styles),
            "apis": list(options.apis),
        },
        "sampler": {"steps": options.steps or model.config.steps, "samples": options.samples, "seed": options.seed},
        "device": str(model.device),
        "embedder": None if embedder is None else {"sha256": embedder.sha256, "colour": embedder.colour},
        "environment": environment(),
    }


def open_baselines(run: str | None, model: InferenceMoFRR) -> dict[str, nn.Module]:
    """Return the trained baselines of a run directory, by row.

    Raises:
        ValueError: It has none, or they were trained with another model configuration.
    """
    if run is None:
        return {}
    found: dict[str, nn.Module] = {}
    for name in BASELINES:
        folder = Path(run) / f"baseline-{name}" / "weights"
        if not folder.is_dir():
            continue
        weights = resolve_weights(folder, bundled=None)
        part = build_baseline(name, model.config)
        try:
            part.load_state_dict(load_state(weights))
        except RuntimeError:
            raise ValueError(f"{folder}: was trained with another model configuration") from None
        found[BASELINES[name]] = part.to(model.device).eval().requires_grad_(False)
    if not found:
        raise ValueError(f"{run}: holds no trained baselines (mofrr-train baseline)")
    return found


def means(measured: Measured, row: str) -> dict[str, float]:
    """Return the mean PSNR and SSIM of a row, over all faces."""
    images = measured.images + measured.clean
    names = PROTOCOLS[PROTOCOL]
    return {
        name: sum(image[row][metric] for image in images) / max(1, len(images))
        for name, metric in (("PSNR", names.psnr), ("SSIM", names.ssim))
    }


def show(result: Evaluation) -> None:
    """Print the tables to standard output."""
    screen = console()
    kinds = list(result.kinds)
    for metric, style in (("PSNR", ".2f"), ("SSIM", ".4f")):
        rows = {
            row: {kind: means(result.kinds[kind], row)[metric] for kind in kinds}
            for row in next(iter(result.kinds.values())).rows
        }
        screen.print(draw_table(metric, rows, [(kind, kind, style) for kind in kinds]))
    if result.accuracy:
        rows = {"accuracy": result.accuracy}
        screen.print(draw_table("router", rows, [(name, name, ".1%") for name in result.accuracy]))
    if result.similarity:
        summary = {
            row: {name: value for name, value in summarize(cosines).items() if isinstance(value, float)}
            for row, cosines in result.similarity.items()
        }
        titles = list(next(iter(summary.values())))
        screen.print(draw_table("cosine to the original", summary, [(title, title, ".3f") for title in titles]))
    screen.print(f"{PROTOCOL}: {PROTOCOLS[PROTOCOL].about}")


def _open_kinds(
    data: str, model: InferenceMoFRR, options: EvaluationOptions, report: Callable[[str], None]
) -> dict[str, RetouchedFaces]:
    """Open the faces of every kind that the data has."""
    operations = model.config.operations
    kinds: dict[str, RetouchedFaces] = {}
    wanted: dict[str, Kind] = dict.fromkeys(OPERATIONS if "all" in operations else operations, "single")
    wanted |= {"multi": "multi", "clean": "clean"}
    for name, kind in wanted.items():
        try:
            kinds[name] = open_retouched_faces(
                data, size=model.config.size, split=options.split, seed=options.seed, operations=operations,
                kind=kind, operation=name, styles=options.styles, apis=options.apis,
            )  # fmt: skip
        except NoImages as error:
            report(f"note: {error}")
    return kinds
