"""Segments that precede the image of a written JPEG file, and the gain map that follows it.

Reference: ITU-T T.81, annex B; JFIF 1.02; CIPA DC-007 (MPF); Ultra HDR Image Format 1.1.
"""

from __future__ import annotations

import os
import struct

from retouch_common.photo.image_resources import join_resources
from retouch_common.photo.jpeg_segments import (
    APP0,
    APP1,
    APP2,
    APP13,
    COM,
    EXIF,
    ICC,
    MAX_DATA,
    MP_ENTRIES,
    MPF,
    PHOTOSHOP,
    XMP,
    segment,
)
from retouch_common.photo.metadata import Metadata


def pack_header(metadata: Metadata, *, jfif: bool) -> bytes:
    """Return the segments of a photo's metadata.

    MPF's index, of which sizes are still missing, comes last; see :func:`append_gain_map`. ``jfif`` says whether the
    colours are those of JFIF (not CMYK).
    """
    parts = []
    if jfif:
        inches = [min(65535, round(25.4 * value)) for value in metadata.resolution or (1 / 25.4, 1 / 25.4)]
        unit = 0 if metadata.resolution is None else 1
        parts.append(segment(APP0, b"JFIF\0" + struct.pack(">HBHHBB", 0x0102, unit, *inches, 0, 0)))
    if metadata.exif is not None:
        parts.append(segment(APP1, EXIF + metadata.exif))
    if metadata.xmp is not None:
        parts.append(segment(APP1, XMP + metadata.xmp))
    resources = join_resources(metadata.iptc, metadata.resources)
    parts += [segment(APP13, PHOTOSHOP + piece) for piece in _pieces(resources, MAX_DATA - len(PHOTOSHOP))]
    profile = _pieces(metadata.profile or b"", MAX_DATA - len(ICC) - 2)
    for number, piece in enumerate(profile, 1):
        parts.append(segment(APP2, ICC + bytes([number, len(profile)]) + piece))
    parts += [segment(COM, comment) for comment in metadata.comments]
    if metadata.gain_map is not None:
        parts += [segment(APP2, metadata.iso_gain_map)] if metadata.iso_gain_map is not None else []
        parts.append(segment(APP2, MPF + _mpf_index(0, 0, 0)))
    return b"".join(parts)


MAX_PROFILE = 255 * (MAX_DATA - len(ICC) - 2)
"""Size of the largest ICC profile that a JPEG holds, in bytes."""


def _pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def _mpf_index(first_length: int, length: int, offset: int) -> bytes:
    """Return MPF's index of two images; ``offset`` of the second counts from the index's start."""
    directory = struct.pack(">HHHI4s", 3, 0xB000, 7, 4, b"0100") + struct.pack(">HHII", 0xB001, 4, 1, 2)
    directory += struct.pack(">HHIII", MP_ENTRIES, 7, 32, 8 + 2 + 36 + 4, 0)
    entries = struct.pack(">IIIHH", 0x030000, first_length, 0, 0, 0) + struct.pack(">IIIHH", 0, length, offset, 0, 0)
    return b"MM\0*" + struct.pack(">I", 8) + directory + entries


def append_gain_map(path: str | os.PathLike[str], gain_map: bytes, header_size: int) -> None:
    """Append a gain map to a JPEG file whose header, of a size in bytes, announces it; in place."""
    index_size = len(_mpf_index(0, 0, 0))
    with open(path, "r+b") as file:
        size = file.seek(0, os.SEEK_END)
        file.write(gain_map)
        at = 2 + header_size - index_size
        file.seek(at)
        file.write(_mpf_index(size, len(gain_map), size - at))
