"""Portraits prepared for synthesis: natural blemishes removed, with masks of skin and other regions."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retouch_common.faces.geometry import (
    FaceGeometry,
    geometry_from_landmarks,
    geometry_from_mesh,
    geometry_from_template,
    mesh_unit,
)
from retouch_common.faces.skin import WORKING_UNIT, enlarge, plain_background, skin_maps
from retouch_common.faces.webmorph import Template
from retouch_common.photo.filters import bounding_box, resize
from retouch_common.ranges import from_levels
from retouch_common.synthesis.cleaning import clean_skin

logger = logging.getLogger(__name__)

MAX_FACE_WIDTH = 1000.0  # portraits with wider faces are downsampled to this
MAX_FLAT = 0.7  # photographs have noise: where more of the skin is exactly flat, the image is a drawing
FACE_WIDTHS = 2.25  # width of a face in pupil distances


@dataclass(frozen=True)
class PreparedFace:
    """A cleaned portrait with its masks.

    Attributes:
        image: (H, W, 3) uint8 with even H and W, natural blemishes removed.
        natural: (H, W, 3) uint8, as photographed.
        maps: (H / 2, W / 2, 4) uint8: drawable skin, certainly not skin, plain background, tone (see `SkinMaps`).
        box: The face as x, y, width, height in pixels of the image.
    """

    image: np.ndarray
    natural: np.ndarray
    maps: np.ndarray
    box: tuple[float, float, float, float]


def prepare_face(
    levels: np.ndarray, landmarks: Template | np.ndarray | None = None, *, near_features: bool = True
) -> PreparedFace | None:
    """Clean a portrait (H, W, 3) uint8 and make its masks.

    ``landmarks`` are a template or the mesh's (468, 2) points; None detects the largest face. Without
    ``near_features`` the first map is certain skin only: `SkinMaps.skin` instead of `SkinMaps.drawable`.

    Returns:
        None if no face is found, too little of it is skin, or the image is a drawing.
    """
    located = _locate(levels, landmarks)
    if located is None:
        return None
    unit, geometry_at = located
    height, width = (n - n % 2 for n in levels.shape[:2])
    image = from_levels(levels[:height, :width])
    limit = min(1.0, MAX_FACE_WIDTH / (FACE_WIDTHS * unit))
    if limit < 1.0:
        height, width = (2 * round(n * limit / 2) for n in (height, width))
        image, unit = resize(image, height, width, antialias=True), unit * limit
    reduction = min(1.0, WORKING_UNIT / unit)
    rows, columns = round(height * reduction), round(width * reduction)
    small = resize(image, rows, columns, antialias=True)
    regions = geometry_at(limit * reduction, rows, columns)
    if _is_drawing(levels, regions.seeds):
        logger.warning("an image without the noise of a camera, a drawing perhaps")
        return None
    maps = skin_maps(small, regions)
    if maps.skin.sum() < 0.05 * regions.box[2] * regions.box[3]:
        return None
    natural = _to_levels(image)
    cleanable = enlarge(maps.cleanable, height, width)
    if cleanable.any():
        part = bounding_box(cleanable > 0)
        image[part] = clean_skin(image[part], cleanable[part], unit)
    first = maps.drawable if near_features else maps.skin
    layers = (first, maps.other, plain_background(small, regions), maps.tone)
    stack = np.stack([enlarge(layer, height // 2, width // 2) for layer in layers], -1)
    x, y, box_width, box_height = (float(v / reduction) for v in regions.box)
    return PreparedFace(_to_levels(image), natural, _to_levels(stack), (x, y, box_width, box_height))


def _is_drawing(levels: np.ndarray, seeds: np.ndarray) -> bool:
    """Return whether most pixels of the certain skin are equal to all their neighbours."""
    certain = np.nonzero(seeds > 0.5)
    if len(certain[0]) == 0:
        return False
    height, width = levels.shape[0] - 1, levels.shape[1] - 1
    rows = (certain[0] * (height / seeds.shape[0])).astype(np.int64)
    columns = (certain[1] * (width / seeds.shape[1])).astype(np.int64)
    here = levels[rows, columns]
    flat = (here == levels[rows + 1, columns]) & (here == levels[rows, columns + 1])
    return float(flat.all(-1).mean()) > MAX_FLAT


GeometryAt = Callable[[float, int, int], FaceGeometry]
"""Returns the regions in the photo reduced by a scale, of a height and width; takes the three."""


def _locate(levels: np.ndarray, landmarks: Template | np.ndarray | None) -> tuple[float, GeometryAt] | None:
    """Return the distance between the pupils in pixels and the regions of the face; None if there is no face."""
    from retouch_common.faces.detection import detect_faces

    if isinstance(landmarks, np.ndarray):
        return mesh_unit(landmarks), lambda scale, h, w: geometry_from_mesh((landmarks + 0.5) * scale - 0.5, h, w)
    if landmarks:
        return landmarks.pupil_distance, lambda scale, h, w: geometry_from_template(landmarks.scaled(scale), h, w)
    faces = detect_faces(levels)
    if not faces:
        return None
    face = max(faces, key=lambda f: f.box[2] * f.box[3])
    points = np.asarray(face.landmarks, dtype=np.float32)

    def detected(scale: float, h: int, w: int) -> FaceGeometry:
        x, y, width, height = (float(v) * scale for v in face.box)
        return geometry_from_landmarks((points + 0.5) * scale - 0.5, (x, y, width, height), h, w)

    return float(np.hypot(*(points[1] - points[0]))), detected


def _to_levels(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 255.0 + 0.5, 0, 255).astype(np.uint8)
