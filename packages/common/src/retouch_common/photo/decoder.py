"""Decoding a photo's file: from top to bottom or in any order, as it is stored or upright."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pyvips

from .formats import Format
from .metadata import orientation
from .rows import reason

_TILE = 256
_IN_MEMORY_BYTES = 100_000_000


class Decoder:
    """Opens a photo's file in the ways the photo is read.

    Args:
        path: The file.
        format: Its format.

    Attributes:
        header: The photo as the file stores it; for its header only.
        turned: Whether rows of the upright photo are other than rows of the file.

    Raises:
        ValueError: If the header is damaged, or there are several pages or frames.
    """

    def __init__(self, path: Path, format: Format) -> None:
        self._path = path
        self._format = format
        with self.reading():
            self.header = self.decode("sequential")
        pages = self.header.get("n-pages") if self.header.get_typeof("n-pages") else 1
        if pages > 1:
            what = "pages" if format.name == "TIFF" else "frames"
            raise ValueError(f"{path}: holds {pages} {what}; only still photographs of one page are supported")
        self._orientation = orientation(self.header)
        self.turned = self._orientation > 2
        self._random: pyvips.Image | None = None
        self._scratch: tempfile.TemporaryDirectory[str] | None = None

    def decode(self, access: str, shrink: int = 1) -> pyvips.Image:
        """The photo as the file stores it.

        Args:
            access: "sequential" (once, from top to bottom, in bounded memory) or "random".
            shrink: 1, 2, 4 or 8: reduce by that factor while decoding; JPEG only.
        """
        load = getattr(pyvips.Image, self._format.loader)
        options = {"shrink": shrink} if shrink > 1 else {}
        return load(str(self._path), access=access, fail_on="error", **options)

    def upright_rows(self, shrink: int = 1) -> pyvips.Image:
        """The upright photo, to be read from top to bottom in bounded memory.

        Args:
            shrink: See :meth:`decode`; no effect on a turned photo.
        """
        if not self.turned:
            return self.decode("sequential", shrink).autorot()
        image = self.any_order()
        tiles = 2 * (image.width // _TILE + 2)
        return image.tilecache(tile_width=_TILE, tile_height=_TILE, max_tiles=tiles)

    def any_order(self) -> pyvips.Image:
        """The upright photo, to be read in any order: from memory, or if large from a file of tiles."""
        if self._random is None:
            size = _num_bytes(self.header)
            if size <= _IN_MEMORY_BYTES:
                image = self.decode("random")
            else:
                self._scratch = tempfile.TemporaryDirectory(prefix="retouch-")
                file = os.path.join(self._scratch.name, "photo.tif")
                self.decode("sequential").tiffsave(file, tile=True, bigtiff=True, keep="none")
                image = pyvips.Image.tiffload(file).copy()
                image.set_type(pyvips.GValue.gint_type, "orientation", self._orientation)
            self._random = image.autorot()
        return self._random

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn libvips' errors into a ValueError that names the file."""
        try:
            yield
        except pyvips.Error as error:
            raise ValueError(f"{self._path}: cannot be read, it is damaged or cut off: {reason(error)}") from error


def _num_bytes(image: pyvips.Image) -> int:
    return image.width * image.height * image.bands * (1 if image.format == "uchar" else 2)
