"""What JPEG does to an image, without the file: colour subsampling and quantised cosine transforms.

The lossless entropy coding is left out. That is fast, equal on every machine, and safe in forked processes.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch.nn import functional as F

# ITU-T T.81, Annex K, Tables K.1 and K.2
_LUMINANCE = (
    "16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62 "
    "18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 "
    "72 92 95 98 112 100 103 99"
)
_CHROMINANCE = (
    "17 18 24 47 99 99 99 99 18 21 26 66 99 99 99 99 24 26 56 99 99 99 99 99 47 66 99 99 99 99 99 99 " + "99 " * 32
)
_TO_YCC = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]], dtype=np.float32)
_TO_RGB = np.linalg.inv(_TO_YCC).astype(np.float32)


def compress(image: np.ndarray, quality: int, *, subsample: bool = True) -> np.ndarray:
    """Return an image (H, W, 3) float32 in [0, 1] after encoding as JPEG and decoding.

    ``quality`` is 1 to 100, as libjpeg counts; ``subsample`` means 4:2:0 (colour at half the size) instead of 4:4:4.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality is {quality}; it must be between 1 and 100")
    height, width = image.shape[:2]
    block = 16 if subsample else 8
    padding = ((0, -height % block), (0, -width % block), (0, 0))
    padded = np.pad(image, padding, mode="edge") if height % block or width % block else image
    rows, columns = padded.shape[:2]
    planes = (padded.reshape(-1, 3) @ (_TO_YCC.T * np.float32(255.0))).T.reshape(3, rows, columns)
    luma = _quantise(np.ascontiguousarray(planes[:1]) - np.float32(128.0), quality, _LUMINANCE) + np.float32(128.0)
    chroma = np.ascontiguousarray(planes[1:])
    if subsample:
        chroma = F.avg_pool2d(torch.from_numpy(chroma), 2).numpy()
    chroma = _quantise(chroma, quality, _CHROMINANCE)
    if subsample:
        subsampled = torch.from_numpy(chroma)[None]
        chroma = F.interpolate(subsampled, (rows, columns), mode="bilinear", align_corners=False)[0].numpy()
    flat = np.concatenate([luma, chroma]).reshape(3, -1)
    decoded = (flat.T @ (_TO_RGB.T * np.float32(1.0 / 255.0))).reshape(rows, columns, 3)[:height, :width]
    return np.clip(decoded, 0.0, 1.0)


def _quantise(planes: np.ndarray, quality: int, table: str) -> np.ndarray:
    """Round the cosine coefficients of 8x8 blocks, (C, H, W), to multiples of a quantisation table."""
    count, rows, columns = planes.shape
    blocks = planes.reshape(count, rows // 8, 8, columns // 8, 8).transpose(0, 1, 3, 2, 4).reshape(-1, 64)
    transform, steps = _transform(), _steps(table, quality)
    coefficients = blocks @ transform.T
    coefficients /= steps
    np.rint(coefficients, out=coefficients)
    coefficients *= steps
    decoded = (coefficients @ transform).reshape(count, rows // 8, columns // 8, 8, 8)
    return np.ascontiguousarray(decoded.transpose(0, 1, 3, 2, 4)).reshape(count, rows, columns)


@functools.cache
def _transform() -> np.ndarray:
    """Return the orthonormal cosine transform of an 8x8 block as a (64, 64) matrix."""
    k = np.arange(8)
    basis = np.cos((2 * k[None, :] + 1) * k[:, None] * np.pi / 16) * np.sqrt(np.where(k == 0, 1, 2) / 8)[:, None]
    return np.kron(basis, basis).astype(np.float32)


@functools.cache
def _steps(table: str, quality: int) -> np.ndarray:
    base = np.array(table.split(), dtype=np.int64)
    percent = 5000 // quality if quality < 50 else 200 - 2 * quality
    return np.clip((base * percent + 50) // 100, 1, 255).astype(np.float32)
