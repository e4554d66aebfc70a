"""What a parser is trained by."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from retouch_common.parsing.labels import CLASSES, NOT_FACE, UNKNOWN

__all__ = ["dice_loss", "parsing_loss"]

PARTS = tuple(range(CLASSES.index("brow_left"), CLASSES.index("hair")))
"""The small parts that :func:`dice_loss` is over: brows, eyes, nose, lips and mouth."""

_HIDDEN = [CLASSES.index("background"), CLASSES.index("hair")]


def parsing_loss(logits: Tensor, labels: Tensor, weights: Sequence[float] = ()) -> Tensor:
    """Eq. 7: the mean cross entropy of every pixel whose class is known.

    Args:
        logits: (N, 11, H, W), before any softmax.
        labels: (N, H, W) int64; a pixel of label NOT_FACE asks for hair or background, whichever, and one of label
            UNKNOWN for nothing.
        weights: Of the classes; empty weighs them alike. The mean is over the pixels' weights.

    Returns:
        A scalar.
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
    """The mean over :data:`PARTS` of 1 - 2 |A ∩ B| / (|A| + |B|), over all pixels of the batch whose class is known.

    Milletari, Navab, Ahmadi, *V-Net*, 3DV 2016, with sums instead of squares.

    Args:
        logits: As for :func:`parsing_loss`.
        labels: As for :func:`parsing_loss`.

    Returns:
        A scalar in [0, 1].
    """
    likely = logits.float().softmax(1) * (labels != UNKNOWN)[:, None]
    terms = []
    for part in PARTS:
        truth = labels == part
        found = likely[:, part]
        terms.append(1 - (2 * (found * truth).sum() + 1) / (found.sum() + truth.sum() + 1))
    return torch.stack(terms).mean()
