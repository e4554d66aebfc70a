"""Views of open photos: reduced, or where the screen has pixels for it in full resolution.

A photo is reduced by a whole number to at most ``PROXY_SIDE`` pixels, its proxy.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retouch_common.photo.io import Photo
from retouch_common.photo.pixels import image_from_array
from retouch_common.studio.files import DECODING, StoredFile

PROXY_SIDE = 2048
FULL_PIXELS = 6_000_000  # of a part that is shown in full resolution
VIEW_SIDE = 4096  # largest side of a view
QUALITY = 97  # of views, JPEG

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class ShownPhoto:
    """A photo that a page shows.

    Attributes:
        file: Its file.
        photo: The photo, for parts in any order; ``reading`` is held meanwhile.
        proxy: The photo reduced by ``factor``, (h, w, 3) uint8.
        factor: Number of pixels that are one of the proxy, in each direction.
    """

    file: StoredFile
    photo: Photo
    proxy: np.ndarray
    factor: int
    reading: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def open(cls, file: StoredFile) -> ShownPhoto:
        """Open a photo and reduce it.

        Raises:
            OSError: It cannot be read.
            ValueError: It is not a photo, or too large.
        """
        with DECODING:
            photo = Photo.open(file.path)
            longest = max(photo.width, photo.height)
            factor = -(-longest // PROXY_SIDE)
            return cls(file, photo, photo.thumbnail(-(-longest // factor)), factor)

    @property
    def limit(self) -> int:
        """Largest level of the photo."""
        return int(np.iinfo(self.photo.dtype).max)

    def part(self, window: Window, width: int) -> tuple[np.ndarray, bool]:
        """Return a part of the photo, or of its proxy if that has the pixels for a view of this width.

        Also return whether it is the photo's. The part (x, y, w, h) is given in pixels of the photo.

        Raises:
            ValueError: If the part is not inside the photo.
        """
        x, y, w, h = window
        right, bottom = x + w, y + h
        if not (0 <= x < right <= self.photo.width and 0 <= y < bottom <= self.photo.height):
            raise ValueError(f"the part {x},{y},{w},{h} is not inside the photo")
        factor = self.factor
        if factor == 1 and self.photo.dtype == np.uint8:
            return self.proxy[y:bottom, x:right].copy(), True
        if factor > 1 and (w * h > FULL_PIXELS or w >= factor * width):
            return self.proxy[y // factor : -(-bottom // factor), x // factor : -(-right // factor)].copy(), False
        with self.reading:
            return self.photo.read(x, y, w, h), True

    def describe(self) -> dict[str, Any]:
        """Return what a page shows of it."""
        return {
            "file": self.file.id,
            "name": self.file.plain_name,
            "width": self.photo.width,
            "height": self.photo.height,
            "bits": 8 * self.photo.dtype.itemsize,
            "factor": self.factor,
        }


def encode_view(pixels: np.ndarray, width: int, height: int) -> bytes:
    """Encode (h, w, 3) uint8 or uint16 as JPEG, reduced to these sides where it is larger."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    image = image_from_array(np.ascontiguousarray(pixels), "srgb")
    if width < image.width or height < image.height:
        image = image.resize(width / image.width, vscale=height / image.height)
    data: bytes = image.jpegsave_buffer(Q=QUALITY, subsample_mode="off")
    return data


def parse_view(values: Sequence[Any]) -> tuple[Window, tuple[int, int]]:
    """Parse the part (x, y, w, h) of a view and its size.

    Raises:
        ValueError: If they are not six whole numbers, or the size is too large.
    """
    try:
        x, y, w, h, width, height = (int(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("a view is four whole numbers of a part and two of a size") from error
    if not (1 <= width <= VIEW_SIDE and 1 <= height <= VIEW_SIDE):
        raise ValueError(f"a view has at most {VIEW_SIDE} pixels a side")
    return (x, y, w, h), (width, height)
