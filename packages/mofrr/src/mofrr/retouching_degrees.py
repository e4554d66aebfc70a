"""Degrees of retouching by what they cost: five classes of PSNR (MoFRR, section 3.1).

Sliders of different programs do not mean the same, so degrees are told by the distance between the retouched and the
original picture. Degree 5, the heaviest, is the 15 % of a training set's pictures with the lowest PSNR; then come 25,
25 and 25 %, and degree 1 is the 10 % with the highest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["DEGREE_SHARES", "degree_edges", "degrees"]

DEGREE_SHARES = (0.15, 0.25, 0.25, 0.25, 0.10)
"""Shares of a training set in degrees 5, 4, 3, 2 and 1."""


def degree_edges(psnrs: Sequence[float] | np.ndarray) -> np.ndarray:
    """Where the degrees of an operation meet.

    Args:
        psnrs: In dB, of each training picture that the operation was done to, pooled over programs.

    Returns:
        (4,) float64 dB, ascending: the borders 5 | 4, 4 | 3, 3 | 2 and 2 | 1.

    Raises:
        ValueError: If there are fewer than five pictures, or a PSNR is not finite (equal pictures are not retouched).
    """
    values = np.asarray(psnrs, dtype=np.float64)
    if values.ndim != 1 or len(values) < len(DEGREE_SHARES):
        raise ValueError(f"degrees need a list of at least five PSNRs, not an array {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError(f"{np.sum(~np.isfinite(values))} of {len(values)} PSNRs are not finite")
    return np.quantile(values, np.cumsum(DEGREE_SHARES)[:-1])


def degrees(psnr: np.ndarray | float, edges: np.ndarray) -> np.ndarray:
    """Degrees of retouched pictures, 1 (light) … 5 (heavy).

    Args:
        psnr: In dB, any shape; equal pictures (infinity) are of degree 1.
        edges: (4,) of their operation, as `degree_edges` gives them.

    Returns:
        int64 of the same shape. A PSNR on a border belongs to the lighter side.

    Raises:
        ValueError: If a PSNR is not a number.
    """
    values = np.asarray(psnr, dtype=np.float64)
    if np.isnan(values).any():
        raise ValueError("a PSNR is not a number")
    return len(DEGREE_SHARES) - np.searchsorted(edges, values, side="right")
