"""Chunks of PNG files that libvips does not carry as they are: text, colour space and resolution.

Reference: PNG (Third Edition), section 11.
"""

from __future__ import annotations

import itertools
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from retouch_common.photo.content_credentials import CREDENTIALS
from retouch_common.photo.damage import DamageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp"
_TEXT = (b"tEXt", b"zTXt", b"iTXt")
_COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
_COLOUR = (b"cICP", b"gAMA", b"cHRM", b"sRGB")
_STRUCTURE = (b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"eXIf", b"pHYs")
# What describes the old pixels or their coding.
_STALE = (b"bKGD", b"hIST", b"sBIT", b"tIME", b"sPLT")
_C2PA = b"caBX"
_PIECE = 1 << 20  # bytes read at a time
_LIMIT = 1 << 26  # bytes of a chunk besides pixels, and of what all compressed ones hold
RAW_PROFILES = ("iptc", "exif", "app1", "xmp")  # raw profiles that are decoded
_MAX_CHUNKS = 20_000  # besides one for every kilobyte; encoders write pixels in chunks of 8 kB and more


@dataclass
class PngChunks:
    """Chunks of a PNG file besides its pixels.

    Attributes:
        text: (type, data) of the text chunks without XMP and raw profiles.
        colour: Data of cICP, gAMA, cHRM and sRGB by type.
        physical: Data of pHYs, None if missing.
        exif: EXIF block, None if missing.
        embedded_profile: Whether it has an ICC profile.
        xmp: XMP packet, None if missing.
        profiles: Raw profiles by name ("iptc", "exif", "app1", "xmp", …), as ImageMagick keeps them; malformed ones and
            those of other names are empty.
        others: Names of other chunks.
    """

    text: list[tuple[bytes, bytes]] = field(default_factory=list)
    colour: dict[bytes, bytes] = field(default_factory=dict)
    physical: bytes | None = None
    exif: bytes | None = None
    embedded_profile: bool = False
    xmp: bytes | None = None
    profiles: dict[str, bytes] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)

    @property
    def exif_block(self) -> bytes | None:
        """EXIF of its chunk, else of a raw profile; None if there is none."""
        return self.exif or self.profiles.get("exif") or self.profiles.get("app1") or None


def walk(file: BinaryIO) -> Iterator[tuple[int, bytes, int]]:
    """Yield offset, type and length of the data of consecutive chunks; the file is then positioned at the data.

    Raises:
        DamageError: If there are more than a photo has: millions of empty ones take half a minute.
    """
    size, at = file.seek(0, os.SEEK_END), len(SIGNATURE)
    limit = _MAX_CHUNKS + size // 1024
    for number in itertools.count(1):
        if at + 12 > size:
            return
        if number > limit:
            raise DamageError(f"it has more than {limit} chunks")
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        yield at, kind, length
        at += 12 + length


def is_animated(path: str | os.PathLike[str]) -> bool:
    """Return whether a PNG file has an animation control chunk before its pixels."""
    with open(path, "rb") as file:
        return next((kind == b"acTL" for _, kind, _ in walk(file) if kind in (b"acTL", b"IDAT")), False)


def read_chunks(path: str | os.PathLike[str]) -> PngChunks:
    """Read the chunks of a PNG file.

    Raises:
        DamageError: If its end is missing: chunks that follow the pixels may be, too. Or compressed text and profile
            hold more than 64 MB: libvips inflates them whenever it opens the file.
    """
    found, inflated = PngChunks(), 0
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        for at, kind, length in walk(file):
            if at + 12 + length > size:
                break
            if kind == b"IEND":
                return found
            if kind in (b"IDAT", b"PLTE"):
                continue
            if length > _LIMIT:
                if kind in _COMPRESSED:
                    raise DamageError(f"its chunk {kind.decode('latin-1')} has more than {_LIMIT >> 20} MB")
                found.others.append(CREDENTIALS if kind == _C2PA else f"chunk {kind.decode('latin-1')}")
                continue
            data = file.read(length)
            if kind in _COMPRESSED and (kind != b"iTXt" or data.partition(b"\0")[2][:1] == b"\1"):
                inflated += len(_content(kind, data, _LIMIT + 1 - inflated))
                if inflated > _LIMIT:
                    raise DamageError(f"its text and colour profile have more than {_LIMIT >> 20} MB")
            if kind == b"iCCP":
                found.embedded_profile = True
            else:
                _store(found, kind, data)
    raise DamageError("its end is missing")


def damage_of(path: str | os.PathLike[str]) -> str:
    """Return what is damaged in a PNG file that cannot be decoded; libvips does not pass on libpng's messages."""
    try:
        return _damage_of(path)
    except DamageError as error:
        return str(error)


def _damage_of(path: str | os.PathLike[str]) -> str:
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        for at, kind, length in walk(file):
            if not kind.isalpha():
                return f"after {at} bytes there is no chunk"
            name = kind.decode("ascii")
            if at == len(SIGNATURE) and kind != b"IHDR":
                return f"its first chunk is {name} instead of IHDR"
            if at + 12 + length > size:
                return f"it ends within its chunk {name}"
            checksum = zlib.crc32(kind)
            for begin in range(0, length, _PIECE):
                checksum = zlib.crc32(file.read(min(_PIECE, length - begin)), checksum)
            if checksum != int.from_bytes(file.read(4), "big"):
                return f"the checksum of its chunk {name} is wrong"
            if kind == b"IEND":
                read_chunks(path)
                return "its chunks contradict each other, or its compressed pixels are damaged"
    return "its end is missing"


def _store(found: PngChunks, kind: bytes, data: bytes) -> None:
    keyword = data.split(b"\0", 1)[0][:79]
    if kind in _TEXT:
        if keyword.startswith(b"Raw profile type "):
            name = keyword[17:].decode("latin-1").lower()
            if name not in found.profiles:  # of many, each could inflate to 64 MB
                found.profiles[name] = _raw_profile(kind, data) if name in RAW_PROFILES else b""
        elif keyword != XMP_KEYWORD:
            found.text.append((kind, data))
        else:
            packet = _content(kind, data)
            if found.xmp or not packet:
                found.others.append("further XMP" if packet else "XMP (malformed)")
            found.xmp = found.xmp or packet or None
    elif kind in _COLOUR:
        found.colour[kind] = data
    elif kind == b"pHYs" and len(data) == 9:
        found.physical = data
    elif kind == b"eXIf":
        found.others += ["further EXIF"] if found.exif is not None else []
        found.exif = found.exif or data
    elif kind not in _STRUCTURE + _STALE:
        found.others.append(CREDENTIALS if kind == _C2PA else f"chunk {kind.decode('latin-1')}")


def _content(kind: bytes, data: bytes, limit: int = _LIMIT) -> bytes:
    """Return the text of a tEXt, zTXt or iTXt chunk, or the profile of iCCP, of ``limit`` bytes at most.

    Empty if it is malformed.
    """
    content = data.partition(b"\0")[2]
    compressed = kind in (b"zTXt", b"iCCP")
    if kind == b"iTXt":
        compressed = content[:1] == b"\1"
        content = content[:1] + content[2:].partition(b"\0")[2].partition(b"\0")[2]
    if kind != b"tEXt":
        content = content[1:]  # the method or flag of compression
    if not compressed:
        return content[:limit]
    try:
        return zlib.decompressobj().decompress(content, limit)
    except zlib.error:
        return b""


def _raw_profile(kind: bytes, data: bytes) -> bytes:
    """Decode a raw profile: lines of its name, its length, and hexadecimal digits; empty if it is malformed."""
    text = _content(kind, data)
    try:
        digits = text.split(b"\n", 3)[3] if text.startswith(b"\n") else b""
        return bytes.fromhex(re.sub(rb"\s", b"", digits).decode("ascii"))
    except (ValueError, IndexError):
        return b""


def raw_profile(name: str, data: bytes) -> bytes:
    """Return the data of a zTXt chunk that holds a raw profile."""
    digits = data.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    text = f"\n{name}\n{len(data):8d}\n" + "\n".join(lines) + "\n"
    return f"Raw profile type {name}".encode() + b"\0\0" + zlib.compress(text.encode())


def chunk(kind: bytes, data: bytes) -> bytes:
    """Return a chunk with length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))


class ChunkInserter:
    """Filter of a PNG file's bytes that adds chunks after IHDR and drops pHYs, with which libvips invents a resolution.

    Args:
        write: Receives the filtered bytes.
        chunks: Packed chunks to add.
    """

    def __init__(self, write: Callable[[bytes], object], chunks: bytes) -> None:
        self._write = write
        self._chunks = chunks
        self._head: bytearray | None = bytearray()

    def __call__(self, data: bytes) -> None:
        """Pass on bytes of the file."""
        if self._head is None:
            self._write(data)
            return
        self._head += data
        first = len(SIGNATURE) + 25  # after IHDR
        at = first
        while len(self._head) >= at + 8:
            length, kind = struct.unpack_from(">I4s", self._head, at)
            if kind == b"IDAT":
                self._write(bytes(self._head[:first]) + self._chunks + bytes(self._head[first:]))
                self._head = None
                return
            if len(self._head) < at + 12 + length:
                return
            if kind == b"pHYs":
                del self._head[at : at + 12 + length]
            else:
                at += 12 + length
