"""Eye enlarging and face lifting as displacement fields.

A warp says, for points (..., 2) x, y of the result, from which points of the picture their colours come. Warps are
functions, so one after the other is exact, and the picture itself is interpolated only once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from retouch_common.synthesis.face_template import FaceLandmarks
from retouch_common.synthesis.filters import smoothstep

__all__ = ["LiftKind", "Warp", "displacement", "drag", "enlarge", "face_lift", "narrow", "pull", "warp_image"]

Warp = Callable[[np.ndarray], np.ndarray]

LiftKind = Literal["drag", "pull", "narrow"]

BORDER = 0.06
"""Towards the picture's border displacements fade out within this share of its side."""

CHEEK, CHEEK_WIDTH = 0.2, 0.13  # where along the jaw it is drawn in most, counted from the chin, and how far around
JAW_STEPS = (0.1, 0.18, 0.26, 0.34)  # the places at which it is taken hold of, counted likewise


def enlarge(points: np.ndarray, centre: np.ndarray, radius: float, amount: float, power: float = 2.0) -> np.ndarray:
    """Enlarge a disc's middle: r' = r (1 - amount (1 - (r / radius)²)^power) for r < radius.

    Args:
        points: (..., 2).
        centre: (2,) x, y; stays where it is.
        radius: In pixels; from there on nothing moves.
        amount: 0 … 1; the middle becomes 1 / (1 - amount) times as large.
        power: How quickly the effect fades, 2 or more for a smooth border.
    """
    offset = points - np.asarray(centre, dtype=points.dtype)
    return points - offset * (amount * _bump(points, centre, radius) ** power)[..., None]


def drag(points: np.ndarray, centre: np.ndarray, shift: np.ndarray, radius: float) -> np.ndarray:
    """Drag what lies at a point along, as with a finger: p' = p - shift (1 - (r / radius)²)² for r < radius.

    Args:
        points: (..., 2).
        centre: (2,) x, y of the point.
        shift: (2,) by how much it is dragged, in pixels; shorter than 0.6 radius, or the picture folds.
        radius: In pixels; from there on nothing moves.
    """
    return points - _bump(points, centre, radius)[..., None] ** 2 * np.asarray(shift, dtype=points.dtype)


def pull(points: np.ndarray, centres: np.ndarray, shifts: np.ndarray, radius: float) -> np.ndarray:
    """Pull several points at once, what lies around them by the mean of theirs, weighted by Gaussians.

    Args:
        points: (..., 2).
        centres: (n, 2) x, y.
        shifts: (n, 2) by how much each is pulled, in pixels.
        radius: Three standard deviations of the Gaussians in pixels.
    """
    total, moved = np.full(points.shape[:-1], 0.5, dtype=points.dtype), np.zeros_like(points)
    for centre, shift in zip(centres, shifts, strict=True):
        weight = np.exp(_squared(points, centre) * points.dtype.type(-4.5 / radius**2))
        total += weight
        moved += weight[..., None] * np.asarray(shift, dtype=points.dtype)
    return points - moved / total[..., None]


def narrow(points: np.ndarray, axis: np.ndarray, half_width: float, amount: float) -> np.ndarray:
    """Narrow the lower face as a whole.

    Args:
        points: (..., 2).
        axis: (2, 2) x, y of the middle of the eyes and of the chin.
        half_width: From the axis to the side that is drawn in, in pixels.
        amount: By how many half widths.
    """
    top, bottom = np.asarray(axis, dtype=points.dtype)
    length = float(np.hypot(*(bottom - top)))
    down = (bottom - top) / length
    right = np.array([down[1], -down[0]], dtype=points.dtype)
    low = (points - top) @ down / length
    side = (points - top) @ right / half_width
    band = side * np.exp(-np.square((np.abs(side) - 1.0) / 0.4))
    move = amount * half_width * band * smoothstep(low, 0.05, 0.75) * smoothstep(low, 1.35, 0.85)
    return points + move[..., None].astype(points.dtype) * right


def face_lift(landmarks: FaceLandmarks, kind: LiftKind, amount: float, reach: float) -> Warp:
    """A slimmer lower face.

    Args:
        landmarks: In the picture's pixels.
        kind: "drag" takes hold of places along the jaw one after the other and drags them towards the nose; "pull"
            moves all of them at once straight towards the nose's axis; "narrow" moves both sides of the lower face.
        amount: How far, in eye distances.
        reach: Radius of what moves along, in eye distances; "narrow" has its own.

    Raises:
        ValueError: If the kind has another name.
    """
    unit = landmarks.unit
    top, chin = landmarks.eye_centres.mean(0), _along(landmarks.jaw, np.array([0.5]))[0]
    down = (chin - top) / max(float(np.hypot(*(chin - top))), 1e-6)
    if kind == "narrow":
        across = (landmarks.jaw - top) @ (down[1], -down[0])
        half_width = float(np.ptp(across)) / 2 * 0.9
        return lambda points: narrow(points, np.stack([top, chin]), half_width, amount * unit / half_width)
    steps = np.array([0.5 - np.array(JAW_STEPS), 0.5 + np.array(JAW_STEPS)]).T.ravel()
    places = _along(landmarks.jaw, steps)
    nose = landmarks.nose[-1]
    if kind == "drag":
        towards = nose - places
    elif kind == "pull":
        towards = top + np.outer((places - top) @ down, down) - places
    else:
        raise ValueError(f"face lifting is 'drag', 'pull' or 'narrow', not {kind!r}")
    weight = np.exp(-np.square((np.abs(steps - 0.5) - CHEEK) / CHEEK_WIDTH))[:, None]
    shifts = amount * unit * weight * towards / np.maximum(np.hypot(*towards.T), 1e-6)[:, None]
    if kind == "pull":
        return lambda points: pull(points, places, shifts, reach * unit)

    def dragged(points: np.ndarray) -> np.ndarray:
        for place, shift in zip(places, shifts, strict=True):
            points = drag(points, place, shift, reach * unit)
        return points

    return dragged


def displacement(height: int, width: int, warps: Sequence[Warp]) -> np.ndarray:
    """All warps together.

    Args:
        height: Rows of the picture.
        width: Columns of the picture.
        warps: In the order in which the picture undergoes them.

    Returns:
        (H, W, 2) float32: how many pixels right of and below its own place each pixel's colour comes from; 0 at the
        picture's border.
    """
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    grid = np.stack([columns, rows], axis=-1)
    points = grid
    for warp in reversed(warps):
        points = warp(points)
    edge = np.minimum(np.minimum(columns, width - 1 - columns), np.minimum(rows, height - 1 - rows))
    return (points - grid) * smoothstep(edge, 0.0, BORDER * min(height, width))[..., None]


def warp_image(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Move a picture's pixels, interpolating bicubically; where the flow is 0, they stay equal to the bit.

    Args:
        image: (H, W, C) float32 in [0, 1].
        flow: (H, W, 2) as `displacement` gives it.

    Returns:
        (H, W, C) float32 in [0, 1]. Beyond its borders the picture is mirrored.
    """
    height, width = image.shape[:2]
    moves = (flow != 0).any(axis=-1)
    if not moves.any():
        return image.copy()
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    x, y = (columns + flow[..., 0] + 0.5) / width, (rows + flow[..., 1] + 0.5) / height
    grid = torch.from_numpy(np.stack([2 * x - 1, 2 * y - 1], axis=-1).astype(np.float32))[None]
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    moved = F.grid_sample(planes, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return np.where(moves[..., None], moved[0].clamp(0, 1).permute(1, 2, 0).numpy(), image)


def _bump(points: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """(...): 1 - (r / radius)² around a centre, 0 from the radius on."""
    return np.maximum(1.0 - _squared(points, centre) / points.dtype.type(radius**2), 0.0)


def _squared(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(...): squared distance to a centre. Sums over an axis of two would take several times as long."""
    x, y = (points[..., axis] - points.dtype.type(centre[axis]) for axis in (0, 1))
    return x * x + y * y


def _along(line: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(n, 2): points at shares of a polyline's length."""
    lengths = np.hypot(*np.diff(line, axis=0).T)
    at = np.concatenate([[0.0], np.cumsum(lengths)])
    return np.stack([np.interp(shares * at[-1], at, line[:, axis]) for axis in (0, 1)], axis=1)
