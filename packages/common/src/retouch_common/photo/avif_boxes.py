"""Boxes of AVIF, HEIC and JPEG XL files: colour space, what libvips does not read, and metadata items.

Reference: ISO/IEC 14496-12 (ISOBMFF); ISO/IEC 23008-12 (HEIF); AV1 Image File Format 1.1.
"""

from __future__ import annotations

import itertools
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from retouch_common.photo.content_credentials import CREDENTIALS
from retouch_common.photo.damage import DamageError

_C2PA = bytes.fromhex("d8fec3d61b0e483c92975828877ec481")
_ALPHA = (b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha", b"urn:mpeg:hevc:2015:auxid:1")
_AUXILIARY = {
    b"urn:mpeg:mpegB:cicp:systems:auxiliary:depth": "depth map",
    b"urn:mpeg:hevc:2015:auxid:2": "depth map",
    b"urn:com:apple:photo:2020:aux:hdrgainmap": "gain map",
}
_HEAD = 1 << 24  # bytes at the start of a file that are searched for boxes
_MAX_BOXES = 20_000  # side by side; an image of a gigapixel has a few thousand tiles


@dataclass(frozen=True)
class AvifProperties:
    """Properties of an AVIF file's primary image.

    Attributes:
        cicp: Colour primaries, transfer characteristics and matrix coefficients of ITU-T H.273; None if not stated.
        monochrome: Whether it is coded as grey.
        others: Kinds of further images and metadata, for messages.
    """

    cicp: tuple[int, int, int] | None
    monochrome: bool
    others: tuple[str, ...]


def read_properties(path: str | os.PathLike[str]) -> AvifProperties:
    """Read the properties of an AVIF file; of several images, the first property of each kind counts."""
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    top = [(kind, body) for kind, _, body in boxes_of(head)]
    meta = next((body for kind, body in top if kind == b"meta"), b"")
    boxes = {kind: body for kind, _, body in boxes_of(meta[4:])}
    properties = next((body for kind, _, body in boxes_of(boxes.get(b"iprp", b"")) if kind == b"ipco"), b"")
    cicp = None
    monochrome, has_auxiliary = False, b"auxC" in properties
    others = {CREDENTIALS} if any(kind == b"uuid" and body.startswith(_C2PA) for kind, body in top) else set()
    for kind, _, body in boxes_of(properties):
        if kind == b"colr" and body[:4] == b"nclx" and len(body) >= 10 and cicp is None:
            cicp = struct.unpack_from(">HHH", body, 4)
        elif kind == b"av1C" and len(body) >= 3 and not has_auxiliary:
            monochrome = bool(body[2] & 0x10)
        elif kind == b"auxC" and (name := body[4:].split(b"\0")[0]) not in _ALPHA:
            others.add(_AUXILIARY.get(name, "auxiliary image"))
    if any(kind == b"moov" for kind, _ in top):
        others.add("image sequence")
    if b"tmap" in _item_types(boxes).values():
        others.add("gain map")
    return AvifProperties(cicp, monochrome, tuple(sorted(others)))


def boxes_of(data: bytes, at: int = 0) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield type, offset of the content, and content of consecutive boxes.

    Raises:
        DamageError: If there are more than a photo has: millions of empty ones take a minute.
    """
    for number in itertools.count(1):
        if at + 8 > len(data):
            return
        if number > _MAX_BOXES:
            raise DamageError(f"it has more than {_MAX_BOXES} boxes")
        size, kind = struct.unpack_from(">I4s", data, at)
        start = at + 8
        if size == 1 and at + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, start)
            start += 8
        end = len(data) if size == 0 else at + size
        if end < start:
            return
        yield kind, start, data[start:end]
        at = end


def _item_types(boxes: dict[bytes, bytes]) -> dict[int, bytes]:
    """Return the types of the items in ``iinf`` by their numbers."""
    body = boxes.get(b"iinf", b"")
    types = {}
    for kind, _, entry in boxes_of(body, 6 if body[:1] == b"\0" else 8):
        if kind == b"infe" and len(entry) >= 12:
            wide = entry[0] >= 3
            (number,) = struct.unpack_from(">I" if wide else ">H", entry, 4)
            at = 10 if wide else 8
            types[number] = entry[at : at + 4]
    return types


def replace_items(path: str | os.PathLike[str], exif: bytes | None, xmp: bytes | None) -> None:
    """Replace the EXIF and XMP of an AVIF file that libheif wrote with both, in place; None keeps what is there.

    The new data are appended, and the locations point to them.

    Raises:
        DamageError: If the file is not built as libheif builds them.
    """
    new = {b"Exif": None if exif is None else b"\0\0\0\0" + exif, b"mime": xmp}
    with open(path, "r+b") as file:
        head = file.read(_HEAD)
        meta_at, meta = next((start, body) for kind, start, body in boxes_of(head) if kind == b"meta")
        boxes = {kind: (start, body) for kind, start, body in boxes_of(meta, 4)}
        types = _item_types({kind: body for kind, (_, body) in boxes.items()})
        start, places = boxes[b"iloc"]
        if places[0] != 0 or places[4:6] != b"\x44\x40":
            raise DamageError("an unexpected table of items")
        (count,) = struct.unpack_from(">H", places, 6)
        for index in range(count):
            at = 8 + 18 * index  # item, data reference, base offset, number of extents, offset and length of one
            number, _, base, extents = struct.unpack_from(">HHIH", places, at)
            data = new.get(types.get(number, b""))
            if data is None:
                continue
            if extents != 1:
                raise DamageError("an unexpected table of items")
            end = file.seek(0, os.SEEK_END)
            file.write(struct.pack(">I4s", 8 + len(data), b"mdat") + data)
            file.seek(meta_at + start + at + 10)
            file.write(struct.pack(">II", end + 8 - base, len(data)))
