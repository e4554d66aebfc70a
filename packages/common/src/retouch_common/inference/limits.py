"""Limit what a network changes where its own mask is uncertain.

Shadows beside a nose, below a lip or a chin and reflections resemble large blemishes. The mask that a network predicts
beside its result is less certain there than inside blemishes.
"""

import torch.nn.functional as F
from torch import Tensor

CERTAIN = (0.6, 0.8)  # certainties between which the limit is lifted
WIDENED = 2  # pixels by which the mask is widened: it fades at the borders of small blemishes


def limit_uncertain(change: Tensor, mask: Tensor, *, limit: float, side: int) -> Tensor:
    """Scale down changes whose mean over a neighbourhood exceeds a limit where the mask is uncertain.

    Certainty is the mean of the mask over a neighbourhood, weighted by the change. Small details keep their change:
    their share of a neighbourhood is small. Where nothing exceeds the limit, the change is returned bit for bit.

    Args:
        change: (N, C, H, W).
        mask: (N, 1, H, W) in [0, 1], the probability of a blemish.
        limit: Largest mean change of a channel where the mask is uncertain.
        side: Side of the square neighbourhood in pixels, odd.

    Returns:
        The limited change, (N, C, H, W).
    """
    mean = _mean(change, side).abs().amax(dim=1, keepdim=True)
    weight = change.abs().amax(dim=1, keepdim=True)
    mask = F.max_pool2d(mask, 2 * WIDENED + 1, stride=1, padding=WIDENED)
    certainty = _mean(mask * weight, side) / _mean(weight, side).clamp(min=1e-6)
    low, high = CERTAIN
    lifted = ((certainty - low) / (high - low)).clamp(0, 1)
    lifted = lifted * lifted * (3 - 2 * lifted)
    share = (limit / ((1 - lifted) * mean).clamp(min=limit)).clamp(max=1)
    share = -F.max_pool2d(-share, side, stride=1, padding=side // 2)  # a change is scaled as a whole
    return change * _mean(share, side // 2 | 1)


def _mean(values: Tensor, side: int) -> Tensor:
    return F.avg_pool2d(values, side, stride=1, padding=side // 2, count_include_pad=False)
