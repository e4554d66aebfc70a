"""The mask of retouched pixels, and a loss on it."""

from __future__ import annotations

import torch

CHANGED_LEVELS = 3
"""8-bit levels: a pixel is inside the mask if the retoucher changed a channel of it by more."""


def difference_mask(
    raw: torch.Tensor, target: torch.Tensor, *, threshold: float = (CHANGED_LEVELS + 0.5) / 255
) -> torch.Tensor:
    """Return the mask (N, 1, H, W) of 0 and 1, in raw's dtype: 1 where any channel differs by more than ``threshold``.

    Images are (N, 3, H, W) in [0, 1]. The default threshold, that of the metrics, lies between two levels, so that
    rounding errors do not matter.

    Raises:
        ValueError: If the shapes differ.
    """
    if raw.shape != target.shape:
        raise ValueError(f"raw {tuple(raw.shape)} and target {tuple(target.shape)} differ in shape")
    return ((raw - target).abs().amax(dim=1, keepdim=True) > threshold).to(raw.dtype)


def soft_dice_loss(probabilities: torch.Tensor, mask: torch.Tensor, *, smooth: float = 1.0) -> torch.Tensor:
    """Return 1 - Dice with squares in the denominator (Milletari et al., V-Net, 2016), averaged over samples.

    ``1 - (2 Σ p m + s) / (Σ p² + Σ m² + s)`` over each sample's pixels, p and m (N, 1, H, W) in [0, 1]. ``smooth`` is
    s, in pixels: an empty prediction for an empty mask costs 0, and gradients stay finite. kornia's Dice losses have
    no squares.

    Raises:
        ValueError: If the shapes differ.
    """
    if probabilities.shape != mask.shape:
        raise ValueError(f"prediction {tuple(probabilities.shape)} and mask {tuple(mask.shape)} differ in shape")
    p, m = (x.float().flatten(1) for x in (probabilities, mask))  # sums of many pixels: never in half precision
    dice = (2 * (p * m).sum(1) + smooth) / (p.square().sum(1) + m.square().sum(1) + smooth)
    return (1 - dice).mean()
