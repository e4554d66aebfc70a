"""Losses and ground truth for the region that is to be changed."""

from __future__ import annotations

import torch

CHANGED_LEVELS = 3
"""8-bit levels: a pixel is inside the mask if the retoucher changed a channel of it by more."""


def difference_mask(
    raw: torch.Tensor, target: torch.Tensor, *, threshold: float = (CHANGED_LEVELS + 0.5) / 255
) -> torch.Tensor:
    """Return where a retoucher changed the photo: 1 where any channel differs by more than ``threshold``.

    Args:
        raw: (B, 3, H, W) in [0, 1].
        target: (B, 3, H, W) in [0, 1].
        threshold: in the units of the images; a difference of exactly this much does not count. By default that of
            the metrics, between two levels, so that rounding errors play no part.

    Returns:
        (B, 1, H, W) of zeros and ones, in the type of ``raw``.

    Raises:
        ValueError: the shapes differ.
    """
    if raw.shape != target.shape:
        raise ValueError(f"raw {tuple(raw.shape)} and target {tuple(target.shape)} differ in shape")
    return ((raw - target).abs().amax(dim=1, keepdim=True) > threshold).to(raw.dtype)


def soft_dice_loss(probabilities: torch.Tensor, mask: torch.Tensor, *, smooth: float = 1.0) -> torch.Tensor:
    """1 - Dice with squares in the denominator (Milletari et al., V-Net, 2016), mean over samples.

    ``1 - (2 Σ p m + s) / (Σ p² + Σ m² + s)``, the sums over one sample. kornia's Dice losses take class
    indices and a softmax over classes and have no squares, so they cannot stand in for this form.

    Args:
        probabilities: p, (B, 1, H, W) in [0, 1].
        mask: m, (B, 1, H, W) in [0, 1].
        smooth: s, in pixels; makes an empty prediction for an empty mask cost 0 and keeps the gradient
            finite.

    Raises:
        ValueError: the shapes differ.
    """
    if probabilities.shape != mask.shape:
        raise ValueError(f"prediction {tuple(probabilities.shape)} and mask {tuple(mask.shape)} differ in shape")
    p, m = (
        probabilities.float().flatten(1),
        mask.float().flatten(1),
    )  # sums of many pixels: never in half precision
    dice = (2 * (p * m).sum(1) + smooth) / (p.square().sum(1) + m.square().sum(1) + smooth)
    return (1 - dice).mean()
