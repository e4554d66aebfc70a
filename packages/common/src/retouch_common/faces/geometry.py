"""Where skin may be on a face, from landmarks: a template's 189 points, the mesh's 468 or a detector's five.

Lengths are multiples of the distance between the pupils (`unit`). Colour decides the rest
(`retouch_common.faces.skin`).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from retouch_common.faces import mesh
from retouch_common.faces.webmorph import Template
from retouch_common.photo.filters import dilate, fill_polygon, gaussian_blur


@dataclass(frozen=True)
class FaceGeometry:
    """Regions of a face, all (H, W) float32 in [0, 1].

    Attributes:
        allowed: Where skin may be.
        excluded: Eyes, brows, lips and nostrils, with a margin.
        excluded_wide: Where natural blemishes are not searched: the same with a wider margin, the outline of the face,
            and the shadow of the jaw, whose edges resemble spots.
        seeds: Certain skin (cheeks, forehead, nose), from which the colour is estimated.
        unit: Distance between the pupils in pixels.
        box: Face as x, y, width, height in pixels.
        face: Face without neck, ears and the forehead above the outline; None if unknown.
        beard: Region of beards, moustaches and sideburns; None if unknown.
        sockets: From the brows to the lower lids, where lenses of glasses are; None if unknown.
        bare: The face up to the outline, without eyes, brows, lips and nostrils and a small margin around them; None if
            unknown.
    """

    allowed: np.ndarray
    excluded: np.ndarray
    excluded_wide: np.ndarray
    seeds: np.ndarray
    unit: float
    box: tuple[float, float, float, float]
    face: np.ndarray | None = None
    beard: np.ndarray | None = None
    sockets: np.ndarray | None = None
    bare: np.ndarray | None = None


def geometry_from_template(template: Template, height: int, width: int) -> FaceGeometry:
    """Return the regions of a 189-point template whose points lie in an image of `height` x `width` pixels."""
    unit = template.pupil_distance

    def filled(name: str) -> np.ndarray:
        return fill_polygon(template.outline(name), height, width)

    face, ears = filled("face"), _union(filled("ear_left"), filled("ear_right"))
    allowed = _grown(unit, (face, 0.0), (ears, 0.04), (filled("neck"), 0.1))

    eyes = _union(filled("eye_left"), filled("eye_right"))
    brows = _union(filled("brow_left"), filled("brow_right"))
    lips = filled("lips")
    nostrils, wings = np.zeros_like(face), np.zeros_like(face)
    wing_lines = [template.lines(name)[0] for name in ("nose_wing_left", "nose_wing_right")]
    for line in wing_lines:
        _mark(nostrils, line[3:])
        _mark(wings, line)
    narrow = _grown(unit, (eyes, 0.13), (brows, 0.06), (lips, 0.05), (nostrils, 0.06))
    wide = _grown(unit, (eyes, 0.2), (brows, 0.12), (lips, 0.1), (nostrils, 0.1), (wings, 0.05), (ears, 0.0))
    wide = _union(wide, dilate(face, 0.35 * unit) * (1.0 - dilate(face, -0.1 * unit)))
    seeds = dilate(face, -0.22 * unit) * (1.0 - _union(wide, dilate(lips, 0.3 * unit)))
    down = template.outline("lips").mean(0) - template.outline("eye_left").mean(0) / 2
    down = down - template.outline("eye_right").mean(0) / 2
    wing_points = np.concatenate(wing_lines)
    base = wing_points[np.argmax(wing_points @ down)]
    beard = _beard(face, base, down / max(float(np.hypot(*down)), 1e-6), unit)
    return FaceGeometry(
        allowed, _soft(narrow, unit), _soft(wide, unit), seeds, unit, _bounding_box(template.outline("face")),
        face=_union(face, ears), beard=beard, sockets=dilate(_union(eyes, brows), 0.15 * unit),
    )  # fmt: skip


def geometry_from_mesh(points: np.ndarray, height: int, width: int) -> FaceGeometry:
    """Return the regions of the 468-point mesh (468, 2), at any pose.

    Beards and glasses are no landmarks: cleaning excludes the band around eyes and brows, where rims are, and the skin
    colour is estimated above the base of the nose only. Ears are excluded: at most poses hair or background is there.
    """
    points = np.asarray(points, dtype=np.float32)
    unit = mesh_unit(points)
    down = points[152] - points[10]  # from the forehead to the chin
    down = down / max(float(np.hypot(*down)), 1e-6)

    def filled(indices: Sequence[int]) -> np.ndarray:
        return fill_polygon(points[list(indices)], height, width)

    def union_of(outlines: Sequence[Sequence[int]]) -> np.ndarray:
        return _union(*(filled(outline) for outline in outlines))

    face = filled(mesh.OVAL)
    eyes, brows, nostrils = union_of(mesh.EYES), union_of(mesh.BROWS), union_of(mesh.NOSTRILS)
    lips = filled(mesh.OUTER_LIPS)
    forehead = fill_polygon(_forehead(points, down, 0.25 * unit), height, width)
    neck = fill_polygon(_below_jaw(points, down, 0.7 * unit), height, width)
    allowed = _union(face, forehead, neck)

    narrow = _grown(unit, (eyes, 0.16), (brows, 0.08), (lips, 0.08), (nostrils, 0.07))
    sockets = _union(union_of(_SOCKETS), eyes, brows)
    wide = _grown(unit, (sockets, 0.22), (lips, 0.16), (nostrils, 0.16))
    wide = _union(wide, 1.0 - dilate(face, -0.15 * unit))
    parts = _grown(unit, (eyes, 0.2), (brows, 0.12), (nostrils, 0.1))
    seeds = dilate(face, -0.2 * unit) * _between(points[10], points[2], down, height, width) * (1.0 - parts)
    features = _grown(unit, (eyes, 0.08), (brows, 0.04), (lips, 0.04), (nostrils, 0.05))
    return FaceGeometry(
        allowed, _soft(narrow, unit), _soft(wide, unit), seeds, unit, _bounding_box(points[list(mesh.OVAL)]),
        face=face, beard=_beard(face, points[2], down, unit), sockets=sockets, bare=face * (1.0 - features),
    )  # fmt: skip


def _beard(face: np.ndarray, base: np.ndarray, down: np.ndarray, unit: float) -> np.ndarray:
    """Return the region of beards, moustaches and sideburns: below the nose, and along the outline below the eyes."""
    height, width = face.shape
    chin = _between(base - 0.1 * unit * down, base + 10.0 * unit * down, down, height, width)
    cheeks = _between(base - 0.7 * unit * down, base, down, height, width)
    rim = dilate(face, 0.1 * unit) * (1.0 - dilate(face, -0.2 * unit))
    return _union(chin, cheeks * rim)


def mesh_unit(points: np.ndarray) -> float:
    """Return the distance between the eyes' centres in pixels; for a turned face, what it would be from the front."""
    left, right = (points[list(eye)].mean(0) for eye in mesh.EYES)
    # From the front it is 0.34 to 0.43 of the height of the oval: the height counts for turned faces only. The larger
    # `unit` of parsing.meshes has other multiples.
    return max(float(np.hypot(*(right - left))), 0.33 * float(np.hypot(*(points[152] - points[10]))))


_SOCKETS = (
    (70, 63, 105, 66, 107, 133, 155, 154, 153, 145, 144, 163, 7, 33),
    (300, 293, 334, 296, 336, 362, 382, 381, 380, 374, 373, 390, 249, 263),
    (107, 336, 362, 133),
)
"""From brows to lower lids on the left and the right, and what lies between the eyes, in indices of the mesh."""


def _forehead(points: np.ndarray, down: np.ndarray, rise: float) -> np.ndarray:
    """Return the outline (n, 2) from the oval up to where hair usually begins."""
    top = points[[127, 162, 21, 54, 103, 67, 109, 10, 338, 297, 332, 284, 251, 389, 356]]
    share = np.sin(np.linspace(0.0, np.pi, len(top), dtype=np.float32))[:, None]
    return np.concatenate([top - down * rise * share, top[::-1]])


def _below_jaw(points: np.ndarray, down: np.ndarray, drop: float) -> np.ndarray:
    """Return the outline (n, 2) from the jaw down to where the neck usually ends."""
    jaw = points[[58, 172, 136, 150, 149, 176, 148, 152, 377, 400, 378, 379, 365, 397, 288]]
    return np.concatenate([jaw, jaw[::-1] + down * drop])


def _between(first: np.ndarray, last: np.ndarray, down: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return the strip (H, W) across the image between two points along a direction."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    along = x * down[0] + y * down[1]
    return ((along > first @ down) & (along < last @ down)).astype(np.float32)


def geometry_from_landmarks(
    landmarks: np.ndarray, box: tuple[float, float, float, float], height: int, width: int
) -> FaceGeometry:
    """Return the regions of a face detector's five points (5, 2) and box (x, y, width, height), in pixels."""
    points = np.asarray(landmarks, dtype=np.float32)
    eyes = points[:2][np.argsort(points[:2, 0])]
    mouth = points[3:][np.argsort(points[3:, 0])]
    nose = points[2]
    along = eyes[1] - eyes[0]
    unit = float(np.hypot(*along))
    along = along / unit
    middle = eyes.mean(0)
    mouth_middle = mouth.mean(0)
    down = mouth_middle - middle
    drop = float(np.hypot(*down))
    down = down / drop

    def blob(centre: np.ndarray, right: float, below: float) -> np.ndarray:
        angle = np.linspace(0.0, 2.0 * np.pi, 48, endpoint=False)
        corners = centre + np.outer(np.cos(angle), along) * right * unit + np.outer(np.sin(angle), down) * below * unit
        return fill_polygon(corners, height, width)

    mouth_width = float(np.hypot(*(mouth[1] - mouth[0]))) / unit
    face = blob(middle + down * 0.46 * drop, 1.18, 1.52)
    ears = blob(middle + down * 0.4 * drop, 1.5, 0.55)
    neck = blob(mouth_middle + down * 1.15 * unit, 0.95, 0.85)
    allowed = _union(face, ears, neck)

    def features(margin: float) -> np.ndarray:
        parts = [blob(mouth_middle, 0.5 * mouth_width + 0.1 + margin, 0.27 + margin)]
        for eye, side in zip(eyes, (-1.0, 1.0), strict=True):
            parts.append(blob(eye, 0.36 + margin, 0.24 + margin))
            brow = eye - down * 0.4 * unit + along * side * 0.05 * unit
            parts.append(blob(brow, 0.52 + margin, 0.2 + margin))
            wing = nose + along * side * 0.16 * unit + down * 0.13 * unit
            parts.append(blob(wing, 0.16 + margin, 0.12 + margin))
        return _union(*parts)

    cheeks = (nose + along * side * 0.52 * unit - down * 0.02 * unit for side in (-1.0, 1.0))
    seeds = _union(*(blob(cheek, 0.22, 0.25) for cheek in cheeks))
    seeds = _union(seeds, blob(middle - down * 0.75 * unit, 0.4, 0.16), blob(nose - down * 0.15 * unit, 0.12, 0.3))
    seeds *= 1.0 - features(0.0)
    safe = blob(middle + down * 0.42 * unit, 1.0, 1.25)  # ends above the chin, which five points do not tell
    wide = _union(features(0.08), 1.0 - safe)
    return FaceGeometry(allowed, _soft(features(0.0), unit), _soft(wide, unit), seeds, unit, box)


def _bounding_box(points: np.ndarray) -> tuple[float, float, float, float]:
    x, y = points.T
    return float(x.min()), float(y.min()), float(np.ptp(x)), float(np.ptp(y))


def _union(*masks: np.ndarray) -> np.ndarray:
    return np.maximum.reduce(masks)


def _grown(unit: float, *parts: tuple[np.ndarray, float]) -> np.ndarray:
    """Return the union of masks, each dilated by a multiple of the unit."""
    return _union(*(dilate(mask, margin * unit) for mask, margin in parts))


def _soft(mask: np.ndarray, unit: float) -> np.ndarray:
    """Round the corners and blur the edge a little, outwards only."""
    return np.clip(2.0 * gaussian_blur(mask, 0.02 * unit), 0.0, 1.0)


def _mark(mask: np.ndarray, line: np.ndarray) -> None:
    """Set the pixels along an open polyline to one."""
    for start, end in itertools.pairwise(line):
        steps = int(np.ceil(np.abs(end - start).max())) + 1
        x, y = np.linspace(start, end, steps).round().astype(int).T
        inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
        mask[y[inside], x[inside]] = 1.0
