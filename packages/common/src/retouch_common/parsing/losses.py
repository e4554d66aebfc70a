"""What a parser is trained by."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["parsing_loss"]


def parsing_loss(logits: Tensor, labels: Tensor, weights: Sequence[float] = ()) -> Tensor:
    """Eq. 7: the mean cross entropy of every pixel.

    Args:
        logits: (N, 11, H, W), before any softmax.
        labels: (N, H, W) int64.
        weights: Of the classes; empty weighs them alike. The mean is over the pixels' weights.

    Returns:
        A scalar.
    """
    weight = torch.tensor(weights, device=logits.device) if weights else None
    return F.cross_entropy(logits.float(), labels, weight=weight)
