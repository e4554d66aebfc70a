"""Metadata chunks of WebP files.

Reference: RFC 9649, section 2.
"""

from __future__ import annotations

import io
import os
import struct
from collections import Counter
from collections.abc import Iterator
from typing import BinaryIO

from retouch_common.photo.content_credentials import CREDENTIALS
from retouch_common.photo.damage import DamageError
from retouch_common.photo.metadata import Metadata

_KNOWN = {b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "}
_C2PA = b"C2PA"
_MAX_CHUNKS = 1001
_ICC, _ALPHA, _EXIF, _XMP = 0x20, 0x10, 0x08, 0x04


def walk(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield type and length of the data of consecutive chunks; the file is then positioned at the data.

    Raises:
        DamageError: If there are more than a photo has: the decoder keeps a record of each.
    """
    at = 12
    for _ in range(_MAX_CHUNKS):
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            return
        kind, length = struct.unpack("<4sI", header)
        yield kind, length
        at += 8 + length + length % 2
    raise DamageError(f"it has more than {_MAX_CHUNKS - 1} chunks")


def read_unknown(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """Return the names of chunks that are not carried, for messages."""
    with open(path, "rb") as file:
        kinds = Counter(kind for kind, _ in walk(file))
    names = [f"further {kind.decode().strip()}" for kind in (b"EXIF", b"XMP ") if kinds[kind] > 1]
    names += [
        CREDENTIALS if kind == _C2PA else f"chunk {kind.decode('latin-1')}" for kind in kinds if kind not in _KNOWN
    ]
    return tuple(sorted(names))


def with_metadata(file: bytes, width: int, height: int, alpha: bool, metadata: Metadata) -> bytes:
    """Return a still WebP file without metadata with ICC profile, EXIF block and XMP packet."""
    profile, exif, xmp = metadata.profile, metadata.exif, metadata.xmp
    if profile is None and exif is None and xmp is None:
        return file
    stream = io.BytesIO(file)
    image = b"".join(_chunk(kind, stream.read(length)) for kind, length in walk(stream) if kind != b"VP8X")
    flags = (_ALPHA if alpha else 0) | (_ICC if profile else 0) | (_EXIF if exif else 0) | (_XMP if xmp else 0)
    size = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + _chunk(b"VP8X", struct.pack("<I", flags) + size)
    body += _chunk(b"ICCP", profile) if profile else b""
    body += image
    body += _chunk(b"EXIF", exif) if exif else b""
    body += _chunk(b"XMP ", xmp) if xmp else b""
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)
