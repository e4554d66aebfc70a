"""Decoding a photo's file: sequentially or in any order, as stored or upright."""

from __future__ import annotations

import contextlib
import functools
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pyvips

from retouch_common.files import ScratchDirectory, scratch_output
from retouch_common.photo.avif_boxes import read_properties
from retouch_common.photo.damage import DamageError, messages
from retouch_common.photo.decoding import Decoding
from retouch_common.photo.exif import ORIENTATION, Exif
from retouch_common.photo.formats import Format
from retouch_common.photo.jpeg_source import end_of_picture
from retouch_common.photo.png_chunks import damage_of, read_chunks
from retouch_common.photo.rows import RowReader
from retouch_common.photo.sources import blocks
from retouch_common.photo.tiff_check import check_tiff, check_tiff_kind
from retouch_common.photo.webp_chunks import read_unknown
from retouch_common.photo.writing import save_tiff

_TILE = 256
_IN_MEMORY_BYTES = 100_000_000


class Decoder:
    """Decoder of a photo's file; ``name`` stands in messages instead of ``path``.

    ``header`` is the photo as stored, for its header only, and ``orientation`` that of EXIF, 1 (upright) to 8;
    ``turned`` says whether rows of the upright photo differ from rows of the file.

    Raises:
        ValueError: If the header is damaged, or there are several pages or frames.
    """

    def __init__(self, path: Path, format: Format, name: Path | None = None) -> None:
        self._path = path
        self._name = name or path
        self._format = format
        if format.name == "TIFF":
            try:
                check_tiff_kind(path)
            except ValueError as error:
                raise ValueError(f"{self._name}: {error}") from None
        with self.reading():  # boxes and chunks are read first: the decoders do not limit their number
            self._png_orientation = _png_orientation(path) if format.name == "PNG" else 1
            self._is_grey_avif = format.name == "AVIF" and read_properties(path).monochrome
            if format.name == "WebP":
                read_unknown(path)
            self._load = getattr(pyvips.Image, f"{format.vips}load")
            self.header = self._open("error")
        pages = self.header.get("n-pages") if self.header.get_typeof("n-pages") else 1
        if pages > 1:
            what = "pages" if format.name == "TIFF" else "frames"
            raise ValueError(f"{self._name}: holds {pages} {what}; only still photographs of one page are supported")
        self.orientation = self.header.get("orientation") if self.header.get_typeof("orientation") else 1
        self.turned = self.orientation > 2
        self._checked = False
        self._decoded: pyvips.Image | None = None
        self._scratch: ScratchDirectory | None = None

    def decode(self, shrink: int = 1) -> Decoding:
        """Start decoding the photo as stored, once, from top to bottom; a JPEG may be reduced by 2, 4 or 8.

        After :meth:`any_order`, pixels in full resolution come from what it decoded.

        Raises:
            DamageError: If damage is found before the pixels are decoded.
            pyvips.Error: If the header is damaged.
        """
        if self._decoded is not None and shrink == 1:
            return Decoding(self._decoded.copy())
        if self._format.name == "JPEG":
            return Decoding.of_jpeg(open(self._path, "rb"), self._end_of_picture, shrink)
        fail_on = "error"
        if self._format.name == "TIFF":
            if not self._checked:
                check_tiff(self._path)
                self._checked = True
            if self.header.get_typeof("tile-width"):
                fail_on = "warning"  # here libvips lets a tile that cannot be decoded pass otherwise
        return Decoding(self._open(fail_on))

    def _open(self, fail_on: str) -> pyvips.Image:
        image = self._load(os.fsencode(self._path), access="sequential", fail_on=fail_on)
        pyvips.vips_lib.vips_error_clear()  # of a file that was opened: pyvips cannot decode a name in it
        return self._stored(image)

    def _stored(self, image: pyvips.Image) -> pyvips.Image:
        """Return an image with the channels and the orientation that the file stores.

        libvips repeats the grey of AVIF, and does not read EXIF that follows the pixels of a PNG.
        """
        if self._png_orientation > 1:
            image = image.copy()
            image.set_type(pyvips.GValue.gint_type, "orientation", self._png_orientation)
        if not self._is_grey_avif:
            return image
        grey = image[0] if image.bands == 3 else image[0].bandjoin(image[3])
        return grey.copy(interpretation="b-w" if image.format == "uchar" else "grey16")

    @functools.cached_property
    def _end_of_picture(self) -> int:
        with open(self._path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return end_of_picture(data)

    def upright_rows(self, shrink: int = 1) -> Decoding:
        """Start decoding the upright photo from top to bottom in bounded memory; turned photos ignore ``shrink``."""
        if not self.turned:
            decoding = self.decode(shrink)
            decoding.image = decoding.image.autorot()
            return decoding
        image = self.any_order()
        tiles = 2 * (image.width // _TILE + 2)
        return Decoding(image.tilecache(tile_width=_TILE, tile_height=_TILE, max_tiles=tiles))

    def any_order(self) -> pyvips.Image:
        """Return the upright photo for random access: in memory, or if large in a tiled temporary file.

        Raises:
            DamageError: If the file is damaged.
            OSError: If the temporary file cannot be written.
            pyvips.Error: If the file is damaged.
        """
        if self._decoded is None:
            decoding = self.decode()
            header = self.header
            num_bytes = header.width * header.height * header.bands * (1 if header.format == "uchar" else 2)
            if num_bytes <= _IN_MEMORY_BYTES:
                image = decoding.image.copy_memory()
            else:
                self._scratch = ScratchDirectory("retouch-")
                file = Path(self._scratch.name, "photo.tif")
                with scratch_output(self._name):
                    save_tiff(decoding.image, file, tile=True, bigtiff=True, keep="none")
                image = pyvips.Image.tiffload(os.fsencode(file)).copy()
                image.set_type(pyvips.GValue.gint_type, "orientation", self.orientation)
            decoding.finish()
            self._decoded = image
        return self._decoded.autorot()

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Turn damage into a ValueError that names the file."""
        try:
            with messages.shared():
                yield
        except (pyvips.Error, DamageError) as error:
            if self._format.name == "PNG":
                why = damage_of(self._path)
            else:
                why = messages.reason(error, self._decode_all) if isinstance(error, pyvips.Error) else str(error)
            raise ValueError(f"{self._name}: cannot be read, it is damaged or cut off: {why}") from error

    def _decode_all(self) -> None:
        """Decode the photo only to fail as before."""
        header = self._open("error")
        rows = RowReader(self.decode)
        for block in blocks(header.height, header.width):
            rows.fetch(*block)


def _png_orientation(path: Path) -> int:
    exif = read_chunks(path).exif_block
    if exif is None:
        return 1
    try:
        entry = Exif(exif).value(ORIENTATION)
    except DamageError:
        return 1
    value = int.from_bytes((entry or b"\1")[:2], "little")
    return value if 1 <= value <= 8 else 1
