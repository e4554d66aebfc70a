"""Losses between pictures; every call says its reduction, which changes them by orders of magnitude."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

Reduction = Literal["mean", "sum"]


def multi_scale_mse(
    outputs: Sequence[torch.Tensor], targets: Sequence[torch.Tensor], *, reduction: Reduction
) -> torch.Tensor:
    """Sum over levels of the squared error, Σ_i ||T_i - R_i||².

    Args:
        outputs: R_0 ... R_l, each (B, C, H_i, W_i).
        targets: T_0 ... T_l of the same shapes.
        reduction: within a level, "sum" adds the squared errors of an image (the squared norm) and takes the
            mean over the batch; "mean" takes the mean over all values.

    Raises:
        ValueError: the numbers of levels or the shapes differ, or there is no level.
    """
    if len(outputs) != len(targets) or not outputs:
        raise ValueError(f"{len(outputs)} outputs for {len(targets)} targets")
    total = torch.zeros((), device=outputs[0].device)
    for level, (output, target) in enumerate(zip(outputs, targets, strict=True)):
        if output.shape != target.shape:
            raise ValueError(
                f"level {level}: output {tuple(output.shape)}, target {tuple(target.shape)}: shapes differ"
            )
        total = total + _reduce((output.float() - target.float()).square(), reduction)
    return total


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


def _reduce(values: torch.Tensor, reduction: Reduction) -> torch.Tensor:
    if reduction == "mean":
        return values.mean()
    if reduction == "sum":
        return values.flatten(1).sum(1).mean()
    raise ValueError(f"reduction '{reduction}' is not 'mean' or 'sum'")
