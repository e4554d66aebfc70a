"""Retouched faces and their originals: made on the fly from portraits, or as published (RetouchingFFHQ).

Samples: ``retouched`` and ``original`` (3, S, S) in [0, 1]; ``traces`` (C, G, G), see :mod:`mofrr.traces`; ``applied``
(operations,) float32 of 0 and 1; ``degree`` int64, 1 (light) to 5 for faces with a single operation whose degrees are
known, else 0.

Section 3.1: the degree of an operation is a quantile of the PSNR between retouched picture and original, over training
pictures with that operation alone: 10, 25, 25, 25 and 15 % from degree 1 to 5.
"""

import hashlib
import io
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from retouch_common.data.face_cache import default_cache
from retouch_common.data.pairs import ImagePairs
from retouch_common.data.portraits import find_portraits, split_portraits
from retouch_common.faces.alignment import align
from retouch_common.files import write_atomically
from retouch_common.metrics.quality import psnr
from retouch_common.photo.filters import resize
from retouch_common.ranges import from_levels, to_levels
from retouch_common.synthesis.retouching import ANY, OPERATIONS, RetouchConfig, random_recipe, retouch_face
from torch import Tensor
from torch.utils.data import Dataset

from mofrr.history import History, photographed
from mofrr.portraits import load_portrait, prepare_portraits, square_of
from mofrr.retouching_degrees import degree_edges, degrees
from mofrr.retouching_ffhq import Retouched, find_retouched
from mofrr.traces import packed, photo_traces, picture_traces, unpacked

VERSION = 1  # of samples that are kept; raise it when they are made in another way
MEASURED = 200  # pictures of an operation from which its degrees' edges are taken
LARGE = (600.0, 1100.0)  # faces with squares of so many pixels come twice, and four times, as often
KEPT_MIXED, KEPT_SINGLE = 8, 2  # different samples of a portrait; they are made once and kept
COUNTS = (0.3, 0.4, 0.12, 0.1, 0.08)  # shares of training samples with 0 to 4 operations
JITTER = 0.015  # of a detector's points, as a share of the square's side
RELIT = (0.06, 0.08, 0.02)  # spread of exposure, gamma and white balance of kept samples
FACES = "faces:"


class NoPictures(ValueError):
    """The data is sound, but has none of the wanted kind."""


def open_data(
    spec: str,
    *,
    size: int,
    split: str,
    seed: int,
    operations: Sequence[str],
    kind: str = "mixed",
    styles: Sequence[str] = (),
) -> "RetouchedFaces":
    """Open faces and their originals.

    Args:
        spec: ``faces:DIR,DIR,…``, plain portraits that are retouched and aligned, or a folder as
            :func:`mofrr.retouching_ffhq.find_retouched` reads it.
        size: Side in pixels.
        split: "train", "dev", "val", "test" or "all"; "dev" is a part of the training people that is not trained on,
            for choosing between weights; in a folder it is "val".
        seed: Of everything random.
        operations: Names of the columns of ``applied``.
        kind: "mixed" for all faces, "single:OPERATION" for those with that operation alone, "multi" for those with
            two and more, "clean" for those without any.
        styles: Of retouching, for ``faces:`` only; empty takes all.

    Raises:
        NoPictures: None of that kind.
        ValueError: Unusable data or options.
    """
    if spec.startswith(FACES):
        return SimulatedFaces(
            spec.removeprefix(FACES), size=size, split=split, seed=seed, operations=operations, kind=kind,
            styles=styles,
        )  # fmt: skip
    if styles:
        raise ValueError(f"{spec}: styles are chosen for faces:DIR only; pictures in a folder have theirs")
    pictures = find_retouched(Path(spec), "val" if split == "dev" else split)  # type: ignore[arg-type]
    found = [picture for picture in pictures if _belongs(picture.magnitudes, kind)]
    if "all" not in operations:  # what the network has no expert for is not for it to learn
        found = [picture for picture in found if set(picture.magnitudes) <= set(operations)]
    if not found:
        raise NoPictures(f"{spec}: no {kind} pictures in the split {split!r}")
    return PublishedFaces(found, size=size, augment=split == "train", seed=seed, operations=operations, kind=kind)


@dataclass(frozen=True)
class Pair:
    """A retouched face and its original.

    Attributes:
        retouched: (3, S, S) in [0, 1].
        original: The same.
        applied: Names of the operations.
        traces: (C, G, G) of the retouched photograph.
    """

    retouched: Tensor
    original: Tensor
    applied: frozenset[str]
    traces: Tensor

    @property
    def psnr(self) -> float:
        """Between the two, in dB."""
        return psnr(self.retouched, self.original, rounded=False)


class RetouchedFaces(Dataset[dict[str, Tensor]], ABC):
    """Samples as the module says; any index from 0 up is valid, and the same index gives the same sample.

    Attributes:
        degree_edges: PSNRs between degrees, ascending; None until somebody sets what :meth:`measured_edges` gives.
    """

    degree_edges: list[float] | None = None

    def __init__(self, operations: Sequence[str], kind: str) -> None:
        self.operations = list(operations)
        self.single = kind.partition(":")[2]

    @abstractmethod
    def __len__(self) -> int:
        """Number of different pictures."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """One sample."""
        pair = self.pair(index)
        degree = 0
        if self.degree_edges is not None:
            degree = int(degrees(pair.psnr, np.array(self.degree_edges)))
        applied = pair.applied
        columns = [1.0 if name in applied or (name == "all" and applied) else 0.0 for name in self.operations]
        return {
            "retouched": pair.retouched,
            "original": pair.original,
            "traces": pair.traces,
            "applied": torch.tensor(columns),
            "degree": torch.tensor(degree),
        }

    def measured_edges(self) -> list[float]:
        """Where the degrees of the single operation meet, by some pictures from all over the set.

        Raises:
            ValueError: Too few pictures.
        """
        count = min(MEASURED, 4 * len(self))
        pairs = (self.pair(number * max(count, len(self)) // count) for number in range(count))
        return degree_edges([pair.psnr for pair in pairs]).tolist()

    @property
    def different(self) -> int:
        """Number of samples that differ by more than mirroring and light."""
        return len(self)

    @abstractmethod
    def pair(self, index: int) -> Pair:
        """Retouched picture, original, what was applied."""


class PublishedFaces(RetouchedFaces):
    """Files of a published data set.

    Args:
        pictures: Which.
        size: Side in pixels.
        augment: Mirror at random.
        seed: Of that.
        operations: See :func:`open_data`.
        kind: See :func:`open_data`.
    """

    def __init__(
        self, pictures: Sequence[Retouched], *, size: int, augment: bool, seed: int, operations: Sequence[str],
        kind: str = "mixed",
    ) -> None:  # fmt: skip
        self.pictures = list(pictures)
        files = [(picture.file, picture.original) for picture in pictures]
        self.pairs = ImagePairs(files, size=size, augment=augment, seed=seed)
        super().__init__(operations, kind)

    def __len__(self) -> int:
        """Number of files."""
        return len(self.pictures)

    def pair(self, index: int) -> Pair:
        """See :class:`RetouchedFaces`."""
        pair, applied = self.pairs[index], frozenset(self.pictures[index % len(self)].magnitudes)
        return Pair(pair["raw"], pair["target"], applied, picture_traces(pair["raw"][None])[0])


class SimulatedFaces(RetouchedFaces):
    """Portraits, retouched at the size of their photographs, then framed as in use.

    In training, each portrait is first made into another photograph, and after retouching both pictures undergo the
    same random history (:mod:`mofrr.history`). What is measured on, "val" and "all", is retouched as it is.

    See :func:`mofrr.portraits.open_portrait` for where the faces are, and
    :func:`retouch_common.data.portraits.split_portraits` for who is held out. Samples are made once and kept.

    Args:
        folders: Portraits, in subfolders too; several joined by commas.
        size: Side in pixels.
        split: "train", "dev", "val" (also for "test") or "all".
        seed: Of everything random.
        operations: See :func:`open_data`.
        kind: See :func:`open_data`.
        styles: See :func:`open_data`; empty takes "any".
    """

    def __init__(
        self, folders: str | Path, *, size: int, split: str, seed: int, operations: Sequence[str],
        kind: str = "mixed", styles: Sequence[str] = (),
    ) -> None:  # fmt: skip
        single = kind.partition(":")[2]
        if single and single not in OPERATIONS:
            raise NoPictures(
                f"{FACES}{folders}: nothing here does {single} to a face; there are {', '.join(OPERATIONS)}"
            )
        if kind in ("mixed", "multi") and tuple(operations) != ("all",) and (left := set(OPERATIONS) - set(operations)):
            raise NoPictures(
                f"{FACES}{folders}: {kind} faces also show {', '.join(sorted(left))}, not in model.operations"
            )
        self.size, self.seed, self.kind = size, seed, kind
        self.augment, self.lived = split == "train", split in ("train", "dev")
        self._config = RetouchConfig(styles=tuple(styles) or (ANY,), counts=COUNTS, spread=None)
        if kind == "clean":
            self._config = replace(self._config, counts=(1.0, 0.0, 0.0, 0.0, 0.0))
        elif kind == "multi":  # as often as before among themselves
            many = self._config.counts[2:]
            self._config = replace(self._config, counts=(0.0, 0.0, *(p / sum(many) for p in many)))
        paths = split_portraits(find_portraits(folders), "val" if split == "test" else split)
        entries = prepare_portraits(paths)
        if not entries:
            raise ValueError(f"{folders}: no face in {len(paths)} portraits of the split {split!r}")
        self.entries = [entry for entry in entries for _ in range(_weight(entry) if self.augment else 1)]
        self._kept = len(self.entries) * (KEPT_MIXED if kind == "mixed" else KEPT_SINGLE)
        self._folder = default_cache().with_name("retouched")
        self._folder.mkdir(parents=True, exist_ok=True)
        super().__init__(operations, kind)

    def __len__(self) -> int:
        """Number of portraits, large ones counted several times."""
        return len(self.entries)

    @property
    def different(self) -> int:
        """Number of samples that are kept."""
        return self._kept

    def pair(self, index: int) -> Pair:
        """See :class:`RetouchedFaces`."""
        made = self._sample(index % self._kept)
        retouched, original, traces = made.retouched, made.original, unpacked(made.traces)
        if self.augment:
            generator = np.random.default_rng((self.seed, index, 0x40F))
            if generator.random() < 0.5:
                retouched, original, traces = retouched[:, ::-1], original[:, ::-1], traces[..., ::-1]
            light = _light(generator)
            retouched, original = light[retouched, range(3)], light[original, range(3)]
        pair = [
            torch.from_numpy(from_levels(np.ascontiguousarray(levels))).permute(2, 0, 1).contiguous()
            for levels in (retouched, original)
        ]
        return Pair(pair[0], pair[1], made.applied, torch.from_numpy(np.ascontiguousarray(traces)))

    def _sample(self, number: int) -> "_Sample":
        """One of the samples that are kept; made if it is not there."""
        entry = self.entries[number % len(self)]
        about = (VERSION, entry.stem, number, self.seed, self.size, self.kind, self.lived, self._config)
        file = self._folder / f"{hashlib.sha256(repr(about).encode()).hexdigest()[:24]}.npz"
        try:
            return _unpacked(file)
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):  # not there, or cut short
            made = self._made(entry, np.random.default_rng((self.seed, number, 0x5A3)))
            write_atomically(file, _packed(made))
            return made

    def _made(self, entry: Path, generator: np.random.Generator) -> "_Sample":
        portrait = load_portrait(entry)
        original = from_levels(portrait.levels)
        landmarks, skin, points = portrait.landmarks, from_levels(portrait.skin), portrait.points
        history, side = History(), portrait.square.side
        if self.lived:
            original, factor = photographed(original, side, generator)
            landmarks, points, side = landmarks.scaled(factor), (points + 0.5) * factor - 0.5, side * factor
            history = History.random(generator, side)
            points = points + generator.normal(0, JITTER, points.shape) * side
        skin = skin if skin.shape == original.shape[:2] else _fitted(skin, original.shape[:2])
        recipe = random_recipe(generator, self._config, operations=[self.single] if self.single else None)
        original = from_levels(to_levels(original))  # as files have them: whole levels
        retouched = retouch_face(
            original, landmarks, recipe.strengths, style=recipe.style, seed=recipe.seed, skin=skin
        ).image
        applied = frozenset(name for name, strength in recipe.strengths.items() if strength)
        points = history.moved(points, *original.shape[:2])
        photo = history(retouched)
        untouched = history(original) if applied else photo
        square = square_of(points, *photo.shape[:2])
        faces = [to_levels(align(levels, square, self.size)) for levels in (photo, untouched)]
        return _Sample(faces[0], faces[1], packed(photo_traces(photo, square)), applied)


@dataclass(frozen=True)
class _Sample:
    """A pair as it is kept: (S, S, 3) and (C, G, G) uint8."""

    retouched: np.ndarray
    original: np.ndarray
    traces: np.ndarray
    applied: frozenset[str]


def _packed(sample: _Sample) -> bytes:
    file = io.BytesIO()
    parts = {"retouched": sample.retouched, "traces": sample.traces, "applied": np.array(sorted(sample.applied), "U")}
    if sample.applied:
        parts["original"] = sample.original
    np.savez(file, **parts)  # type: ignore[arg-type]
    return file.getvalue()


def _unpacked(file: Path) -> _Sample:
    with np.load(file, allow_pickle=False) as kept:
        retouched = kept["retouched"]
        original = kept["original"] if "original" in kept.files else retouched
        return _Sample(retouched, original, kept["traces"], frozenset(kept["applied"].tolist()))


def _weight(entry: Path) -> int:
    """How often a portrait stands in a training set: large faces teach more."""
    side = load_portrait(entry).square.side
    return 1 if side < LARGE[0] else 2 if side < LARGE[1] else 4


def _fitted(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    return resize(mask, *size, antialias=True).clip(0, 1)


def _light(generator: np.random.Generator) -> np.ndarray:
    """(256, 3) uint8: another exposure, gamma and white balance of both pictures, as a table."""
    exposure, gamma, balance = (generator.normal(0, spread, n) for spread, n in zip(RELIT, (1, 1, 3), strict=True))
    curves = (np.arange(256)[:, None] / 255) ** np.exp(gamma) * np.exp(exposure + balance)
    return to_levels(curves)


def _belongs(magnitudes: dict[str, int], kind: str) -> bool:
    if kind.startswith("single:"):
        return set(magnitudes) == {kind.partition(":")[2]}
    return kind == "mixed" or (not magnitudes if kind == "clean" else len(magnitudes) > 1)
