"""Segments of JPEG files besides their image: EXIF, XMP, IPTC, comments, and images that follow the first.

A gain map (Ultra HDR, ISO 21496-1, Apple's) is a second JPEG image behind the first, to which the index of the
Multi-Picture Format (MPF) points.

Reference: ITU-T T.81, annex B; JFIF 1.02; CIPA DC-007 (MPF); Ultra HDR Image Format 1.1.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyvips

from retouch_common.photo.content_credentials import CREDENTIALS
from retouch_common.photo.damage import DamageError
from retouch_common.photo.jpeg_source import end_of_picture

_EXIF, _XMP, _EXTENDED = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"http://ns.adobe.com/xmp/extension/\0"
_ICC, _MPF, _ISO_GAIN_MAP = b"ICC_PROFILE\0", b"MPF\0", b"urn:iso:std:iso:ts:21496:-1\0"
_PHOTOSHOP = b"Photoshop 3.0\0"
_APP0, _APP1, _APP2, _APP11, _APP13, _APP14, _COM, _SOS = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE, 0xFE, 0xDA
_LARGEST = 65533  # bytes of a segment's data
_GAIN_MAP_XMP = (b"http://ns.adobe.com/hdr-gain-map/1.0/", b"urn:com:apple:photo:2020:aux:hdrgainmap")
_MP_ENTRIES = 0xB002


@dataclass
class JpegSegments:
    """Segments of a JPEG file.

    Attributes:
        exif: EXIF block, None if missing.
        xmp: XMP packet, None if missing.
        resources: Photoshop's image resources, empty if missing.
        comments: Comments.
        density: Resolution in pixels per millimetre, None if not stated.
        gain_map: The JPEG image of a gain map, None if missing.
        iso_gain_map: Segment that announces a gain map of ISO 21496-1, None if missing.
        losses: What else there is.
    """

    exif: bytes | None = None
    xmp: bytes | None = None
    resources: bytes = b""
    comments: list[bytes] = field(default_factory=list)
    density: tuple[float, float] | None = None
    gain_map: bytes | None = None
    iso_gain_map: bytes | None = None
    losses: list[str] = field(default_factory=list)


def read_segments(path: str | os.PathLike[str]) -> JpegSegments:
    """Read the segments of a JPEG file; what is damaged is left out."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = JpegSegments()
        others: set[str] = set()
        index = None
        for at, marker, content in _segments(data):
            if content.startswith(_MPF):
                index = at + 4 + len(_MPF), content[len(_MPF) :]
            elif (other := _sort(found, marker, content)) is not None:
                others.add(other)
        found.losses += sorted(others)
        _read_following_images(found, data, index)
        return found


def _segments(data: bytes | mmap.mmap) -> Iterator[tuple[int, int, bytes]]:
    """Yield offset, marker and content of the segments before the first scan."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == _SOS:
            return
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        yield at, marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _sort(found: JpegSegments, marker: int, content: bytes) -> str | None:
    """Keep a segment; return a name of it if it is not kept."""
    if marker == _COM:
        found.comments.append(content)
    elif marker == _APP0 and content.startswith(b"JFIF\0") and len(content) >= 12:
        unit, across, down = struct.unpack_from(">BHH", content, 7)
        per_mm = {1: 1 / 25.4, 2: 1 / 10}.get(unit)
        found.density = (across * per_mm, down * per_mm) if per_mm and across and down else None
    elif marker == _APP1 and content.startswith(_EXIF) and found.exif is None:
        found.exif = content[len(_EXIF) :]
    elif marker == _APP1 and content.startswith(_XMP):
        found.xmp = content[len(_XMP) :]
    elif marker == _APP1 and content.startswith(_EXTENDED):
        return "extended XMP"
    elif marker == _APP2 and content.startswith(_ISO_GAIN_MAP):
        found.iso_gain_map = content
    elif marker == _APP13 and content.startswith(_PHOTOSHOP):
        found.resources += content[len(_PHOTOSHOP) :]
    elif marker == _APP11 and content.startswith(b"JP"):
        return CREDENTIALS
    elif 0xE1 <= marker <= 0xEF and marker != _APP14 and not content.startswith(_ICC):
        name = content[:16].split(b"\0")[0]
        return f"segment APP{marker - _APP0}" + (f" {name.decode()!r}" if name.isascii() and name.strip() else "")
    return None


def _read_following_images(found: JpegSegments, data: mmap.mmap, index: tuple[int, bytes] | None) -> None:
    try:
        end = end_of_picture(data) + 2
    except DamageError:
        return  # reported when the image is decoded
    places = _indexed_images(*index) if index else []
    if not places and (start := data.find(b"\xff\xd8\xff", end)) >= 0:
        places = [(start, len(data) - start)]
    other = 0
    last = end
    for start, length in places:
        image = data[start : start + length]
        if start < end or not image.startswith(b"\xff\xd8\xff"):
            continue
        last = max(last, start + length)
        if found.gain_map is None and is_gain_map(image):
            found.gain_map = image
        else:
            other += 1
    if other:
        found.losses.append(f"{other} further image{'s' if other > 1 else ''} (previews, other views or a depth map)")
    if data[last:].strip(b"\0"):
        found.losses.append("data after the image (a motion photo's video, or a maker's own)")


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
            if tag == _MP_ENTRIES:
                entries = [struct.unpack_from(order + "III", content, at + 16 * k) for k in range(size // 16)]
                return [(base + offset, length) for _, length, offset in entries[1:]]
    except struct.error:
        pass
    return []


def is_gain_map(image: bytes) -> bool:
    """Return whether a JPEG image says that it is a gain map."""
    for _, marker, content in _segments(image):
        if marker == _APP2 and content.startswith(_ISO_GAIN_MAP):
            return True
        if marker == _APP1 and content.startswith(_XMP) and any(name in content for name in _GAIN_MAP_XMP):
            return True
    return False


def upright_gain_map(image: bytes, orientation: int) -> bytes:
    """Return a gain map turned upright as its photo, whose EXIF orientation is given.

    Raises:
        pyvips.Error: If it has to be turned and is damaged.
    """
    if orientation == 1:
        return image
    pixels = pyvips.Image.jpegload_buffer(image, fail_on="warning").copy()
    pixels.set_type(pyvips.GValue.gint_type, "orientation", orientation)
    turned = pixels.autorot().jpegsave_buffer(Q=95, subsample_mode="off", keep="none")
    kept = [segment(m, c) for _, m, c in _segments(image) if m in (_APP1, _APP2) and not c.startswith((_EXIF, _MPF))]
    return bytes(turned[:2]) + b"".join(kept) + bytes(turned[2:])


def segment(marker: int, content: bytes) -> bytes:
    """Return a segment of at most 65533 bytes."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


@dataclass(frozen=True, kw_only=True)
class Header:
    """What precedes the image of a written JPEG file.

    Attributes:
        jfif: Whether its colours are those of JFIF (not CMYK).
        density: Resolution in pixels per millimetre, None to state none.
        exif, xmp, resources, profile: EXIF block, XMP packet, Photoshop's image resources, ICC profile.
        comments: Comments.
        gain_map: Gain map, appended by :func:`append_gain_map`.
        iso_gain_map: Segment that announces it.
    """

    jfif: bool
    density: tuple[float, float] | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    resources: bytes = b""
    profile: bytes | None = None
    comments: Sequence[bytes] = ()
    gain_map: bytes | None = None
    iso_gain_map: bytes | None = None

    def pack(self) -> bytes:
        """Return the segments; MPF's index, of which sizes are still missing, comes last."""
        parts = []
        if self.jfif:
            inches = [min(65535, round(25.4 * value)) for value in self.density or (1 / 25.4, 1 / 25.4)]
            unit = 0 if self.density is None else 1
            parts.append(segment(_APP0, b"JFIF\0" + struct.pack(">HBHHBB", 0x0102, unit, *inches, 0, 0)))
        if self.exif is not None:
            parts.append(segment(_APP1, _EXIF + self.exif))
        if self.xmp is not None:
            parts.append(segment(_APP1, _XMP + self.xmp))
        parts += [segment(_APP13, _PHOTOSHOP + piece) for piece in _pieces(self.resources, _LARGEST - len(_PHOTOSHOP))]
        profile = list(_pieces(self.profile or b"", _LARGEST - len(_ICC) - 2))
        for number, piece in enumerate(profile, 1):
            parts.append(segment(_APP2, _ICC + bytes([number, len(profile)]) + piece))
        parts += [segment(_COM, comment) for comment in self.comments]
        if self.gain_map is not None:
            parts += [segment(_APP2, self.iso_gain_map)] if self.iso_gain_map is not None else []
            parts.append(segment(_APP2, _MPF + _mpf_index(0, 0, 0)))
        return b"".join(parts)


LARGEST_EXIF = _LARGEST - len(_EXIF)
LARGEST_XMP = _LARGEST - len(_XMP)


def _pieces(data: bytes, size: int) -> Iterator[bytes]:
    for at in range(0, len(data), size):
        yield data[at : at + size]


def _mpf_index(first_length: int, length: int, offset: int) -> bytes:
    """Return MPF's index of two images; ``offset`` of the second counts from the index's start."""
    directory = struct.pack(">HHHI4s", 3, 0xB000, 7, 4, b"0100") + struct.pack(">HHII", 0xB001, 4, 1, 2)
    directory += struct.pack(">HHIII", _MP_ENTRIES, 7, 32, 8 + 2 + 36 + 4, 0)
    entries = struct.pack(">IIIHH", 0x030000, first_length, 0, 0, 0) + struct.pack(">IIIHH", 0, length, offset, 0, 0)
    return b"MM\0*" + struct.pack(">I", 8) + directory + entries


def append_gain_map(path: str | os.PathLike[str], header: Header) -> None:
    """Append the gain map of a JPEG file that was written with a header, in place."""
    assert header.gain_map is not None
    index_size = len(_mpf_index(0, 0, 0))
    at = 2 + len(header.pack()) - index_size
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.write(header.gain_map)
        file.seek(at)
        file.write(_mpf_index(size, len(header.gain_map), size - at))


class SegmentInserter:
    """Filter of a JPEG file's bytes that adds segments after its first marker.

    Args:
        write: Receives the filtered bytes.
        segments: Packed segments to add.
    """

    def __init__(self, write: Callable[[bytes], object], segments: bytes) -> None:
        self._write = write
        self._segments = segments
        self._head: bytes | None = b""

    def __call__(self, data: bytes) -> None:
        """Pass on bytes of the file."""
        if self._head is not None:
            self._head += data
            if len(self._head) < 2:
                return
            data = self._head[:2] + self._segments + self._head[2:]
            self._head = None
        self._write(data)
