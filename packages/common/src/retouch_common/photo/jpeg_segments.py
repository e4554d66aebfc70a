"""Segments of JPEG files besides their image: EXIF, XMP, IPTC, comments, and images that follow the first.

A gain map (Ultra HDR, ISO 21496-1, Apple's) is a second JPEG image behind the first, to which the index of the
Multi-Picture Format (MPF) points.

Reference: ITU-T T.81, annex B; JFIF 1.02; CIPA DC-007 (MPF); Ultra HDR Image Format 1.1.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pyvips

from retouch_common.photo.content_credentials import CREDENTIALS
from retouch_common.photo.damage import DamageError
from retouch_common.photo.image_resources import split_resources
from retouch_common.photo.jpeg_source import MAX_SEGMENTS, end_of_picture
from retouch_common.photo.metadata import Metadata

EXIF, XMP, _EXTENDED = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
ICC, MPF, _ISO_GAIN_MAP = b"ICC_PROFILE\0", b"MPF\0", b"urn:iso:std:iso:ts:21496:-1\0"
PHOTOSHOP = b"Photoshop 3.0\0"
APP0, APP1, APP2, _APP11, APP13, _APP14, _APP15, COM, _SOS = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE, 0xEF, 0xFE, 0xDA
MAX_DATA = 65533  # bytes of a segment's data
_ULTRA_HDR = b"http://ns.adobe.com/hdr-gain-map/1.0/"
_GAIN_MAP_XMP = (_ULTRA_HDR, b"urn:com:apple:photo:2020:aux:hdrgainmap")
MP_ENTRIES = 0xB002
_MAX_IMAGES = 64  # of an index


def read_segments(path: str | os.PathLike[str]) -> Metadata:
    """Read the metadata of a JPEG file's segments and the images that follow; what is damaged is left out."""
    kept: dict[str, bytes] = {}
    comments: list[bytes] = []
    resources = bytearray()
    density: tuple[float, float] | None = None
    index: tuple[int, bytes] | None = None
    others: set[str] = set()
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for at, marker, content in _segments(data):
            if content.startswith(MPF):
                index = at + 4 + len(MPF), content[len(MPF) :]
            elif marker == COM:
                comments.append(content)
            elif marker == APP0 and content.startswith(b"JFIF\0") and len(content) >= 12:
                density = _density(content)
            elif marker == APP1 and content.startswith(EXIF) and "exif" not in kept:
                kept["exif"] = content[len(EXIF) :]
            elif marker == APP1 and content.startswith(XMP) and "xmp" not in kept:
                kept["xmp"] = content[len(XMP) :]
            elif marker == APP2 and content.startswith(_ISO_GAIN_MAP):
                kept["iso_gain_map"] = content
            elif marker == APP13 and content.startswith(PHOTOSHOP):
                resources += content[len(PHOTOSHOP) :]
            elif APP1 <= marker <= _APP15 and marker != _APP14 and not content.startswith(ICC):
                others.add(_name(marker, content))
        gain_map, following = _read_following_images(data, index)
    iptc, other_resources = split_resources(bytes(resources))
    return Metadata(
        exif=kept.get("exif"),
        xmp=kept.get("xmp"),
        iptc=iptc,
        resources=other_resources,
        resolution=density,
        comments=comments,
        gain_map=gain_map,
        iso_gain_map=kept.get("iso_gain_map"),
        losses=(*sorted(others), *following),
    )


def _segments(data: bytes | mmap.mmap) -> Iterator[tuple[int, int, bytes]]:
    """Yield offset, marker and content of the segments before the first scan, of a number that is no attack."""
    at = 2
    for _ in range(MAX_SEGMENTS):
        while data[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 4 > len(data) or data[at] != 0xFF or data[at + 1] == _SOS:
            return
        marker = data[at + 1]
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield at, marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _density(jfif: bytes) -> tuple[float, float] | None:
    unit, across, down = struct.unpack_from(">BHH", jfif, 7)
    per_mm = {1: 1 / 25.4, 2: 1 / 10}.get(unit)
    return (across * per_mm, down * per_mm) if per_mm and across and down else None


def _name(marker: int, content: bytes) -> str:
    """Return the name of a segment that is not kept, for messages."""
    if marker == APP1 and content.startswith((XMP, _EXTENDED)):
        return "further XMP" if content.startswith(XMP) else "extended XMP"
    if marker == _APP11 and content.startswith(b"JP"):
        return CREDENTIALS
    name = content[:16].split(b"\0")[0]
    return f"segment APP{marker - APP0}" + (f" {name.decode()!r}" if name.isascii() and name.strip() else "")


def _read_following_images(data: mmap.mmap, index: tuple[int, bytes] | None) -> tuple[bytes | None, list[str]]:
    """Return the gain map that follows the image, None if there is none, and names of what else does."""
    try:
        end = data.find(b"\xd9", end_of_picture(data)) + 1  # after fill bytes
    except DamageError:
        return None, []  # reported when the image is decoded
    places = _indexed_images(*index) if index else []
    if not places and (start := data.find(b"\xff\xd8\xff", end)) >= 0:
        places = [(start, len(data) - start)]
    gain_map = None
    other = 0
    last = end
    for start, length in places:
        if start < end or data[start : start + 3] != b"\xff\xd8\xff":
            continue
        last = max(last, start + length)
        image = data[start : start + length]
        if gain_map is None and is_gain_map(image):
            gain_map = image
        else:
            other += 1
    losses: list[str] = []
    if other:
        losses.append(f"{other} further image{'s' if other > 1 else ''} (previews, other views or a depth map)")
    if data[last:].strip(b"\0"):
        losses.append("data after the image (a motion photo's video, or a maker's own)")
    return gain_map, losses


def _indexed_images(base: int, content: bytes) -> list[tuple[int, int]]:
    """Return offset and length of the images after the first in an MPF index whose offsets count from ``base``."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None:
        return []
    try:
        (first,) = struct.unpack_from(order + "I", content, 4)
        (count,) = struct.unpack_from(order + "H", content, first)
        for number in range(count):
            tag, _, size, at = struct.unpack_from(order + "HHII", content, first + 2 + 12 * number)
            if tag == MP_ENTRIES:
                entries = [
                    struct.unpack_from(order + "III", content, at + 16 * k) for k in range(min(size // 16, _MAX_IMAGES))
                ]
                return [(base + offset, length) for _, length, offset in entries[1:]]
    except struct.error:
        pass
    return []


def is_gain_map(image: bytes) -> bool:
    """Return whether a JPEG image says that it is a gain map."""
    iso = any(marker == APP2 and content.startswith(_ISO_GAIN_MAP) for _, marker, content in _segments(image))
    return iso or any(name in packet for packet in _xmp_packets(image) for name in _GAIN_MAP_XMP)


def is_ultra_hdr_gain_map(image: bytes) -> bool:
    """Return whether its XMP says that it is one of Ultra HDR, which the photo's XMP then announces."""
    return any(_ULTRA_HDR in packet for packet in _xmp_packets(image))


def _xmp_packets(image: bytes) -> Iterator[bytes]:
    return (content for _, marker, content in _segments(image) if marker == APP1 and content.startswith(XMP))


def upright_gain_map(image: bytes, orientation: int, max_pixels: int) -> bytes:
    """Return a gain map turned upright as its photo, whose EXIF orientation is given.

    Raises:
        pyvips.Error: If it has to be turned and is damaged.
        ValueError: If it has to be turned and has more than ``max_pixels``.
    """
    if orientation == 1:
        return image
    pixels = pyvips.Image.jpegload_buffer(image, fail_on="warning").copy()
    if pixels.width * pixels.height > max_pixels:
        raise ValueError(f"a gain map of {pixels.width}x{pixels.height} pixels")
    pixels.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    turned = pixels.autorot().jpegsave_buffer(Q=95, subsample_mode="off", keep="none")
    kept = [segment(m, c) for _, m, c in _segments(image) if m in (APP1, APP2) and not c.startswith((EXIF, MPF))]
    return bytes(turned[:2]) + b"".join(kept) + bytes(turned[2:])


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment of at most 65533 bytes."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


MAX_EXIF = MAX_DATA - len(EXIF)
MAX_XMP = MAX_DATA - len(XMP)
