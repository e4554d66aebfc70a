"""A face in a photo, and the crop around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Face:
    """A face in a photo.

    Attributes:
        box: (x, y, width, height) in pixels of the photo, from brow to chin.
        score: Confidence in [0, 1].
        landmarks: (5, 2) float32 pixels: the eyes, the tip of the nose, the corners of the mouth, each pair
            from left to right in the picture; NaN when unknown.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.box[2:])


def face_crop(face: Face, height: int, width: int, margin: float = 2.0) -> tuple[int, int, int, int]:
    """The part of a photo to retouch for a face.

    Args:
        face: The face.
        height: Height of the photo in pixels.
        width: Width of the photo in pixels.
        margin: Side of the crop over the longer side of the face's box.

    Returns:
        (x, y, w, h) in pixels: a square around the face, shifted into the photo and cut where the photo is
        smaller.

    Raises:
        ValueError: If the face's box has no pixel in common with the photo.
    """
    require_inside(face, height, width)
    x, y, w, h = face.box
    side = max(1, round(margin * face.size))
    columns, rows = min(side, width), min(side, height)
    left = min(max(round(x + w / 2 - columns / 2), 0), width - columns)
    top = min(max(round(y + h / 2 - rows / 2), 0), height - rows)
    return left, top, columns, rows


def require_inside(face: Face, height: int, width: int) -> None:
    """Refuse a face whose box has no pixel in common with the photo.

    Args:
        face: The face.
        height: Height of the photo in pixels.
        width: Width of the photo in pixels.

    Raises:
        ValueError: If it lies outside.
    """
    x, y, w, h = face.box
    if w <= 0 or h <= 0 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
        box = ",".join(f"{value:g}" for value in face.box)
        raise ValueError(f"the face box {box} lies outside the photo of {width}x{height} pixels")
