"""Metadata chunks of WebP files.

Reference: RFC 9649, section 2.
"""

from __future__ import annotations

import os
import struct

from retouch_common.photo.content_credentials import CREDENTIALS

_KNOWN = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "}
_C2PA = b"C2PA"
_MOST = 1000  # chunks that are looked at
_ICC, _ALPHA, _EXIF, _XMP = 0x20, 0x10, 0x08, 0x04


def read_unknown(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of chunks that are not carried, for messages."""
    found = set()
    with open(path, "rb") as file:
        at = 12
        for _ in range(_MOST):
            file.seek(at)
            header = file.read(8)
            if len(header) < 8:
                break
            kind, length = struct.unpack("<4sI", header)
            if kind not in _KNOWN:
                found.add(CREDENTIALS if kind == _C2PA else f"chunk {kind.decode('latin-1')}")
            at += 8 + length + length % 2
    return tuple(sorted(found))


def with_metadata(
    file: bytes,
    width: int,
    height: int,
    *,
    alpha: bool,
    profile: bytes | None = None,
    exif: bytes | None = None,
    xmp: bytes | None = None,
) -> bytes:
    """Return a still WebP file of an image without metadata with ICC profile, EXIF block and XMP packet."""
    image = b"".join(_chunk(kind, data) for kind, data in _chunks(file) if kind != b"VP8X")
    if profile is None and exif is None and xmp is None:
        return file
    flags = (_ALPHA if alpha else 0) | (_ICC if profile else 0) | (_EXIF if exif else 0) | (_XMP if xmp else 0)
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + _chunk(b"VP8X", struct.pack("<I", flags) + size)
    body += _chunk(b"ICCP", profile) if profile else b""
    body += image
    body += _chunk(b"EXIF", exif) if exif else b""
    body += _chunk(b"XMP ", xmp) if xmp else b""
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunks(file: bytes) -> list[tuple[bytes, bytes]]:
    found = []
    at = 12
    while at + 8 <= len(file):
        kind, length = struct.unpack_from("<4sI", file, at)
        found.append((kind, file[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return found


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
