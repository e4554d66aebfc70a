"""Photoshop's image resources, the blocks "8BIM" that carry IPTC in JPEG (APP13) and TIFF (tag 34377).

Reference: Adobe Photoshop File Formats Specification, section "Image Resources".
"""

from __future__ import annotations

import struct

_SIGNATURE = b"8BIM"
_IPTC = 1028
_THUMBNAILS = (1033, 1036)
_COPIES = (1039, 1058, 1059, 1060)  # of ICC profile, EXIF and XMP, which the file has in its own places


def split_resources(data: bytes) -> tuple[bytes | None, bytes | None]:
    """Split image resources into IPTC and what else is kept.

    Returns:
        The IPTC-IIM records, and the other resources without thumbnails and copies of other metadata; None where there
        are none. What follows a malformed resource is dropped.
    """
    iptc = None
    kept = []
    at = 0
    while data[at : at + 4] == _SIGNATURE and at + 12 <= len(data):
        number, name_length = struct.unpack_from(">HB", data, at + 4)
        size_at = at + 7 + name_length + (1 - name_length % 2)
        if size_at + 4 > len(data):
            break
        (size,) = struct.unpack_from(">I", data, size_at)
        end = size_at + 4 + size
        if end > len(data):
            break
        if number == _IPTC:
            iptc = data[size_at + 4 : end]
        elif number not in _THUMBNAILS + _COPIES:
            kept.append(data[at:end] + b"\0" * (size % 2))
        at = end + size % 2
    return iptc, b"".join(kept) or None


def join_resources(iptc: bytes | None, others: bytes | None) -> bytes:
    """Return image resources that hold IPTC-IIM records and other resources; empty without both."""
    data = b""
    if iptc is not None:
        data = _SIGNATURE + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2)
    return data + (others or b"")
