"""Strokes of the studio's brushes, and the mask of what they protect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

FEATHER = 0.25  # of a stroke's border, as a share of its radius


@dataclass(frozen=True)
class Stroke:
    """A stroke of a brush.

    Attributes:
        keep: 1 to protect, 0 to remove protection.
        radius: In pixels.
        points: (n, 2) x, y in pixels.
    """

    keep: float
    radius: float
    points: np.ndarray


class ProtectionMask:
    """Mask of what strokes protect, of a photo reduced by a factor."""

    def __init__(self, strokes: Sequence[Stroke], factor: int = 1) -> None:
        self._strokes = [Stroke(stroke.keep, stroke.radius / factor, stroke.points / factor) for stroke in strokes]

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray | None:
        """Return the mask of a window, (height, width) float32 in [0, 1], 1 where protected; None without strokes."""
        kept = None
        for stroke in self._strokes:
            coverage = _coverage(stroke, x, y, width, height)
            if coverage is not None:
                kept = np.zeros((height, width), np.float32) if kept is None else kept
                kept += coverage * (np.float32(stroke.keep) - kept)
        return kept


def _coverage(stroke: Stroke, x: int, y: int, width: int, height: int) -> np.ndarray | None:
    """Return the coverage of a stroke, (height, width) float32 in [0, 1]; None outside it."""
    radius, points = stroke.radius, stroke.points - (x, y)
    if (points.max(axis=0) + radius < 0).any() or (points.min(axis=0) - radius > (width, height)).any():
        return None
    coverage = np.zeros((height, width), np.float32)
    feather = max(1.0, FEATHER * radius)
    for start, end in zip(points, [*points[1:], points[-1]], strict=True):
        left, top = np.maximum(np.floor(np.minimum(start, end) - radius - 1), 0).astype(int)
        right, bottom = np.minimum(np.ceil(np.maximum(start, end) + radius + 1), (width, height)).astype(int)
        if left >= right or top >= bottom:
            continue
        part = coverage[top:bottom, left:right]
        distance = _distance(start, end, np.arange(left, right) + 0.5, (np.arange(top, bottom) + 0.5)[:, None])
        np.maximum(part, ((radius - distance) / feather).clip(0, 1).astype(np.float32), out=part)
    return coverage


def _distance(start: np.ndarray, end: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the distance of points to a line segment."""
    along = end - start
    length = max(float(along @ along), 1e-12)
    share = (((x - start[0]) * along[0] + (y - start[1]) * along[1]) / length).clip(0, 1)
    return np.hypot(x - start[0] - share * along[0], y - start[1] - share * along[1])
