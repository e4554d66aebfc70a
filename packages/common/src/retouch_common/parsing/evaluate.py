"""Measuring a parser's weights: on labelled faces, aligned and as photographed, and against the face mesh."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from retouch_common.data.face_cache import read_levels
from retouch_common.data.pair_files import Split
from retouch_common.data.portraits import mesh_of
from retouch_common.faces.alignment import align, portrait_square
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.face import Face
from retouch_common.faces.landmarks import portrait_square_of
from retouch_common.faces.mesh import landmarks_from_mesh
from retouch_common.parsing.data import open_data
from retouch_common.parsing.labels import CLASSES, NUM_CLASSES
from retouch_common.parsing.meshes import labels_from_mesh, points_in_square
from retouch_common.parsing.metrics import confusion, figures
from retouch_common.parsing.parser import FaceParser

__all__ = ["MESH_PARTS", "evaluate", "mesh_counts", "mesh_f1"]

MESH_PARTS = {
    "eyes": ("eye_left", "eye_right"),
    "brows": ("brow_left", "brow_right"),
    "lips": ("upper_lip", "mouth", "lower_lip"),
    "face": CLASSES[1 : CLASSES.index("hair")],
}
"""What :func:`mesh_f1` compares, by the classes that make it up; the face is everything but background and hair."""


def evaluate(
    weights: str | os.PathLike[str] | FaceParser,
    data: str | Path,
    split: Split = "val",
    *,
    device: str = "auto",
    precision: str = "fp32",
    limit: int | None = None,
    hard: int = 0,
) -> dict[str, Any]:
    """Parse faces and compare with their labels.

    Args:
        weights: What :class:`FaceParser` takes, or a parser.
        data: What :func:`retouch_common.parsing.data.open_data` reads.
        split: What :func:`retouch_common.parsing.data.open_data` takes.
        device: "auto", "cpu" or "cuda".
        precision: Of the network, see :class:`FaceParser`.
        limit: So many faces at most.
        hard: So many faces of the split are measured again, strongly augmented; their figures begin with "hard_".

    Returns:
        The figures of :func:`retouch_common.parsing.metrics.figures` over all pixels of all faces, and "faces", their
        number.

    Raises:
        ValueError: Unusable weights, data or options.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}")
    parser = weights if isinstance(weights, FaceParser) else FaceParser(weights, device, precision=precision)
    faces = open_data(str(data), size=parser.size, split=split)
    count = min(len(faces), limit or len(faces))
    found: dict[str, Any] = {"faces": count, **_measured(parser, faces, count)}
    if hard:
        varied = open_data(str(data), size=parser.size, split=split, seed=1, augmentation="strong")
        found |= {f"hard_{name}": value for name, value in _measured(parser, varied, hard).items()}
    return found


def mesh_f1(
    parser: FaceParser, portraits: Iterable[Path], *, alignment: Literal["mesh", "detector"] = "mesh"
) -> dict[str, float]:
    """Compare what a parser finds with the face mesh of each portrait.

    Args:
        parser: The parser.
        portraits: Pictures with a mesh in the `landmarks.npz` of their folder.
        alignment: Where the face's square is taken from: its mesh, or the face that the detector finds there, as
            photos are parsed. A face that is not found counts as background everywhere.

    Returns:
        The F1 of each of :data:`MESH_PARTS` over all pixels of all portraits.

    Raises:
        ValueError: If a portrait has no mesh or cannot be read, or there are none.
    """
    sums = sum(mesh_counts(parser, path, alignment=alignment) for path in portraits)
    if not isinstance(sums, np.ndarray):
        raise ValueError("no portraits to compare with their meshes")
    return {
        name: float(2 * both / max(1, both_sides)) for name, (both, both_sides) in zip(MESH_PARTS, sums, strict=True)
    }


def mesh_counts(parser: FaceParser, path: Path, *, alignment: Literal["mesh", "detector"] = "mesh") -> np.ndarray:
    """Count the pixels that :func:`mesh_f1` is made of, for one portrait.

    Returns:
        (4, 2) int64: for each of :data:`MESH_PARTS` the pixels in which parser and mesh agree, and the sum of those
        that either has; F1 is twice the first over the second.
    """
    points, levels = mesh_of(path), read_levels(path)
    if points is None:
        raise ValueError(f"{path}: has no mesh in the landmarks.npz of its folder")
    square = portrait_square_of(landmarks_from_mesh(points))
    found = np.zeros((parser.size, parser.size), np.uint8)
    if alignment == "detector":
        face = _face_at(levels, points)
        square = portrait_square(face, *levels.shape[:2]) if face is not None else square
    if alignment == "mesh" or face is not None:
        found = parser(align(levels, square, parser.size))
    truth = labels_from_mesh(points_in_square(points, square, parser.size), parser.size, parser.size)
    counts = []
    for names in MESH_PARTS.values():
        classes = [CLASSES.index(name) for name in names]
        ours, theirs = np.isin(found, classes), np.isin(truth, classes)
        counts.append(((ours & theirs).sum(), ours.sum() + theirs.sum()))
    return np.array(counts, np.int64)


def _face_at(levels: np.ndarray, points: np.ndarray) -> Face | None:
    """The detected face whose box holds most of the mesh."""
    best, most = None, 0.5 * len(points)
    for face in detect_faces(levels):
        x, y, width, height = face.box
        inside = (points > (x, y)).all(1) & (points < (x + width, y + height)).all(1)
        if inside.sum() > most:
            best, most = face, float(inside.sum())
    return best


def _measured(parser: FaceParser, faces: Any, count: int) -> dict[str, float]:
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    for index in range(count):
        sample = faces[index]
        image = sample["image"].permute(1, 2, 0).contiguous().numpy()
        matrix += confusion(parser(image), sample["labels"])
    return figures(matrix)
