"""Losses of the face parser."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from retouch_common.parsing.labels import CLASSES, NOT_FACE, UNKNOWN

PARTS = tuple(range(CLASSES.index("brow_left"), CLASSES.index("hair")))
"""The small parts that :func:`dice_loss` is over: brows, eyes, nose, lips and mouth."""

_HIDDEN = [CLASSES.index("background"), CLASSES.index("hair")]


def parsing_loss(logits: Tensor, labels: Tensor, weights: Sequence[float] = ()) -> Tensor:
    """Return the mean cross entropy of all pixels whose class is known (Eq. 7), a scalar.

    Args:
        logits: (N, 11, H, W).
        labels: (N, H, W) int64. The target of NOT_FACE is hair or background, whichever; UNKNOWN is ignored.
        weights: Class weights, by which the mean is weighted too; empty for equal ones.
    """
    weight = torch.tensor(weights, device=logits.device) if weights else None
    either = labels == NOT_FACE
    if not either.any() and not (labels == UNKNOWN).any():
        return F.cross_entropy(logits.float(), labels, weight=weight)
    logits = logits.float()
    known = labels.masked_fill(either, UNKNOWN)
    total = F.cross_entropy(logits, known, weight=weight, ignore_index=UNKNOWN, reduction="sum")
    pixels = logits.movedim(1, -1)[either]
    total = total + (pixels.logsumexp(-1) - pixels[:, _HIDDEN].logsumexp(-1)).sum()
    certain = known[known != UNKNOWN]
    count = weight[certain].sum() if weight is not None else torch.tensor(float(certain.numel()))
    return total / (count + either.sum()).clamp(min=1.0)


def dice_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the mean Dice loss 1 - 2 |A ∩ B| / (|A| + |B|) over :data:`PARTS`, a scalar in [0, 1].

    Milletari, Navab, Ahmadi, *V-Net*, 3DV 2016, with sums instead of squares, over all pixels of the batch whose class
    is known. Arguments as for :func:`parsing_loss`.
    """
    likely = logits.float().softmax(1) * (labels != UNKNOWN)[:, None]
    terms = []
    for part in PARTS:
        truth = labels == part
        found = likely[:, part]
        terms.append(1 - (2 * (found * truth).sum() + 1) / (found.sum() + truth.sum() + 1))
    return torch.stack(terms).mean()
