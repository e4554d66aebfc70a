"""EXIF of TIFF files, which libvips neither reads nor writes.

A TIFF keeps EXIF in its first directory (camera, date, author …) and in two more that this one points to (exposure, and
place). They are read into the block that other formats carry; such a block is appended to a written TIFF with a new
first directory, which keeps the old entries.

Reference: TIFF 6.0 section 2; BigTIFF; EXIF 2.32 section 4.6.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence

from retouch_common.photo.tiff_structure import Entry, Tiff

_LONG = 4
_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_PIXELS_ACROSS, _PIXELS_DOWN = 40962, 40963
# Tags of the first directory that describe the photo and not how this file stores it.
_DESCRIPTIVE = {270, 271, 272, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}
_POINTERS = (_EXIF, _GPS, _INTEROPERABILITY)


def _pack_all(tiff: Tiff, parts: dict[int, list[Entry]], at: int, kept: Sequence[bytes] = ()) -> tuple[bytes, int]:
    """Return the directories packed from offset ``at``, and the offset of the first one (number 0)."""
    data = b""
    pointers: dict[int, list[Entry]] = {0: [], _EXIF: []}
    for number, parent in ((_INTEROPERABILITY, _EXIF), (_GPS, 0), (_EXIF, 0)):
        entries = parts.get(number, []) + pointers.get(number, [])
        if entries:
            here = at + len(data)
            pointers[parent].append(Entry(number, _LONG, 1, struct.pack("<I", here)))
            data += tiff.pack(entries, here)
    first = at + len(data)
    return data + tiff.pack(parts.get(0, []) + pointers[0], first, kept), first


def _parts(tiff: Tiff) -> dict[int, list[Entry]]:
    """Return the descriptive entries by directory: 0 for the first, else the tag that points to it."""
    first = tiff.entries(tiff.first, wanted=_DESCRIPTIVE.union(_POINTERS))
    parts = {0: [entry for tag, entry in first.items() if tag in _DESCRIPTIVE]}
    directories = {0: first}
    for number, parent in ((_EXIF, 0), (_GPS, 0), (_INTEROPERABILITY, _EXIF)):
        pointer = directories.get(parent, {}).get(number)
        if pointer is not None:
            entries = tiff.entries(int.from_bytes(pointer.value, "little"))
            directories[number] = entries
            parts[number] = [entry for tag, entry in entries.items() if tag not in _POINTERS]
    return parts


def read_tiff_exif(path: str | os.PathLike[str]) -> bytes | None:
    """Return the EXIF block of a TIFF or BigTIFF file, without the "Exif" header; None if missing or damaged."""
    try:
        with open(path, "rb") as file:
            parts = _parts(Tiff(file))
    except ValueError:
        return None
    if not any(parts.values()):
        return None
    head = struct.pack("<2sHI", b"II", 42, 8)
    block = Tiff(io.BytesIO(head + b"\0" * 8))
    data, first = _pack_all(block, parts, len(head))
    return struct.pack("<2sHI", b"II", 42, first) + data


def append_tiff_exif(path: str | os.PathLike[str], exif: bytes, width: int, height: int) -> None:
    """Add EXIF to a TIFF or BigTIFF file of one page, in place; a malformed block adds nothing.

    Width and height are those of the photo in pixels, which EXIF repeats.

    Raises:
        OSError: If the file cannot be changed.
    """
    try:
        parts = _parts(Tiff(io.BytesIO(bytes(exif).removeprefix(b"Exif\0\0"))))
    except ValueError:
        return
    sizes = {_PIXELS_ACROSS: width, _PIXELS_DOWN: height}
    parts[_EXIF] = [
        Entry(entry.tag, _LONG, 1, struct.pack("<I", sizes[entry.tag])) if entry.tag in sizes else entry
        for entry in parts.get(_EXIF, [])
    ]
    with open(path, "r+b") as file:
        tiff = Tiff(file)
        kept = tiff.records(tiff.first)
        taken = {struct.unpack(tiff.order + "H", record[:2])[0] for record in kept}
        parts[0] = [entry for entry in parts[0] if entry.tag not in taken]
        end = file.seek(0, os.SEEK_END)
        file.write(b"\0" * (end % 2))
        data, first = _pack_all(tiff, parts, end + end % 2, kept)
        file.write(data)
        file.seek(tiff.link_at)
        file.write(struct.pack(tiff.offset_format, first))
