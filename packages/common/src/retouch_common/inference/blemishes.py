"""Separation of a change into blemishes, which can be shown and kept one by one.

A blemish is a connected part of the change, on a grid of cells of one or more pixels that depends on the size of the
crop only. Cells around a blemish, where the change fades, belong to the nearest one; what is left is the rest of the
change, such as a more even skin tone.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy import ndimage

from retouch_common.faces.face import Face
from retouch_common.photo.pasting import RandomLayer

Size = Literal["small", "medium", "large", "rest"]
SIZES: tuple[Size, ...] = get_args(Size)
REST = 0  # label of the rest

VISIBLE = 8 / 255  # the least change of a blemish, at its strongest colour
MAX_CELLS = 1024  # on the longer side of the grid
# As shares of the face's longer side, some 15 cm.
_MEDIUM, _LARGE = 1 / 30, 1 / 10  # least diameters of these sizes: 5 mm, 15 mm
_MIN_DIAMETER = 1 / 250  # diameter of what is seen as noise
_MARGIN = 1 / 40  # around a blemish, belongs to it
_LEAST_MARGIN = 3  # cells; weights are blurred by one
_BLOCK_ROWS = 256


@dataclass(frozen=True)
class Blemish:
    """A blemish.

    Attributes:
        label: Its label, from 1.
        at: The pixel (x, y) of the photo in the cell that changes most.
        box: (x, y, w, h) in pixels of the photo.
        size: Kind of size, relative to the face.
    """

    label: int
    at: tuple[int, int]
    box: tuple[int, int, int, int]
    size: Size


class Blemishes:
    """The blemishes of a face, or of a whole photo.

    Args:
        change: Change of the face.
        face: Face, for its size.
        limit: Largest level of the photo.

    Attributes:
        all: The blemishes, by label.
    """

    def __init__(self, change: RandomLayer, face: Face, limit: int) -> None:
        self._change = change
        self._cell = -(-max(change.width, change.height) // MAX_CELLS)
        strength = self._strongest(limit)
        found, _ = ndimage.label(strength > VISIBLE, np.ones((3, 3)))
        least = math.pi / 4 * (_MIN_DIAMETER * face.size / self._cell) ** 2
        counts = np.bincount(found.ravel())
        kept = 1 + np.flatnonzero(counts[1:] >= least)
        renumbered = np.zeros(len(counts), np.int32)
        renumbered[kept] = np.arange(1, len(kept) + 1)
        seeds = renumbered[found]
        parts = ndimage.find_objects(seeds)
        self.all = [self._blemish(label, part, seeds, strength, face) for label, part in enumerate(parts, 1)]
        self._labels = seeds
        if len(kept):
            distance, (rows, columns) = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
            margin = max(_MARGIN * face.size / self._cell, _LEAST_MARGIN)
            self._labels = np.where(distance <= margin, seeds[rows, columns], 0)

    def _strongest(self, limit: int) -> np.ndarray:
        """Return the largest change of each cell as a share of ``limit``."""
        change, cell = self._change, self._cell
        grid = []
        step = cell * max(1, _BLOCK_ROWS // cell)
        for top in range(0, change.height, step):
            rows = min(step, change.height - top)
            difference, weights = change.read(change.x, change.y + top, change.width, rows)
            values = np.abs(difference).max(axis=2) * weights
            values = np.pad(values, ((0, -rows % cell), (0, -change.width % cell)))
            grid.append(values.reshape(values.shape[0] // cell, cell, -1, cell).max(axis=(1, 3)))
        return np.concatenate(grid) / limit

    def _blemish(
        self, label: int, part: tuple[slice, slice], seeds: np.ndarray, strength: np.ndarray, face: Face
    ) -> Blemish:
        rows, columns = part
        within = np.where(seeds[part] == label, strength[part], 0)
        row, column = np.unravel_index(within.argmax(), within.shape)
        cell, change = self._cell, self._change
        at = (
            change.x + min(int(columns.start + column) * cell + cell // 2, change.width - 1),
            change.y + min(int(rows.start + row) * cell + cell // 2, change.height - 1),
        )
        box = (
            change.x + columns.start * cell,
            change.y + rows.start * cell,
            (columns.stop - columns.start) * cell,
            (rows.stop - rows.start) * cell,
        )
        diameter = 2 * cell * math.sqrt(np.count_nonzero(within) / math.pi) / face.size
        size: Size = "small" if diameter < _MEDIUM else "medium" if diameter < _LARGE else "large"
        return Blemish(label, at, box, size)

    def label_at(self, x: int, y: int) -> int:
        """Return the label of the blemish at a pixel of the photo; ``REST`` where there is none."""
        column, row = (x - self._change.x) // self._cell, (y - self._change.y) // self._cell
        if 0 <= row < self._labels.shape[0] and 0 <= column < self._labels.shape[1]:
            return int(self._labels[row, column])
        return REST

    def kept_weights(self, off: Collection[int]) -> KeptWeights | None:
        """Return how much of the change stays where the blemishes ``off``, by label, are brought back; None for all."""
        if not off:
            return None
        brought_back = np.isin(self._labels, list(off)).astype(np.float32)
        grid = 1 - ndimage.gaussian_filter(brought_back, 1.0)
        return KeptWeights(grid, self._change.x, self._change.y, self._cell)


class KeptWeights:
    """Weights on a grid, (rows, columns) float32 in [0, 1], interpolated between the centres of its cells.

    Args:
        grid: Weights.
        x: Left end of the grid in pixels.
        y: Its upper end.
        cell: Side of a cell.
    """

    def __init__(self, grid: np.ndarray, x: float, y: float, cell: float) -> None:
        self._grid, self._x, self._y, self._cell = grid, x, y, cell

    def reduced(self, factor: int) -> KeptWeights:
        """Return the weights for a photo reduced by a factor."""
        return KeptWeights(self._grid, self._x / factor, self._y / factor, self._cell / factor)

    def read(self, x: int, y: int, width: int, height: int) -> np.ndarray:
        """Return the weights of a part, given in pixels of the photo: (height, width)."""
        rows, below, down = self._between(y - self._y, height, self._grid.shape[0])
        columns, beside, across = self._between(x - self._x, width, self._grid.shape[1])
        lines = self._grid[rows] * (1 - down[:, None]) + self._grid[below] * down[:, None]
        return lines[:, columns] * (1 - across) + lines[:, beside] * across

    def _between(self, start: float, count: int, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the cells before and after pixels along an axis, and the pixels' positions between their centres."""
        position = ((start + np.arange(count) + 0.5) / self._cell - 0.5).clip(0, cells - 1)
        before = np.floor(position).astype(int)
        return before, np.minimum(before + 1, cells - 1), (position - before).astype(np.float32)
