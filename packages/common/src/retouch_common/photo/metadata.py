"""What a photo file carries beside its pixels, as it goes from an input into an output."""

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
    """The EXIF orientation of an opened photo.

    Args:
        image: The photo as the file stores it.

    Returns:
        1 (upright) to 8; 1 when there is no tag.
    """
    return image.get("orientation") if image.get_typeof("orientation") else 1


def carried_metadata(image: pyvips.Image) -> dict[str, tuple[int, Any]]:
    """What goes into the output beside pixels.

    The orientation becomes upright, as the written pixels are, also where XMP repeats it; the embedded
    preview, which would still show the photo before retouching, is left out.

    Args:
        image: The photo as the file stores it.

    Returns:
        libvips' metadata names with their types and values.
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
    """Have libvips take an EXIF block apart, as it does when it finds one in a file.

    Args:
        exif: A TIFF structure, without the "Exif" header.

    Returns:
        libvips' EXIF fields with their types and values; the orientation is left out.
    """
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
    """Unhook the embedded preview (the second directory) from an EXIF block.

    Args:
        exif: "Exif" header, then a TIFF structure.

    Returns:
        The block, ending its chain of directories after the first; as it was if it cannot be understood.
    """
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
