"""Where rows of a picture come from: a file, a part of one, or an array."""

from __future__ import annotations

from typing import Protocol

import numpy as np


class RowSource(Protocol):
    """Rows of a picture, asked for from top to bottom.

    Attributes:
        height: Height in pixels.
        width: Width in pixels.
        dtype: uint8 or uint16.
    """

    height: int
    width: int
    dtype: np.dtype

    def read_rows(self, y0: int, y1: int) -> np.ndarray:
        """Rows y0 to y1, (y1 - y0, W, channels), to be written to as one likes."""


class ArraySource:
    """A picture in memory.

    Args:
        image: (H, W, 3) RGB, uint8 or uint16; it is never changed.

    Raises:
        ValueError: Another shape or type.
    """

    def __init__(self, image: np.ndarray) -> None:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype not in (np.uint8, np.uint16) or not image.size:
            raise ValueError(
                f"a photograph is an (H, W, 3) array of uint8 or uint16, not {image.shape} of {image.dtype}"
            )
        self.image = image
        self.height, self.width = image.shape[:2]
        self.dtype = image.dtype

    def read_rows(self, y0: int, y1: int) -> np.ndarray:
        """A copy of rows y0 to y1."""
        return self.image[y0:y1].copy()
