"""A face parser against the face mesh of people anywhere: F1 of eyes, brows, lips and the whole face.

Outlines are filled by scikit-image, not by what training fills them with, and faces are framed as the detector finds
them, as photographs are parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from retouch_common.faces.alignment import FaceSquare, align, portrait_square
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.mesh import BROWS, EYES, OUTER_LIPS, OVAL
from retouch_common.parsing.labels import CLASSES
from retouch_common.testing.anywhere import MeshPortrait, filled

PARTS: dict[str, tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]] = {
    "eyes": (("eye_left", "eye_right"), EYES),
    "brows": (("brow_left", "brow_right"), BROWS),
    "lips": (("upper_lip", "mouth", "lower_lip"), (OUTER_LIPS,)),
    "face": (tuple(name for name in CLASSES if name not in ("background", "hair")), (OVAL,)),
}
"""Classes of the parser and outlines of the mesh."""


def mesh_f1(
    parse: Callable[[np.ndarray], np.ndarray], size: int, portraits: Iterable[MeshPortrait]
) -> dict[str, list[float]]:
    """Return the F1 of every part in each portrait.

    Args:
        parse: From an aligned face (S, S, 3) float32 in [0, 1] to classes (S, S).
        size: S.
        portraits: Photographs with meshes; where the face is not found, the F1 of every part is 0.
    """
    scores: dict[str, list[float]] = {name: [] for name in PARTS}
    for portrait in portraits:
        square = _square(portrait)
        if square is None:
            for values in scores.values():
                values.append(0.0)
            continue
        labels = parse(align(portrait.levels, square, size))
        u, v = square.from_photo(*(portrait.mesh.T + 0.5))
        outlines = np.stack([u, v], axis=1) * size - 0.5
        for name, (classes, parts) in PARTS.items():
            found = np.isin(labels, [CLASSES.index(c) for c in classes])
            wanted = np.any([filled(outlines[list(part)], size, size) for part in parts], axis=0)
            scores[name].append(float(2 * (found & wanted).sum() / max(1, found.sum() + wanted.sum())))
    return scores


def _square(portrait: MeshPortrait) -> FaceSquare | None:
    """The square of the detected face whose box holds the most of the mesh, if that is more than half."""

    def held(box: tuple[float, float, float, float]) -> float:
        x, y = (portrait.mesh - box[:2]).T
        return float(((x > 0) & (y > 0) & (x < box[2]) & (y < box[3])).mean())

    faces = [face for face in detect_faces(portrait.levels) if held(face.box) > 0.5]
    return portrait_square(max(faces, key=lambda f: held(f.box)), *portrait.levels.shape[:2]) if faces else None
