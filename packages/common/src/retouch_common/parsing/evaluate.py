"""Evaluate a parser: on labelled faces, and against the face mesh."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from retouch_common.data.face_cache import read_levels
from retouch_common.data.pair_files import Split
from retouch_common.faces.alignment import align, points_in_square
from retouch_common.faces.landmarks import portrait_square_of
from retouch_common.faces.mesh import landmarks_from_mesh
from retouch_common.parsing.data import open_data
from retouch_common.parsing.labels import CLASSES, NUM_CLASSES
from retouch_common.parsing.meshes import labels_from_mesh
from retouch_common.parsing.metrics import confusion, segmentation_metrics
from retouch_common.parsing.parser import FaceParser
from retouch_common.parsing.portraits import required_mesh

MESH_PARTS = {
    "eyes": ("eye_left", "eye_right"),
    "brows": ("brow_left", "brow_right"),
    "lips": ("upper_lip", "mouth", "lower_lip"),
    "face": CLASSES[1 : CLASSES.index("hair")],
}
"""The classes of each part that :func:`mesh_f1` compares; the face is everything but background and hair."""


def evaluate(parser: FaceParser, data: str, split: Split = "val") -> dict[str, Any]:
    """Parse faces and compare with their labels.

    Args:
        parser: The parser.
        data: What :func:`retouch_common.parsing.data.open_data` reads.
        split: Its part.

    Returns:
        The metrics of :func:`retouch_common.parsing.metrics.segmentation_metrics` over all pixels, and the number of
        "faces".

    Raises:
        ValueError: Unusable data.
    """
    faces = open_data(data, size=parser.size, split=split)
    matrix = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64)
    for index in range(len(faces)):
        sample = faces[index]
        image = sample["image"].permute(1, 2, 0).contiguous().numpy()
        matrix += confusion(parser(image), sample["labels"])
    return {"faces": len(faces), **segmentation_metrics(matrix)}


def mesh_f1(parser: FaceParser, portraits: Iterable[Path]) -> dict[str, float]:
    """Return the F1 of each of :data:`MESH_PARTS` against the face mesh, over all pixels of all portraits.

    The mesh in the `landmarks.npz` of a portrait's folder also gives the alignment.

    Raises:
        ValueError: A portrait has no mesh or cannot be read, or there are none.
    """
    counts = np.zeros((len(MESH_PARTS), 2), np.int64)  # pixels in which both agree, and the sum of those either has
    for path in portraits:
        points = required_mesh(path)
        square = portrait_square_of(landmarks_from_mesh(points))
        found = parser(align(read_levels(path), square, parser.size))
        truth = labels_from_mesh(points_in_square(points, square, parser.size), parser.size, parser.size)
        for part, names in enumerate(MESH_PARTS.values()):
            ours, theirs = (np.isin(labels, [CLASSES.index(name) for name in names]) for labels in (found, truth))
            counts[part] += (ours & theirs).sum(), ours.sum() + theirs.sum()
    if not counts.any():
        raise ValueError("no portraits to compare with their meshes")
    return {name: float(2 * both / max(1, total)) for name, (both, total) in zip(MESH_PARTS, counts, strict=True)}
