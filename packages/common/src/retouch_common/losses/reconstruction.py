"""Losses between images; the reduction is explicit, since it changes them by orders of magnitude."""

from __future__ import annotations

from typing import Literal

import torch

Reduction = Literal["mean", "sum"]

PSNR_FLOOR = 3e-4
"""Added to squared errors before the logarithm of :func:`psnr_loss`: nearly perfect samples stop counting."""


def emphasis_weight(mask: torch.Tensor, emphasis: float) -> torch.Tensor:
    """Return weights of pixels, 1 + emphasis * mask, (N, 1, H, W), scaled to mean 1.

    Batches with many blemishes therefore take no larger steps. The mask lies in [0, 1].
    """
    weight = 1 + emphasis * mask
    return weight / weight.mean()


def psnr_loss(output: torch.Tensor, target: torch.Tensor, weight: torch.Tensor | None = None) -> torch.Tensor:
    """Return log10 of each sample's mean squared error, averaged over samples.

    Faint changes count as much as strong ones. Images are (N, C, H, W); ``weight``, (N, 1, H, W) with mean 1, weighs
    their pixels.
    """
    error = (output.float() - target).square()
    if weight is not None:
        error = weight * error
    return torch.log10(error.mean(dim=(1, 2, 3)) + PSNR_FLOOR).mean()


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
