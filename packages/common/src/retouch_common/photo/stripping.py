"""Removal of metadata that a photograph should not carry further: its place, or all that its pixels do not need."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Literal

from retouch_common.photo.damage import DamageError
from retouch_common.photo.exif import Exif
from retouch_common.photo.metadata import Metadata
from retouch_common.photo.xmp import Xmp

Strip = Literal["gps", "all"]

_EXIF_HEADER = b"Exif\0\0"


def stripped(metadata: Metadata, strip: Strip | None) -> Metadata:
    """Return metadata without coordinates ("gps"), or of the colours and channels only ("all")."""
    if strip is None:
        return metadata
    if strip == "all":
        return Metadata(profile=metadata.profile, colour=metadata.colour, extra_samples=metadata.extra_samples)
    text = tuple(entry for entry in metadata.text if b"gps" not in entry[1].split(b"\0")[0].lower())
    gain_map = metadata.gain_map and _gain_map_without_gps(metadata.gain_map)
    exif = metadata.exif and _exif_without_gps(metadata.exif)
    xmp = metadata.xmp
    with contextlib.suppress(ValueError):  # malformed XMP is not written at all
        xmp = xmp and _xmp_without_gps(xmp)
    return replace(metadata, exif=exif, xmp=xmp, text=text, gain_map=gain_map)


def _exif_without_gps(exif: bytes) -> bytes | None:
    try:
        return Exif(exif).without_gps()
    except DamageError:
        return None


def _xmp_without_gps(packet: bytes) -> bytes:
    xmp = Xmp(packet)
    xmp.remove_gps()
    return xmp.serialize()


def _gain_map_without_gps(image: bytes) -> bytes:
    at = image.find(_EXIF_HEADER)
    if at < 2:
        return image
    begin = at + len(_EXIF_HEADER)
    end = at - 2 + int.from_bytes(image[at - 2 : at], "big")
    block = _exif_without_gps(image[begin:end])
    return image[:begin] + (block or b"").ljust(end - begin, b"\0") + image[end:]
