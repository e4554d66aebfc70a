"""Metadata of TIFF files: EXIF, which libvips neither reads nor writes, IPTC, image resources and resolution.

A TIFF keeps EXIF in its first directory (camera, date, author …) and in two more that this one points to (exposure, and
place). They are read into the block that other formats carry; such a block is appended to a written TIFF with a new
first directory, which keeps the old entries.

Reference: TIFF 6.0 section 2; BigTIFF; EXIF 2.32 section 4.6.
"""

from __future__ import annotations

import contextlib
import io
import os
import struct
from collections.abc import Collection, Sequence

from retouch_common.errors import joined
from retouch_common.photo.content_credentials import CREDENTIALS
from retouch_common.photo.damage import DamageError
from retouch_common.photo.exif import resolution_of
from retouch_common.photo.image_resources import split_resources
from retouch_common.photo.metadata import MALFORMED_EXIF, Metadata
from retouch_common.photo.tiff_structure import Entry, Tiff, swapped

_UNREADABLE = "metadata outside a readable TIFF structure"
_LONG, _IFD8 = 4, 18  # the latter in BigTIFF only, and not read by all programs
_EXIF, _GPS, _INTEROPERABILITY = 34665, 34853, 40965
_PIXELS_ACROSS, _PIXELS_DOWN = 40962, 40963
# Tags of the first directory that describe the photo and not how this file stores it.
_DESCRIPTIVE = {269, 270, 271, 272, 285, 305, 306, 315, 316, 18246, 18249, 33432, *range(40091, 40096)}
_POINTERS = (_EXIF, _GPS, _INTEROPERABILITY)
_UNIT, _RESOLUTIONS, _EXTRA_SAMPLES, _XMP, _IPTC, _RESOURCES = 296, (282, 283), 338, 700, 33723, 34377
_SUB_IMAGES, _C2PA = 330, 52545
# How the file stores its pixels, and what is carried otherwise.
_STRUCTURE = {
    *range(254, 267), 273, 274, *range(277, 285), *range(287, 293), 292, 293, _UNIT, 297, 301, 317, *range(318, 326),
    *range(332, 350), *range(512, 522), *range(529, 533), 34675, _XMP, _IPTC, _RESOURCES,
}  # fmt: skip


def read_tiff_tags(path: str | os.PathLike[str], rendered: Collection[int] = ()) -> Metadata:
    """Read the metadata of a TIFF or BigTIFF file; damaged parts count as missing.

    Args:
        path: File.
        rendered: Tags that besides TIFF's own say how pixels are stored, and are no loss.
    """
    exif, complete = _read_exif(path)
    try:
        with open(path, "rb") as file:
            tiff = Tiff(file)
            tags = {tiff.tag(record) for record in tiff.records(tiff.first)}.difference(rendered)
            entries = tiff.entries(tiff.first, {_UNIT, *_RESOLUTIONS, _EXTRA_SAMPLES, _XMP, _IPTC, _RESOURCES})
    except ValueError:
        return Metadata(exif=exif, losses=(_UNREADABLE if exif is None else f"{_UNREADABLE} besides EXIF",))
    losses = [] if complete else [MALFORMED_EXIF]
    iptc = entries[_IPTC].value if _IPTC in entries else None
    if iptc and entries[_IPTC].type == _LONG and not iptc.startswith(b"\x1c"):
        iptc = swapped(iptc, _LONG, ">")  # bytes, whatever the type says
    own_iptc, resources = split_resources(entries[_RESOURCES].value if _RESOURCES in entries else b"")
    losses += ["sub-images (such as smaller versions)"] if _SUB_IMAGES in tags else []
    losses += [CREDENTIALS] if _C2PA in tags else []
    losses += _named(tags - {_SUB_IMAGES, _C2PA})
    return Metadata(
        exif=exif,
        xmp=entries[_XMP].value if _XMP in entries else None,
        iptc=iptc or own_iptc,
        resources=resources,
        resolution=resolution_of(entries),
        extra_samples=entries.get(_EXTRA_SAMPLES),
        losses=tuple(losses),
    )


def _pack_all(tiff: Tiff, parts: dict[int, list[Entry]], at: int, kept: Sequence[bytes] = ()) -> tuple[bytes, int]:
    """Return the directories packed from offset ``at``, and the offset of the first one (number 0)."""
    data = b""
    pointers: dict[int, list[Entry]] = {0: [], _EXIF: []}
    for number, parent in ((_INTEROPERABILITY, _EXIF), (_GPS, 0), (_EXIF, 0)):
        entries = parts.get(number, []) + pointers.get(number, [])
        if entries:
            here = at + len(data)
            kind, size = (_LONG, 4) if here < 1 << 32 else (_IFD8, 8)
            pointers[parent].append(Entry(number, kind, 1, here.to_bytes(size, "little")))
            data += tiff.pack(entries, here)
    first = at + len(data)
    return data + tiff.pack(parts.get(0, []) + pointers[0], first, kept), first


def _parts(tiff: Tiff) -> tuple[dict[int, list[Entry]], bool]:
    """Return the descriptive entries by directory: 0 for the first, else the tag that points to it.

    The second value is whether all directories can be read; others are left out.
    """
    complete = True
    first = tiff.entries(tiff.first, wanted=_DESCRIPTIVE.union(_POINTERS))
    parts = {0: [entry for tag, entry in first.items() if tag in _DESCRIPTIVE]}
    directories = {0: first}
    for number, parent in ((_EXIF, 0), (_GPS, 0), (_INTEROPERABILITY, _EXIF)):
        pointer = directories.get(parent, {}).get(number)
        if pointer is None:
            continue
        try:
            directories[number] = tiff.entries(int(pointer.integers()[0]))
        except DamageError:
            complete = False
            continue
        parts[number] = [entry for tag, entry in directories[number].items() if tag not in _POINTERS]
    return parts, complete


def losses_in_tiff(exif: bytes) -> list[str]:
    """Return what of an EXIF block :func:`append_tiff_tags` leaves out: unreadable directories, tags by number."""
    try:
        tiff = Tiff(io.BytesIO(exif))
        complete, tags = _parts(tiff)[1], {tiff.tag(record) for record in tiff.records(tiff.first)}
    except DamageError:
        return [MALFORMED_EXIF]
    return ([] if complete else [MALFORMED_EXIF]) + _named(tags)


def _named(tags: Collection[int]) -> list[str]:
    """Return the name of those tags of a first directory that neither describe the photo nor how it is stored."""
    unknown = sorted(set(tags) - _STRUCTURE - _DESCRIPTIVE - {*_POINTERS})
    return [f"tag{'s' if len(unknown) > 1 else ''} {joined(map(str, unknown), ', ')}"] if unknown else []


def _read_exif(path: str | os.PathLike[str]) -> tuple[bytes | None, bool]:
    """Return the EXIF block of a file, and whether all of its directories can be read."""
    try:
        with open(path, "rb") as file:
            parts, complete = _parts(Tiff(file))
    except ValueError:
        return None, False
    if not any(parts.values()):
        return None, complete
    head = struct.pack("<2sHI", b"II", 42, 8)
    block = Tiff(io.BytesIO(head + b"\0" * 8))
    data, first = _pack_all(block, parts, len(head))
    return struct.pack("<2sHI", b"II", 42, first) + data, complete


def append_tiff_tags(
    path: str | os.PathLike[str], exif: bytes | None, width: int, height: int, entries: Sequence[Entry] = ()
) -> None:
    """Add EXIF and other entries to a TIFF or BigTIFF file of one page, in place, as far as it can be read.

    Width and height are those of the photo in pixels, which EXIF repeats; ``entries`` replace those of the same tags.

    Raises:
        OSError: If the file cannot be changed.
    """
    parts: dict[int, list[Entry]] = {0: []}
    if exif is not None:
        with contextlib.suppress(ValueError):
            parts, _ = _parts(Tiff(io.BytesIO(bytes(exif).removeprefix(b"Exif\0\0"))))
    sizes = {_PIXELS_ACROSS: width, _PIXELS_DOWN: height}
    parts[_EXIF] = [
        Entry(entry.tag, _LONG, 1, struct.pack("<I", sizes[entry.tag])) if entry.tag in sizes else entry
        for entry in parts.get(_EXIF, [])
    ]
    if not entries and not any(parts.values()):
        return
    replaced = {entry.tag for entry in entries}
    with open(path, "r+b") as file:
        tiff = Tiff(file)
        records = {tiff.tag(record): record for record in tiff.records(tiff.first)}
        kept = [record for tag, record in records.items() if tag not in replaced]
        parts[0] = [entry for entry in parts[0] if entry.tag not in records] + list(entries)
        end = file.seek(0, os.SEEK_END)
        file.write(b"\0" * (end % 2))
        data, first = _pack_all(tiff, parts, end + end % 2, kept)
        file.write(data)
        file.seek(tiff.link_at)
        file.write(struct.pack(tiff.offset_format, first))
