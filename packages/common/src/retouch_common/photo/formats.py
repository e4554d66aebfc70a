"""The supported file formats, recognised by content."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from retouch_common.files import refuse_special
from retouch_common.photo import png_chunks, webp_chunks
from retouch_common.photo.avif_boxes import read_properties
from retouch_common.photo.damage import DamageError
from retouch_common.photo.limits import IN_MEMORY_SHARE
from retouch_common.photo.raw_files import RAW_SUFFIXES, raw_kind


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format: its names, limits and libvips operations.

    Attributes:
        name: Name in messages.
        suffixes: Lower-case suffixes; the first is the default.
        vips: Prefix of libvips' operations that load and save it.
        bits: Maximum bits per channel.
        alpha: Whether it supports transparency.
        cmyk: Whether it supports CMYK.
        max_side: Maximum width and height in pixels, None if no photo reaches the limit.
        in_memory: Whether the decoder keeps the whole photo in memory.
        interlaced: Name of files that the decoder keeps in memory, where it does not keep others; empty if there are
            none.
        options: Options of the saver.
        quality: Default quality in 1..100, None for a lossless format.
        extra: Extra of the package that reads it, and nothing writes it; None for libvips.
        description: What a file is, in messages; of formats with an extra.
    """

    name: str
    suffixes: tuple[str, ...]
    vips: str
    bits: int
    alpha: bool = True
    cmyk: bool = False
    max_side: int | None = None
    in_memory: bool = False
    interlaced: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    quality: int | None = None
    extra: str | None = None
    description: str = ""

    def limit(self, max_pixels: int | None, *, interlaced: bool = False) -> int | None:
        """Return the largest number of pixels, of those decoded in memory a third of ``max_pixels``.

        ``interlaced`` says that the file is one that :attr:`interlaced` names.
        """
        return max_pixels and max_pixels // (IN_MEMORY_SHARE if self.in_memory or interlaced else 1)


FORMATS = {
    entry.name: entry
    for entry in (
        Format(
            name="JPEG",
            suffixes=(".jpg", ".jpeg", ".jpe", ".jfif"),
            vips="jpeg",
            bits=8,
            alpha=False,
            cmyk=True,
            max_side=65500,
            interlaced="progressive JPEG",
            options={"subsample_mode": "off"},  # 4:4:4
            quality=95,
        ),
        Format(
            name="PNG",
            suffixes=(".png",),
            vips="png",
            bits=16,
            interlaced="interlaced PNG",
            options={"filter": "all"},  # libvips: none
        ),
        Format(
            name="TIFF",
            suffixes=(".tif", ".tiff"),
            vips="tiff",
            bits=16,
            cmyk=True,
            options={"compression": "deflate", "predictor": "horizontal"},
        ),
        Format(
            name="WebP",
            suffixes=(".webp",),
            vips="webp",
            bits=8,
            max_side=16383,
            in_memory=True,
            options={"smart_subsample": True, "exact": True},
            quality=95,
        ),
        Format(
            name="AVIF",
            suffixes=(".avif",),
            vips="heif",
            bits=12,
            max_side=16384,
            in_memory=True,
            options={"compression": "av1", "subsample_mode": "off"},
            quality=90,
        ),
    )
}

_HEIC = Format(
    name="HEIC",
    suffixes=(".heic", ".heif"),
    vips="",
    bits=16,
    in_memory=True,
    extra="heif",
    description="an HEIC photo",
)
_JPEG_XL = Format(
    name="JPEG XL", suffixes=(".jxl",), vips="", bits=16, in_memory=True, extra="jxl", description="a JPEG XL photo",
)  # fmt: skip
_RAW = Format(
    name="camera raw", suffixes=RAW_SUFFIXES, vips="", bits=16, in_memory=True, extra="raw",
    description="a camera raw file",
)  # fmt: skip

SUFFIXES = tuple(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
_SUPPORTED = "JPEG, PNG, TIFF, WebP and AVIF"
_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),
    (b"MM\x00+", "TIFF"),
)
_FOREIGN = (
    (b"GIF8", "a GIF"),
    (b"BM", "a BMP"),
    (b"8BPS", "a Photoshop document"),
    (b"%PDF", "a PDF"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 file"),
    (b"v/1\x01", "an OpenEXR file"),
)


def format_of_name(path: str | os.PathLike[str]) -> Format | None:
    """Return the format of a file's suffix, or None if it is not supported."""
    suffix = Path(path).suffix.lower()
    return next((entry for entry in FORMATS.values() if suffix in entry.suffixes), None)


def format_for_output(path: str | os.PathLike[str]) -> Format:
    """Return the format of an output's suffix.

    Raises:
        ValueError: If the suffix is not supported.
    """
    found = format_of_name(path)
    if found is None:
        raise ValueError(f"{path}: the name must end in one of {' '.join(SUFFIXES)}")
    return found


def sniff(path: str | os.PathLike[str]) -> Format:
    """Return the format of a file's content, whatever its name.

    Raises:
        OSError: If the file does not exist or cannot be opened.
        ValueError: If it is a folder, empty, not of a supported format, or animated.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{path}: is a folder, not a photo")
    refuse_special(path)
    try:
        with open(path, "rb") as file:
            head = file.read(65536)
    except OSError as error:
        raise type(error)(f"{path}: cannot be opened: {(error.strerror or str(error)).lower()}") from error
    if not head:
        raise ValueError(f"{path}: is empty (0 bytes)")
    raw = raw_kind(path, head)
    if raw is not None:
        return replace(_RAW, description=f"a camera raw file ({raw})")
    found = _format_of_content(path, head)
    try:
        animated = found.name == "PNG" and png_chunks.is_animated(path)
    except DamageError as error:
        raise ValueError(f"{path}: cannot be read, it is damaged: {error}") from error
    if animated:
        raise ValueError(f"{path}: is an animated PNG; only still photographs can be retouched")
    return found


def _format_of_content(path: Path, head: bytes) -> Format:
    for signature, name in _SIGNATURES:
        if head.startswith(signature):
            return FORMATS[name]
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return FORMATS["WebP"]
    if head.startswith((b"\xff\x0a", b"\x00\x00\x00\x0cJXL ")):
        return _JPEG_XL
    what = next((what for signature, what in _FOREIGN if head.startswith(signature)), "not a photo")
    if head[4:8] == b"ftyp":
        end = max(16, min(len(head), int.from_bytes(head[:4], "big")))
        brands = [head[at : at + 4] for at in range(8, end, 4)]
        if b"avis" in brands:
            raise ValueError(f"{path}: is an animated AVIF; only still photographs can be retouched")
        if b"avif" in brands:
            return FORMATS["AVIF"]
        if brands[0][:3] in (b"hei", b"hev", b"mif"):
            return _HEIC
        what = "a video or an unknown ISO media file"
    raise ValueError(f"{path}: is {what}; supported are {_SUPPORTED}")


def is_lossless_avif(path: str | os.PathLike[str]) -> bool:
    """Return whether an AVIF file says that it codes RGB itself (the identity matrix), as lossless files do."""
    cicp = read_properties(path).cicp
    return cicp is not None and cicp[2] == 0


def is_lossless_webp(path: str | os.PathLike[str]) -> bool:
    """Return whether the image of a WebP file is coded losslessly (its chunk is VP8L)."""
    with open(path, "rb") as file:
        return next((kind == b"VP8L" for kind, _ in webp_chunks.walk(file) if kind in (b"VP8L", b"VP8 ")), False)
