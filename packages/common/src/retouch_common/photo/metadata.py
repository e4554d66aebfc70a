"""Metadata of a photo's file, and what of it an output of each format carries.

EXIF keeps its bytes, maker notes and unknown tags included; orientation and size are set, and previews of the photo
before retouching are blanked, also those of XMP and of Photoshop's image resources. IPTC keeps its bytes; WebP and
AVIF, which have no place for it, carry it as EXIF tag 33723, as TIFF does. What an output cannot carry is named.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyvips

from retouch_common.errors import joined
from retouch_common.photo.avif_boxes import read_properties
from retouch_common.photo.cicp import cicp_profile, png_profile
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
from retouch_common.photo.image_resources import join_resources, split_resources
from retouch_common.photo.jpeg_segments import (
    MAX_EXIF,
    MAX_XMP,
    is_ultra_hdr_gain_map,
    read_segments,
    upright_gain_map,
)
from retouch_common.photo.png_chunks import RAW_PROFILES, read_chunks
from retouch_common.photo.tiff_exif import MALFORMED, losses_in_tiff, read_tiff_tags
from retouch_common.photo.tiff_structure import Entry
from retouch_common.photo.webp_chunks import read_unknown
from retouch_common.photo.xmp import Edit, Xmp, XmpSizeError

UNUSED_PROFILE = "ICC profile (malformed, or for another colour model)"


def orientation(image: pyvips.Image) -> int:
    """Return the EXIF orientation of an opened photo, 1 (upright, also without a tag) to 8."""
    return image.get("orientation") if image.get_typeof("orientation") else 1


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """Metadata of a file, or of an output.

    Attributes:
        profile: ICC profile of the pixels, None for sRGB or if unknown.
        exif: EXIF block.
        xmp: XMP packet.
        iptc: IPTC-IIM records.
        resources: Photoshop's other image resources.
        resolution: Pixels per millimetre across and down, None if the file states none.
        comments: Comments of a JPEG.
        text: Text chunks (type, data) of a PNG.
        colour: Chunks of a PNG that state its colour space instead of an embedded profile, by type.
        extra_samples: TIFF's entry of the meaning of the channels after the colours.
        gain_map: JPEG image of a gain map.
        iso_gain_map: JPEG segment that announces one.
        losses: What else the file has.
    """

    profile: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    iptc: bytes | None = None
    resources: bytes | None = None
    resolution: tuple[float, float] | None = None
    comments: Sequence[bytes] = ()
    text: Sequence[tuple[bytes, bytes]] = ()
    colour: Mapping[bytes, bytes] = field(default_factory=dict)
    extra_samples: Entry | None = None
    gain_map: bytes | None = None
    iso_gain_map: bytes | None = None
    losses: tuple[str, ...] = ()


def read_metadata(path: str | os.PathLike[str], format: Format, header: pyvips.Image) -> Metadata:
    """Read the metadata of a photo's file; ``header`` is the file opened by libvips.

    Raises:
        ValueError: If its colour space is not supported; the message does not name the file.
    """
    profile = _blob(header, "icc-profile-data")
    metadata = Metadata(profile=profile, exif=_blob(header, "exif-data"), xmp=_blob(header, "xmp-data"))
    metadata = _READERS[format.name](path, metadata, header.bands < 3)
    if metadata.exif is not None:
        try:
            exif = Exif(metadata.exif)
        except DamageError:
            return replace(metadata, exif=None, losses=(*metadata.losses, MALFORMED))
        if metadata.resolution is None:
            metadata = replace(metadata, resolution=exif.resolution)
        if format.name in ("WebP", "AVIF"):
            iptc, resources = exif.value(IPTC), exif.value(IMAGE_RESOURCES)
            metadata = replace(metadata, iptc=iptc, resources=resources and split_resources(resources)[1])
        if format.name == "TIFF" and exif.has_maker_notes:
            metadata = replace(metadata, losses=(*metadata.losses, "data that the maker notes point to"))
    return metadata


def _blob(image: pyvips.Image, name: str) -> bytes | None:
    return bytes(image.get(name)) if image.get_typeof(name) else None


def _read_jpeg(path: str | os.PathLike[str], metadata: Metadata, grey: bool) -> Metadata:
    found = read_segments(path)
    iptc, resources = split_resources(bytes(found.resources))
    return replace(
        metadata,
        exif=found.exif,
        xmp=found.xmp,
        iptc=iptc,
        resources=resources,
        resolution=found.density,
        comments=found.comments,
        gain_map=found.gain_map,
        iso_gain_map=found.iso_gain_map,
        losses=tuple(found.losses),
    )


def _read_png(path: str | os.PathLike[str], metadata: Metadata, grey: bool) -> Metadata:
    found = read_chunks(path)
    profiles = found.profiles
    block = profiles.get("iptc", b"")
    iptc, resources = (block, None) if block.startswith(b"\x1c") else split_resources(block)
    if block and not iptc and not resources:
        found.others.append("IPTC (malformed)")
    losses = [*found.others, *(f"raw profile {name!r}" for name in profiles if name not in RAW_PROFILES)]
    losses += [MALFORMED] if found.exif_block is None and ("exif" in profiles or "app1" in profiles) else []
    if "xmp" in profiles and (found.xmp is not None or not profiles["xmp"]):
        losses.append("further XMP" if profiles["xmp"] else "XMP (malformed)")
    colour = found.colour
    if found.embedded_profile and (metadata.profile is None or b"cICP" in colour):
        losses.append(UNUSED_PROFILE)
    resolution = None
    if found.physical is not None and found.physical[8] == 1:
        across, down = (int.from_bytes(found.physical[at : at + 4], "big") / 1000 for at in (0, 4))
        resolution = (across, down) if across and down else None
    metadata = replace(
        metadata,
        exif=found.exif_block,
        xmp=found.xmp or profiles.get("xmp") or None,
        iptc=iptc,
        resources=resources,
        text=found.text,
        resolution=resolution,
        losses=tuple(losses),
    )
    if metadata.profile is None or b"cICP" in colour:
        return replace(metadata, profile=png_profile(colour, grey=grey), colour=colour)
    return metadata


def _read_tiff(path: str | os.PathLike[str], metadata: Metadata, grey: bool) -> Metadata:
    found = read_tiff_tags(path)
    premultiplied = found.extra_samples is not None and bool((found.extra_samples.integers() == 1).any())
    iptc, resources = split_resources(found.resources)
    return replace(
        metadata,
        exif=found.exif,
        iptc=found.iptc or iptc,
        resources=resources,
        resolution=found.resolution,
        extra_samples=None if premultiplied else found.extra_samples,
        losses=(*found.losses, "premultiplication of the transparency") if premultiplied else found.losses,
    )


def _read_webp(path: str | os.PathLike[str], metadata: Metadata, grey: bool) -> Metadata:
    return replace(metadata, losses=read_unknown(path))


def _read_avif(path: str | os.PathLike[str], metadata: Metadata, grey: bool) -> Metadata:
    found = read_properties(path)
    metadata = replace(metadata, losses=found.others)
    if metadata.profile is None and found.cicp is not None:
        return replace(metadata, profile=cicp_profile(*found.cicp[:2], grey=grey))
    return metadata


_READERS: dict[str, Callable[[str | os.PathLike[str], Metadata, bool], Metadata]] = {
    "JPEG": _read_jpeg,
    "PNG": _read_png,
    "TIFF": _read_tiff,
    "WebP": _read_webp,
    "AVIF": _read_avif,
}


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
    xmp.update()
    gain_map = len(out.gain_map) if out.gain_map is not None and announced else None
    packet = _packet(xmp, gain_map, edit)
    if target.name == "JPEG" and packet is not None and len(packet) > MAX_XMP:
        losses.append("XMP (too large for JPEG)")
        packet = _packet(Xmp(), gain_map, edit)
    return replace(out, xmp=packet)


def _packet(xmp: Xmp, gain_map: int | None, edit: Edit | None) -> bytes | None:
    """Return a packet that announces a gain map of so many bytes and records an edit; None if it states nothing."""
    if gain_map is not None:
        xmp.announce_gain_map(gain_map)
    if edit is not None:
        xmp.record(edit)
    return None if xmp.empty else xmp.serialize()
