"""Eye enlarging and face lifting as displacement fields.

A warp maps points (..., 2) x, y of the result to the points of the image their colours come from. Warps compose
exactly, and the image is interpolated only once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from retouch_common.faces.landmarks import FaceLandmarks
from retouch_common.photo.filters import bounding_box, smoothstep

Warp = Callable[[np.ndarray], np.ndarray]

LiftKind = Literal["drag", "pull", "narrow", "mls", "taper", "pinch"]

EyeKind = Literal["power", "cone", "gaussian", "cosine"]

Interpolation = Literal["bilinear", "bicubic"]

BORDER = 0.06  # displacements fade out within this share of the image's side from its border
CHEEK, CHEEK_WIDTH = 0.2, 0.13  # where along the jaw, counted from the chin, it is drawn in most, and how far around
MLS_CELLS = 40  # moving least squares are solved on a grid of this many cells a side, and interpolated
COARSE = 4  # spacing in pixels of the grid on which the extent of warps is found
JAW_STEPS = (0.1, 0.18, 0.26, 0.34)  # control points along the jaw, counted likewise


def enlarge(
    points: np.ndarray, centre: np.ndarray, radius: float, amount: float, power: float = 2.0, kind: EyeKind = "power"
) -> np.ndarray:
    """Enlarge a disc's middle: r' = r (1 - amount f(r / radius)) for r < radius.

    Args:
        points: (..., 2).
        centre: (2,) x, y; a fixed point.
        radius: In pixels.
        amount: 0 to 1; the middle is enlarged by 1 / (1 - amount).
        power: Of "power": how quickly the effect fades, 2 or more for a smooth border.
        kind: f(t) is (1 - t²)^power for "power", 1 - t for "cone", exp(-4 t²) less its value at 1 for "gaussian", and
            (1 + cos(pi t)) / 2 for "cosine".
    """
    offset = points - np.asarray(centre, dtype=points.dtype)
    inside = _bump(points, centre, radius)  # 1 - t²
    if kind == "power":
        share = inside**power
    elif kind == "cone":
        share = 1.0 - np.sqrt(1.0 - inside)
    elif kind == "gaussian":
        share = (np.exp(-4.0 * (1.0 - inside)) - np.exp(-4.0)) / (1.0 - np.exp(-4.0))
    elif kind == "cosine":
        share = 0.5 + 0.5 * np.cos(np.pi * np.sqrt(1.0 - inside))
    else:
        raise ValueError(f"eye enlarging is 'power', 'cone', 'gaussian' or 'cosine', not {kind!r}")
    return points - offset * (amount * share)[..., None].astype(points.dtype)


def pinch(points: np.ndarray, centre: np.ndarray, radius: float, amount: float) -> np.ndarray:
    """Draw a disc in towards its middle: r' = r (1 + amount (1 - (r / radius)²)² (r / radius)) for r < radius."""
    offset = points - np.asarray(centre, dtype=points.dtype)
    inside = _bump(points, centre, radius)
    return points + offset * (amount * inside**2 * np.sqrt(1.0 - inside))[..., None].astype(points.dtype)


def moving_least_squares(points: np.ndarray, places: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """Deform points (..., 2) by moving least squares with similarity transforms, origins (n, 2) to places (n, 2).

    Schaefer, McPhail, Warren. "Image Deformation Using Moving Least Squares." SIGGRAPH 2006, section 2.2.
    """
    v = points.reshape(-1, 2).astype(np.float64) @ [1, 1j]
    q, p = (np.asarray(which, np.float64) @ [1, 1j] for which in (places, origins))
    weight = 1.0 / np.maximum(np.abs(v[:, None] - q) ** 2, 1e-6)
    weight /= weight.sum(axis=1, keepdims=True)
    q_mean, p_mean = weight @ q, weight @ p
    q_hat, p_hat = q - q_mean[:, None], p - p_mean[:, None]
    turn = (weight * p_hat * q_hat.conj()).sum(axis=1) / np.maximum((weight * np.abs(q_hat) ** 2).sum(axis=1), 1e-9)
    moved = p_mean + turn * (v - q_mean)
    return np.stack([moved.real, moved.imag], axis=-1).reshape(points.shape).astype(points.dtype)


def drag(points: np.ndarray, centre: np.ndarray, shift: np.ndarray, radius: float) -> np.ndarray:
    """Drag what lies around a point along: p' = p - shift (1 - (r / radius)²)² for r < radius.

    ``shift`` is (2,) in pixels, shorter than 0.6 radius, or the image folds.
    """
    return points - _bump(points, centre, radius)[..., None] ** 2 * np.asarray(shift, dtype=points.dtype)


def pull(points: np.ndarray, centres: np.ndarray, shifts: np.ndarray, radius: float) -> np.ndarray:
    """Move several points (n, 2) at once, what lies around them by the mean of their shifts weighted by Gaussians.

    ``radius`` is three standard deviations in pixels.
    """
    total, moved = np.full(points.shape[:-1], 0.5, dtype=points.dtype), np.zeros_like(points)
    for centre, shift in zip(centres, shifts, strict=True):
        weight = np.exp(_squared(points, centre) * points.dtype.type(-4.5 / radius**2))
        total += weight
        moved += weight[..., None] * np.asarray(shift, dtype=points.dtype)
    return points - moved / total[..., None]


def narrow(points: np.ndarray, axis: np.ndarray, half_width: float, amount: float) -> np.ndarray:
    """Narrow the lower face by ``amount`` half widths.

    ``axis`` (2, 2) is the middle of the eyes and the chin, ``half_width`` the distance in pixels of the sides from it.
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


def face_lift(landmarks: FaceLandmarks, kind: LiftKind, amount: float, reach: float, *, peak: float = CHEEK) -> Warp:
    """Return a warp for a slimmer lower face.

    Args:
        landmarks: In the image's pixels.
        kind: "drag" drags places along the jaw towards the nose, one after the other; "pull" moves all of them at once
            straight towards the nose's axis; "narrow" moves both sides of the lower face; "mls" moves the jaw by moving
            least squares, with the features fixed; "taper" narrows the face increasingly towards the chin; "pinch"
            draws a disc around the lower face in.
        amount: How far, in eye distances.
        reach: Radius of what moves along, in eye distances; "narrow" has its own.
        peak: Of "drag", "pull" and "mls": where the jaw moves most, from the chin on, in lengths of the jaw.
    """
    unit = landmarks.unit
    top, chin = landmarks.eye_centres.mean(0), _along(landmarks.jaw, np.array([0.5]))[0]
    down = (chin - top) / max(float(np.hypot(*(chin - top))), 1e-6)
    if kind == "narrow":
        across = (landmarks.jaw - top) @ (down[1], -down[0])
        half_width = float(np.ptp(across)) / 2 * 0.9
        return lambda points: narrow(points, np.stack([top, chin]), half_width, amount * unit / half_width)
    if kind == "taper":
        return lambda points: _taper(points, top, chin, 1.3 * amount)
    if kind == "pinch":
        middle, radius = top + 0.72 * (chin - top), 0.8 * float(np.hypot(*(chin - top)))
        return lambda points: pinch(points, middle, radius, 5.0 * amount * unit / radius)
    steps = np.array([0.5 - np.array(JAW_STEPS), 0.5 + np.array(JAW_STEPS)]).T.ravel()
    places = _along(landmarks.jaw, steps)
    nose = landmarks.nose[-1]
    if kind == "drag":
        towards = nose - places
    elif kind in ("pull", "mls"):
        towards = top + np.outer((places - top) @ down, down) - places
    else:
        raise ValueError(f"face lifting is 'drag', 'pull', 'narrow', 'mls', 'taper' or 'pinch', not {kind!r}")
    weight = np.exp(-np.square((np.abs(steps - 0.5) - peak) / CHEEK_WIDTH))[:, None]
    shifts = amount * unit * weight * towards / np.maximum(np.hypot(*towards.T), 1e-6)[:, None]
    if kind == "pull":
        return lambda points: pull(points, places, shifts, reach * unit)
    if kind == "mls":
        return _least_squares_lift(landmarks, places, shifts)

    def dragged(points: np.ndarray) -> np.ndarray:
        for place, shift in zip(places, shifts, strict=True):
            points = drag(points, place, shift, reach * unit)
        return points

    return dragged


def _taper(points: np.ndarray, top: np.ndarray, chin: np.ndarray, amount: float) -> np.ndarray:
    """Narrow the face about its axis, not at the eyes and most at the chin, fading out beside the face."""
    length = float(np.hypot(*(chin - top)))
    down = ((chin - top) / length).astype(points.dtype)
    right = np.array([down[1], -down[0]], dtype=points.dtype)
    offset = points - top.astype(points.dtype)
    low, side = offset @ down / length, offset @ right / length
    share = smoothstep(low, 0.1, 0.9) * smoothstep(low, 1.5, 0.95) * smoothstep(np.abs(side), 1.3, 0.5)
    return points + (amount * length * side * share)[..., None].astype(points.dtype) * right


def _least_squares_lift(landmarks: FaceLandmarks, places: np.ndarray, shifts: np.ndarray) -> Warp:
    """Return a warp that moves the jaw by moving least squares; features and a frame around the face stay."""
    features = [*landmarks.eye_centres, *landmarks.mouth, landmarks.nose[0], landmarks.nose[-1]]
    middle, reach = landmarks.eye_centres.mean(0), 2.6 * landmarks.unit
    angles = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
    frame = middle + (0.0, 0.6 * landmarks.unit) + reach * np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    fixed = np.concatenate([np.array(features), frame])
    results, origins = np.concatenate([places + shifts, fixed]), np.concatenate([places, fixed])
    low, side = frame.min(0), float(np.ptp(frame, axis=0).max())
    at = np.linspace(0.0, 1.0, MLS_CELLS + 1)
    grid = low + side * np.stack(np.meshgrid(at, at), axis=-1)
    flow = moving_least_squares(grid, results, origins) - grid
    edge = np.minimum(np.minimum(at, 1 - at)[:, None], np.minimum(at, 1 - at))
    planes = torch.from_numpy((flow * smoothstep(edge, 0.0, 0.12)[..., None]).astype(np.float32)).permute(2, 0, 1)

    def warp(points: np.ndarray) -> np.ndarray:
        where = torch.from_numpy((2.0 * (points - low) / side - 1.0).astype(np.float32))
        flat = where.reshape(1, 1, -1, 2)
        moves = F.grid_sample(planes[None], flat, mode="bilinear", padding_mode="zeros", align_corners=True)
        return points + moves[0, :, 0].T.reshape(points.shape).numpy().astype(points.dtype)

    return warp


def displacement(height: int, width: int, warps: Sequence[Warp]) -> np.ndarray:
    """Return all warps, in the order of their application, as one field.

    Returns:
        (H, W, 2) float32: how many pixels right of and below its own place each pixel's colour comes from; 0 at the
        image's border.
    """
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    grid = np.stack([columns, rows], axis=-1)
    coarse = grid[::COARSE, ::COARSE]
    # most warps leave most of the image alone
    moved = bounding_box((_warped(coarse, warps) != coarse).any(axis=-1), margin=1)
    part = tuple(slice(at.start * COARSE, at.stop * COARSE) for at in moved)
    rows, columns, grid = rows[part], columns[part], grid[part]
    edge = np.minimum(np.minimum(columns, width - 1 - columns), np.minimum(rows, height - 1 - rows))
    flow = np.zeros((height, width, 2), np.float32)
    flow[part] = (_warped(grid, warps) - grid) * smoothstep(edge, 0.0, BORDER * min(height, width))[..., None]
    return flow


def _warped(points: np.ndarray, warps: Sequence[Warp]) -> np.ndarray:
    for warp in reversed(warps):
        points = warp(points)
    return points


def warp_image(image: np.ndarray, flow: np.ndarray, interpolation: Interpolation = "bicubic") -> np.ndarray:
    """Move the pixels of an image (H, W, C) float32 in [0, 1]; where the flow is 0, they stay equal to the bit.

    ``flow`` is the result of :func:`displacement`. Beyond its borders the image is reflected.
    """
    height, width = image.shape[:2]
    result, moves = image.copy(), (flow != 0).any(axis=-1)
    part = bounding_box(moves)
    moves, flow = moves[part], flow[part]
    if not moves.size:
        return result
    rows, columns = (at.astype(np.float32) for at in np.mgrid[part])
    x, y = (columns + flow[..., 0] + 0.5) / width, (rows + flow[..., 1] + 0.5) / height
    grid = torch.from_numpy(np.stack([2 * x - 1, 2 * y - 1], axis=-1).astype(np.float32))[None]
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    moved = F.grid_sample(planes, grid, mode=interpolation, padding_mode="reflection", align_corners=False)
    result[part] = np.where(moves[..., None], moved[0].clamp(0, 1).permute(1, 2, 0).numpy(), image[part])
    return result


def _bump(points: np.ndarray, centre: np.ndarray, radius: float) -> np.ndarray:
    """Return 1 - (r / radius)² around a centre, 0 from the radius on."""
    return np.maximum(1.0 - _squared(points, centre) / points.dtype.type(radius**2), 0.0)


def _squared(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Return the squared distance to a centre; sums over an axis of two would take several times as long."""
    x, y = (points[..., axis] - points.dtype.type(centre[axis]) for axis in (0, 1))
    return x * x + y * y


def _along(line: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the points (n, 2) at shares of a polyline's length."""
    lengths = np.hypot(*np.diff(line, axis=0).T)
    at = np.concatenate([[0.0], np.cumsum(lengths)])
    return np.stack([np.interp(shares * at[-1], at, line[:, axis]) for axis in (0, 1)], axis=1)
