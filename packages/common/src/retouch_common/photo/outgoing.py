"""Metadata that an output carries: what is not stripped and has a place in its format."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Literal

import pyvips

from retouch_common.errors import joined
from retouch_common.photo.damage import DamageError
from retouch_common.photo.exif import (
    IMAGE_RESOURCES,
    IPTC,
    X_RESOLUTION,
    Exif,
    bytes_entry,
    resolution_entries,
    with_entries,
)
from retouch_common.photo.formats import Format
from retouch_common.photo.image_resources import join_resources
from retouch_common.photo.jpeg_segments import EXIF, MAX_EXIF, MAX_XMP, is_ultra_hdr_gain_map, upright_gain_map
from retouch_common.photo.metadata import Metadata
from retouch_common.photo.tiff_exif import losses_in_tiff
from retouch_common.photo.xmp import Edit, Xmp, XmpSizeError

Strip = Literal["gps", "all"]


def stripped(metadata: Metadata, strip: Strip | None) -> Metadata:
    """Return metadata without coordinates ("gps"), or of the colours and channels only ("all").

    Raises:
        ValueError: If ``strip`` is another value.
    """
    if strip is None:
        return metadata
    if strip not in ("gps", "all"):
        raise ValueError(f"strip must be gps or all, not {strip!r}")
    if strip == "all":
        return Metadata(profile=metadata.profile, colour=metadata.colour, extra_samples=metadata.extra_samples)
    text = tuple(entry for entry in metadata.text if b"gps" not in entry[1].split(b"\0")[0].lower())
    gain_map = metadata.gain_map and _gain_map_without_gps(metadata.gain_map)
    exif = metadata.exif and _exif_without_gps(metadata.exif)
    packet = metadata.xmp
    if packet is not None:
        with contextlib.suppress(ValueError):  # malformed XMP is not written at all
            xmp = Xmp(packet)
            xmp.remove_gps()
            packet = xmp.serialize()
    return replace(metadata, exif=exif, xmp=packet, text=text, gain_map=gain_map)


def _exif_without_gps(exif: bytes) -> bytes | None:
    try:
        return Exif(exif).without_gps()
    except DamageError:
        return None


def _gain_map_without_gps(image: bytes) -> bytes:
    at = image.find(EXIF)
    if at < 2:
        return image
    begin = at + len(EXIF)
    end = at - 2 + int.from_bytes(image[at - 2 : at], "big")
    block = _exif_without_gps(image[begin:end])
    return image[:begin] + (block or b"").ljust(end - begin, b"\0") + image[end:]


def outgoing_metadata(
    metadata: Metadata,
    source: Format,
    target: Format,
    *,
    width: int,
    height: int,
    orientation: int,
    edit: Edit | None,
) -> Metadata:
    """Return the metadata of an output of a format, whose ``losses`` name what it does not carry.

    Args:
        metadata: Metadata of the file.
        source: Its format.
        target: Format of the output.
        width: Width of the upright photo in pixels.
        height: Height of the upright photo in pixels.
        orientation: EXIF orientation of the file, by which a gain map is turned.
        edit: What was done, for the history; None to record nothing.
    """
    losses = list(metadata.losses)
    out = metadata
    if target.name != "JPEG":
        losses += ["gain map"] if metadata.gain_map else []
        losses += ["comments"] if metadata.comments else []
        out = replace(out, gain_map=None, comments=())
    elif metadata.gain_map:
        try:
            out = replace(out, gain_map=upright_gain_map(metadata.gain_map, orientation, width * height))
        except (pyvips.Error, ValueError) as error:
            why = "larger than the photo" if isinstance(error, ValueError) else "damaged"
            losses.append(f"gain map ({why})")
            out = replace(out, gain_map=None)
    if target.name != "PNG" and metadata.text:
        keywords = sorted({data.split(b"\0")[0][:79].decode("latin-1") for _, data in metadata.text})
        losses.append(f"text ({joined(keywords, ', ')})")
        out = replace(out, text=())
    out = _outgoing_exif(out, source, target, width, height, losses)
    out = _outgoing_xmp(out, target, edit, losses)
    return replace(out, losses=tuple(losses))


def _outgoing_exif(
    out: Metadata, source: Format, target: Format, width: int, height: int, losses: list[str]
) -> Metadata:
    exif = None if out.exif is None else Exif(out.exif)
    block = None if exif is None else exif.updated(width, height)
    if exif is not None and exif.has_maker_notes and target.name == "TIFF" != source.name:
        losses.append("data that the maker notes point to")
    if block is not None and target.name == "TIFF" != source.name:
        losses += losses_in_tiff(block)
    if target.name in ("WebP", "AVIF"):
        entries = [bytes_entry(IPTC, out.iptc)] if out.iptc else []
        entries += [bytes_entry(IMAGE_RESOURCES, join_resources(None, out.resources))] if out.resources else []
        if out.resolution and (exif is None or exif.value(X_RESOLUTION) is None):
            entries += resolution_entries(out.resolution)
        if exif is not None:
            entries = [entry for entry in entries if exif.value(entry.tag) != entry.value]  # it would grow each time
        block = with_entries(block, entries) if entries else block
    if target.name == "JPEG" and block is not None and len(block) > MAX_EXIF:
        losses.append("EXIF (too large for JPEG)")
        block = None
    return replace(out, exif=block)


def _outgoing_xmp(out: Metadata, target: Format, edit: Edit | None, losses: list[str]) -> Metadata:
    if out.xmp is None and edit is None and out.gain_map is None:
        return out
    try:
        xmp = Xmp(out.xmp)
    except ValueError as error:
        losses.append("XMP (too large)" if isinstance(error, XmpSizeError) else "XMP (malformed)")
        xmp = Xmp()
    if xmp.depth_map:
        losses.append("depth map")
    announced = out.gain_map is not None and (xmp.gain_map or is_ultra_hdr_gain_map(out.gain_map))
    generated = xmp.generated
    xmp.update()
    gain_map = len(out.gain_map) if out.gain_map is not None and announced else None
    packet = _packet(xmp, gain_map, edit, generated)
    if target.name == "JPEG" and packet is not None and len(packet) > MAX_XMP:
        losses.append("XMP (too large for JPEG)")
        packet = _packet(Xmp(), gain_map, edit, generated)
    return replace(out, xmp=packet)


def _packet(xmp: Xmp, gain_map: int | None, edit: Edit | None, generated: bool) -> bytes | None:
    """Return a packet that announces a gain map of so many bytes and records an edit; None if it states nothing.

    ``generated`` as in :meth:`Xmp.record`.
    """
    if gain_map is not None:
        xmp.announce_gain_map(gain_map)
    if edit is not None:
        xmp.record(edit, generated=generated)
    return None if xmp.empty else xmp.serialize()
