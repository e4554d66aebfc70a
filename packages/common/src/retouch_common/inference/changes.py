"""Changes of photos that are read in any order: for views of a part, and for edits of the change itself.

A command streams a photo from top to bottom, once. Where a person decides which parts of a change stay, it is computed
once and read as often as they look.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from retouch_common.faces.face import Face, face_crop
from retouch_common.faces.pasting import AlignedMask
from retouch_common.files import scratch_output
from retouch_common.inference.regions import FACE_MARGIN, ArrayRetoucher, Crop, crop_weights, face_in_crop
from retouch_common.photo.io import Photo
from retouch_common.photo.pasting import RandomLayer
from retouch_common.photo.sources import ArraySource

if TYPE_CHECKING:
    from retouch_common.parsing.skin import SkinSegmenter

IN_MEMORY_BYTES = 200_000_000  # of one change; larger ones lie in a temporary file
_ZEROS = 1 << 20  # bytes written at a time


class CropChange:
    """Change of a crop of a photo, with a soft border, within skin.

    Args:
        photo: Photo.
        crop: Rectangle (x, y, w, h) in pixels.
        difference: (h, w, 3) integers in levels of the photo.
        skin: Mask of the skin; None for no limit.
    """

    def __init__(self, photo: Photo, crop: Crop, difference: np.ndarray, skin: AlignedMask | None) -> None:
        self.x, self.y, self.width, self.height = crop
        self._across, self._down = crop_weights(photo, crop)
        self._difference, self._skin = difference, skin

    def read(self, x: int, y: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`retouch_common.photo.pasting.RandomLayer`."""
        left, top = x - self.x, y - self.y
        weights = self._down[top : top + height, None] * self._across[left : left + width]
        if self._skin is not None:
            weights *= self._skin.weights(left, top, width, height)
        return self._difference[top : top + height, left : left + width].astype(np.float32), weights


def crop_changes(
    photo: Photo, faces: Sequence[Face], retoucher: ArrayRetoucher, skin: SkinSegmenter | None
) -> list[CropChange]:
    """Retouch the crop around each face as :func:`retouch_common.inference.regions.retouched_rows` does.

    Raises:
        OSError: If a change needs a temporary file, and the disk is full.
        ValueError: If the photo is damaged, or a face lies outside.
    """
    changes = []
    for face in faces:
        crop = face_crop(face, photo.height, photo.width, FACE_MARGIN)
        source = ArraySource(photo.read(*crop))
        mask = None if skin is None else skin.locate(source, face_in_crop(face, *crop[:2]))
        wide = np.int16 if photo.dtype == np.uint8 else np.int32
        difference = _allocate(photo, source.image.shape, np.dtype(wide))
        np.subtract(retoucher(source.image, strength=1.0), source.image, out=difference, dtype=wide)
        changes.append(CropChange(photo, crop, difference, mask))
    return changes


def photo_change(photo: Photo, retoucher: ArrayRetoucher) -> CropChange:
    """Retouch the whole photo as :func:`retouch_common.inference.regions.retouched_rows` does.

    Raises:
        OSError: If the change needs a temporary file, and the disk is full.
        ValueError: If the photo is damaged.
    """
    wide = np.int16 if photo.dtype == np.uint8 else np.int32
    difference = _allocate(photo, (photo.height, photo.width, 3), np.dtype(wide))
    photo.load()  # read twice, a few rows apart
    y = 0
    for after in retoucher.stripes(photo, strength=1.0):
        before = photo.read(0, y, photo.width, len(after))
        np.subtract(after, before, out=difference[y : y + len(after)], dtype=wide)
        y += len(after)
    return CropChange(photo, (0, 0, photo.width, photo.height), difference, None)


def _allocate(photo: Photo, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return an array of a change of a photo, in memory or in a temporary file.

    Raises:
        OSError: If the disk is full; without space on the disk, writing to a mapped file would end the process.
    """
    num_bytes = int(np.prod(shape)) * dtype.itemsize
    if num_bytes <= IN_MEMORY_BYTES:
        return np.empty(shape, dtype)
    with scratch_output(photo.path), tempfile.TemporaryFile() as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, num_bytes)
        else:
            for at in range(0, num_bytes, _ZEROS):
                file.write(bytes(min(_ZEROS, num_bytes - at)))
            file.flush()
        return np.memmap(file, dtype, "r+", shape=shape)


class ReducedChange:
    """Change of a part of a photo that is reduced by a whole number, for views: means of cells, in 8-bit levels.

    Args:
        change: Change in the photo.
        factor: Number of pixels that become one, in each direction.
        photo: Photo.

    Raises:
        OSError: If it needs a temporary file, and the disk is full.
    """

    def __init__(self, change: RandomLayer, factor: int, photo: Photo) -> None:
        self.x, self.y = change.x // factor, change.y // factor
        self.width = -(-(change.x + change.width) // factor) - self.x
        self.height = -(-(change.y + change.height) // factor) - self.y
        before = change.x - self.x * factor
        after = self.width * factor - before - change.width
        self._change = _allocate(photo, (self.height, self.width, 3), np.dtype(np.float32))
        self._weights = _allocate(photo, (self.height, self.width), np.dtype(np.float32))
        levels = 255 / np.iinfo(photo.dtype).max
        for row in range(self.height):
            top = max(change.y, (self.y + row) * factor)
            count = min(change.y + change.height, (self.y + row + 1) * factor) - top
            difference, weights = change.read(change.x, top, change.width, count)
            change_row = np.pad((difference * weights[..., None]).sum(axis=0), ((before, after), (0, 0)))
            weight_row = np.pad(weights.sum(axis=0), (before, after))
            sums = weight_row.reshape(self.width, factor).sum(axis=1)
            means = change_row.reshape(self.width, factor, 3).sum(axis=1) / np.maximum(sums, 1e-6)[:, None]
            self._change[row], self._weights[row] = levels * means, sums / factor**2

    def read(self, x: int, y: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`retouch_common.photo.pasting.RandomLayer`."""
        part = slice(y - self.y, y - self.y + height), slice(x - self.x, x - self.x + width)
        return self._change[part], self._weights[part]
