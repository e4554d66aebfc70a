"""Writing image files with their metadata."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pyvips

from retouch_common.photo.avif_boxes import replace_items
from retouch_common.photo.exif import IMAGE_RESOURCES, IPTC, RESOLUTION_UNIT, bytes_entry, resolution_entries
from retouch_common.photo.formats import Format
from retouch_common.photo.image_resources import join_resources
from retouch_common.photo.jpeg_header import append_gain_map, pack_header
from retouch_common.photo.metadata import Metadata
from retouch_common.photo.png_chunks import XMP_KEYWORD, ChunkInserter, chunk, raw_profile
from retouch_common.photo.tiff_exif import append_tiff_tags
from retouch_common.photo.tiff_structure import Entry
from retouch_common.photo.webp_chunks import with_metadata

_PLACEHOLDER = "x (x, ASCII, 2 components, 2 bytes)"
_BYTE, _SHORT = 1, 3
_XMP_TAG = 700
_KEEP_EXIF, _KEEP_XMP, _KEEP_ICC = 1, 2, 8  # libvips' VipsForeignKeep


def write_file(image: pyvips.Image, path: Path, target: Format, options: dict[str, Any], metadata: Metadata) -> None:
    """Write an image as a file of a format with metadata, which must be what the format carries.

    Raises:
        OSError: If the file cannot be written.
        pyvips.Error: Likewise.
    """
    image = image.copy()
    if metadata.profile is not None:
        image.set_type(pyvips.GValue.blob_type, "icc-profile-data", metadata.profile)
    _WRITERS[target.name](image, path, options, metadata)


def save_tiff(image: pyvips.Image, path: Path, **options: Any) -> None:
    """Write an image as a TIFF file with options of libvips' saver, without other metadata than that saves.

    Raises:
        OSError: If the file cannot be written; libvips would not say why.
        pyvips.Error: If the pixels cannot be computed.
    """
    with open(path, "w+b", buffering=0) as file:

        def write(data: bytes) -> None:
            while data:
                data = data[file.write(data) :]

        with _target(write, file) as target:
            image.tiffsave_target(target, **options)


def _write_jpeg(image: pyvips.Image, path: Path, options: dict[str, Any], metadata: Metadata) -> None:
    header = pack_header(metadata, jfif=image.interpretation != "cmyk")
    with open(path, "wb") as file:
        file.seek(len(header))
        with _target(file.write) as target:
            image.jpegsave_target(target, keep="none", **options)
        file.seek(0)
        file.write(b"\xff\xd8" + header)  # over the start marker that libvips wrote
    if metadata.gain_map is not None:
        append_gain_map(path, metadata.gain_map, len(header))


def _write_png(image: pyvips.Image, path: Path, options: dict[str, Any], metadata: Metadata) -> None:
    keep = "none" if metadata.colour else "icc"
    chunks = b"".join(chunk(kind, data) for kind, data in metadata.colour.items())
    if metadata.resolution is not None:
        across, down = (min(round(1000 * value), 0x7FFFFFFF) for value in metadata.resolution)
        chunks += chunk(b"pHYs", struct.pack(">IIB", across, down, 1))
    if metadata.exif is not None:
        chunks += chunk(b"eXIf", metadata.exif)
    if metadata.xmp is not None:
        chunks += chunk(b"iTXt", XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp)
    if metadata.iptc or metadata.resources:
        chunks += chunk(b"zTXt", raw_profile("iptc", join_resources(metadata.iptc, metadata.resources)))
    chunks += b"".join(chunk(kind, data) for kind, data in metadata.text)
    with open(path, "wb") as file, _target(ChunkInserter(file.write, chunks)) as target:
        image.pngsave_target(target, keep=keep, **options)


def _write_tiff(image: pyvips.Image, path: Path, options: dict[str, Any], metadata: Metadata) -> None:
    save_tiff(image, path, keep="icc", **options)
    entries = resolution_entries(metadata.resolution or (1 / 25.4, 1 / 25.4))
    if metadata.resolution is None:
        entries = [*entries[:2], Entry(RESOLUTION_UNIT, _SHORT, 1, struct.pack("<H", 1))]
    if metadata.xmp is not None:
        entries.append(Entry(_XMP_TAG, _BYTE, len(metadata.xmp), metadata.xmp))
    if metadata.iptc:
        entries.append(bytes_entry(IPTC, metadata.iptc))
    if metadata.resources:
        entries.append(bytes_entry(IMAGE_RESOURCES, metadata.resources))
    if metadata.extra_samples is not None:
        entries.append(metadata.extra_samples)
    append_tiff_tags(path, metadata.exif, image.width, image.height, entries)


def _write_webp(image: pyvips.Image, path: Path, options: dict[str, Any], metadata: Metadata) -> None:
    data = image.webpsave_buffer(keep="none", **options)
    with open(path, "wb") as file:
        file.write(with_metadata(data, image.width, image.height, image.hasalpha(), metadata))


def _write_avif(image: pyvips.Image, path: Path, options: dict[str, Any], metadata: Metadata) -> None:
    keep = _KEEP_ICC
    if metadata.exif is not None:
        image.set_type(pyvips.GValue.gstr_type, "exif-ifd0-Make", _PLACEHOLDER)
        keep |= _KEEP_EXIF
    if metadata.xmp is not None:
        image.set_type(pyvips.GValue.blob_type, "xmp-data", b"x")
        keep |= _KEEP_XMP
    image.heifsave(os.fsencode(path), keep=keep, **options)
    replace_items(path, metadata.exif, metadata.xmp)


_WRITERS: dict[str, Callable[[pyvips.Image, Path, dict[str, Any], Metadata], None]] = {
    "JPEG": _write_jpeg,
    "PNG": _write_png,
    "TIFF": _write_tiff,
    "WebP": _write_webp,
    "AVIF": _write_avif,
}


@contextlib.contextmanager
def _target(write: Callable[[bytes], object], file: BinaryIO | None = None) -> Iterator[pyvips.TargetCustom]:
    """Yield a target of libvips that passes bytes on; an exception of ``write`` is raised at the end.

    ``file`` is the unbuffered file that the bytes are written to, for formats whose saver moves in it.
    """
    failures: list[Exception] = []

    def on_write(data: Any) -> int:
        if failures:
            return -1
        try:
            write(bytes(data))
        except Exception as error:  # raised below; libvips cannot pass it on
            failures.append(error)
            return -1
        return len(data)

    target = pyvips.TargetCustom()
    target.on_write(on_write)
    if file is not None:
        target.on_seek(file.seek)
        target.on_read(file.read)
    try:
        yield target
    except pyvips.Error:
        if not failures:
            raise
    if failures:
        raise failures.pop()  # kept in the list, error and frames would be a cycle until garbage collection
