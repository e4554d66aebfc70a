"""Pasting retouched parts back as feathered differences, from top to bottom.

    out = photo + keep * sum_i w_i d_i / max(1, sum_i w_i)

where d_i is the difference of part i and w_i its weight, which falls to 0 at its border; overlapping parts share their
pixels. keep is 0 where the photo is protected. Pixels without a difference stay bit-identical.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from retouch_common.photo.sources import ChangedRows, RowSource, blocks


class Layer(Protocol):
    """A retouched part of a photo: its rectangle in pixels, and its rows."""

    x: int
    y: int
    width: int
    height: int

    def take(self, before: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Return d and w of the next n rows; each is requested once, from top to bottom.

        ``before`` are the photo's rows within the part, (n, width, C) integers, from its row ``first`` on; d is (n,
        width, C) float32 in the photo's levels, w (n, width) float32 in [0, 1].
        """


class RandomLayer(Protocol):
    """A retouched part of a photo that is read in any order."""

    x: int
    y: int
    width: int
    height: int

    def read(self, x: int, y: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """Return d and w as :meth:`Layer.take`, of a part given in pixels of the photo."""


def pasted_rows(photo: RowSource, layers: Sequence[Layer], *, protect: RowSource | None = None) -> ChangedRows:
    """Paste layers over a photo; yield consecutive blocks of rows, (n, width, 3) of its dtype.

    Where ``protect``, an image of the photo's size, is white, the photo stays unchanged; where it is grey, in part.

    Raises:
        ValueError: If ``protect`` has another size.
    """
    if protect is not None and (protect.height, protect.width) != (photo.height, photo.width):
        raise ValueError(
            f"the protection mask has {protect.width}x{protect.height} pixels "
            f"and the photo has {photo.width}x{photo.height}"
        )
    changed = False
    for top, bottom in blocks(photo.height, photo.width):
        rows = photo.read_rows(top, bottom)
        crossing = [layer for layer in layers if layer.y < bottom and layer.y + layer.height > top]
        if crossing:
            keep = None if protect is None else _keep(protect, top, bottom)
            changed |= _blend(rows, crossing, top, keep)
        yield rows
    return changed


def map_rows(height: int, width: int, layers: Sequence[Layer]) -> Iterator[np.ndarray]:
    """Draw maps of aligned faces, layers (S, S, 1) in [0, 255], at their places in a photo.

    Yield consecutive blocks of rows, (n, width, 1) uint8: the maximum of the maps, 0 outside the faces.
    """
    for top, bottom in blocks(height, width):
        rows = np.zeros((bottom - top, width, 1), np.uint8)
        for layer in layers:
            first, last = max(top, layer.y), min(bottom, layer.y + layer.height)
            if first < last:
                part = rows[first - top : last - top, layer.x : layer.x + layer.width]
                values, weights = layer.take(part, first)
                inside = np.where(weights[..., None] > 0, values, 0)
                np.maximum(part, np.rint(inside).clip(0, 255).astype(np.uint8), out=part)
        yield rows


def _keep(protect: RowSource, top: int, bottom: int) -> np.ndarray:
    """Return (n, width) float32: 0 where the photo is protected, 1 elsewhere."""
    return 1 - protect.read_rows(top, bottom).max(axis=2).astype(np.float32) / np.iinfo(protect.dtype).max


def _blend(rows: np.ndarray, layers: Sequence[Layer], top: int, keep: np.ndarray | None) -> bool:
    """Paste the layers that cross ``rows``, from row ``top`` of the photo, in place; return as :func:`_add`."""
    left = min(layer.x for layer in layers)
    right = max(layer.x + layer.width for layer in layers)
    part = rows[:, left:right]
    parts = []
    for layer in layers:
        first = max(top, layer.y)
        last = min(top + rows.shape[0], layer.y + layer.height)
        inside = slice(first - top, last - top), slice(layer.x - left, layer.x - left + layer.width)
        parts.append((inside, *layer.take(part[inside], first)))
    return _add(part, parts, None if keep is None else keep[:, left:right, None])


def paste_part(part: np.ndarray, x: int, y: int, layers: Sequence[RandomLayer]) -> None:
    """Paste layers over a part of a photo, (h, w, 3) from pixel (x, y) on, as :func:`pasted_rows` does; in place."""
    height, width = part.shape[:2]
    parts = []
    for layer in layers:
        left, right = max(x, layer.x), min(x + width, layer.x + layer.width)
        top, bottom = max(y, layer.y), min(y + height, layer.y + layer.height)
        if left < right and top < bottom:
            inside = slice(top - y, bottom - y), slice(left - x, right - x)
            parts.append((inside, *layer.read(left, top, right - left, bottom - top)))
    _add(part, parts, None)


def _add(
    part: np.ndarray,
    changes: Sequence[tuple[tuple[slice, slice], np.ndarray, np.ndarray]],
    keep: np.ndarray | None,
) -> bool:
    """Add changes d with weights w, given by their place in ``part``: sum(w d) / max(sum(w), 1).

    Modified in place; return whether any pixel is another then.
    """
    change = np.zeros(part.shape, np.float32)
    total = np.zeros(part.shape[:2], np.float32)
    for inside, difference, weight in changes:
        change[inside] += weight[..., None] * difference
        total[inside] += weight
    change /= np.maximum(total, 1)[..., None]
    if keep is not None:
        change *= keep
    limit = np.iinfo(part.dtype).max
    result = part + np.rint(change).astype(np.int32)
    np.clip(result, 0, limit, out=result)
    changed = not np.array_equal(result, part)
    part[:] = result
    return changed
