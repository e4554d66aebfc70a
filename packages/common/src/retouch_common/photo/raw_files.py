"""Camera raw files, most of which start like a TIFF file and hold a small preview as its first image.

Reference: DNG Specification 1.7; TIFF/EP (ISO 12234-2).
"""

from __future__ import annotations

import os
from pathlib import Path

from retouch_common.photo.damage import DamageError
from retouch_common.photo.tiff_structure import Tiff

RAW_SUFFIXES = (
    ".3fr", ".arw", ".cr2", ".cr3", ".dcr", ".dng", ".erf", ".fff", ".iiq", ".k25", ".kdc", ".mef", ".mos", ".mrw",
    ".nef", ".nrw", ".orf", ".pef", ".raf", ".raw", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f",
)  # fmt: skip
_SIGNATURES = (b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0", b"FOVb", b"\0MRM", b"HEAPCCDR")
_SUB_IMAGES, _PHOTOMETRIC, _DNG_VERSION = 330, 262, 50706
_SENSOR = (32803, 34892)  # colour filter array, linear raw
_SERIAL_NUMBER, _LENS, _PRIVATE, _ORIGINAL_NAME, _ORIGINAL = 50735, 50736, 50740, 50827, 50828

RENDERED_TAGS = frozenset(
    {_SUB_IMAGES, 33421, 33422, 37398, *range(50706, 51126), *range(51177, 51183), *range(52525, 52554)}
    - {_SERIAL_NUMBER, _LENS, _PRIVATE, _ORIGINAL_NAME, _ORIGINAL}
)
"""Tags that say how the sensor's data and the previews of a raw file are stored, and how to render the data."""


def raw_kind(path: Path, head: bytes) -> str | None:
    """Return what kind of camera raw file a file is, by its first bytes and the name; None if it is none."""
    suffix = path.suffix.lower()
    is_tiff = head[:4] in (b"II*\0", b"MM\0*")
    named = suffix in RAW_SUFFIXES
    if head.startswith(_SIGNATURES) or head[4:12] == b"ftypcrx " or head[6:14] == b"HEAPCCDR":
        return suffix[1:].upper() if named else "of a camera's maker"
    if not is_tiff:
        return None
    if head[8:10] == b"CR":
        return "CR2"
    if named and suffix != ".raw":
        return suffix[1:].upper()
    return _kind_of_tiff(path)


def _kind_of_tiff(path: str | os.PathLike[str]) -> str | None:
    try:
        with open(path, "rb") as file:
            tiff = Tiff(file)
            wanted = (_SUB_IMAGES, _PHOTOMETRIC, _DNG_VERSION)
            directories = [tiff.entries(tiff.first, wanted)]
            if _DNG_VERSION in directories[0]:
                return "DNG"
            if _SUB_IMAGES in directories[0]:
                places = directories[0][_SUB_IMAGES].integers()[:8].tolist()
                directories += [tiff.entries(int(place), wanted) for place in places]
            models = [int(d[_PHOTOMETRIC].integers()[0]) for d in directories if _PHOTOMETRIC in d]
    except DamageError:
        return None  # reported when it is decoded
    return "of a camera's maker" if any(model in _SENSOR for model in models) else None
