"""EXIF blocks: brought up to date in place, so that maker notes and unknown tags keep their bytes and offsets.

Reference: EXIF 2.32 section 4.6; TIFF 6.0 section 2.
"""

from __future__ import annotations

import io
import re
import struct
from collections.abc import Iterable, Iterator, Sequence

from retouch_common.photo.damage import DamageError
from retouch_common.photo.tiff_structure import Entry, Tiff, value_size

ORIENTATION, X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 274, 282, 283, 296
IPTC, IMAGE_RESOURCES = 33723, 34377
_PER_MM = {2: 1 / 25.4, 3: 1 / 10}  # by unit
_GPS = 34853
_EXIF, _MAKER_NOTE = 34665, 37500
_PIXELS_ACROSS, _PIXELS_DOWN = 40962, 40963
_WIDTH, _HEIGHT = 256, 257
_SHORT, _LONG, _RATIONAL, _UNDEFINED = 3, 4, 5, 7
_STRIP_OFFSETS, _STRIP_BYTES = 273, 279
_VERSION = 42
_EMPTY = struct.pack("<2sHIHI", b"II", _VERSION, 8, 0, 0)
_JPEG_START, _JPEG_END = re.compile(rb"\xff\xd8\xff[\xc0-\xfe]"), b"\xff\xd9"


class Exif:
    """An EXIF block, without the header "Exif".

    Raises:
        DamageError: If its first directory cannot be read, or its header is not that of a TIFF, which other readers
            refuse (a BigTIFF is none here).
    """

    def __init__(self, data: bytes) -> None:
        self.data = bytes(data).removeprefix(b"Exif\0\0")
        self._tiff = Tiff(io.BytesIO(self.data))
        if struct.unpack(self._tiff.order + "H", self.data[2:4]) != (_VERSION,):
            raise DamageError("no header of TIFF in EXIF")
        self._first = self._tiff.entries(self._tiff.first)

    def value(self, tag: int) -> bytes | None:
        """Return the value of a tag of the first directory, little-endian; None if it is missing."""
        return self._first[tag].value if tag in self._first else None

    @property
    def resolution(self) -> tuple[float, float] | None:
        """Pixels per millimetre across and down; None if they are not stated."""
        return resolution_of(self._first)

    @property
    def has_maker_notes(self) -> bool:
        """Whether it holds maker notes."""
        records = [] if self._exposure is None else self._records(self._exposure)
        return any(self._tiff.tag(record) == _MAKER_NOTE for record in records)

    def updated(self, width: int, height: int) -> bytes:
        """Return the block of the upright, retouched photo of a size in pixels.

        Orientation and size are set, where present; embedded previews, also those of maker notes, are blanked.
        """
        data = bytearray(self.data)
        _blank(data, _embedded_jpegs(self.data))
        self._set(data, self._tiff.first, {ORIENTATION: 1, _WIDTH: width, _HEIGHT: height})
        if self._exposure is not None:
            self._set(data, self._exposure, {_PIXELS_ACROSS: width, _PIXELS_DOWN: height})
        self._drop_thumbnail(data)
        return bytes(data)

    def without_gps(self) -> bytes:
        """Return the block without the directory of coordinates, which is blanked, and its entry; all else stays."""
        data = bytearray(self.data)
        records = self._tiff.records(self._tiff.first)
        kept = [record for record in records if self._tiff.tag(record) != _GPS]
        offsets = {struct.unpack(self._tiff.order + "I", r[8:])[0] for r in records if self._tiff.tag(r) == _GPS}
        _blank(data, [span for offset in offsets for span in self._directory_spans(offset)])
        at, link = self._tiff.first + 2, self._tiff.first + 2 + 12 * len(records)
        directory = struct.pack(self._tiff.order + "H", len(kept)) + b"".join(kept) + bytes(data[link : link + 4])
        data[at - 2 : link + 4] = directory.ljust(link + 6 - at, b"\0")
        return bytes(data[: len(self.data)])

    def _directory_spans(self, offset: int) -> list[tuple[int, int]]:
        """Return (offset, length) of a directory's records and values, as far as it can be read."""
        records = self._records(offset)
        spans = [(offset, 2 + 12 * len(records))]
        for record in records:
            _, kind, count = struct.unpack(self._tiff.record_format, record[:8])
            spans.append((struct.unpack(self._tiff.order + "I", record[8:])[0], value_size(kind, count)))
        return [(begin, length) for begin, length in spans if length > 4 and begin + length <= len(self.data)]

    @property
    def _exposure(self) -> int | None:
        """Return the offset of the directory of exposure and camera; None if the first points to none."""
        try:
            return int(self._first[_EXIF].integers()[0]) if _EXIF in self._first else None
        except DamageError:
            return None

    def _records(self, offset: int) -> list[bytes]:
        """Return the records of the directory at an offset; none if it cannot be read."""
        try:
            return self._tiff.records(offset)
        except DamageError:
            return []

    def _set(self, data: bytearray, directory: int, values: dict[int, int]) -> None:
        """Set tags of a directory, where present, whatever their type was: decoders also turn photos by odd ones."""
        order = self._tiff.order
        for index, record in enumerate(self._records(directory)):
            tag, kind, _ = struct.unpack(order + "HHI", record[:8])
            if tag in values:
                is_long = kind == _LONG or values[tag] > 0xFFFF
                form = order + ("HHII" if is_long else "HHIH2x")
                at = directory + 2 + 12 * index
                struct.pack_into(form, data, at, tag, _LONG if is_long else _SHORT, 1, values[tag])

    def _drop_thumbnail(self, data: bytearray) -> None:
        link = self._tiff.first + 2 + 12 * len(self._tiff.records(self._tiff.first))
        (second,) = struct.unpack_from(self._tiff.order + "I", data.ljust(link + 4, b"\0"), link)
        data[link : link + 4] = b"\0\0\0\0"
        if not second:
            return
        try:
            entries = self._tiff.entries(second)
            offsets, lengths = (entries[tag].integers().tolist() for tag in (_STRIP_OFFSETS, _STRIP_BYTES))
        except (DamageError, KeyError):
            return
        _blank(data, zip(offsets, lengths, strict=False))


def _embedded_jpegs(data: bytes) -> Iterator[tuple[int, int]]:
    """Yield (offset, length) of what looks like a JPEG image, each up to the next end marker."""
    at = 0
    while (start := _JPEG_START.search(data, at)) is not None:
        end = data.find(_JPEG_END, start.end())
        if end < 0:
            return
        at = end + len(_JPEG_END)
        yield start.start(), at - start.start()


def _blank(data: bytearray, spans: Iterable[tuple[int, int]]) -> None:
    """Set spans (offset, length) to zeros, as far as they lie in the data; what overlaps is set once."""
    done = 0
    for offset, length in sorted(spans):
        begin, end = max(offset, done), min(offset + length, len(data))
        if begin < end:
            data[begin:end] = bytes(end - begin)
            done = end


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
    values = [struct.pack("<II", min(round(2540 * value), 0xFFFFFFFF), 100) for value in resolution]
    return [
        Entry(X_RESOLUTION, _RATIONAL, 1, values[0]),
        Entry(Y_RESOLUTION, _RATIONAL, 1, values[1]),
        Entry(RESOLUTION_UNIT, _SHORT, 1, struct.pack("<H", 2)),
    ]


def resolution_of(entries: dict[int, Entry]) -> tuple[float, float] | None:
    """Return the resolution that entries of a first directory state, in pixels per millimetre; None if none."""
    unit = entries.get(RESOLUTION_UNIT)
    per_mm = _PER_MM.get(int(unit.integers()[0]) if unit is not None and unit.type in (1, 3, 4) else 2)
    values = []
    for tag in (X_RESOLUTION, Y_RESOLUTION):
        if tag not in entries or len(entries[tag].value) != 8 or per_mm is None:
            return None
        numerator, denominator = struct.unpack("<II", entries[tag].value)
        if not numerator or not denominator:
            return None
        values.append(numerator / denominator * per_mm)
    return values[0], values[1]
