"""Previews of open photos: a reduced proxy, and crops in full resolution where the screen can show them.

The proxy is reduced by an integer factor to at most ``PROXY_SIDE`` pixels.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retouch_common.faces.yunet import DETECTION_SIDE
from retouch_common.photo.io import Photo
from retouch_common.photo.pixels import image_from_array
from retouch_common.studio.files import DECODE_LOCK, StoredFile

PROXY_SIDE = 2048
MAX_FULL_PIXELS = 6_000_000  # of a crop in full resolution
MAX_VIEW_SIDE = 4096  # largest side of a view
QUALITY = 97  # of views, JPEG

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class PhotoPreview:
    """A photo with a reduced proxy for display.

    Attributes:
        file: Its file.
        photo: The photo, opened for random access; ``lock`` is held while it is read.
        overview: The photo reduced for face detection, (h, w, 3) uint8.
        proxy: The photo reduced by ``factor``, (h, w, 3) uint8.
        factor: Reduction factor of the proxy.
    """

    file: StoredFile
    photo: Photo
    overview: np.ndarray
    proxy: np.ndarray
    factor: int
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def open(cls, file: StoredFile) -> PhotoPreview:
        """Open a photo and reduce it.

        The file is decoded once: a large JPEG reduced, and again only when its pixels are read; others in full.

        Raises:
            OSError: It cannot be read.
            ValueError: It is not a photo, or too large.
        """
        with DECODE_LOCK:
            photo = Photo.open(file.path)
            if photo.reduction(DETECTION_SIDE) == 1:
                photo.load()
            overview = photo.thumbnail(DETECTION_SIDE)
            factor = -(-max(photo.width, photo.height) // PROXY_SIDE)
            proxy = _resize(overview, -(-photo.width // factor), -(-photo.height // factor))
            return cls(file, photo, overview, proxy, factor)

    @property
    def max_level(self) -> int:
        """Largest value of a pixel: 255 or 65535."""
        return int(np.iinfo(self.photo.dtype).max)

    def crop(self, window: Window, width: int) -> tuple[np.ndarray, bool]:
        """Return a crop of the photo, or of its proxy if that suffices for a view ``width`` pixels wide.

        Args:
            window: (x, y, w, h) in pixels of the photo.
            width: Width of the view in pixels.

        Returns:
            The crop (h, w, 3), and whether it is in full resolution.

        Raises:
            ValueError: If the window is not inside the photo.
        """
        x, y, w, h = window
        right, bottom = x + w, y + h
        if not (0 <= x < right <= self.photo.width and 0 <= y < bottom <= self.photo.height):
            raise ValueError(f"the part {x},{y},{w},{h} is not inside the photo")
        factor = self.factor
        if factor == 1 and self.photo.dtype == np.uint8:
            return self.proxy[y:bottom, x:right].copy(), True
        if factor > 1 and (w * h > MAX_FULL_PIXELS or w >= factor * width):
            return self.proxy[y // factor : -(-bottom // factor), x // factor : -(-right // factor)].copy(), False
        with self.lock:
            return self.photo.read(x, y, w, h), True

    def describe(self) -> dict[str, Any]:
        """Return the description of the photo for the page."""
        return {
            "file": self.file.id,
            "name": self.file.basename,
            "width": self.photo.width,
            "height": self.photo.height,
            "format": self.photo.format.suffixes[0][1:],
            "bits": 8 * self.photo.dtype.itemsize,
            "factor": self.factor,
        }


def encode_view(pixels: np.ndarray, width: int, height: int) -> bytes:
    """Encode (h, w, 3) uint8 or uint16 as JPEG, reduced to at most this width and height."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    image = image_from_array(_resize(pixels, min(width, pixels.shape[1]), min(height, pixels.shape[0])), "srgb")
    data: bytes = image.jpegsave_buffer(Q=QUALITY, subsample_mode="off")
    return data


def _resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Reduce (h, w, 3) uint8 to this width and height."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = image_from_array(np.ascontiguousarray(pixels), "srgb")
    reduced: np.ndarray = image.resize(width / image.width, vscale=height / image.height).numpy()
    return reduced


def parse_view(values: Sequence[Any]) -> tuple[Window, tuple[int, int]]:
    """Parse the window (x, y, w, h) and the size (width, height) of a view.

    Raises:
        ValueError: If they are not six integers, or the size is too large.
    """
    try:
        x, y, w, h, width, height = (int(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("a view is four whole numbers of a part and two of a size") from error
    if not (1 <= width <= MAX_VIEW_SIDE and 1 <= height <= MAX_VIEW_SIDE):
        raise ValueError(f"a view has at most {MAX_VIEW_SIDE} pixels a side")
    return (x, y, w, h), (width, height)
