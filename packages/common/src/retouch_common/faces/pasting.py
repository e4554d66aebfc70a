"""Masks and changes of aligned faces, mapped back to their photo."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from retouch_common.faces.alignment import FaceSquare, sampled
from retouch_common.photo.pasting import pasted_rows
from retouch_common.photo.sources import ChangedRows, RowSource

LEAST_SKIN = 1e-3  # smallest value of the matte by which a change is divided


@dataclass(frozen=True)
class AlignedMask:
    """A mask of an aligned face: its square, and its values (S, S) float32 in [0, 1]."""

    square: FaceSquare
    values: np.ndarray

    def weights(self, left: int, top: int, width: int, height: int) -> np.ndarray:
        """Interpolate the mask in a part of the photo: (height, width) float32, exactly 0 outside the square."""
        corners_x, corners_y = np.array([left, left + width, left]), np.array([top, top, top + height])
        rows = [(b - a, c - a, b + c - 1) for a, b, c in self.square.from_photo(corners_x, corners_y)]
        grid = F.affine_grid(torch.tensor(rows, dtype=torch.float32)[None], [1, 1, height, width], align_corners=False)
        values = torch.from_numpy(self.values)[None, None]
        within = F.grid_sample(values, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
        return within[0, 0].numpy()


class AlignedLayer:
    """A change (S, S, C) of an aligned face, float32 in levels of the photo, mapped back to the photo.

    A change larger than the face in the photo is downsampled with antialiasing, a smaller one is interpolated
    bicubically: the photo keeps its detail, only the difference is smooth. A face without a change has no weight: it
    leaves pixels to others.

    Args:
        square: The face's square.
        change: The change.
        height: Height of the photo in pixels.
        width: Width of the photo in pixels.
        skin: Matte to which the change is confined, (S, S) in [0, 1]; overlapping faces share the pixels of their skin.
            None for the whole square.
    """

    def __init__(
        self, square: FaceSquare, change: np.ndarray, height: int, width: int, skin: np.ndarray | None = None
    ) -> None:
        self.x, self.y, self.width, self.height = square.bounds(height, width)
        self._square, self._confined, self._changes = square, skin is not None, bool(change.any())
        self._channels = change.shape[2]
        if skin is not None:
            change = np.concatenate([change, skin[..., None]], axis=2)
        self._change = torch.from_numpy(np.ascontiguousarray(change, np.float32)).permute(2, 0, 1)[None]
        side = max(1, math.ceil(square.side))
        if side < change.shape[0]:
            self._change = F.interpolate(self._change, (side, side), mode="bilinear", antialias=True)

    def take(self, before: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`retouch_common.photo.pasting.Layer`."""
        return self.read(self.x, first, self.width, len(before))

    def read(self, x: int, y: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`retouch_common.photo.pasting.RandomLayer`."""
        if not self._changes:
            return np.zeros((height, width, self._channels), np.float32), np.zeros((height, width), np.float32)
        columns = np.arange(x, x + width)[None, :] + 0.5
        rows = np.arange(y, y + height)[:, None] + 0.5
        u, v = self._square.from_photo(columns, rows)
        change = sampled(self._change, np.stack([u, v], axis=-1))[0].permute(1, 2, 0).numpy()
        weights = self._square.weights(u, v)
        if not self._confined:
            return change, weights
        skin = change[..., -1]
        return change[..., :-1] / np.maximum(skin, LEAST_SKIN)[..., None], weights * skin.clip(0, 1)


def changed_rows(
    photo: RowSource,
    changes: Iterable[tuple[FaceSquare, np.ndarray, np.ndarray | None]],
    *,
    strength: float = 1.0,
    protect: RowSource | None = None,
) -> ChangedRows:
    """Paste changes of aligned faces, (S, S, 3) float32 in [-1, 1], times ``strength`` into their photo, in one pass.

    Each comes with its square and the matte of :class:`AlignedLayer`.

    Yield consecutive blocks of rows, (n, W, 3) of the photo's dtype. Where ``protect``, an image of the photo's size,
    is white, nothing changes.

    Raises:
        ValueError: If the strength is outside [0, 1], or ``protect`` has another size.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must lie between 0 and 1, not {strength}")
    levels = np.float32(strength * np.iinfo(photo.dtype).max)
    layers = [
        AlignedLayer(square, change * levels, photo.height, photo.width, skin) for square, change, skin in changes
    ]
    return (yield from pasted_rows(photo, layers, protect=protect))
