"""CIE Lab and luminance of arrays."""

from __future__ import annotations

import numpy as np

_TO_XYZ = np.array(  # of linear sRGB, divided by the white point D65
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]], np.float32
) / np.array([[0.95047], [1.0], [1.08883]], np.float32)
_WEIGHTS = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def rgb_to_lab(image: np.ndarray) -> np.ndarray:
    """Convert sRGB (H, W, 3) in [0, 1] to Lab: L in [0, 100], a and b about [-128, 127]."""
    # as kornia.color.rgb_to_lab, which takes a second to import
    linear = np.where(image > 0.04045, ((np.maximum(image, 0) + 0.055) / 1.055) ** 2.4, image / 12.92)
    xyz = linear.astype(np.float32) @ _TO_XYZ.T
    x, y, z = np.moveaxis(np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + np.float32(4 / 29)), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def luminance(image: np.ndarray) -> np.ndarray:
    """Return the Rec. 709 weighted sum (H, W) of the gamma-coded channels of an image (H, W, 3)."""
    return image @ _WEIGHTS
