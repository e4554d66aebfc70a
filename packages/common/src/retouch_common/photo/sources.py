"""Sources of an image's rows: a file, a part of one, or an array."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Protocol

import numpy as np

BLOCK_ROWS = 256
BLOCK_PIXELS = 500_000

ChangedRows = Generator[np.ndarray, None, bool]
"""Consecutive blocks of an edited image's rows, (n, W, 3); its return value says whether any pixel was changed."""


def blocks(height: int, width: int) -> Iterator[tuple[int, int]]:
    """Yield the first and one past the last row of blocks of bounded size."""
    step = min(BLOCK_ROWS, max(16, BLOCK_PIXELS // width))
    for top in range(0, height, step):
        yield top, min(top + step, height)


class RowSource(Protocol):
    """Rows of an image of uint8 or uint16, requested from top to bottom."""

    height: int
    width: int
    dtype: np.dtype

    def read_rows(self, y0: int, y1: int) -> np.ndarray:
        """Return a writable copy of rows y0 to y1 (exclusive), (y1 - y0, W, channels)."""


class ArraySource:
    """An image in memory, (H, W, 3) RGB, uint8 or uint16; not modified.

    Raises:
        ValueError: If shape or dtype differ.
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
        """Return a copy of rows y0 to y1 (exclusive)."""
        return self.image[y0:y1].copy()
