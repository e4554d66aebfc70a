"""Section 4.7: inpainting of white brush strokes.

The network gets the image with its strokes and no mask; its attention maps find them. The paper does not say how images
are damaged; strokes as in GPEN, the method it compares with, are an assumption.
"""

import copy
import logging
from collections.abc import Sequence, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from retouch_common.data.face_cache import read_levels
from retouch_common.data.pair_files import Split
from retouch_common.data.pairs import ImagePairs
from retouch_common.data.portraits import find_portraits, mesh_of, split_portraits
from retouch_common.errors import printable
from retouch_common.faces.alignment import FaceSquare, align, face_square
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.landmarks import ffhq_square
from retouch_common.faces.mesh import landmarks_from_mesh
from retouch_common.progress import progress_bar
from retouch_common.ranges import to_tensor
from retouch_common.synthesis.photometric import colour_shift
from torch import Tensor
from torch.utils.data import Dataset

from bpfre.strokes import brush_strokes, paint_white

logger = logging.getLogger(__name__)

STROKES_SEED = 0x5701  # separates the strokes' random numbers from those of the data set


class InpaintingPairs(Dataset[dict[str, Tensor]]):
    """Images with and without white strokes.

    The strokes of a sample depend on the seed of the data and the index only, so that those of validation images are
    fixed.

    Args:
        data: Pairs, of which the retouched images are used.
    """

    def __init__(self, data: Dataset[dict[str, Tensor]]) -> None:
        self.data: Any = data

    @property
    def different(self) -> int:
        """Number of samples that differ by more than augmentation."""
        return len(self)

    def __len__(self) -> int:
        return len(cast(Sized, self.data))

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``dict(raw, target, mask)``, (3, S, S), (3, S, S) and (1, S, S), float32 in [0, 1]."""
        target = self.data[index]["target"]
        generator = np.random.default_rng((STROKES_SEED, self.data.seed, index))
        mask = brush_strokes(target.shape[1], target.shape[2], generator)
        raw = to_tensor(paint_white(target.permute(1, 2, 0).numpy(), mask))
        return {"raw": raw, "target": target, "mask": torch.from_numpy(mask)[None]}


class AlignedFaces(Dataset[dict[str, Tensor]]):
    """Faces of portraits, aligned as in FFHQ.

    Training samples are augmented: mirrored and slightly rotated, scaled, shifted and recoloured.

    Args:
        folders: Comma-separated folders of portraits, searched recursively.
        size: Side of the samples in pixels.
        split: "train", "dev", "val" (also for "test") or "all", by person.
        seed: Of the augmentation.

    Raises:
        ValueError: If there are no portraits, or one cannot be read.
        DetectorUnavailable: If one has no mesh and the face detector is not available.
    """

    def __init__(self, folders: str, *, size: int, split: Split, seed: int) -> None:
        self.paths = split_portraits(find_portraits(folders), "val" if split == "test" else split)
        if not self.paths:
            raise ValueError(f"{folders}: too few people for split {split!r}")
        missing = [path for path in self.paths if mesh_of(path) is None]
        with progress_bar(unit="portraits", disable=not missing) as bar:
            found = bar.track(self.paths, description="Detecting faces")
            squares = {path: _face_square(path) for path in found}
        if faceless := [path for path, square in squares.items() if square is None]:
            logger.warning("%d portraits without a face are skipped: %s", len(faceless), printable(str(faceless[0])))
        self._squares = {path: square for path, square in squares.items() if square is not None}
        self.paths = list(self._squares)
        if not self.paths:
            raise ValueError(f"{folders}: no face was found in {len(squares)} portraits")
        self.size, self.augment, self.seed = size, split == "train", seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``dict(target)``, (3, S, S) float32 in [0, 1].

        Raises:
            ValueError: If the portrait cannot be read.
        """
        path = self.paths[index % len(self)]
        levels, square = read_levels(path), self._squares[path]
        if not self.augment:
            return {"target": to_tensor(align(levels, square, self.size))}
        generator = np.random.default_rng((self.seed, index))
        x, y = np.array(square.centre) + square.side * generator.normal(0.0, 0.015, 2).clip(-0.04, 0.04)
        side = square.side * float(np.exp(generator.uniform(-0.1, 0.1)))
        moved = replace(square, centre=(x, y), side=side, angle=square.angle + float(generator.uniform(-0.06, 0.06)))
        face = align(levels, moved, self.size)[:, :: int(generator.choice([-1, 1]))]
        gamma = np.float32(np.exp(generator.normal(0.0, 0.15)))
        return {"target": to_tensor(np.clip(face**gamma @ colour_shift(generator, 0.5), 0, 1))}

    def subset(self, positions: Sequence[int]) -> "AlignedFaces":
        """Return the data set of the portraits at these positions."""
        part = copy.copy(self)
        part.paths = [self.paths[position] for position in positions]
        return part


def _face_square(path: Path) -> FaceSquare | None:
    """Return the square of the largest face of a portrait, from its mesh or the detector; None without any."""
    mesh = mesh_of(path)
    if mesh is not None:
        return ffhq_square(landmarks_from_mesh(mesh))
    levels = read_levels(path)
    faces = detect_faces(levels)
    return face_square(faces[0], *levels.shape[:2]) if faces else None


def subset(data: Any, positions: Sequence[int], *, seed: int) -> Any:
    """Return a copy of a data set with the samples at these positions and another seed."""
    if isinstance(data, InpaintingPairs):
        return InpaintingPairs(subset(data.data, positions, seed=seed))
    if isinstance(data, ImagePairs):
        part = copy.copy(data)
        part.pairs = [data.pairs[position] for position in positions]
    else:
        part = data.subset(positions)
    part.seed = seed
    return part
