"""Conversions of images: between the ranges [0, 1] and [-1, 1] and 8-bit levels, and from arrays to tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T", "Tensor", np.ndarray)


def to_signed(image: T) -> T:
    """Convert from [0, 1] to [-1, 1]."""
    return 2 * image - 1


def to_unit(image: T) -> T:
    """Convert from [-1, 1] to [0, 1]."""
    return (image + 1) / 2


def to_levels(image: np.ndarray) -> np.ndarray:
    """Clamp [0, 1] and round to 8-bit levels, uint8."""
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8)


def from_levels(levels: np.ndarray) -> np.ndarray:
    """Convert 8-bit levels to [0, 1], float32."""
    return levels.astype(np.float32) / np.float32(255)


def to_tensor(image: np.ndarray) -> Tensor:
    """Convert an image (H, W, C) to a tensor (C, H, W), float32."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32))
