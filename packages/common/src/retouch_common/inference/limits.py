"""Limit what a network changes where its own mask is uncertain.

Shadows beside a nose, below a lip or a chin and reflections resemble large blemishes. The mask that a network predicts
beside its result is less certain there than inside blemishes.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

WIDENED = 2  # pixels by which the mask is widened: it fades at the borders of small blemishes


def limit_uncertain(change: Tensor, mask: Tensor, *, limit: float, side: int, certain: tuple[float, float]) -> Tensor:
    """Scale down changes whose mean over a neighbourhood exceeds a limit where the mask is uncertain.

    Certainty is the mean of the mask over a neighbourhood, weighted by the change. Small details keep their change:
    their share of a neighbourhood is small. Where nothing exceeds the limit, the change is returned bit for bit.

    Args:
        change: (N, C, H, W).
        mask: (N, 1, H, W) in [0, 1], the probability of a blemish.
        limit: Largest mean change of a channel where the mask is uncertain.
        side: Side of the square neighbourhood in pixels, odd.
        certain: Certainties between which the limit is lifted.

    Returns:
        The limited change, (N, C, H, W).
    """
    mean = _mean(change, side).abs().amax(dim=1, keepdim=True)
    weight = change.abs().amax(dim=1, keepdim=True)
    mask = _max(mask, 2 * WIDENED + 1)
    certainty = _mean(mask * weight, side) / _mean(weight, side).clamp(min=1e-6)
    low, high = certain
    lifted = ((certainty - low) / (high - low)).clamp(0, 1)
    lifted = lifted * lifted * (3 - 2 * lifted)
    share = (limit / ((1 - lifted) * mean).clamp(min=limit)).clamp(max=1)
    share = -_max(-share, side)  # a change is scaled as a whole
    return change * _mean(share, side // 2 | 1)


def _mean(values: Tensor, side: int) -> Tensor:
    """Average over squares, of which only the part inside counts."""
    inside = torch.ones_like(values[:1, :1])
    for dim in (-2, -1):
        values = _slide(values, side, dim, torch.add, 0.0) / _slide(inside, side, dim, torch.add, 0.0)
    return values


def _max(values: Tensor, side: int) -> Tensor:
    """Take the maximum over squares."""
    for dim in (-2, -1):
        values = _slide(values, side, dim, torch.maximum, -torch.inf)
    return values


def _slide(values: Tensor, side: int, dim: int, combine: Callable[[Tensor, Tensor], Tensor], outside: float) -> Tensor:
    """Combine the ``side`` values around each along a dimension, in log2(side) steps.

    Windows of 2, 4, 8 ... values are combined from halves, and those that the binary digits of ``side`` name make up
    the whole: ten times as fast as pooling, whose cost grows with ``side`` (512x512 pixels, side 13, a CPU).
    """
    length = values.shape[dim]
    margin = (side // 2, side // 2)
    values = F.pad(values, margin if dim == -1 else (0, 0, *margin), value=outside)
    result, first, width = None, 0, 1
    while True:
        if side & width:
            part = values.narrow(dim, first, length)
            result = part if result is None else combine(result, part)
            first += width
        if 2 * width > side:
            assert result is not None
            return result
        count = values.shape[dim] - width
        values = combine(values.narrow(dim, 0, count), values.narrow(dim, width, count))
        width *= 2
