"""Retouched faces and their originals: simulated from portraits, or as published (RetouchingFFHQ).

Samples: ``retouched`` and ``original`` (3, S, S) in [0, 1]; ``traces`` (C, G, G), see :mod:`mofrr.traces`; ``applied``
(operations,) float32 of 0 and 1; ``degree`` int64, 1 (light) to 5 for faces with a single operation once
``degree_edges`` are set, else 0.
"""

import functools
import hashlib
import sys
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from retouch_common.data.face_cache import default_cache
from retouch_common.data.pairs import ImagePairs
from retouch_common.data.portraits import find_portraits, split_portraits
from retouch_common.faces.alignment import align
from retouch_common.files import write_atomically
from retouch_common.metrics.quality import PSNR_CEILING, psnr
from retouch_common.photo.filters import resize
from retouch_common.photo.io import Photo
from retouch_common.ranges import from_levels, to_levels, to_tensor
from retouch_common.synthesis.retouching import ANY, OPERATIONS, RetouchConfig, random_recipe, retouch_face
from torch import Tensor
from torch.utils.data import Dataset

from mofrr.degree import degree_edges, degrees
from mofrr.history import History, photographed
from mofrr.portraits import load_portrait, npz_bytes, prepare_portraits, square_of
from mofrr.retouching_ffhq import Retouched, find_retouched
from mofrr.traces import packed, photo_traces, unpacked

VERSION = 2  # of cached samples; raise it when they are made in another way
LARGE = (600.0, 1100.0)  # faces with larger squares, in pixels, are sampled twice and four times as often
KEPT_MIXED, KEPT_SINGLE = 4, 1  # cached samples of a portrait
COUNTS = (0.3, 0.4, 0.12, 0.1, 0.08)  # shares of training samples with 0 to 4 operations
JITTER = 0.015  # standard deviation of the detected landmarks over the square's side
LIGHT = (0.06, 0.08, 0.02)  # standard deviations of log exposure, log gamma and log white balance of augmentation
FACES = "faces:"

Kind = Literal["mixed", "single", "multi", "clean", "every"]


class NoImages(ValueError):
    """The data is valid, but has no images of a kind."""


def open_retouched_faces(
    spec: str,
    *,
    size: int,
    split: str,
    seed: int,
    operations: Sequence[str],
    kind: Kind = "mixed",
    operation: str = "",
    styles: Sequence[str] = (),
    apis: Sequence[str] = (),
) -> "RetouchedFaces":
    """Open faces and their originals.

    Args:
        spec: ``faces:DIR,DIR,…`` for portraits that are retouched on the fly, or a folder for
            :func:`mofrr.retouching_ffhq.find_retouched`.
        size: Side in pixels.
        split: "train", "dev", "val", "test" or "all"; "dev" is a part of the training people that is held out to
            select weights; in a folder it is "val".
        seed: Seed of everything random.
        operations: Names of the columns of ``applied``.
        kind: "mixed" for all faces, "single" for those with ``operation`` alone, "multi" for those with several,
            "clean" for those without any; "every" for mixed and single ones in turn, where portraits are retouched for
            training, else as "mixed".
        operation: See ``kind``.
        styles: Styles of retouching, for ``faces:`` only; empty takes all.
        apis: Programs that retouched the images, for folders only, see :data:`mofrr.retouching_ffhq.APIS`; empty takes
            all.

    Raises:
        NoImages: None of that kind.
        ValueError: Unusable data or options.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"unknown kind of faces {kind!r}; choose from {', '.join(get_args(Kind))}")
    if kind == "every":
        options: dict[str, Any] = {
            "size": size, "split": split, "seed": seed, "operations": operations, "styles": styles, "apis": apis,
        }  # fmt: skip
        mixed = open_retouched_faces(spec, **options)
        if not spec.startswith(FACES) or split != "train":
            return mixed
        singles = [open_retouched_faces(spec, **options, kind="single", operation=name) for name in OPERATIONS]
        return EveryFace(mixed, singles)
    if spec.startswith(FACES):
        if apis:
            raise ValueError(f"{spec}: APIs can be chosen for a folder laid out as RetouchingFFHQ only; choose styles")
        return SimulatedFaces(
            spec.removeprefix(FACES), size=size, split=split, seed=seed, operations=operations, kind=kind,
            operation=operation, styles=styles,
        )  # fmt: skip
    if styles:
        raise ValueError(f"{spec}: styles can be chosen for faces:DIR only; images in a folder have theirs")
    images = find_retouched(Path(spec), "val" if split == "dev" else split, apis)  # type: ignore[arg-type]
    found = [image for image in images if _is_of_kind(image.magnitudes, kind, operation)]
    if "all" not in operations:  # operations without an expert
        found = [image for image in found if set(image.magnitudes) <= set(operations)]
    if not found:
        raise NoImages(f"{spec}: no {_title(kind, operation)} images in the split {split!r}")
    # They are sorted by program and operation, and metrics are computed on the first ones.
    found = [found[at] for at in np.random.default_rng(0).permutation(len(found))]
    return PublishedFaces(found, size=size, augment=split == "train", seed=seed, operations=operations)


@dataclass(frozen=True)
class Pair:
    """A retouched face and its original.

    Attributes:
        retouched: (3, S, S) in [0, 1].
        original: Likewise.
        applied: Names of the operations.
        traces: (C, G, G) of the retouched photograph.
    """

    retouched: Tensor
    original: Tensor
    applied: frozenset[str]
    traces: Tensor

    @property
    def psnr(self) -> float:
        """PSNR between the two, in dB."""
        return psnr(self.retouched, self.original, rounded=False)


class RetouchedFaces(Dataset[dict[str, Tensor]], ABC):
    """Samples as in the module's docstring; any index from 0 is valid, and an index always gives the same sample.

    Args:
        operations: See :func:`open_retouched_faces`.

    Attributes:
        degree_edges: PSNRs between degrees, ascending, see :meth:`measured_edges`; None leaves degrees at 0.
        measured: Number of images from which they are computed.
    """

    degree_edges: list[float] | None = None
    measured = 200

    def __init__(self, operations: Sequence[str]) -> None:
        self.operations = list(operations)

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of different images."""

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return a sample."""
        pair = self.pair(index)
        degree = 0 if self.degree_edges is None else int(degrees(pair.psnr, np.array(self.degree_edges)))
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
        """Return the PSNRs between degrees, of images spread over the whole set that differ from their originals.

        Raises:
            ValueError: Too few images.
        """
        count = min(self.measured, 4 * len(self))
        pairs = (self.pair(number * max(count, len(self)) // count) for number in range(count))
        return degree_edges([value for pair in pairs if (value := pair.psnr) < PSNR_CEILING]).tolist()

    @property
    def different(self) -> int:
        """Number of samples that differ by more than augmentation."""
        return len(self)

    @abstractmethod
    def pair(self, index: int) -> Pair:
        """Return a retouched image, its original and the operations."""


class PublishedFaces(RetouchedFaces):
    """Files of a published data set; other arguments as of :func:`open_retouched_faces`.

    Args:
        images: The files.
        augment: Mirror at random.
    """

    measured = 2000  # reading costs less than retouching

    def __init__(
        self, images: Sequence[Retouched], *, size: int, augment: bool, seed: int, operations: Sequence[str]
    ) -> None:
        super().__init__(operations)
        self.images = list(images)
        files = [(image.file, image.original) for image in images]
        self.pairs = ImagePairs(files, size=size, augment=augment, seed=seed)

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.images)

    def pair(self, index: int) -> Pair:
        """See :class:`RetouchedFaces`; traces are those of the file at its own size, as in restoring."""
        image, pair = self.images[index % len(self)], self.pairs[index]
        traces = photo_traces(Photo.open(image.file).read())
        if self.pairs.is_mirrored(index):
            traces = traces[..., ::-1]
        return Pair(
            pair["raw"], pair["target"], frozenset(image.magnitudes), torch.from_numpy(np.ascontiguousarray(traces))
        )


class SimulatedFaces(RetouchedFaces):
    """Portraits that are retouched at the resolution of their photographs, then aligned as in inference.

    In training, each portrait is first varied as a photograph, and after retouching both images undergo the same random
    history (:mod:`mofrr.history`). Portraits of "val" and "all", which are measured on, are retouched as they are.
    Samples are cached. Other arguments are those of :func:`open_retouched_faces`.

    Args:
        folders: Portraits, also in subfolders; several folders are separated by commas.
    """

    def __init__(
        self, folders: str | Path, *, size: int, split: str, seed: int, operations: Sequence[str],
        kind: Kind = "mixed", operation: str = "", styles: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(operations)
        self.single = operation if kind == "single" else ""
        if kind == "single" and operation not in OPERATIONS:
            raise NoImages(
                f"{FACES}{folders}: {operation} cannot be simulated; the operations are {', '.join(OPERATIONS)}"
            )
        if kind in ("mixed", "multi") and tuple(operations) != ("all",) and (left := set(OPERATIONS) - set(operations)):
            raise NoImages(
                f"{FACES}{folders}: {kind} faces also show {', '.join(sorted(left))}, not in model.operations"
            )
        self.size, self.seed, self.title = size, seed, _title(kind, operation)
        self.augment, self.with_history = split == "train", split in ("train", "dev")
        self._config = RetouchConfig(styles=tuple(styles) or (ANY,), counts=COUNTS, spread=None)
        if kind == "clean":
            self._config = replace(self._config, counts=(1.0, 0.0, 0.0, 0.0, 0.0))
        elif kind == "multi":
            several = COUNTS[2:]
            self._config = replace(self._config, counts=(0.0, 0.0, *(p / sum(several) for p in several)))
        paths = split_portraits(find_portraits(folders), "val" if split == "test" else split)
        entries = prepare_portraits(paths)
        if not entries:
            raise ValueError(f"{folders}: no face in {len(paths)} portraits of the split {split!r}")
        if not self.augment:  # metrics are computed on the first ones, which should not be of one folder
            entries = [entries[at] for at in np.random.default_rng(0).permutation(len(entries))]
        self.entries = [entry for entry in entries for _ in range(_weight(entry) if self.augment else 1)]
        kept = KEPT_MIXED if kind == "mixed" else KEPT_SINGLE
        self._kept = kept * len(self.entries) if self.augment else sys.maxsize
        self._folder = default_cache().with_name("retouched")
        self._folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        """Return the number of portraits, with large faces counted several times."""
        return len(self.entries)

    @property
    def different(self) -> int:
        """Number of cached samples; where nothing is augmented, every index is retouched in another way."""
        return self._kept

    def pair(self, index: int) -> Pair:
        """See :class:`RetouchedFaces`."""
        sample = self._sample(index % self._kept)
        retouched, original, traces = sample.retouched, sample.original, unpacked(sample.traces)
        if self.augment:
            generator = np.random.default_rng((self.seed, index, 0x40F))
            if generator.random() < 0.5:
                retouched, original, traces = retouched[:, ::-1], original[:, ::-1], traces[..., ::-1]
            curves = _light_curves(generator)
            retouched, original = curves[retouched, range(3)], curves[original, range(3)]
        before, after = (to_tensor(from_levels(levels)) for levels in (retouched, original))
        return Pair(before, after, sample.applied, torch.from_numpy(np.ascontiguousarray(traces)))

    def _sample(self, number: int) -> "_Sample":
        """Return a sample from the cache, or make it."""
        entry = self.entries[number % len(self)]
        about = (VERSION, entry.stem, number, self.seed, self.size, self.title, self.with_history, self._config)
        file = self._folder / f"{hashlib.sha256(repr(about).encode()).hexdigest()[:24]}.npz"
        try:
            return _Sample.load(file)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # missing, truncated or empty
            sample = self._make(entry, np.random.default_rng((self.seed, number, 0x5A3)))
            write_atomically(file, sample.packed())
            return sample

    def _make(self, entry: Path, generator: np.random.Generator) -> "_Sample":
        portrait = load_portrait(entry)
        original = from_levels(portrait.levels)
        landmarks, skin, points = portrait.landmarks, from_levels(portrait.skin), portrait.points
        history, side = History(), portrait.square.side
        if self.with_history:
            original, factor = photographed(original, side, generator)
            landmarks, points, side = landmarks.scaled(factor), (points + 0.5) * factor - 0.5, side * factor
            history = History.random(generator, side)
            points = points + generator.normal(0, JITTER, points.shape) * side
        if skin.shape != original.shape[:2]:
            skin = resize(skin, *original.shape[:2], antialias=True).clip(0, 1)
        recipe = random_recipe(generator, self._config, operations=[self.single] if self.single else None)
        original = from_levels(to_levels(original))  # as a file has it
        retouched = retouch_face(
            original, landmarks, recipe.strengths, style=recipe.style, seed=recipe.seed, skin=skin
        ).image
        applied = frozenset(name for name, strength in recipe.strengths.items() if strength)
        if np.array_equal(retouched, original):  # e.g. no skin was found to whiten
            applied = frozenset()
        points = history.moved(points, *original.shape[:2])
        photo = history(retouched)
        untouched = history(original) if applied else photo
        square = square_of(points, *photo.shape[:2])
        faces = [to_levels(align(levels, square, self.size)) for levels in (photo, untouched)]
        return _Sample(faces[0], faces[1], packed(photo_traces(photo, square)), applied)


class EveryFace(RetouchedFaces):
    """Mixed faces and those with a single operation in turn.

    Args:
        mixed: Faces with any number of operations.
        single: Faces of each operation.
    """

    def __init__(self, mixed: RetouchedFaces, single: Sequence[RetouchedFaces]) -> None:
        super().__init__(mixed.operations)
        self.mixed, self.of_operation = mixed, list(single)

    def __len__(self) -> int:
        """Return the number of samples in which every single one comes once for each portrait."""
        return 2 * len(self.of_operation) * len(self.mixed)

    def pair(self, index: int) -> Pair:
        """See :class:`RetouchedFaces`."""
        number, odd = divmod(index, 2)
        if not odd:
            return self.mixed.pair(number)
        number, which = divmod(number, len(self.of_operation))
        return self.of_operation[which].pair(number)


@dataclass(frozen=True)
class _Sample:
    """A cached pair: images (S, S, 3) and traces (C, G, G), uint8."""

    retouched: np.ndarray
    original: np.ndarray
    traces: np.ndarray
    applied: frozenset[str]

    def packed(self) -> bytes:
        original = {"original": self.original} if self.applied else {}
        applied = np.array(sorted(self.applied), "U")
        return npz_bytes(retouched=self.retouched, traces=self.traces, applied=applied, **original)

    @classmethod
    def load(cls, file: Path) -> "_Sample":
        with np.load(file, allow_pickle=False) as kept:
            retouched = kept["retouched"]
            original = kept["original"] if "original" in kept.files else retouched
            return cls(retouched, original, kept["traces"], frozenset(kept["applied"].tolist()))


@functools.cache
def _weight(entry: Path) -> int:
    """Return how often a portrait is in a training set."""
    side = load_portrait(entry).square.side
    return 1 if side < LARGE[0] else 2 if side < LARGE[1] else 4


def _light_curves(generator: np.random.Generator) -> np.ndarray:
    """Return a random exposure, gamma and white balance as a lookup table, (256, 3) uint8."""
    exposure, gamma, balance = (generator.normal(0, spread, n) for spread, n in zip(LIGHT, (1, 1, 3), strict=True))
    curves = (np.arange(256)[:, None] / 255) ** np.exp(gamma) * np.exp(exposure + balance)
    return to_levels(curves)


def _title(kind: Kind, operation: str) -> str:
    """Return the name of a kind of faces in messages and in the keys of cached samples."""
    return f"single:{operation}" if kind == "single" else kind


def _is_of_kind(magnitudes: dict[str, int], kind: Kind, operation: str) -> bool:
    if kind == "single":
        return set(magnitudes) == {operation}
    return kind == "mixed" or (not magnitudes if kind == "clean" else len(magnitudes) > 1)
