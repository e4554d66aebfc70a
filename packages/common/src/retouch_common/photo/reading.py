"""Reading the metadata of a photo's file."""

from __future__ import annotations

import os
from dataclasses import replace

import pyvips

from retouch_common.photo.avif_boxes import read_properties
from retouch_common.photo.cicp import cicp_profile, png_profile
from retouch_common.photo.damage import DamageError
from retouch_common.photo.exif import IMAGE_RESOURCES, IPTC, Exif
from retouch_common.photo.formats import Format
from retouch_common.photo.image_resources import split_resources
from retouch_common.photo.jpeg_segments import read_segments
from retouch_common.photo.metadata import MALFORMED_EXIF, UNUSED_PROFILE, Metadata
from retouch_common.photo.png_chunks import RAW_PROFILES, read_chunks
from retouch_common.photo.tiff_exif import read_tiff_tags
from retouch_common.photo.webp_chunks import read_unknown


def read_metadata(path: str | os.PathLike[str], format: Format, header: pyvips.Image) -> Metadata:
    """Read the metadata of a photo's file; ``header`` is the file opened by libvips.

    Raises:
        ValueError: If its colour space is not supported; the message does not name the file.
    """
    profile, exif, xmp = (
        bytes(header.get(name)) if header.get_typeof(name) else None
        for name in ("icc-profile-data", "exif-data", "xmp-data")
    )
    grey = header.bands < 3
    if format.name == "JPEG":
        metadata = replace(read_segments(path), profile=profile)
    elif format.name == "PNG":
        metadata = _read_png(path, profile, grey)
    elif format.name == "TIFF":
        metadata = replace(read_tiff_tags(path), profile=profile, xmp=xmp)
        if metadata.extra_samples is not None and (metadata.extra_samples.integers() == 1).any():
            losses = (*metadata.losses, "premultiplication of the transparency")
            metadata = replace(metadata, extra_samples=None, losses=losses)
    elif format.name == "WebP":
        metadata = Metadata(profile=profile, exif=exif, xmp=xmp, losses=read_unknown(path))
    else:
        found = read_properties(path)
        if profile is None and found.cicp is not None:
            profile = cicp_profile(*found.cicp[:2], grey=grey)
        metadata = Metadata(profile=profile, exif=exif, xmp=xmp, losses=found.others)
    if metadata.exif is None:
        return metadata
    try:
        exif_block = Exif(metadata.exif)
    except DamageError:
        return replace(metadata, exif=None, losses=(*metadata.losses, MALFORMED_EXIF))
    if metadata.resolution is None:
        metadata = replace(metadata, resolution=exif_block.resolution)
    if format.name in ("WebP", "AVIF"):
        iptc, resources = exif_block.value(IPTC), exif_block.value(IMAGE_RESOURCES)
        metadata = replace(metadata, iptc=iptc, resources=resources and split_resources(resources)[1])
    if format.name == "TIFF" and exif_block.has_maker_notes:
        metadata = replace(metadata, losses=(*metadata.losses, "data that the maker notes point to"))
    return metadata


def _read_png(path: str | os.PathLike[str], profile: bytes | None, grey: bool) -> Metadata:
    found = read_chunks(path)
    profiles = found.profiles
    block = profiles.get("iptc", b"")
    iptc, resources = (block, None) if block.startswith(b"\x1c") else split_resources(block)
    losses = [*found.others]
    if block and not iptc and not resources:
        losses.append("IPTC (malformed)")
    losses += [f"raw profile {name!r}" for name in profiles if name not in RAW_PROFILES]
    if found.exif_block is None and ("exif" in profiles or "app1" in profiles):
        losses.append(MALFORMED_EXIF)
    if "xmp" in profiles and (found.xmp is not None or not profiles["xmp"]):
        losses.append("further XMP" if profiles["xmp"] else "XMP (malformed)")
    colour = found.colour if profile is None or b"cICP" in found.colour else {}
    if found.embedded_profile and (profile is None or colour):
        losses.append(UNUSED_PROFILE)
    resolution = None
    if found.physical is not None and found.physical[8] == 1:
        across, down = (int.from_bytes(found.physical[at : at + 4], "big") / 1000 for at in (0, 4))
        resolution = (across, down) if across and down else None
    return Metadata(
        profile=png_profile(colour, grey=grey) if profile is None or colour else profile,
        exif=found.exif_block,
        xmp=found.xmp or profiles.get("xmp") or None,
        iptc=iptc,
        resources=resources,
        resolution=resolution,
        text=found.text,
        colour=colour,
        losses=tuple(losses),
    )
