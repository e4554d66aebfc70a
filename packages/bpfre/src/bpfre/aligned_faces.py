"""Faces of portraits for inpainting, aligned as FFHQ's."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from retouch_common.data.face_cache import read_levels
from retouch_common.data.pair_files import Split
from retouch_common.data.portraits import find_portraits, mesh_of, split_portraits
from retouch_common.faces.alignment import FaceSquare, align, face_square
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.landmarks import ffhq_square
from retouch_common.faces.mesh import landmarks_from_mesh
from retouch_common.synthesis.photometric import colour_shift
from torch import Tensor
from torch.utils.data import Dataset


class AlignedFaces(Dataset[dict[str, Tensor]]):
    """Faces of portraits, aligned as FFHQ's.

    In training they are also mirrored, and turned, scaled, shifted and recoloured a little.

    Args:
        folders: Portraits, in subfolders too; several folders joined by commas.
        size: Side of the samples in pixels.
        split: "train", "dev", "val" (also for "test") or "all", by person.
        seed: Of the augmentation.

    Raises:
        ValueError: There are no portraits.
    """

    def __init__(self, folders: str, *, size: int, split: Split, seed: int) -> None:
        self.paths = split_portraits(find_portraits(folders), "val" if split == "test" else split)
        if not self.paths:
            raise ValueError(f"{folders}: too few people for split {split!r}")
        self.size, self.augment, self.seed = size, split == "train", seed

    def __len__(self) -> int:
        """Return the number of portraits."""
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return ``dict(target)``, (3, S, S) float32 in [0, 1].

        Raises:
            ValueError: The portrait cannot be read, or shows no face.
            DetectorUnavailable: It has no mesh, and the face detector cannot be had.
        """
        path = self.paths[index % len(self)]
        levels = read_levels(path)
        square = _face_square(path, levels)
        if not self.augment:
            return {"target": _picture(align(levels, square, self.size))}
        generator = np.random.default_rng((self.seed, index))
        x, y = np.array(square.centre) + square.side * generator.normal(0.0, 0.015, 2).clip(-0.04, 0.04)
        side = square.side * float(np.exp(generator.uniform(-0.1, 0.1)))
        turned = replace(square, centre=(x, y), side=side, angle=square.angle + float(generator.uniform(-0.06, 0.06)))
        face = align(levels, turned, self.size)[:, :: int(generator.choice([-1, 1]))]
        gamma = np.float32(np.exp(generator.normal(0.0, 0.15)))
        return {"target": _picture(np.clip(face**gamma @ colour_shift(generator, 0.5), 0, 1))}

    def subset(self, positions: Sequence[int]) -> "AlignedFaces":
        """The same with only the portraits at these positions."""
        part = copy.copy(self)
        part.paths = [self.paths[position] for position in positions]
        return part


def _face_square(path: Path, levels: np.ndarray) -> FaceSquare:
    mesh = mesh_of(path)
    if mesh is not None:
        return ffhq_square(landmarks_from_mesh(mesh))
    faces = detect_faces(levels)
    if not faces:
        raise ValueError(f"{path}: no face was found")
    return face_square(faces[0], *levels.shape[:2])


def _picture(face: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(face.transpose(2, 0, 1), dtype=np.float32))
