"""EXIF blocks: brought up to date in place, so that maker notes and unknown tags keep their bytes and offsets.

Reference: EXIF 2.32 section 4.6; TIFF 6.0 section 2.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Sequence

from retouch_common.photo.damage import DamageError
from retouch_common.photo.tiff_structure import Entry, Tiff, value_size

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 282, 283, 296
IPTC, IMAGE_RESOURCES = 33723, 34377
_GPS = 34853
_EXIF, _MAKER_NOTE = 34665, 37500
_PIXELS_ACROSS, _PIXELS_DOWN = 40962, 40963
_SHORT, _LONG, _RATIONAL, _UNDEFINED = 3, 4, 5, 7
_STRIP_OFFSETS, _STRIP_BYTES = 273, 279
_EMPTY = struct.pack("<2sHIHI", b"II", 42, 8, 0, 0)
_JPEG = re.compile(rb"\xff\xd8\xff[\xc0-\xfe].*?\xff\xd9", re.DOTALL)


class Exif:
    """An EXIF block, without the header "Exif".

    Raises:
        DamageError: If its first directory cannot be read.
    """

    def __init__(self, data: bytes) -> None:
        self.data = bytes(data).removeprefix(b"Exif\0\0")
        self._tiff = Tiff(io.BytesIO(self.data))
        self._first = self._tiff.entries(self._tiff.first)

    def value(self, tag: int) -> bytes | None:
        """Return the value of a tag of the first directory, little-endian; None if it is missing."""
        return self._first[tag].value if tag in self._first else None

    @property
    def has_maker_notes(self) -> bool:
        """Whether it holds maker notes."""
        return any(self._tiff.tag(record) == _MAKER_NOTE for record in self._exposure_records())

    def updated(self, width: int, height: int) -> bytes:
        """Return the block of the upright, retouched photo of a size in pixels.

        Orientation and size are set, where present; embedded previews, also those of maker notes, are blanked.
        """
        data = bytearray(_JPEG.sub(lambda found: b"\0" * len(found[0]), self.data))
        sizes = {_PIXELS_ACROSS: width, _PIXELS_DOWN: height}
        self._set(data, self._tiff.first, {ORIENTATION: 1})
        if (exposure := self._exposure()) is not None:
            self._set(data, exposure, sizes)
        self._drop_thumbnail(data)
        return bytes(data)

    def without_gps(self) -> bytes:
        """Return the block without the directory of coordinates, which is blanked, and its entry; all else stays."""
        data = bytearray(self.data)
        records = self._tiff.records(self._tiff.first)
        kept = [record for record in records if self._tiff.tag(record) != _GPS]
        for record in records:
            if record not in kept:
                self._blank_directory(data, struct.unpack(self._tiff.order + "I", record[8:])[0])
        at, link = self._tiff.first + 2, self._tiff.first + 2 + 12 * len(records)
        directory = struct.pack(self._tiff.order + "H", len(kept)) + b"".join(kept) + bytes(data[link : link + 4])
        data[at - 2 : link + 4] = directory.ljust(link + 6 - at, b"\0")
        return bytes(data[: len(self.data)])

    def _blank_directory(self, data: bytearray, offset: int) -> None:
        """Blank a directory's values and records, as far as it can be read."""
        try:
            records = self._tiff.records(offset)
        except DamageError:
            return
        parts = [(offset, 2 + 12 * len(records))]
        for record in records:
            _, kind, count = struct.unpack(self._tiff.record_format, record[:8])
            parts.append((struct.unpack(self._tiff.order + "I", record[8:])[0], value_size(kind, count)))
        for begin, length in parts:
            if length > 4 and begin + length <= len(data):
                data[begin : begin + length] = bytes(length)

    def _exposure(self) -> int | None:
        """Return the offset of the directory of exposure and camera; None if the first points to none."""
        try:
            return int(self._first[_EXIF].integers()[0]) if _EXIF in self._first else None
        except DamageError:
            return None

    def _exposure_records(self) -> list[bytes]:
        exposure = self._exposure()
        try:
            return [] if exposure is None else self._tiff.records(exposure)
        except DamageError:
            return []

    def _set(self, data: bytearray, directory: int, values: dict[int, int]) -> None:
        try:
            records = self._tiff.records(directory)
        except DamageError:
            return
        order = self._tiff.order
        for index, record in enumerate(records):
            tag, kind, count = struct.unpack(order + "HHI", record[:8])
            if tag in values and kind in (_SHORT, _LONG) and count == 1:
                form, value = ("I", values[tag]) if kind == _LONG else ("H", min(values[tag], 0xFFFF))
                struct.pack_into(order + form, data, directory + 10 + 12 * index, value)

    def _drop_thumbnail(self, data: bytearray) -> None:
        link = self._tiff.first + 2 + 12 * len(self._tiff.records(self._tiff.first))
        (second,) = struct.unpack_from(self._tiff.order + "I", data.ljust(link + 4, b"\0"), link)
        data[link : link + 4] = b"\0\0\0\0"
        if not second:
            return
        try:
            entries = self._tiff.entries(second)
            places = zip(entries[_STRIP_OFFSETS].integers(), entries[_STRIP_BYTES].integers(), strict=False)
        except (DamageError, KeyError):
            return
        for offset, length in places:
            part = slice(int(offset), min(int(offset + length), len(data)))
            data[part] = b"\0" * len(data[part])


def with_entries(exif: bytes | None, entries: Sequence[Entry]) -> bytes:
    """Return an EXIF block, or a new one, with entries of the first directory added or replaced.

    All other bytes keep their place; the new directory follows them.

    Raises:
        DamageError: If the block is malformed.
    """
    data = exif or _EMPTY
    data += b"\0" * (len(data) % 2)
    tiff = Tiff(io.BytesIO(data))
    new = {entry.tag for entry in entries}
    kept = [record for record in tiff.records(tiff.first) if tiff.tag(record) not in new]
    at = len(data)
    return data[:4] + struct.pack(tiff.order + "I", at) + data[8:] + tiff.pack(entries, at, kept)


def bytes_entry(tag: int, value: bytes) -> Entry:
    """Return an entry of undefined bytes."""
    return Entry(tag, _UNDEFINED, len(value), value)


def resolution_entries(resolution: tuple[float, float]) -> list[Entry]:
    """Return the entries of a resolution in pixels per millimetre."""
    values = [struct.pack("<II", round(2540 * value), 100) for value in resolution]
    return [
        Entry(X_RESOLUTION, _RATIONAL, 1, values[0]),
        Entry(Y_RESOLUTION, _RATIONAL, 1, values[1]),
        Entry(RESOLUTION_UNIT, _SHORT, 1, struct.pack("<H", 2)),
    ]
