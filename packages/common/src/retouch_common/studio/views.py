"""Previews of open photos: a reduced proxy, and crops in the resolution that the screen can show.

The proxy is reduced by an integer factor to at most ``PROXY_SIDE`` pixels. Where the screen shows more, crops are
reduced by a power of two that leaves at least the screen's resolution, in bounded memory.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from retouch_common.faces.yunet import DETECTION_SIDE
from retouch_common.inference.companions import write_change
from retouch_common.inference.names import CHANGE, sibling_path
from retouch_common.photo.io import Photo
from retouch_common.photo.pasting import RandomLayer, paste_part
from retouch_common.photo.pixels import image_from_array
from retouch_common.studio.files import DECODE_LOCK, StoredFile, describe_photo

PROXY_SIDE = 2048
STRIP_PIXELS = 4_000_000  # that are reduced or changed at once
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
    _decoded: threading.Event = field(default_factory=threading.Event, init=False, repr=False)  # in full

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
            in_full = photo.reduction(DETECTION_SIDE) == 1
            if in_full:
                photo.load()
            overview = photo.thumbnail(DETECTION_SIDE)
            factor = -(-max(photo.width, photo.height) // PROXY_SIDE)
            proxy = _resize(overview, -(-photo.width // factor), -(-photo.height // factor))
        preview = cls(file, photo, overview, proxy, factor)
        if in_full:
            preview._decoded.set()
        return preview

    def load(self) -> None:
        """Decode the photo in full at the first call, while no other is decoded; no lock of a session may be held."""
        if not self._decoded.is_set():
            with DECODE_LOCK, self.lock:
                self.photo.check_unchanged()
                self.photo.load()
            self._decoded.set()

    def crop(self, window: Window, size: tuple[int, int]) -> tuple[np.ndarray, int]:
        """Return a crop of the photo, reduced no further than a view of it needs.

        Args:
            window: (x, y, w, h) in pixels of the photo.
            size: Largest width and height of the view in pixels.

        Returns:
            The crop (h, w, 3), uint8 if it is reduced, and the factor by which it is reduced. Its pixels are means of
            cells of the photo, from the cell that holds the window's first pixel on.

        Raises:
            ValueError: If the window is not inside the photo.
        """
        x, y, w, h = window
        right, bottom = x + w, y + h
        if not (0 <= x < right <= self.photo.width and 0 <= y < bottom <= self.photo.height):
            raise ValueError(f"the part {x},{y},{w},{h} is not inside the photo")
        factor, reduction = self.factor, max(w / size[0], h / size[1])
        if factor == 1 and self.photo.dtype == np.uint8:
            return self.proxy[y:bottom, x:right].copy(), 1
        if 1 < factor <= reduction:
            return self.proxy[y // factor : -(-bottom // factor), x // factor : -(-right // factor)].copy(), factor
        factor = 1
        while 2 * factor <= reduction:
            factor *= 2
        self.load()
        with self.lock:
            return (self.photo.read(x, y, w, h) if factor == 1 else self._read_reduced(window, factor)), factor

    def view(self, window: Window, size: tuple[int, int]) -> bytes:
        """Return a part of the photo as JPEG; arguments and errors as of :meth:`crop`."""
        return encode_view(self.crop(window, size)[0], size)

    def _read_reduced(self, window: Window, factor: int) -> np.ndarray:
        """Return the means of cells of ``factor`` x ``factor`` pixels that a window touches, (h, w, 3) uint8."""
        x, y, w, h = window
        left, right = x - x % factor, min(self.photo.width, -(-(x + w) // factor) * factor)
        top, bottom = y - y % factor, min(self.photo.height, -(-(y + h) // factor) * factor)
        rows = factor * max(1, STRIP_PIXELS // (factor * (right - left)))
        strips = []
        for first in range(top, bottom, rows):
            strip = _eight_bits(self.photo.read(left, first, right - left, min(rows, bottom - first)))
            strips.append(image_from_array(strip, "srgb").shrink(factor, factor, ceil=True).numpy())
        return np.concatenate(strips)

    def describe(self) -> dict[str, Any]:
        """Return the description of the photo for the page."""
        return {**describe_photo(self.photo, self.file), "factor": self.factor}


def paste_layers(pixels: np.ndarray, window: Window, factor: int, layers: Sequence[RandomLayer]) -> None:
    """Paste layers of the reduced photo over what :meth:`PhotoPreview.crop` has returned for a window; in place."""
    x, y = window[0] // factor, window[1] // factor
    rows = max(1, STRIP_PIXELS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        paste_part(pixels[top : top + rows], x, y + top, layers)


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels


def encode_view(pixels: np.ndarray, size: tuple[int, int]) -> bytes:
    """Encode (h, w, 3) uint8 or uint16 as JPEG, reduced to at most this width and height."""
    pixels = _eight_bits(pixels)
    width, height = min(size[0], pixels.shape[1]), min(size[1], pixels.shape[0])
    image = image_from_array(_resize(pixels, width, height), "srgb")
    return image.jpegsave_buffer(Q=QUALITY, subsample_mode="off")


def _resize(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Reduce (h, w, 3) uint8 to this width and height."""
    if pixels.shape[:2] == (height, width):
        return pixels
    image = image_from_array(np.ascontiguousarray(pixels), "srgb")
    return image.resize(width / image.width, vscale=height / image.height).numpy()


def parse_view(values: Sequence[Any]) -> tuple[Window, tuple[int, int]]:
    """Parse the window (x, y, w, h) and the size (width, height) of a view.

    Raises:
        ValueError: If they are not six integers, or the size is too large.
    """
    try:
        x, y, w, h, width, height = (int(value) for value in values)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("a view needs six integers: x, y, w, h, width, height") from error
    if not (1 <= width <= MAX_VIEW_SIDE and 1 <= height <= MAX_VIEW_SIDE):
        raise ValueError(f"a view has at most {MAX_VIEW_SIDE} pixels a side")
    return (x, y, w, h), (width, height)


def export_change(
    photo: Photo, file: StoredFile, folder: Path, changed_rows: Callable[[Photo], Iterator[np.ndarray]]
) -> tuple[Path, str]:
    """Write the change of a photo alone to ``folder``, as of :func:`write_change`; return file and name.

    Raises:
        OSError: The file cannot be written.
        ValueError: The photo's file has changed since it was opened.
    """
    target = folder / f"{secrets.token_hex(8)}.tif"
    with DECODE_LOCK:
        write_change(photo.reopen(), changed_rows(photo.reopen()), target)
    return target, sibling_path(Path(file.basename), CHANGE).name
