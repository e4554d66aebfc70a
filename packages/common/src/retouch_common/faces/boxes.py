"""Intersection over union and non-maximum suppression of boxes, as in torchvision.ops and kornia.

Importing torchvision takes four seconds and kornia one, which a command that retouches one photo would wait for.

Shapes: boxes are (N, 4), x0, y0, x1, y1.
"""

from __future__ import annotations

import torch
from torch import Tensor


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Return the intersection over union of every pair, (N, M)."""
    corner = torch.minimum(boxes[:, None, 2:], others[None, :, 2:]) - torch.maximum(boxes[:, None, :2], others[:, :2])
    shared = corner.clamp(min=0).prod(dim=2)
    return shared / (_area(boxes)[:, None] + _area(others) - shared)


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the indices of the boxes that overlap no better one by more than the threshold, best first."""
    order = scores.argsort(descending=True)
    overlapping = (box_iou(boxes[order], boxes[order]) > iou_threshold).numpy()
    suppressed = torch.zeros(len(order), dtype=torch.bool).numpy()
    kept = []
    for index in range(len(order)):
        if not suppressed[index]:
            kept.append(index)
            suppressed |= overlapping[index]
    return order[kept]


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).prod(dim=1)
