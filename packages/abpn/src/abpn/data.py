"""Pairs of photographs for training and evaluation."""

from typing import Any

import torch
from retouch_common.data import pairs
from retouch_common.data.face_crops import CropConfig
from retouch_common.data.pair_files import Split
from retouch_common.data.pairs import Fit
from torch.utils.data import Dataset

FACE_WIDTHS = (450.0, 950.0)
"""Of faces:DIR, pixels in a crop of 512; at l = 1 as wide in the thumbnail as faces that `abpn-retouch` crops."""


def open_pairs(
    spec: str, *, size: int, split: Split, seed: int = 0, fit: Fit = "whole"
) -> Dataset[dict[str, torch.Tensor]]:
    """Open pairs as :func:`retouch_common.data.pairs.open_pairs`, ``faces:DIR`` with faces as wide as in photographs.

    Raises:
        ValueError: The folder or the split is wrong.
    """
    options: dict[str, Any] = {}
    if spec.startswith("faces:"):
        options["crop"] = CropConfig(min_face_width=FACE_WIDTHS[0], max_face_width=FACE_WIDTHS[1])
    return pairs.open_pairs(spec, size=size, split=split, seed=seed, fit=fit, **options)
