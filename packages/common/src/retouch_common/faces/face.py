"""A detected face, and the crop around it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


class NoFaceFound(ValueError):
    """A photo in which faces are to be processed shows none."""


@dataclass(frozen=True)
class Face:
    """A face in a photo.

    Attributes:
        box: (x, y, width, height) in pixels, from brows to chin.
        score: Confidence in [0, 1].
        landmarks: (5, 2) float32 pixels: eyes, tip of the nose, corners of the mouth, each pair from left to right in
            the image; NaN if unknown.
    """

    box: tuple[float, float, float, float]
    score: float
    landmarks: np.ndarray

    @property
    def size(self) -> float:
        """The longer side of the box in pixels."""
        return max(self.box[2:])


def face_crop(face: Face, height: int, width: int, margin: float = 2.0) -> tuple[int, int, int, int]:
    """Return the square crop (x, y, w, h) around a face in pixels of a photo of this height and width.

    It is shifted into the photo, and clipped where the photo is smaller; ``margin`` is its side over the box's longer
    side.

    Raises:
        ValueError: If the face's box lies outside the photo.
    """
    require_inside(face, height, width)
    x, y, w, h = face.box
    side = max(1, round(margin * face.size))
    columns, rows = min(side, width), min(side, height)
    left = min(max(round(x + w / 2 - columns / 2), 0), width - columns)
    top = min(max(round(y + h / 2 - rows / 2), 0), height - rows)
    return left, top, columns, rows


def require_inside(face: Face, height: int, width: int) -> None:
    """Refuse a face whose box shares no pixel with a photo of this height and width, or is far larger.

    Raises:
        ValueError: If it lies outside, or has more than ten times the photo's longer side.
    """
    x, y, w, h = face.box
    if w <= 0 or h <= 0 or x >= width or y >= height or x + w <= 0 or y + h <= 0:
        fault = "lies outside"
    elif max(w, h) > 10 * max(width, height):  # arithmetic with it would overflow
        fault = "is far larger than"
    else:
        return
    box = ",".join(f"{value:g}" for value in face.box)
    raise ValueError(f"the face box {box} {fault} the photo of {width}x{height} pixels")
