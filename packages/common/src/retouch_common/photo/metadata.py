"""Metadata of a photo's file.

EXIF keeps its bytes, maker notes and unknown tags included; orientation and size are set, and previews of the photo
before retouching are blanked, also those of XMP and of Photoshop's image resources. IPTC keeps its bytes; WebP and
AVIF, which have no place for it, carry it as EXIF tag 33723, as TIFF does. What an output cannot carry is named.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from retouch_common.photo.tiff_structure import Entry

MALFORMED_EXIF = "EXIF (malformed)"
UNUSED_PROFILE = "ICC profile (malformed, or for another colour model)"


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
