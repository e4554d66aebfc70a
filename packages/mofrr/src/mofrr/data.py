"""Retouched faces and their originals: made on the fly from portraits, or as published (RetouchingFFHQ).

Samples: ``retouched`` and ``original`` (3, S, S) in [0, 1]; ``applied`` (operations,) float32 of 0 and 1; ``degree``
int64, 1 (light) to 5 for faces with a single operation whose degrees are known, else 0.

Section 3.1: the degree of an operation is a quantile of the PSNR between retouched picture and original, over training
pictures with that operation alone: 10, 25, 25, 25 and 15 % from degree 1 to 5.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from retouch_common.data.pairs import ImagePairs, Split
from retouch_common.data.portraits import find_portraits, split_portraits
from retouch_common.metrics.quality import psnr
from retouch_common.photo.alignment import FaceSquare
from retouch_common.synthesis.face_template import FaceLandmarks
from retouch_common.synthesis.photometric import colour_shift
from retouch_common.synthesis.retouching import OPERATIONS, STYLES, RetouchConfig, random_recipe, retouch_face
from retouch_common.synthesis.retouching_degrees import degree_edges, degrees
from torch import Tensor
from torch.utils.data import Dataset

from mofrr.portraits import as_levels, load_portrait, prepare_portraits
from mofrr.retouching_ffhq import Retouched, find_retouched

MEASURED = 200  # pictures of an operation from which its degrees' edges are taken
STORED = 1.25  # side of what is kept of a portrait over that of a sample: room to move and turn
MOVED = 0.7  # share of faces that training interpolates once more; the others stay as sharp as they are in use
NOISE = 2.0  # 8-bit levels: the most noise that training adds, or a network knows a portrait again by its own
FACES = "faces:"


class NoPictures(ValueError):
    """The data is sound, but has none of the wanted kind."""


def open_data(
    spec: str,
    *,
    size: int,
    split: Split,
    seed: int,
    operations: Sequence[str],
    kind: str = "mixed",
    styles: Sequence[str] = (),
) -> "RetouchedFaces":
    """Open faces and their originals.

    Args:
        spec: ``faces:DIR``, plain portraits that are aligned and retouched on the fly, or a folder as
            :func:`mofrr.retouching_ffhq.find_retouched` reads it.
        size: Side in pixels.
        split: "train", "val", "test" or "all".
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
            Path(spec.removeprefix(FACES)), size=size, split=split, seed=seed, operations=operations, kind=kind,
            styles=styles,
        )  # fmt: skip
    if styles:
        raise ValueError(f"{spec}: styles are chosen for faces:DIR only; pictures in a folder have theirs")
    found = [picture for picture in find_retouched(Path(spec), split) if _belongs(picture.magnitudes, kind)]
    if "all" not in operations:  # what the network has no expert for is not for it to learn
        found = [picture for picture in found if set(picture.magnitudes) <= set(operations)]
    if not found:
        raise NoPictures(f"{spec}: no {kind} pictures in the split {split!r}")
    return PublishedFaces(found, size=size, augment=split == "train", seed=seed, operations=operations, kind=kind)


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
        retouched, original, applied = self.pair(index)
        degree = 0
        if self.degree_edges is not None:
            degree = int(degrees(psnr(retouched, original, rounded=False), np.array(self.degree_edges)))
        columns = [1.0 if name in applied or (name == "all" and applied) else 0.0 for name in self.operations]
        return {
            "retouched": retouched,
            "original": original,
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
        return degree_edges([psnr(retouched, original, rounded=False) for retouched, original, _ in pairs]).tolist()

    @abstractmethod
    def pair(self, index: int) -> tuple[Tensor, Tensor, set[str]]:
        """Retouched picture, original, names of what was applied."""


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

    def pair(self, index: int) -> tuple[Tensor, Tensor, set[str]]:
        """See :class:`RetouchedFaces`."""
        pair = self.pairs[index]
        return pair["raw"], pair["target"], set(self.pictures[index % len(self)].magnitudes)


class SimulatedFaces(RetouchedFaces):
    """Portraits, aligned as FFHQ's, most moved a little, relit, and retouched.

    See :func:`mofrr.portraits.open_face` for where the faces are. Every tenth person is held out, see
    :func:`retouch_common.data.portraits.split_portraits`.

    Args:
        folder: Portraits, in subfolders too.
        size: Side in pixels.
        split: "train", "val" (also for "test") or "all".
        seed: Of everything random.
        operations: See :func:`open_data`.
        kind: See :func:`open_data`.
        styles: See :func:`open_data`.
    """

    def __init__(
        self, folder: Path, *, size: int, split: Split, seed: int, operations: Sequence[str], kind: str = "mixed",
        styles: Sequence[str] = (),
    ) -> None:  # fmt: skip
        single = kind.partition(":")[2]
        if single and single not in OPERATIONS:
            raise NoPictures(
                f"{FACES}{folder}: nothing here does {single} to a face; there are {', '.join(OPERATIONS)}"
            )
        if kind in ("mixed", "multi") and tuple(operations) != ("all",) and (left := set(OPERATIONS) - set(operations)):
            raise NoPictures(
                f"{FACES}{folder}: {kind} faces also show {', '.join(sorted(left))}, not in model.operations"
            )
        self.size, self.seed = size, seed
        self._config = RetouchConfig(styles=tuple(styles) or tuple(STYLES))
        if kind == "clean":
            self._config = replace(self._config, counts=(1.0, 0.0, 0.0, 0.0, 0.0))
        elif kind == "multi":  # as often as before among themselves
            many = self._config.counts[2:]
            self._config = replace(self._config, counts=(0.0, 0.0, *(p / sum(many) for p in many)))
        self.augment = split == "train"
        paths = split_portraits(find_portraits(folder), "val" if split == "test" else split)
        self.entries = prepare_portraits(paths, round(STORED * size), margin=STORED)
        if not self.entries:
            raise ValueError(f"{folder}: no face in {len(paths)} portraits of the split {split!r}")
        super().__init__(operations, kind)

    def __len__(self) -> int:
        """Number of portraits."""
        return len(self.entries)

    def pair(self, index: int) -> tuple[Tensor, Tensor, set[str]]:
        """See :class:`RetouchedFaces`."""
        generator = np.random.default_rng((self.seed, index, 0x40F))
        portrait = load_portrait(self.entries[index % len(self)])
        side = len(portrait.levels)
        square = FaceSquare((side / 2, side / 2), side / STORED)
        if self.augment:
            moved = generator.random() < MOVED
            square = _moved(square, generator) if moved else _shifted(square, side, generator)
        original, landmarks, skin = portrait.framed(square, self.size)
        if self.augment and generator.random() < 0.5:
            original, landmarks, skin = original[:, ::-1], _mirrored(landmarks, self.size), skin[:, ::-1]
        if self.augment:
            original = _relit(original, generator)
            deviation = generator.uniform(0, NOISE) / 255
            original = original + generator.normal(0, deviation, original.shape)
        original = np.ascontiguousarray(original.clip(0, 1), np.float32)
        recipe = random_recipe(generator, self._config, operations=[self.single] if self.single else None)
        retouched = retouch_face(
            original, landmarks, recipe.strengths, style=recipe.style, seed=recipe.seed, skin=np.ascontiguousarray(skin)
        ).image
        # As files have them: whole levels.
        pair = [
            torch.from_numpy(as_levels(image).astype(np.float32) / 255).permute(2, 0, 1).contiguous()
            for image in (retouched, original)
        ]
        return pair[0], pair[1], {name for name, strength in recipe.strengths.items() if strength}


def _moved(square: FaceSquare, generator: np.random.Generator) -> FaceSquare:
    """Turned by up to 5 degrees, moved and scaled by a few hundredths: alignment is never exact."""
    shift = generator.uniform(-0.03, 0.03, 2) * square.side
    return FaceSquare(
        (square.centre[0] + shift[0], square.centre[1] + shift[1]),
        square.side * generator.uniform(0.94, 1.06),
        square.angle + np.radians(generator.uniform(-5, 5)),
    )


def _shifted(square: FaceSquare, side: int, generator: np.random.Generator) -> FaceSquare:
    """Moved by whole pixels of the stored portrait."""
    reach = round(0.03 * side)
    x, y = generator.integers(-reach, reach, 2, endpoint=True)
    return replace(square, centre=(square.centre[0] + float(x), square.centre[1] + float(y)))


def _mirrored(landmarks: FaceLandmarks, size: int) -> FaceLandmarks:
    """The face seen in a mirror: left becomes right."""
    turned = landmarks.mapped(lambda points: points * (-1, 1) + (size - 1, 0))
    return replace(
        turned, eyes=turned.eyes[::-1], brows=turned.brows[::-1], mouth=turned.mouth[::-1], jaw=turned.jaw[::-1]
    )


def _relit(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Another exposure, white balance and saturation: or a network learns by heart how white everybody is."""
    gamma = np.exp(generator.normal(0, 0.15))
    light = np.exp(generator.normal(0, 0.05, 3)) * np.exp(generator.normal(0, 0.08))
    return (image.clip(0, 1) ** gamma @ colour_shift(generator, 0.6) * light).astype(np.float32)


def _belongs(magnitudes: dict[str, int], kind: str) -> bool:
    if kind.startswith("single:"):
        return set(magnitudes) == {kind.partition(":")[2]}
    return kind == "mixed" or (not magnitudes if kind == "clean" else len(magnitudes) > 1)
