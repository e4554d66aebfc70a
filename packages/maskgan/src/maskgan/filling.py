"""Continuing pictures over what they do not show.

Shapes: pictures (N, C, h, w), of any range; what is known (N, 1, h, w).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

RELAXATION = 8  # steps at every scale


def filled(picture: Tensor, known: Tensor) -> Tensor:
    """Continue a picture smoothly over what is not known, like a membrane fixed at the border of the hole.

    Pull-push (Gortler et al., "The Lumigraph", SIGGRAPH 1996) with a few steps of relaxation at every scale.

    Args:
        picture: (N, C, h, w).
        known: (N, 1, h, w), 1 where it is known, 0 where not.

    Returns:
        (N, C, h, w); what is known stays, and without anything known it is 0.
    """
    height, width = picture.shape[-2:]
    if bool((known > 0).all()) or max(height, width) == 1:
        return picture * (known > 0)
    even = (0, width % 2, 0, height % 2)
    weight = F.avg_pool2d(F.pad(known, even), 2)
    coarse = F.avg_pool2d(F.pad(picture * known, even), 2) / weight.clamp(min=1e-6)
    coarse = filled(coarse, (weight > 0).to(known.dtype))
    smooth = F.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)[..., :height, :width]
    smooth = torch.lerp(smooth, picture, known)
    for _ in range(RELAXATION):
        smooth = torch.lerp(_mean_of_nine(smooth), picture, known)
    return smooth


def _mean_of_nine(picture: Tensor) -> Tensor:
    """Mean of every pixel and its eight neighbours; F.avg_pool2d takes seven times as long on a CPU."""
    around = F.pad(picture, (1, 1, 1, 1), mode="replicate")
    rows = around[..., :-2, :] + around[..., 1:-1, :] + around[..., 2:, :]
    return (rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]) / 9
