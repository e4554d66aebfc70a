"""EXIF in TIFF files, which libvips neither reads nor writes.

A TIFF keeps EXIF in its own first directory (camera, date, author …) and in two more that this one points to
(exposure, and place). They are read into the block that other formats carry, and such a block is appended to
a written TIFF: a new first directory goes to the end of the file, with the old entries as they were.

Reference: TIFF 6.0 section 2; BigTIFF; EXIF 2.32 section 4.6.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

# Bytes of one value of each type, and of the words that byte order turns around.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}  # directory pointers and BigTIFF
_WORDS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_LONG = 4
_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_PIXELS_ACROSS, _PIXELS_DOWN = 40962, 40963
# Tags of the first directory that describe the photo and not how this file stores it.
_DESCRIPTIVE = {270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}
_LARGEST = 16_000_000  # bytes of one value; more is a damaged directory


@dataclass(frozen=True)
class _Entry:
    tag: int
    type: int
    count: int
    value: bytes  # little endian


class _Tiff:
    """The structure of a TIFF or of an EXIF block: byte order, widths, directories."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        file.seek(0)
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None:
            raise ValueError("no TIFF structure")
        self.order = order
        self.big = struct.unpack(order + "H", head[2:4])[0] == 43
        self.offset_format = order + ("Q" if self.big else "I")
        self.count_format = order + ("Q" if self.big else "H")
        self.record_format = order + ("HHQ" if self.big else "HHI")
        self.width = 8 if self.big else 4
        self.link_at = 8 if self.big else 4
        (self.first,) = struct.unpack(self.offset_format, head[self.link_at : self.link_at + self.width])

    def records(self, offset: int) -> tuple[list[bytes], bytes]:
        """The raw records of a directory and the raw offset of the next one."""
        self.file.seek(offset)
        (count,) = struct.unpack(self.count_format, self.file.read(struct.calcsize(self.count_format)))
        size = struct.calcsize(self.record_format) + self.width
        data = self.file.read(size * count)
        if count > 65535 or len(data) < size * count:
            raise ValueError("a damaged directory")
        return [data[at : at + size] for at in range(0, size * count, size)], self.file.read(self.width)

    def entries(self, offset: int) -> dict[int, _Entry]:
        """The entries of a directory by tag; those of unknown type are left out."""
        result = {}
        for record in self.records(offset)[0]:
            tag, kind, count = struct.unpack(self.record_format, record[: -self.width])
            length = _SIZES.get(kind, 0) * count
            if not 0 < length <= _LARGEST:
                continue
            value = record[-self.width :][:length]
            if length > self.width:
                self.file.seek(struct.unpack(self.offset_format, record[-self.width :])[0])
                value = self.file.read(length)
            if len(value) == length:
                result[tag] = _Entry(tag, kind, count, _swapped(value, kind, self.order))
        return result

    def pack(self, entries: Sequence[_Entry], at: int, kept: Sequence[bytes] = ()) -> bytes:
        """A directory that will lie at offset ``at``, its values behind it; ``kept`` are finished records."""
        size = struct.calcsize(self.record_format) + self.width
        count = len(entries) + len(kept)
        values = b""
        values_at = at + struct.calcsize(self.count_format) + size * count + self.width
        records = list(kept)
        for entry in entries:
            value = _swapped(entry.value, entry.type, self.order)
            field = value.ljust(self.width, b"\0")
            if len(value) > self.width:
                field = struct.pack(self.offset_format, values_at + len(values))
                values += value + b"\0" * (len(value) % 2)
            records.append(struct.pack(self.record_format, entry.tag, entry.type, entry.count) + field)
        records.sort(key=lambda record: struct.unpack(self.order + "H", record[:2])[0])
        return struct.pack(self.count_format, count) + b"".join(records) + b"\0" * self.width + values

    def pack_all(self, parts: dict[int, list[_Entry]], at: int, kept: Sequence[bytes] = ()) -> tuple[bytes, int]:
        """The directories of a photo from offset ``at`` on, and the offset of the first one (number 0)."""
        data = b""
        pointers: dict[int, list[_Entry]] = {0: [], _EXIF: []}
        for number, parent in ((_INTEROPERABILITY, _EXIF), (_GPS, 0), (_EXIF, 0)):
            entries = parts.get(number, []) + pointers.get(number, [])
            if entries:
                here = at + len(data)
                pointers[parent].append(_Entry(number, _LONG, 1, struct.pack("<I", here)))
                data += self.pack(entries, here)
        first = at + len(data)
        return data + self.pack(parts.get(0, []) + pointers[0], first, kept), first


def _swapped(value: bytes, kind: int, order: str) -> bytes:
    """Turn a value's words around where the file is big endian."""
    word = _WORDS.get(kind, 1)
    if order == "<" or word == 1:
        return value
    return b"".join(value[at : at + word][::-1] for at in range(0, len(value), word))


def _parts(tiff: _Tiff) -> dict[int, list[_Entry]]:
    """What describes the photo, by directory: 0 for the first, else the tag that points to it."""
    first = tiff.entries(tiff.first)
    parts = {0: [entry for tag, entry in first.items() if tag in _DESCRIPTIVE]}
    directories = {0: first}
    for number, parent in ((_EXIF, 0), (_GPS, 0), (_INTEROPERABILITY, _EXIF)):
        pointer = directories.get(parent, {}).get(number)
        if pointer is not None:
            entries = tiff.entries(int.from_bytes(pointer.value, "little"))
            directories[number] = entries
            pointers = (_EXIF, _GPS, _INTEROPERABILITY)
            parts[number] = [entry for tag, entry in entries.items() if tag not in pointers]
    return parts


def read_tiff_exif(path: str | os.PathLike[str]) -> bytes | None:
    """Read the EXIF of a TIFF file.

    Args:
        path: A TIFF or BigTIFF file.

    Returns:
        An EXIF block (a TIFF structure, without the "Exif" header), or None where there is none or it is
        damaged.
    """
    try:
        with open(path, "rb") as file:
            parts = _parts(_Tiff(file))
    except (ValueError, struct.error, OverflowError):
        return None
    if not any(parts.values()):
        return None
    head = struct.pack("<2sHI", b"II", 42, 8)
    block = _Tiff(io.BytesIO(head + b"\0" * 8))
    data, first = block.pack_all(parts, len(head))
    return struct.pack("<2sHI", b"II", 42, first) + data


def append_tiff_exif(path: str | os.PathLike[str], exif: bytes, width: int, height: int) -> None:
    """Add EXIF to a TIFF file that has just been written.

    Args:
        path: A TIFF or BigTIFF file of one page; changed in place.
        exif: An EXIF block, with or without the "Exif" header; one that cannot be understood adds nothing.
        width: Width of the photo in pixels, which EXIF repeats.
        height: Height of the photo in pixels.

    Raises:
        OSError: If the file cannot be changed.
    """
    try:
        parts = _parts(_Tiff(io.BytesIO(bytes(exif).removeprefix(b"Exif\0\0"))))
    except (ValueError, struct.error, OverflowError):
        return
    sizes = {_PIXELS_ACROSS: width, _PIXELS_DOWN: height}
    parts[_EXIF] = [
        _Entry(entry.tag, _LONG, 1, struct.pack("<I", sizes[entry.tag])) if entry.tag in sizes else entry
        for entry in parts.get(_EXIF, [])
    ]
    with open(path, "r+b") as file:
        tiff = _Tiff(file)
        kept, _ = tiff.records(tiff.first)
        taken = {struct.unpack(tiff.order + "H", record[:2])[0] for record in kept}
        parts[0] = [entry for entry in parts[0] if entry.tag not in taken]
        end = file.seek(0, os.SEEK_END)
        file.write(b"\0" * (end % 2))
        data, first = tiff.pack_all(parts, end + end % 2, kept)
        file.write(data)
        file.seek(tiff.link_at)
        file.write(struct.pack(tiff.offset_format, first))
