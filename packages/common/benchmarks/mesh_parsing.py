"""A face parser against the face mesh of people anywhere: F1 of eyes, brows, lips and the whole face.

Outlines are filled by scikit-image, independently of :func:`retouch_common.parsing.evaluate.mesh_f1`, and faces are
framed as the detector finds them, as photographs are parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from retouch_common.faces.alignment import FaceSquare, align, portrait_square
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.mesh import BROWS, EYES, OUTER_LIPS, OVAL
from retouch_common.parsing.evaluate import MESH_PARTS
from retouch_common.parsing.labels import CLASSES
from retouch_common.testing.anywhere import MeshPortrait, filled

OUTLINES = {"eyes": EYES, "brows": BROWS, "lips": (OUTER_LIPS,), "face": (OVAL,)}
"""Outlines of the mesh for each of MESH_PARTS."""

FULL_FACE = "face and forehead"


def f1_by_portrait(
    parse: Callable[[np.ndarray], np.ndarray], size: int, portraits: Iterable[MeshPortrait]
) -> dict[str, list[float]]:
    """Return the F1 of each of MESH_PARTS in every portrait.

    The oval of the mesh ends below the hairline. The score of "face" therefore leaves out the forehead between the two
    (:func:`forehead_above`), which a correct parser labels as skin; FULL_FACE is the score with these pixels counted.

    Args:
        parse: Maps an aligned face (S, S, 3) float32 in [0, 1] to classes (S, S).
        size: S.
        portraits: Photographs with meshes; every score is 0 where the face is not detected.
    """
    scores: dict[str, list[float]] = {name: [] for name in (*OUTLINES, FULL_FACE)}
    for portrait in portraits:
        square = _detected_square(portrait)
        if square is None:
            for values in scores.values():
                values.append(0.0)
            continue
        labels = parse(align(portrait.levels, square, size))
        u, v = square.from_photo(*(portrait.mesh.T + 0.5))
        points = np.stack([u, v], axis=1) * size - 0.5
        for name, outlines in OUTLINES.items():
            found = np.isin(labels, [CLASSES.index(label) for label in MESH_PARTS[name]])
            truth = np.any([filled(points[list(outline)], size, size) for outline in outlines], axis=0)
            if name == "face":
                scores[FULL_FACE].append(_f1(found, truth))
                found &= ~forehead_above(truth, points)
            scores[name].append(_f1(found, truth))
    return scores


def forehead_above(oval: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return the mask of the pixels above the upper border of the oval: outside it, above the brows, in its columns.

    Args:
        oval: (S, S) bool.
        points: (468, 2) x, y of the mesh in its pixels.
    """
    below = np.logical_or.accumulate(oval[::-1], axis=0)[::-1]  # oval here or further down in the column
    brows = min(points[list(brow), 1].min() for brow in BROWS)
    return below & ~oval & (np.arange(len(oval))[:, None] < brows)


def _f1(found: np.ndarray, truth: np.ndarray) -> float:
    return float(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))


def _detected_square(portrait: MeshPortrait) -> FaceSquare | None:
    """Return the square of the detected face whose box holds most of the mesh; None if none holds half of it."""

    def held(box: tuple[float, float, float, float]) -> float:
        x, y = (portrait.mesh - box[:2]).T
        return float(((x > 0) & (y > 0) & (x < box[2]) & (y < box[3])).mean())

    faces = [face for face in detect_faces(portrait.levels) if held(face.box) > 0.5]
    return portrait_square(max(faces, key=lambda f: held(f.box)), *portrait.levels.shape[:2]) if faces else None
