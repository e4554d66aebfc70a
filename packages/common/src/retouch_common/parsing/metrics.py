"""Agreement of labels: pixel accuracy, mean class accuracy, mean IoU and F1, all from one confusion matrix.

The paper's Table 2 gives pixel accuracy; it does not say which accuracy Table 3 gives.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from retouch_common.parsing.labels import CLASSES, NOT_FACE, NUM_CLASSES

PARTS = tuple(name for name in CLASSES if name not in ("background", "mouth"))
"""Classes of the mean F1, left and right apart. Closed lips have no mouth between them, whose F1 would be noise."""

HELEN_PARTS = (("brow_left", "brow_right"), ("eye_left", "eye_right"), ("nose",), ("upper_lip", "mouth", "lower_lip"))
"""Parts of Helen's overall F1 (Smith et al., CVPR 2013): brows, eyes, nose and the whole mouth."""


def confusion(predicted: np.ndarray | Tensor, truth: np.ndarray | Tensor) -> np.ndarray:
    """Return the confusion matrix (11, 11) int64 in pixels; rows are the truth.

    Args:
        predicted: Integers 0 to 10, any shape.
        truth: The same shape; NOT_FACE and UNKNOWN are ignored.

    Raises:
        ValueError: The shapes differ, or there are other numbers.
    """
    found, wanted = (
        torch.as_tensor(labels).cpu().numpy().astype(np.int64).reshape(-1) for labels in (predicted, truth)
    )
    if tuple(predicted.shape) != tuple(truth.shape):
        raise ValueError(f"labels of shapes {tuple(predicted.shape)} and {tuple(truth.shape)} cannot be compared")
    known = wanted < NOT_FACE
    found, wanted = found[known], wanted[known]
    for labels in (found, wanted):
        strange = labels[(labels < 0) | (labels >= NUM_CLASSES)]
        if strange.size:
            raise ValueError(f"labels go from 0 to {NUM_CLASSES - 1}, {strange[0]} is none")
    counts = np.bincount(NUM_CLASSES * wanted + found, minlength=NUM_CLASSES**2)
    return counts.reshape(NUM_CLASSES, NUM_CLASSES)


def segmentation_metrics(matrix: np.ndarray) -> dict[str, float]:
    """Return all metrics of a confusion matrix (11, 11) whose rows are the truth.

    Returns:
        "pixel_accuracy"; "class_accuracy", the mean over classes; "miou"; "f1_NAME" of every class; "f1_mean" over
        :data:`PARTS`; "f1_helen" over :data:`HELEN_PARTS`. A class that neither has is left out.
    """
    matrix = matrix.astype(np.float64)
    right, truth, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    both = truth + predicted
    there, seen = truth > 0, both > 0
    found = {
        "pixel_accuracy": _ratio(right.sum(), matrix.sum()),
        "class_accuracy": _mean(right[there] / truth[there]),
        "miou": _mean(right[seen] / (both - right)[seen]),
    }
    f1 = {CLASSES[index]: float(2 * right[index] / both[index]) for index in np.flatnonzero(seen)}
    found |= {f"f1_{name}": value for name, value in f1.items()}
    found["f1_mean"] = _mean([f1[name] for name in PARTS if name in f1])
    parts = [[CLASSES.index(name) for name in names] for names in HELEN_PARTS]
    agreed = sum(matrix[np.ix_(part, part)].sum() for part in parts)
    found["f1_helen"] = _ratio(2 * agreed, sum(both[part].sum() for part in parts))
    return found


def _ratio(part: float, whole: float) -> float:
    return float(part / whole) if whole else float("nan")


def _mean(values: np.ndarray | list[float]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
