"""The structure of TIFF files and EXIF blocks: reading and writing directories and their entries.

Reads are bounded by the file's size, whatever its directories claim: values that overlap or exceed the file cost no
memory.

Reference: TIFF 6.0 section 2; BigTIFF; EXIF 2.32 section 4.6.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from retouch_common.photo.damage import DamageError

# Bytes of one value of each type, and of the words that byte order turns around.
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8}
_SIZES |= {13: 4, 16: 8, 17: 8, 18: 8}  # directory pointers and BigTIFF
_WORDS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_INTEGERS = (1, 3, 4, 13, 16, 18)
_MAX_ENTRIES = 1000  # of a directory; TIFF and EXIF together define fewer than 500 tags


@dataclass(frozen=True)
class Entry:
    """An entry of a directory: tag, type (1 to 18) and number of its values, and the values in little-endian order."""

    tag: int
    type: int
    count: int
    value: bytes

    def integers(self) -> np.ndarray:
        """Return the values as (count,) uint64.

        Raises:
            DamageError: If they are not unsigned integers.
        """
        if self.type not in _INTEGERS:
            raise DamageError(f"tag {self.tag} has values of type {self.type} instead of integers")
        return np.frombuffer(self.value, f"<u{_SIZES[self.type]}").astype(np.uint64)


class Tiff:
    """A seekable TIFF file or EXIF block; ``first`` is the offset of its first directory.

    Raises:
        DamageError: If it does not start like a TIFF file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.size = self._unread = file.seek(0, os.SEEK_END)
        file.seek(0)
        head = file.read(16)
        order = {b"II": "<", b"MM": ">"}.get(head[:2])
        if order is None or len(head) < 8:
            raise DamageError("no TIFF structure")
        self.order = order
        self.big = struct.unpack(order + "H", head[2:4])[0] == 43
        if self.big and len(head) < 16:
            raise DamageError("no TIFF structure")
        self.offset_format = order + ("Q" if self.big else "I")
        self.count_format = order + ("Q" if self.big else "H")
        self.record_format = order + ("HHQ" if self.big else "HHI")
        self.width = 8 if self.big else 4
        self.link_at = 8 if self.big else 4
        (self.first,) = struct.unpack(self.offset_format, head[self.link_at : self.link_at + self.width])

    def records(self, offset: int) -> list[bytes]:
        """Read the raw records of the directory at an offset.

        Raises:
            DamageError: If it has more than 1000 records or exceeds the file.
        """
        count_size = struct.calcsize(self.count_format)
        size = struct.calcsize(self.record_format) + self.width
        (count,) = struct.unpack(self.count_format, self._read(offset, count_size))
        if count > _MAX_ENTRIES:
            raise DamageError(f"a directory of {count} entries")
        data = self._read(offset + count_size, size * count)
        return [data[at : at + size] for at in range(0, size * count, size)]

    def tag(self, record: bytes) -> int:
        """Return the tag of a record."""
        return int(struct.unpack(self.order + "H", record[:2])[0])

    def entries(self, offset: int, wanted: Collection[int] | None = None) -> dict[int, Entry]:
        """Read the entries of the directory at an offset: all, or the ``wanted`` tags.

        Returns:
            Entries by tag, the first of each; those of unknown type or outside the file are left out.

        Raises:
            DamageError: If the directory is damaged, or all values read so far exceed the file's size.
        """
        result: dict[int, Entry] = {}
        for record in self.records(offset):
            tag, kind, count = struct.unpack(self.record_format, record[: -self.width])
            length = value_size(kind, count)
            if length == 0 or tag in result or (wanted is not None and tag not in wanted):
                continue
            value = record[-self.width :][:length]
            if length > self.width:
                (at,) = struct.unpack(self.offset_format, record[-self.width :])
                if at + length > self.size:
                    continue
                self._unread -= length
                if self._unread < 0:
                    raise DamageError("entries that overlap")
                value = self._read(at, length)
            result[tag] = Entry(tag, kind, count, swapped(value, kind, self.order))
        return result

    def _read(self, offset: int, length: int) -> bytes:
        if offset + length > self.size:
            raise DamageError("a directory that ends after the file")
        self.file.seek(offset)
        return self.file.read(length)

    def pack(self, entries: Sequence[Entry], at: int, kept: Sequence[bytes] = ()) -> bytes:
        """Return the bytes of a directory at an offset, with entries and already packed records, and of its values."""
        size = struct.calcsize(self.record_format) + self.width
        count = len(entries) + len(kept)
        values = bytearray()
        values_at = at + struct.calcsize(self.count_format) + size * count + self.width
        records = list(kept)
        for entry in entries:
            value = swapped(entry.value, entry.type, self.order)
            field = value.ljust(self.width, b"\0")
            if len(value) > self.width:
                field = struct.pack(self.offset_format, values_at + len(values))
                values += value + b"\0" * (len(value) % 2)
            records.append(struct.pack(self.record_format, entry.tag, entry.type, entry.count) + field)
        records.sort(key=self.tag)
        return struct.pack(self.count_format, count) + b"".join(records) + b"\0" * self.width + bytes(values)


def value_size(kind: int, count: int) -> int:
    """Return the size of an entry's values in bytes; 0 for an unknown type."""
    return _SIZES.get(kind, 0) * count


def swapped(value: bytes, kind: int, order: str) -> bytes:
    """Swap the bytes of a value's words if the order is big-endian."""
    word = _WORDS.get(kind, 1)
    if order == "<" or word == 1:
        return value
    return np.frombuffer(value, f"u{word}").byteswap().tobytes()
