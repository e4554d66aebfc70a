"""Photographs of held-out people, retouched by a program that training does not use, and restored.

For every photograph: each operation alone, several at once, and none; what the router found, and how the result
compares with doing nothing, in PSNR around the face. The router is also asked about untouched and retouched photographs
reduced and enlarged. ``--experts named`` measures each expert on its own operation without the router instead.

``evidence.py`` measures with it. ``python packages/mofrr/benchmarks/restored_anywhere.py --every 3`` prints a table of
a third of the photographs, in some ten minutes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import click
import numpy as np
import torch
from mofrr.config import OPERATIONS
from mofrr.model import MoFRR, to_unit
from mofrr.restore import Restorer
from mofrr.traces import photo_traces
from PIL import Image
from retouch_common.faces.alignment import align
from retouch_common.inference.face_plan import squares_in
from retouch_common.inference.faces import changed_face_rows
from retouch_common.photo.sources import ArraySource
from retouch_common.testing.anywhere import MeshPortrait, face_window, mesh_square, portraits_with_mesh
from retouch_common.testing.evidence import ANYWHERE, face_sets
from retouch_common.testing.portraits import psnr
from retouch_common.testing.sheets import changes_over
from retouching_program import STRENGTHS, compressed, retouch

FULL_SIZE = 500  # width in pixels from which a face counts as one of a full-size photograph
SIZES = (0.3, 1.0, 3.0)
SMALL = 400  # width in pixels up to which retouched faces are also enlarged; larger ones are also reduced
MARGIN = 0.25  # face widths around the face in which PSNR is measured
MULTI = "several"

Item, Result = TypeVar("Item"), TypeVar("Result")
Strengths = Mapping[str, int]


@dataclass(frozen=True)
class Restored:
    """One retouched photograph and its restoration.

    Attributes:
        applied: Strengths by operation.
        before: PSNR of what was given in dB.
        after: PSNR of the result in dB.
    """

    applied: Strengths
    before: float
    after: float

    @property
    def gain(self) -> float:
        """Of the result over what was given, in dB."""
        return self.after - self.before


@dataclass(frozen=True)
class Answer:
    """What the router found in a photograph of another size.

    Attributes:
        applied: Operations.
        found: Operations.
        size: Of the photograph over its own.
        full_size: Whether the face at its own size is that of a full-size photograph.
    """

    applied: frozenset[str]
    found: frozenset[str]
    size: float
    full_size: bool


@dataclass(frozen=True)
class Aligned:
    """A face on which several operations were applied, aligned, (S, S, 3) float32 in [0, 1].

    Attributes:
        image: Retouched.
        traces: Of the photograph at its own resolution, see :mod:`mofrr.traces`.
        truth: As photographed.
        applied: Operations.
    """

    image: np.ndarray
    traces: np.ndarray
    truth: np.ndarray
    applied: frozenset[str]


@dataclass
class Measured:
    """All of it.

    Attributes:
        alone: Photographs with one operation.
        several: Photographs with two to four.
        untouched: Whether an untouched photograph came back to the bit, by name.
        answers: Of the router.
        faces: For the Combine Module.
    """

    alone: list[Restored] = field(default_factory=list)
    several: list[Restored] = field(default_factory=list)
    untouched: dict[str, bool] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    faces: list[Aligned] = field(default_factory=list)

    def gain(self, operation: str) -> tuple[float, dict[str, Any]]:
        """Mean gain of an operation alone, or of several at once, in dB, and details."""
        return mean_gain(
            self.several if operation == MULTI else [row for row in self.alone if operation in row.applied]
        )

    def found(self, operation: str, *, size: float = 1.0, full_size: bool = True) -> float:
        """Share of the photographs with that operation alone in which the router found it."""
        return _share(operation in a.found for a in self._at(size, full_size) if a.applied == {operation})

    def false(self, operation: str, *, size: float = 1.0, full_size: bool = True) -> float:
        """Share of the untouched photographs in which the router found an operation."""
        return _share(operation in a.found for a in self._at(size, full_size) if not a.applied)

    def mistaken(self, operation: str) -> float:
        """Share of the full-size photographs with another operation alone in which the router found this one."""
        return _share(operation in a.found for a in self._at(1.0, True) if a.applied and operation not in a.applied)

    def _at(self, size: float, full_size: bool) -> list[Answer]:
        return [a for a in self.answers if a.size == size and (a.full_size or not full_size)]


def mean_gain(rows: Sequence[Restored]) -> tuple[float, dict[str, Any]]:
    """Mean gain of photographs in dB, and details."""
    return statistics.mean(row.gain for row in rows), {
        "identity": statistics.mean(row.before for row in rows),
        "result": statistics.mean(row.after for row in rows),
        "pictures": len(rows),
        "worse": sum(row.gain < 0 for row in rows),
        "worst": min(row.gain for row in rows),
    }


def named_experts(model: MoFRR, portraits: Iterable[MeshPortrait]) -> dict[str, list[Restored]]:
    """Retouch photographs by each operation alone and restore them with its expert, without asking the router."""
    restorers = {name: Restorer(model, device="cpu", experts=[name]) for name in OPERATIONS}
    rows: dict[str, list[Restored]] = {name: [] for name in OPERATIONS}
    for portrait, drawn in _ahead(_retouched, enumerate(portraits)):
        for strengths, levels in drawn[: len(OPERATIONS)]:
            (name,) = strengths
            result, _ = _restored(restorers[name], portrait, levels)
            rows[name].append(_compared(portrait, strengths, levels, result))
    return rows


def measure(restorer: Restorer, portraits: Iterable[MeshPortrait], start: int = 0) -> Measured:
    """Retouch and restore photographs; the next one is retouched while one is restored.

    `start` is the number of the first one: what is done to a photograph depends on its number.
    """
    measured = Measured()
    for index, (portrait, drawn) in enumerate(_ahead(_retouched, enumerate(portraits, start)), start):
        ask = _Router(restorer, portrait, index, measured.answers)
        result, found = _restored(restorer, portrait, portrait.levels)
        ask.note(found, {})
        anywhere = portrait.path.parent.name in ANYWHERE
        if anywhere:
            measured.untouched[portrait.name] = np.array_equal(result, portrait.levels)
        for size in SIZES:
            ask(compressed(portrait.levels, index), {}, size)
        for strengths, levels in drawn[len(OPERATIONS) + 1 :]:
            ask(levels, strengths)
        for strengths, levels in drawn[: len(OPERATIONS) + 1]:
            result, found = _restored(restorer, portrait, levels)
            if len(strengths) == 1:
                ask.note(found, strengths)
                ask(levels, strengths, 3.0 if portrait.face_width < SMALL else 0.3)
            if anywhere:
                rows = measured.alone if len(strengths) == 1 else measured.several
                rows.append(_compared(portrait, strengths, levels, result))
            if anywhere and len(strengths) > 1:
                size = restorer.network.config.size
                image, truth = (align(picture, ask.square, size) for picture in (levels, portrait.levels))
                measured.faces.append(Aligned(image, photo_traces(levels, ask.square), truth, frozenset(strengths)))
    return measured


def joined(parts: Iterable[Measured]) -> Measured:
    """Join what was measured on parts of the photographs."""
    whole = Measured()
    for part in parts:
        whole.alone += part.alone
        whole.several += part.several
        whole.untouched |= part.untouched
        whole.answers += part.answers
        whole.faces += part.faces
    return whole


def sheet_rows(restorer: Restorer, portraits: Iterable[MeshPortrait]) -> Iterator[dict[str, np.ndarray]]:
    """A row for every photograph: untouched and with several operations, what becomes of both, and what changes."""
    for portrait, drawn in _ahead(_retouched, enumerate(portraits)):
        window, row = face_window(portrait, 3 * MARGIN), {}
        for title, levels in (("photograph", portrait.levels), (MULTI, drawn[len(OPERATIONS)][1])):
            result, _ = _restored(restorer, portrait, levels)
            row |= {title: levels[window], f"{title}, result": result[window]}
            row[f"{title}, changes"] = changes_over(levels[window], result[window])
        yield row


class _Router:
    """Asks the router about a photograph's versions and notes its answers."""

    def __init__(self, restorer: Restorer, portrait: MeshPortrait, seed: int, answers: list[Answer]) -> None:
        self.restorer, self.seed, self.answers = restorer, seed, answers
        self.full_size = portrait.face_width >= FULL_SIZE
        self.square = mesh_square(portrait)

    def __call__(self, levels: np.ndarray, applied: Iterable[str], size: float = 1.0) -> None:
        """Enlarge the photograph by a factor, compress it if that is not 1, and ask."""
        x, y, w, h = self.square.bounds(*levels.shape[:2])
        part = np.ascontiguousarray(levels[y : y + h, x : x + w])
        if size != 1:
            picture = Image.fromarray(part).resize((round(w * size), round(h * size)), Image.Resampling.LANCZOS)
            part = compressed(np.array(picture), self.seed)
        (left, top), side = self.square.centre, self.square.side
        square = replace(self.square, centre=((left - x) * size, (top - y) * size), side=side * size)
        (face,) = self.restorer.restore_faces(ArraySource(part), [square])
        self.note(frozenset(face.degrees), applied, size)

    def note(self, found: frozenset[str], applied: Iterable[str], size: float = 1.0) -> None:
        """Keep an answer."""
        self.answers.append(Answer(frozenset(applied), found, size, self.full_size))


def recipes(index: int, full_size: bool) -> Iterator[Strengths]:
    """What is done to a photograph: each operation alone, several, and for a full-size one each at another strength."""
    for number, name in enumerate(OPERATIONS):
        yield {name: STRENGTHS[(index + number) % 3]}
    generator = np.random.default_rng((index, 0x5E7))
    chosen = generator.permutation(OPERATIONS)[: 2 + index % 3]
    yield {str(name): int(generator.choice(STRENGTHS)) for name in chosen}
    if full_size:
        for number, name in enumerate(OPERATIONS):
            yield {name: STRENGTHS[(index + number + 1) % 3]}


def _retouched(item: tuple[int, MeshPortrait]) -> tuple[MeshPortrait, list[tuple[Strengths, np.ndarray]]]:
    index, portrait = item
    wanted = recipes(index, portrait.face_width >= FULL_SIZE)
    return portrait, [(strengths, retouch(portrait, strengths, index)) for strengths in wanted]


def _restored(restorer: Restorer, portrait: MeshPortrait, levels: np.ndarray) -> tuple[np.ndarray, frozenset[str]]:
    """As ``mofrr-restore`` does it: the photograph, and what was undone in the person's face."""
    source = ArraySource(levels)
    try:
        faces = restorer.restore_faces(source, squares_in(levels, None, False))
    except ValueError:  # no face was found: the photograph comes back as it was
        return levels, frozenset()
    middle = portrait.mesh.mean(axis=0)
    own = min(faces, key=lambda face: float(np.hypot(*(np.array(face.square.centre) - middle))))
    return np.concatenate(list(changed_face_rows(source, faces))), frozenset(own.degrees)


def _compared(portrait: MeshPortrait, strengths: Strengths, levels: np.ndarray, result: np.ndarray) -> Restored:
    window = face_window(portrait, MARGIN)
    before, after = (psnr(picture[window], portrait.levels[window]) for picture in (levels, result))
    return Restored(strengths, before, after)


@torch.inference_mode()
def combined(model: MoFRR, faces: Iterable[Aligned]) -> dict[str, float]:
    """Mean PSNR in dB of the Combine Module's picture and of others from the same experts.

    "withheld": every operation that was applied and found is withheld in turn, from the Combine Module and from the
    sum of the experts' changes, "withheld, sum".
    """
    assert model.combine is not None
    rows: dict[str, list[float]] = {}

    def note(name: str, picture: torch.Tensor, truth: torch.Tensor) -> None:
        rows.setdefault(name, []).append(float(-10 * (picture - truth).square().mean().clamp(min=1e-10).log10()))

    for face in faces:
        image, truth = (torch.from_numpy(part).permute(2, 0, 1)[None] for part in (face.image, face.truth))
        traces = torch.from_numpy(face.traces)[None]
        found = model.consult(image, traces=traces)
        once = model.restore(image, traces=traces, steps=1).result
        working = {name: found.experts[name] for name, gate in zip(model.config.operations, found.gates[0], strict=True)
                   if gate}  # fmt: skip

        def made(shares: torch.Tensor, shared: torch.Tensor | None) -> torch.Tensor:
            return to_unit(model.combine(found.X, shared, working, shares)) if working else image  # noqa: B023

        def summed(shares: torch.Tensor) -> torch.Tensor:
            columns = zip(model.config.operations, shares[0], strict=True)
            changes = [share * (found.experts[name] - found.X) for name, share in columns]  # noqa: B023
            return to_unit(found.X + sum(changes))  # noqa: B023

        note("identity", image, truth)
        note("combined", made(found.gates, found.shared), truth)
        note("sum", summed(found.gates), truth)
        note("without the shared expert", made(found.gates, None), truth)
        note("one step", once, truth)
        for column, name in enumerate(model.config.operations):
            if name in working and name in face.applied:
                shares = found.gates.clone()
                shares[:, column] = 0
                note("withheld", made(shares, found.shared), truth)
                note("withheld, sum", summed(shares), truth)
    return {name: statistics.mean(values) for name, values in rows.items()}


def _share(values: Iterable[bool]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else float("nan")


def _ahead(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The function's results in order, each computed while its predecessor is in use."""
    with ThreadPoolExecutor(1) as worker:
        waiting = None
        for item in items:
            following = worker.submit(function, item)
            if waiting is not None:
                yield waiting.result()
            waiting = following
        if waiting is not None:
            yield waiting.result()


@click.command()
@click.option("--weights", default="small", show_default=True, help="A bundled name, a run or a file.")
@click.option("--every", type=click.IntRange(1), default=1, show_default=True, help="Measure every n-th photograph.")
@click.option("--experts", type=click.Choice(["auto", "named"]), default="auto", show_default=True,
              help="Undo what the router finds, or what was applied.")  # fmt: skip
def main(weights: str, every: int, experts: str) -> None:
    """Print the gain of each operation, and what the router finds in photographs of full size."""
    if experts == "named":
        model = MoFRR.from_pretrained(weights)
        for name, rows in named_experts(model, portraits_with_mesh(face_sets(ANYWHERE))[::every]).items():
            gain, details = mean_gain(rows)
            print(f"{name:8} {gain:+.1f} dB, {details['worse']} of {details['pictures']} worse", flush=True)
        return
    people = portraits_with_mesh(face_sets([*ANYWHERE, "london_neutral"]))[::every]
    measured = measure(Restorer(weights, device="cpu"), people)
    for operation in (*OPERATIONS, MULTI):
        gain, details = measured.gain(operation)
        line = f"{operation:8} {gain:+.1f} dB, {details['worse']} of {details['pictures']} worse"
        if operation != MULTI:
            line += f"; found {measured.found(operation):.0%}, false {measured.false(operation):.0%}"
        print(line)
    print(f"untouched: {sum(measured.untouched.values())} of {len(measured.untouched)} keep every bit")


if __name__ == "__main__":
    main()
