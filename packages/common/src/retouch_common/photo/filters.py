"""Image filters for float32 arrays (H, W) or (H, W, C); arguments are not modified."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return 0 below `low`, 1 above `high` and a cubic between them; falling if `high` < `low`."""
    t = np.clip((x - low) / (high - low), 0.0, 1.0)
    return (t * t * (3.0 - 2.0 * t)).astype(np.float32)


def _blur_axis(image: np.ndarray, sigma: float, axis: int) -> np.ndarray:
    radius = max(1, math.ceil(3.0 * sigma))
    taps = np.exp(-0.5 * (np.arange(radius + 1) / sigma) ** 2)
    taps = (taps / (2.0 * taps.sum() - taps[0])).astype(np.float32)
    pad = [(0, 0)] * image.ndim
    pad[axis] = (radius, radius)
    padded = np.moveaxis(np.pad(image, pad, mode="edge"), axis, 0)
    size = image.shape[axis]
    result = padded[radius : radius + size] * taps[0]
    for k in range(1, radius + 1):
        pair = padded[radius - k :][:size] + padded[radius + k :][:size]
        pair *= taps[k]
        result += pair
    return np.moveaxis(result, 0, axis)


def gaussian_blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Smooth with a Gaussian of `sigma` pixels and replicated edges; 0 returns a copy.

    Wide kernels are applied to a reduced copy (box means, then bilinear upsampling), which is many times faster and
    within about one per cent of the exact result for smooth images.
    """
    if sigma <= 0.0:
        return image.copy()
    factor = 1
    while sigma / (factor * 2) >= 2.0 and min(image.shape[:2]) >= factor * 4:
        factor *= 2
    if factor == 1:
        return _blur_axis(_blur_axis(image, sigma, 0), sigma, 1)
    height, width = image.shape[:2]
    pad = [(0, -height % factor), (0, -width % factor)] + [(0, 0)] * (image.ndim - 2)
    padded = np.pad(image, pad, mode="edge").reshape(height + pad[0][1], width + pad[1][1], -1)
    planes = torch.from_numpy(np.ascontiguousarray(padded.transpose(2, 0, 1)))[None]
    small = F.avg_pool2d(planes, factor)[0].numpy()
    inner = math.sqrt(max(sigma * sigma - factor * factor / 6.0, 0.25)) / factor
    small = _blur_axis(_blur_axis(small, inner, 1), inner, 2)
    large = F.interpolate(torch.from_numpy(small)[None], padded.shape[:2], mode="bilinear", align_corners=False)
    return np.ascontiguousarray(large[0, :, :height, :width].permute(1, 2, 0).numpy()).reshape(image.shape)


def resize(image: np.ndarray, height: int, width: int, *, antialias: bool = False) -> np.ndarray:
    """Resize bilinearly with half-pixel centres; `antialias` widens the kernel when downsampling."""
    planes = image[:, :, None] if image.ndim == 2 else image
    tensor = torch.from_numpy(np.ascontiguousarray(planes)).permute(2, 0, 1)[None]
    out = F.interpolate(tensor, (height, width), mode="bilinear", align_corners=False, antialias=antialias)
    array = np.ascontiguousarray(out[0].permute(1, 2, 0).numpy())
    return array[:, :, 0] if image.ndim == 2 else array


def dilate(mask: np.ndarray, radius: float) -> np.ndarray:
    """Dilate a mask (H, W) by an octagon of about `radius` pixels, rounded; a negative radius erodes."""
    from scipy.ndimage import maximum_filter

    steps = round(abs(radius))
    if steps == 0:
        return mask.copy()
    square = 2 * max(1, round(steps * 0.7)) + 1
    arm = 2 * steps + 2 - square
    dilated = maximum_filter(mask if radius > 0 else -mask, square, mode="nearest")
    dilated = np.maximum(
        maximum_filter(dilated, (arm, 1), mode="nearest"), maximum_filter(dilated, (1, arm), mode="nearest")
    )
    return dilated if radius > 0 else -dilated


def label_regions(mask: np.ndarray) -> np.ndarray:
    """Label 8-connected regions: (H, W) integers, 0 outside, else from 1 up."""
    from scipy.ndimage import label

    return label(mask > 0, np.ones((3, 3)))[0]


def bounding_box(mask: np.ndarray, margin: int = 0) -> tuple[slice, slice]:
    """Return the rows and columns of a mask (H, W), with a margin; empty where the mask is."""
    found = [np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0)]
    if not len(found[0]):
        return slice(0, 0), slice(0, 0)
    rows, columns = (slice(max(0, int(at[0]) - margin), int(at[-1]) + 1 + margin) for at in found)
    return rows, columns


def fill_polygon(points: np.ndarray, height: int, width: int) -> np.ndarray:
    """Fill a polygon of corners (n, 2), x and y in pixels, by the even-odd rule; (height, width) float32 of 0 and 1.

    A pixel is inside if its centre is; that of row r and column c is at (x, y) = (c, r).
    """
    crossings = np.zeros((height, width + 1), dtype=np.int32)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, axis=0), strict=True):
        if y0 == y1:
            continue
        if y0 > y1:
            x0, y0, x1, y1 = x1, y1, x0, y0
        rows = np.arange(max(0, math.ceil(y0)), min(height, math.ceil(y1)))
        columns = np.ceil(x0 + (rows - y0) * (x1 - x0) / (y1 - y0)).astype(np.int64)
        crossings[rows, np.clip(columns, 0, width)] += 1
    return (np.cumsum(crossings[:, :width], axis=1) & 1).astype(np.float32)


def smooth_noise(
    height: int, width: int, cell: float, generator: np.random.Generator, *, channels: int = 1
) -> np.ndarray:
    """Draw standard normal values about `cell` pixels apart and interpolate them smoothly.

    Returns:
        (height, width, channels) float32 of mean 0 and standard deviation about 1.
    """
    rows, columns = (max(2, round(n / cell) + 1) for n in (height, width))
    grid = generator.standard_normal((rows, columns, channels), dtype=np.float32)
    tensor = torch.from_numpy(grid).permute(2, 0, 1)[None]
    out = F.interpolate(tensor, (height, width), mode="bicubic", align_corners=False)
    return np.ascontiguousarray(out[0].permute(1, 2, 0).numpy()) * np.float32(1.25)
