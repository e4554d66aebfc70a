"""Degrees of retouching, five classes of the PSNR between retouched image and original, and their estimator.

Section 3.1: strengths of different programs do not compare; PSNRs do. Degree 5, the heaviest, is the 15 % of a training
set with the lowest PSNR, then come 25, 25 and 25 %, and degree 1 is the 10 % with the highest.

Section 3.3: an expert is conditioned on the expected degree, which says more than the likeliest class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from mofrr.backbones import Backbone, TokenHead
from mofrr.config import NUM_DEGREES

DEGREE_SHARES = (0.15, 0.25, 0.25, 0.25, 0.10)
"""Shares of a training set in degrees 5, 4, 3, 2 and 1."""


def degree_edges(psnrs: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return the PSNRs that separate the degrees of an operation.

    Args:
        psnrs: In dB, of each training image with that operation, pooled over programs.

    Returns:
        (4,) float64 dB, ascending: 5 | 4, 4 | 3, 3 | 2 and 2 | 1.

    Raises:
        ValueError: Fewer than five images, or a PSNR is not finite (equal images are not retouched).
    """
    values = np.asarray(psnrs, dtype=np.float64)
    if values.ndim != 1 or len(values) < len(DEGREE_SHARES):
        raise ValueError(f"degrees need a list of at least five PSNRs, not an array {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{np.sum(~np.isfinite(values))} of {len(values)} PSNRs are not finite")
    return np.quantile(values, np.cumsum(DEGREE_SHARES)[:-1])


def degrees(psnr: np.ndarray | float, edges: np.ndarray) -> np.ndarray:
    """Return degrees from 1 (light) to 5 (heavy), int64 of the shape of ``psnr``.

    Args:
        psnr: In dB; infinity is of degree 1, and a PSNR on an edge belongs to the lighter degree.
        edges: (4,) from :func:`degree_edges`.

    Raises:
        ValueError: A PSNR is NaN.
    """
    values = np.asarray(psnr, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("a PSNR is not a number")
    return len(DEGREE_SHARES) - np.searchsorted(edges, values, side="right")


class DegreeEstimator(nn.Module):
    """The estimator of one operation; arguments as of :class:`mofrr.backbones.Backbone`."""

    def __init__(self, backbone: str, size: int) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, size)
        self.head = TokenHead(self.backbone.width, NUM_DEGREES)

    def forward(self, image: Tensor, traces: Tensor | None = None) -> Tensor:
        """Return logits of the degrees 1 to 5, (N, 5); arguments as of :class:`mofrr.backbones.Backbone`."""
        return self.head(self.backbone(image, traces))


def expected_degree(logits: Tensor) -> Tensor:
    """Return the degree z = sum of p_d d / 5, (N,) in [0.2, 1]."""
    values = torch.arange(1, NUM_DEGREES + 1, device=logits.device)
    return (logits.float().softmax(dim=1) * values / NUM_DEGREES).sum(dim=1)
