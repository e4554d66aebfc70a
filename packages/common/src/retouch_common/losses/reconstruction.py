"""Losses between images; the reduction is explicit, since it changes them by orders of magnitude."""

from __future__ import annotations

from typing import Literal

import torch

Reduction = Literal["mean", "sum"]


def total_variation(image: torch.Tensor, *, reduction: Reduction) -> torch.Tensor:
    """Return the anisotropic total variation of images (N, C, H, W), the absolute differences of neighbours (kornia's).

    "sum" adds the differences of an image and averages over the batch; "mean" adds the means of the vertical and of the
    horizontal differences.
    """
    import kornia

    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction '{reduction}' is not 'mean' or 'sum'")
    planes = kornia.losses.total_variation(image.float(), reduction=reduction)  # (B, C)
    return planes.mean() if reduction == "mean" else planes.sum(1).mean()
