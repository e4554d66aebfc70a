"""Losses between pictures; every call says its reduction, which changes them by orders of magnitude."""

from __future__ import annotations

from typing import Literal

import torch

Reduction = Literal["mean", "sum"]


def total_variation(image: torch.Tensor, *, reduction: Reduction) -> torch.Tensor:
    """Anisotropic total variation, the absolute differences of neighbours (kornia's).

    Args:
        image: (B, C, H, W).
        reduction: "sum" adds the differences of an image and takes the mean over the batch; "mean" adds the
            mean of the vertical and the mean of the horizontal differences.
    """
    import kornia

    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction '{reduction}' is not 'mean' or 'sum'")
    planes = kornia.losses.total_variation(image.float(), reduction=reduction)  # (B, C)
    return planes.mean() if reduction == "mean" else planes.sum(1).mean()
