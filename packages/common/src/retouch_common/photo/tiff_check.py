"""Damage in TIFF files that libtiff does not report.

libtiff ignores the checksum of deflated data, reads data of length 0 as black pixels, and conceals damage of JPEG data.
So deflated strips and tiles are checked against their checksum here, and JPEG ones with the decoder of JPEG files.

Reference: TIFF 6.0; TIFF Technical Note 2 (JPEG); RFC 1950.
"""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO

from retouch_common.photo.damage import DamageError
from retouch_common.photo.decoding import check_jpeg
from retouch_common.photo.tiff_structure import Entry, Tiff

_COMPRESSION, _FILL_ORDER, _JPEG_TABLES = 259, 266, 347
_PLACES = ((273, 279), (324, 325))  # offsets and numbers of bytes, of strips and of tiles
_PHOTOMETRIC, _YCBCR, _LAB = 262, 6, (8, 9, 10)
_SAMPLES, _EXTRA_SAMPLES = 277, 338
_WIDTH, _HEIGHT, _STRIP_ROWS, _TILE_WIDTH, _TILE_HEIGHT = _SIZES = (256, 257, 278, 322, 323)
_BITS = 258
_SIZE_TYPES = (3, 4, 13, 16, 18)  # SHORT, LONG, IFD, LONG8, IFD8
_NUMBERS = {*_SIZES, *(tag for pair in _PLACES for tag in pair)}
_TAGS = {_COMPRESSION, _FILL_ORDER, _JPEG_TABLES, _PHOTOMETRIC, _SAMPLES, _EXTRA_SAMPLES, _BITS, *_NUMBERS}
_UNSUPPORTED = {
    34676: "SGI LogLuv", 34677: "SGI LogLuv", 34712: "JPEG 2000", 34887: "LERC", 34892: "lossy JPEG of DNG",
    34925: "LZMA", 50000: "Zstandard", 50002: "JPEG XL", 52546: "JPEG XL",
}  # fmt: skip
_NONE, _DEFLATE, _OLD_JPEG, _JPEG = 1, (8, 32946), 6, 7
_JPEG_UNIT = 16  # a strip's rows may be filled up to a multiple
_PIECE = 1 << 20  # bytes read and inflated at a time


def check_tiff_kind(path: str | os.PathLike[str]) -> None:
    """Refuse TIFF files of colours or a compression that cannot be read; a damaged directory passes.

    Raises:
        ValueError: If they are not supported; the message does not name the file.
    """
    try:
        with open(path, "rb") as file:
            tiff = Tiff(file)
            entries = tiff.entries(tiff.first, wanted={_COMPRESSION, _PHOTOMETRIC})
            compression, colours = _number(entries, _COMPRESSION), _number(entries, _PHOTOMETRIC)
    except DamageError:
        return  # reported when it is decoded
    if colours in _LAB:
        raise ValueError("its colours are Lab; only grey, RGB and CMYK are supported; convert it to RGB")
    if colours == _YCBCR and compression not in (_OLD_JPEG, _JPEG):  # which libvips would read as RGB
        raise ValueError("its colours are YCbCr without JPEG compression, which is not supported; convert it to RGB")
    if compression in _UNSUPPORTED:
        raise ValueError(f"its compression, {_UNSUPPORTED[compression]}, is not supported; save it with LZW or deflate")


def check_tiff(path: str | os.PathLike[str]) -> None:
    """Check the compressed data of a TIFF file's first page.

    Raises:
        DamageError: If they are damaged.
        pyvips.Error: Likewise.
    """
    with open(path, "rb") as file:
        tiff = Tiff(file)
        entries = tiff.entries(tiff.first, wanted=_TAGS)
        compression, fill_order = _number(entries, _COMPRESSION), _number(entries, _FILL_ORDER)
        _check_tags(entries)
        if compression == _NONE:
            return
        pixels = _segment_pixels(entries)
        size = pixels * _number(entries, _SAMPLES) * (_number(entries, _BITS, 8) + 7) // 8
        limit = 2 * size + _PIECE  # some writers fill up the last strip
        for offset, length in _segments(entries, tiff.size):
            file.seek(offset)
            if compression in _DEFLATE and fill_order == 1:
                _check_deflated(file, length, limit)
            elif compression == _JPEG:
                tables = entries[_JPEG_TABLES].value if _JPEG_TABLES in entries else b"\xff\xd8\xff\xd9"
                check_jpeg(tables[:-2] + file.read(length)[2:], pixels)


def _check_tags(entries: dict[int, Entry]) -> None:
    """Refuse tags of wrong types and tags that contradict each other, which libtiff would guess at."""
    odd = [tag for tag in sorted(_NUMBERS & entries.keys()) if entries[tag].type not in _SIZE_TYPES]
    if odd:
        raise DamageError(f"its tag {odd[0]}, a size or position, is of type {entries[odd[0]].type}")
    offsets = {pair[0] for pair in _PLACES} & entries.keys()
    if not offsets and _number(entries, _COMPRESSION) != _OLD_JPEG:  # which has a tag of its own
        raise DamageError("the positions of its strips or tiles are missing")
    if _PLACES[1][0] in entries and _PLACES[1][1] not in entries:
        raise DamageError("the lengths of its tiles are missing")
    extra = len(entries[_EXTRA_SAMPLES].integers()) if _EXTRA_SAMPLES in entries else 0
    if _number(entries, _PHOTOMETRIC, 2) in (0, 1) and _number(entries, _SAMPLES) - extra >= 3:
        raise DamageError("it is declared greyscale, but has colours")


def _number(entries: dict[int, Entry], tag: int, default: int = 1) -> int:
    return int(entries[tag].integers()[0]) if tag in entries else default


def _segments(entries: dict[int, Entry], size: int) -> list[tuple[int, int]]:
    """Return the distinct (offset, number of bytes) of the compressed strips or tiles."""
    places: set[tuple[int, int]] = set()
    for offsets, lengths in _PLACES:
        if offsets in entries and lengths in entries:
            # Some writers list more of one than of the other.
            pairs = zip(entries[offsets].integers().tolist(), entries[lengths].integers().tolist(), strict=False)
            places.update(pairs)
    if any(length == 0 for _, length in places):
        raise DamageError("a strip or tile is empty")
    if sum(length for _, length in places) > size or any(offset >= size for offset, _ in places):
        raise DamageError("strips or tiles overlap or lie outside the file")
    return sorted(places)


def _segment_pixels(entries: dict[int, Entry]) -> int:
    """Return the number of pixels of a strip or tile, as some writers pad it."""
    if _TILE_WIDTH in entries:
        return _number(entries, _TILE_WIDTH) * _number(entries, _TILE_HEIGHT)
    height = -(-_number(entries, _HEIGHT) // _JPEG_UNIT) * _JPEG_UNIT
    return _number(entries, _WIDTH) * min(height, _number(entries, _STRIP_ROWS, height))


def _check_deflated(file: BinaryIO, length: int, limit: int) -> None:
    """Check deflated data, which may inflate to ``limit`` bytes: those of a bomb take minutes."""
    inflate = zlib.decompressobj()
    try:
        while length > 0 and not inflate.eof and (piece := file.read(min(length, _PIECE))):
            length -= len(piece)
            while piece and not inflate.eof:
                limit -= len(inflate.decompress(piece, _PIECE))
                piece = inflate.unconsumed_tail
                if limit < 0:
                    raise DamageError("its compressed data are larger than the picture")
        inflate.flush()
    except zlib.error as error:
        raise DamageError(f"its compressed data are damaged: {str(error).split(': ')[-1]}") from error
    if not inflate.eof:
        raise DamageError("its compressed data are damaged: they have no end")
