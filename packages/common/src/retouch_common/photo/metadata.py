"""Metadata of a photo's file that is copied to the output."""

from __future__ import annotations

import re
import struct
import zlib
from typing import Any

import pyvips

_CARRIED = (
    "icc-profile-data",
    "xmp-data",
    "iptc-data",
    "photoshop-data",
    "image-description",
    "resolution-unit",
)


def orientation(image: pyvips.Image) -> int:
    """Return the EXIF orientation of an opened photo, 1 (upright, also without a tag) to 8."""
    return image.get("orientation") if image.get_typeof("orientation") else 1


def carried_metadata(image: pyvips.Image) -> dict[str, tuple[int, Any]]:
    """Return the metadata to copy to the output: libvips' names with types and values.

    The orientation becomes upright, as the written pixels are, also in XMP; the embedded preview, which shows the photo
    before retouching, is removed.
    """
    kept = {}
    for name in image.get_fields():
        if name in _CARRIED or name.startswith(("exif-", "png-comment-")):
            kept[name] = (image.get_typeof(name), image.get(name))
    if "xmp-data" in kept:
        kind, value = kept["xmp-data"]
        value = re.sub(rb"(tiff:Orientation(?:>|\s*=\s*[\"']))[2-8]", rb"\g<1>1", bytes(value))
        kept["xmp-data"] = (kind, value)
    kept.pop("exif-ifd0-Orientation", None)
    kept = {name: entry for name, entry in kept.items() if not name.startswith("exif-ifd1-")}
    if "exif-data" in kept:
        kind, value = kept["exif-data"]
        kept["exif-data"] = (kind, without_preview(bytes(value)))
    if any(name.startswith("exif-") for name in kept):
        kept["orientation"] = (pyvips.GValue.gint_type, 1)
    return kept


def exif_fields(exif: bytes) -> dict[str, tuple[int, Any]]:
    """Parse an EXIF block (without "Exif" header) to libvips' fields with types and values, except the orientation."""
    plain = pyvips.Image.black(1, 1).pngsave_buffer()
    body = b"eXIf" + exif
    chunk = struct.pack(">I", len(exif)) + body + struct.pack(">I", zlib.crc32(body))
    image = pyvips.Image.pngload_buffer(plain[:33] + chunk + plain[33:])  # after the signature and IHDR
    fields = {
        name: (image.get_typeof(name), image.get(name))
        for name in image.get_fields()
        if name.startswith("exif-") and name != "exif-ifd0-Orientation"
    }
    return {**fields, "orientation": (pyvips.GValue.gint_type, 1)} if fields else {}


def without_preview(exif: bytes) -> bytes:
    """Remove the embedded preview (the second directory) from an EXIF block; return a malformed block unchanged."""
    start = 6 if exif[:6] == b"Exif\0\0" else 0
    order = {b"II": "<", b"MM": ">"}.get(exif[start : start + 2])
    if order is None or len(exif) < start + 8:
        return exif
    (first,) = struct.unpack_from(order + "I", exif, start + 4)
    at = start + first
    if at + 2 > len(exif):
        return exif
    (count,) = struct.unpack_from(order + "H", exif, at)
    link = at + 2 + 12 * count
    return exif[:link] + b"\0\0\0\0" + exif[link + 4 :] if link + 4 <= len(exif) else exif
