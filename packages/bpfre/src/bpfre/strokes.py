"""Random brush strokes for free-form inpainting.

As in the demo of Yang et al., "GAN Prior Embedded Network for Blind Face Restoration in the Wild" (CVPR 2021): one to
three strokes, 12 to 80 pixels wide at an image size of 1024, with round joints and ends, each of 8 to 27 segments of
about diagonal / 8 in alternating directions.

Paper: "the image degradation method" of GPEN, for inpainting. Here: these strokes; GPEN's blur, noise and compression,
which are for blind restoration, are left out.
"""

from __future__ import annotations

import itertools

import numpy as np
from retouch_common.synthesis.blemish_shapes import curve_distance, window_around

STROKES = (1, 3)
STEPS = (8, 27)
WIDTHS = (12.0, 80.0)  # pixels in an image of FULL_SIZE
FULL_SIZE = 1024
MEAN_ANGLE = 2 * np.pi / 5
ANGLE_RANGE = 2 * np.pi / 15


def brush_strokes(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Return a mask of one to three strokes, (H, W) float32 of 0 and 1, whose width follows the longer side."""
    mask = np.zeros((height, width), np.float32)
    for _ in range(int(generator.integers(STROKES[0], STROKES[1] + 1))):
        corners = _corners(height, width, generator)
        _draw(mask, corners, generator.uniform(*WIDTHS) / 2 * max(height, width) / FULL_SIZE)
    return mask


def paint_white(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return an image, (H, W, 3) float in [0, 1] or unsigned integers, in white where a mask (H, W) exceeds 1/2."""
    white = 1 if np.issubdtype(image.dtype, np.floating) else np.iinfo(image.dtype).max
    return np.where((mask > 0.5)[..., None], np.asarray(white, image.dtype), image)


def _corners(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Return (1 + steps, 2) y, x of a stroke's corners, inside the image."""
    step = np.hypot(height, width) / 8
    low, high = MEAN_ANGLE + generator.uniform(0, ANGLE_RANGE, 2) * (-1, 1)
    corners = [generator.uniform((0, 0), (height, width))]
    for number in range(int(generator.integers(STEPS[0], STEPS[1] + 1))):
        angle = generator.uniform(low, high)
        if number % 2 == 0:
            angle = 2 * np.pi - angle
        length = np.clip(generator.normal(step, step / 2), 0, 2 * step)
        moved = corners[-1] + length * np.array([np.sin(angle), np.cos(angle)])
        corners.append(np.clip(moved, 0, (height, width)))
    return np.stack(corners)


def _draw(mask: np.ndarray, corners: np.ndarray, radius: float) -> None:
    """Set the pixels within ``radius`` of the line through the corners to 1; ``mask`` is modified in place."""
    for start, stop in itertools.pairwise(corners):
        middle = (start + stop) / 2
        reach = float(np.abs(stop - start).max()) / 2 + radius + 1
        window = window_around(float(middle[0]), float(middle[1]), reach, mask.shape)
        distance, _ = curve_distance(window, np.stack([start, stop]) - middle)
        mask[window.index][distance <= radius] = 1
