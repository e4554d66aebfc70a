"""Evaluation of weights in the form of Tables 1 and 2, and of what the paper only shows in images.

Reconstruction: a face generated from its own mask and appearance. Agreement: a face generated from another person's
mask, parsed by a *judge*, a parser that training did not use, and compared with that mask pixel by pixel (Table 2).
Locality: how little the rest of a face changes when one component gets another person's appearance. FID (Table 1) with
Inception's real weights only; in the judge's features the same distance has another name.

Baselines: the identity, the targets' *photographs* as they are, whose agreement is the judge's accuracy, and the
*sources* under the targets' masks. PSNR and SSIM are this project's "png8"; the paper measures neither.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.data.pair_files import Split
from retouch_common.devices import resolve_device
from retouch_common.files import sha256
from retouch_common.metrics.distribution import FID, FrechetDistance
from retouch_common.metrics.evaluation import console, draw_table, write_evaluation
from retouch_common.metrics.protocols import METRICS, PROTOCOLS
from retouch_common.metrics.quality import mean_metrics, psnr, quantise, ssim
from retouch_common.parsing.labels import coloured
from retouch_common.parsing.model import BUNDLED as PARSERS
from retouch_common.parsing.model import ParsingUNet
from retouch_common.progress import progress_bar
from retouch_common.ranges import to_unit
from retouch_common.weights import resolve_weights
from torch import Tensor, nn

from maskgan.components import masks
from maskgan.config import COMPONENT_NAMES
from maskgan.data import Faces, num_parsed, open_faces
from maskgan.model import BUNDLED, Codes, MaskGAN
from maskgan.seams import REACH

SHEET_ROWS, SHEET_SIDE = 4, 256
TOLERANCE = 8  # change in 8-bit levels from which a pixel outside a swapped component counts as changed
PHOTOGRAPHS, SOURCES = "photographs", "sources"
PROTOCOL = "png8"

LabelledFace = tuple[Tensor, Tensor]
"""Image (1, 3, S, S) in [-1, 1] and labels (1, S, S)."""


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of the evaluation.

    Attributes:
        split: "val", "test" or "all" of the data.
        limit: Number of faces; 0 for all.
        pairs: Number of faces with one person's appearance and another's mask.
        judge: Weights of the parser that measures agreement; training must not have used it.
        fid: File of Inception's weights; empty skips FID.
        judge_distance: Measure the Fréchet distance between generated and training faces in the judge's features.
        seed: Random seed of the pairs.
        device: "auto", "cpu" or "cuda".
    """

    split: Split = "val"
    limit: int = 0
    pairs: int = 100
    judge: str = "small"
    fid: str = ""
    judge_distance: bool = False
    seed: int = 0
    device: str = "auto"


@dataclass(kw_only=True)
class Row:
    """Metrics of one set of weights.

    Attributes:
        reconstruction: PSNR and SSIM of whole images, and PSNR of the person's pixels, by face.
        agreement: Share of pixels in which the judge finds the target's mask, by pair.
        outside: Mean share of pixels outside a swapped component that change by less than TOLERANCE levels.
        inside: Mean change inside a swapped component in levels.
        distances: FID and the Fréchet distance in :class:`JudgeFeatures`, by title, if measured.
    """

    reconstruction: list[dict[str, float]] = field(default_factory=list)
    agreement: list[float] = field(default_factory=list)
    outside: dict[str, float] = field(default_factory=dict)
    inside: dict[str, float] = field(default_factory=dict)
    distances: dict[str, float] = field(default_factory=dict)

    def means(self) -> dict[str, float]:
        """Return every metric's mean over the faces that have it, by the table's titles."""
        found = mean_metrics(self.reconstruction)
        if self.agreement:
            found["agreement"] = float(np.mean(self.agreement))
        return found | self.distances


@dataclass(kw_only=True)
class Evaluation:
    """Result of an evaluation.

    Attributes:
        header: Weights, data, options and environment, as JSON values.
        rows: Metrics by name of the weights; the baselines first.
        notes: Remarks on the tables.
    """

    header: dict[str, Any]
    rows: dict[str, Row] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class JudgeFeatures(nn.Module):
    """The deepest features of a face parser, averaged over the image: (N, 3, S, S) uint8 to (N, C).

    Args:
        judge: The parser.
    """

    def __init__(self, judge: ParsingUNet) -> None:
        super().__init__()
        self.judge, self.num_features = judge, judge.config.channels[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Return the features."""
        return self.judge.encode(images.float() / 255)[-1].mean(dim=(2, 3))


@torch.no_grad()
def evaluate(
    weights: Mapping[str, str | Path],
    data: str,
    options: EvaluationOptions,
    *,
    out: Path | None = None,
    report: Callable[[str], None] = print,
) -> Evaluation:
    """Evaluate one or several sets of weights on the same faces and pairs.

    Args:
        weights: Bundled name or path by the name of the row.
        data: Specification for :func:`maskgan.data.open_faces`.
        options: Options of the evaluation.
        out: Folder for ``evaluation.json`` and ``figures.png``; None writes nothing.
        report: Called with lines for the user.

    Raises:
        ValueError: Unusable weights, data or options, or weights of different sizes.
        OSError: ``out`` cannot be written.
    """
    for name in (PHOTOGRAPHS, SOURCES):
        if name in weights:
            raise ValueError(f"weights called {name!r}: the tables have a row of that name; choose another")
    device = resolve_device(options.device)
    files = {name: resolve_weights(path, bundled=BUNDLED).path for name, path in weights.items()}
    models = {name: MaskGAN.from_pretrained(file).to(device) for name, file in files.items()}
    sizes = sorted({model.config.size for model in models.values()})
    if len(sizes) != 1:
        raise ValueError(f"weights for faces of {' and '.join(map(str, sizes))} pixels cannot be compared")
    size = sizes[0]
    judged_by = resolve_weights(options.judge, bundled=PARSERS).path
    judge = ParsingUNet.from_pretrained(judged_by).to(device)
    faces = _load_faces(data, size, options, device)
    inception = FID(options.fid, device=device) if options.fid else None
    features = JudgeFeatures(judge) if options.judge_distance else None
    real = open_faces(data, size=size, split="train", seed=options.seed) if inception or features else ()
    result = Evaluation(header=_header(files, judged_by, data, options, size, len(faces), device))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    pairs = drawn_pairs(len(faces), options.pairs, options.seed)
    result.rows = _baseline_rows(judge, faces, pairs)
    sheet = [_sheet_row(faces, *pair) for pair in pairs[:SHEET_ROWS]]
    distances = _open_distances(inception, features, device)
    for _, target in pairs:
        for distance in distances.values():
            distance.add(to_unit(faces[target][0][0]), real=False)
    _finish_distances(result, PHOTOGRAPHS, distances, real)
    with progress_bar(unit="faces") as bar:
        for name, model in models.items():
            row = result.rows[name] = Row()
            distances = _open_distances(inception, features, device)
            codes = [model.encode(*face) for face in bar.track(faces, description=f"{name}, appearance")]
            people = list(zip(faces, codes, [codes[-1], *codes[:-1]], strict=True))
            _measure_faces(row, model, bar.track(people, description=name))
            for index, (source, target) in enumerate(bar.track(pairs, description=f"{name}, pairs")):
                image, labels = faces[target]
                drawn = _generate(model, codes[source], image, labels)
                row.agreement.append(agreement(judge, drawn, labels))
                if index < len(sheet):
                    sheet[index][name] = to_unit(drawn[0]).cpu()
                for distance in distances.values():
                    distance.add(to_unit(drawn[0]), real=False)
            _finish_distances(result, name, distances, real)
    if parsed := num_parsed(data, options.split):
        result.notes.append(
            f"{parsed} faces without a landmark template have masks of the bundled parser: agreement with these is "
            "agreement with it"
        )
    if options.judge == "small":
        result.notes.append(
            "agreement is judged by the bundled parser, which supervised the training of the bundled weights and "
            "flatters them; give --judge another one's weights"
        )
    if out is not None:
        rows = {name: {"means": row.means(), **asdict(row)} for name, row in result.rows.items()}
        values = {**result.header, "notes": result.notes, "rows": rows}
        write_evaluation(out, values, sheet, max_side=SHEET_SIDE)
        report(f"wrote {out}")
    return result


def _load_faces(data: str, size: int, options: EvaluationOptions, device: torch.device) -> list[LabelledFace]:
    faces = open_faces(data, size=size, split=options.split, seed=options.seed)
    count = min(options.limit or len(faces), len(faces))
    if count < 2:
        raise ValueError(f"{data}: {count} faces in the split {options.split!r}; at least two are needed")
    samples = (faces[index] for index in range(count))
    return [(sample["image"][None].to(device), sample["labels"][None].to(device)) for sample in samples]


def _header(
    files: Mapping[str, Path],
    judge: Path,
    data: str,
    options: EvaluationOptions,
    size: int,
    count: int,
    device: torch.device,
) -> dict[str, Any]:
    from retouch_common.metrics.environment import environment

    return {
        "weights": {name: sha256(file) for name, file in files.items()},
        "judge": {"name": options.judge, "sha256": sha256(judge)},
        "data": {
            "spec": data,
            "split": options.split,
            "faces": count,
            "pairs": options.pairs,
            "seed": options.seed,
        },
        "resolution": size,
        "protocols": _protocols(size),
        "device": str(device),
        "environment": environment(),
    }


def _protocols(size: int) -> dict[str, str]:
    """Return descriptions of PSNR and SSIM by their titles."""
    names = PROTOCOLS[PROTOCOL]
    found = {title: METRICS[name].at(size).description for title, name in (("PSNR", names.psnr), ("SSIM", names.ssim))}
    return found | {"PSNR person": "as PSNR, of the pixels whose label is not background"}


def _baseline_rows(
    judge: ParsingUNet, faces: Sequence[LabelledFace], pairs: Sequence[tuple[int, int]]
) -> dict[str, Row]:
    """Return the metrics of the targets' photographs, and the agreement of the sources with the targets' masks."""
    photographs = [agreement(judge, *faces[target]) for _, target in pairs]
    sources = [agreement(judge, faces[source][0], faces[target][1]) for source, target in pairs]
    same = [_reconstruction(image, image, labels) for image, labels in faces]
    return {PHOTOGRAPHS: Row(reconstruction=same, agreement=photographs), SOURCES: Row(agreement=sources)}


def _open_distances(
    inception: FID | None, features: JudgeFeatures | None, device: torch.device
) -> dict[str, FrechetDistance]:
    """Return empty metrics of one set of weights, by title."""
    found: dict[str, FrechetDistance] = {}
    if inception is not None:
        found["FID"] = inception.another()
    if features is not None:
        found["judge distance"] = FrechetDistance(features, device=device)
    return found


def _finish_distances(
    result: Evaluation, name: str, distances: Mapping[str, FrechetDistance], real: Faces | tuple[()]
) -> None:
    """Add the real faces to the distances, and the distances and notes on them to the result."""
    for index in range(len(real)):
        image = to_unit(real[index]["image"])
        for distance in distances.values():
            distance.add(image, real=True)
    result.rows[name].distances = {title: distance.value() for title, distance in distances.items()}
    result.notes += [f"{name}: {_distance_note(distance)}" for distance in distances.values()]


def _distance_note(distance: FrechetDistance) -> str:
    if isinstance(distance, FID):
        return f"{distance.description}, real: the faces of the training split"
    return (
        "judge distance: Fréchet distance in the deepest features of the judge, averaged over the face, "
        f"{distance.images} images a set, real: the faces of the training split; it is not FID"
    )


def drawn_pairs(count: int, number: int, seed: int) -> list[tuple[int, int]]:
    """Draw pairs (source, target) of different faces at random."""
    generator = np.random.default_rng((seed, 0xFACE))
    return [tuple(map(int, generator.choice(count, 2, replace=False))) for _ in range(number)]  # type: ignore[misc]


@torch.no_grad()
def agreement(judge: ParsingUNet, image: Tensor, labels: Tensor) -> float:
    """Return the share of pixels of an image (1, 3, S, S) in [-1, 1] in which a parser finds the labels (1, S, S)."""
    return float((judge(to_unit(image)).argmax(dim=1) == labels).float().mean())


def locality(before: Tensor, after: Tensor, component: Tensor) -> tuple[float, float]:
    """Measure how local the swap of a component with mask (1, S, S) is, on images (1, 3, S, S) in [-1, 1].

    Returns:
        The share of pixels farther than REACH from it of which no channel changes by TOLERANCE levels, and the mean
        change of its own pixels in levels.
    """
    change = (quantise(to_unit(after)) - quantise(to_unit(before))).abs().amax(dim=1) * 255
    radius = max(1, round(REACH * before.shape[-1]))
    near = F.max_pool2d(component[:, None].float(), 2 * radius + 1, 1, radius)[:, 0] > 0
    outside = change[~near]
    still = float((outside.round() < TOLERANCE).float().mean()) if len(outside) else 1.0
    return still, float(change[component].mean())


def _measure_faces(row: Row, model: MaskGAN, people: Iterable[tuple[LabelledFace, Codes, Codes]]) -> None:
    """Measure every face's reconstruction, and locality with components of another one, whose codes are last."""
    found: dict[str, list[tuple[float, float]]] = {}
    for (image, labels), own, other in people:
        same = _generate(model, own, image, labels)
        row.reconstruction.append(_reconstruction(same, image, labels))
        for number, name in enumerate(COMPONENT_NAMES):
            if name not in other.values or not (other.shows(name) and own.shows(name)):
                continue
            mixed = Codes({**own.values, name: other.values[name]}, own.present)
            share, change = locality(same, _generate(model, mixed, image, labels), masks(labels)[:, number])
            found.setdefault(name, []).append((share, change))
    for name, values in found.items():
        row.outside[name], row.inside[name] = map(float, np.mean(values, axis=0))


def _reconstruction(drawn: Tensor, image: Tensor, labels: Tensor) -> dict[str, float]:
    output, target = to_unit(drawn[0]), to_unit(image[0])
    person = (labels != 0)[:, None]
    found = {"PSNR": psnr(output, target), "SSIM": ssim(output, target)}
    return found | ({"PSNR person": psnr(output, target, person)} if person.any() else {})


def _generate(model: MaskGAN, codes: Codes, image: Tensor, labels: Tensor) -> Tensor:
    return model.generate(codes, image, labels).float().clamp(-1, 1)


def _sheet_row(faces: Sequence[LabelledFace], source: int, target: int) -> dict[str, Tensor]:
    mask = coloured(faces[target][1][0].cpu().numpy().astype(np.uint8))
    return {
        "appearance": to_unit(faces[source][0][0]).cpu(),
        "target": to_unit(faces[target][0][0]).cpu(),
        "mask": torch.from_numpy(mask).permute(2, 0, 1) / 255,
    }


def show(result: Evaluation) -> None:
    """Print the tables to standard output."""
    screen = console()
    titles = (
        ("PSNR", ".2f"),
        ("SSIM", ".4f"),
        ("PSNR person", ".2f"),
        ("agreement", ".4f"),
        ("FID", ".2f"),
        ("judge distance", ".3f"),
    )
    measured = [title for title in titles if any(title[0] in row.means() for row in result.rows.values())]
    screen.print(
        draw_table(
            "reconstruction of faces, agreement with the mask",
            {name: row.means() for name, row in result.rows.items()},
            [(title, title, style) for title, style in measured],
        )
    )
    swapped = {name: row.outside for name, row in result.rows.items() if row.outside}
    if swapped:
        columns = [(name, name, ".1%") for name in COMPONENT_NAMES]
        screen.print(
            draw_table(
                f"another's component: pixels elsewhere that change by less than {TOLERANCE} levels",
                {PHOTOGRAPHS: dict.fromkeys(COMPONENT_NAMES, 1.0)} | swapped,
                columns,
            )
        )
    screen.print(f"{PHOTOGRAPHS}: the identity (output = the target's photo); {SOURCES}: under the targets' masks")
    screen.print(f"{PROTOCOL}: {PROTOCOLS[PROTOCOL].about}")
    for note in result.notes:
        screen.print(note)
