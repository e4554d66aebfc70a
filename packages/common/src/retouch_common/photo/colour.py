"""CIE Lab and luminance of arrays."""

from __future__ import annotations

import numpy as np
import torch

_WEIGHTS = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)


def rgb_to_lab(image: np.ndarray) -> np.ndarray:
    """Convert sRGB (H, W, 3) in [0, 1] to Lab: L in [0, 100], a and b about [-128, 127]."""
    from kornia.color import rgb_to_lab as convert

    tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    return np.ascontiguousarray(convert(tensor)[0].permute(1, 2, 0).numpy())


def luminance(image: np.ndarray) -> np.ndarray:
    """Return the Rec. 709 weighted sum (H, W) of the gamma-coded channels of an image (H, W, 3)."""
    return image @ _WEIGHTS
