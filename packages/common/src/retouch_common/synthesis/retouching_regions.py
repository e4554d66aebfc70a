"""Where a program whitens and smooths: programs find skin in different ways."""

from __future__ import annotations

from typing import Literal

import numpy as np

from retouch_common.faces.landmarks import FaceLandmarks
from retouch_common.photo.filters import dilate, fill_polygon, gaussian_blur, resize, smoothstep

RegionKind = Literal["skin", "face", "ellipse", "colour", "likelihood"]

WORKING_SIDE = 256  # regions are drawn in a copy of the image of about this side, and upsampled
REACH = 2.6  # in eye distances: how far from the face skin colours count
CB, CR = (77.0, 127.0), (133.0, 173.0)  # Chai and Ngan, "Face segmentation using skin-color map", IEEE TCSVT 1999
SLOPE = 5.0  # levels over which a skin colour's likelihood fades
SPREAD = 0.018  # standard deviation of "likelihood" in chromaticity


def retouched_region(image: np.ndarray, landmarks: FaceLandmarks, kind: RegionKind, skin: np.ndarray) -> np.ndarray:
    """Return the soft mask in which a program of some kind works.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        landmarks: In the image's pixels.
        kind: "skin" is ``skin``; "face" is its part within the face's outline, without ears and neck; "ellipse" an
            ellipse around the face, features included; "colour" everything near the face of a usual skin colour;
            "likelihood" a Gaussian around the chromaticity of this face's skin (Yang and Waibel, "A real-time face
            tracker", WACV 1996), near the face.
        skin: (H, W) float32 in [0, 1].

    Returns:
        (H, W) float32 in [0, 1].
    """
    if kind == "skin":
        return skin
    height, width = image.shape[:2]
    factor = min(1.0, WORKING_SIDE / min(height, width))
    rows, columns = max(1, round(height * factor)), max(1, round(width * factor))
    placed = landmarks.scaled(factor)
    if kind == "face":
        inside = dilate(fill_polygon(placed.outline, rows, columns), 0.04 * placed.unit)
        return skin * _enlarged(gaussian_blur(inside, 0.06 * placed.unit), height, width)
    if kind == "ellipse":
        return _enlarged(_ellipse(placed, rows, columns), height, width)
    if kind == "colour":
        small = resize(image, rows, columns, antialias=True)
        return _enlarged(_skin_coloured(small, placed), height, width)
    if kind == "likelihood":
        small, seen = (resize(part, rows, columns, antialias=True) for part in (image, skin))
        return _enlarged(_likelihood(small, seen, placed), height, width)
    raise ValueError(f"a region is 'skin', 'face', 'ellipse', 'colour' or 'likelihood', not {kind!r}")


def _ellipse(landmarks: FaceLandmarks, height: int, width: int) -> np.ndarray:
    outline = landmarks.outline
    centre = (outline.min(0) + outline.max(0)) / 2
    axes = 0.5 * np.ptp(outline, axis=0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    distance = np.hypot((x - centre[0]) / axes[0], (y - centre[1]) / axes[1])
    return smoothstep(distance, 1.12, 0.88)


def _skin_coloured(image: np.ndarray, landmarks: FaceLandmarks) -> np.ndarray:
    height, width = image.shape[:2]
    red, green, blue = np.moveaxis(255.0 * image, -1, 0)
    cb = 128.0 - 0.168736 * red - 0.331264 * green + 0.5 * blue
    cr = 128.0 + 0.5 * red - 0.418688 * green - 0.081312 * blue
    likely = np.ones((height, width), np.float32)
    for value, (low, high) in ((cb, CB), (cr, CR)):
        likely *= smoothstep(value, low - SLOPE, low + SLOPE) * smoothstep(value, high + SLOPE, high - SLOPE)
    return gaussian_blur(likely * _near(landmarks, height, width), 0.03 * landmarks.unit)


def _likelihood(image: np.ndarray, skin: np.ndarray, landmarks: FaceLandmarks) -> np.ndarray:
    height, width = image.shape[:2]
    image = gaussian_blur(np.clip(image, 0.0, 1.0), 0.01 * landmarks.unit)
    chromaticity = image[..., :2] / np.maximum(image.sum(axis=-1, keepdims=True), np.float32(0.05))
    sure = skin > 0.5
    if not sure.any():
        return np.zeros((height, width), np.float32)
    apart = np.hypot(*np.moveaxis(chromaticity - np.median(chromaticity[sure], axis=0), -1, 0))
    return (np.exp(-0.5 * np.square(apart / SPREAD)) * _near(landmarks, height, width)).astype(np.float32)


def _near(landmarks: FaceLandmarks, height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    middle = landmarks.nose[-1]
    return smoothstep(np.hypot(x - middle[0], y - middle[1]), REACH * landmarks.unit, 0.7 * REACH * landmarks.unit)


def _enlarged(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    return mask if mask.shape == (height, width) else resize(mask, height, width).clip(0.0, 1.0)
