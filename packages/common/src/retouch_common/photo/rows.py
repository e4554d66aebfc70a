"""Sequential decoding of a photo's rows in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyvips

from retouch_common.photo.decoding import Decoding

_FEW_ROWS = 64


class RowReader:
    """Reader of rows that keeps only those of the last request; ``decode`` starts a decoding."""

    def __init__(self, decode: Callable[[], Decoding]) -> None:
        self._decode = decode
        self._region: pyvips.Region | None = None
        self._decoding: Decoding | None = None
        self._top = 0
        self._window: np.ndarray | None = None

    def fetch(self, y0: int, y1: int) -> np.ndarray:
        """Decode rows y0 to y1 (exclusive) as (y1 - y0, width, bands), read-only.

        A request above the previous one restarts the decoding.

        Raises:
            DamageError: If the last row was decoded and the file turns out to be damaged.
            pyvips.Error: If the file is damaged further up.
        """
        window, self._window = self._window, None  # after damage the next request starts again
        if window is None or y0 < self._top:
            self._region = None
            self._decoding = self._decode()
            self._region = pyvips.Region.new(self._decoding.image)
            self._top, window = 0, None
        bottom = self._top + (0 if window is None else window.shape[0])
        parts = []
        if window is not None and y0 < bottom:
            parts.append(window[y0 - self._top : min(y1, bottom) - self._top])
        if y1 > bottom:
            parts.append(self._next(max(y0, bottom), y1))
        rows = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self._decoding is not None and y1 == self._decoding.image.height:
            decoding, self._decoding, self._region = self._decoding, None, None
            decoding.finish()
        if y1 >= bottom:
            self._top, window = y0, rows
        self._window = window
        return rows

    def _next(self, y0: int, y1: int) -> np.ndarray:
        """Decode rows below the last request, few at a time: libvips' buffers grow with the request."""
        assert self._decoding is not None and self._region is not None
        image = self._decoding.image
        width, bands = image.width, image.bands
        rows = np.empty((y1 - y0, width, bands), np.uint8 if image.format == "uchar" else np.uint16)
        for top in range(y0, y1, _FEW_ROWS):
            bottom = min(top + _FEW_ROWS, y1)
            data = self._region.fetch(0, top, width, bottom - top)
            rows[top - y0 : bottom - y0] = np.frombuffer(data, rows.dtype).reshape(-1, width, bands)
        return rows
