"""Formats that are read through extras, HEIC, JPEG XL and camera raw: decoded once, into a temporary TIFF file.

Raw files are rendered by libraw: the camera's white balance, sRGB, 16 bits, no automatic brightening. Their EXIF, XMP
and IPTC are kept where the file has the structure of a TIFF file (DNG, NEF, ARW, CR2 and others).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from retouch_common.photo import jpegxl
from retouch_common.photo.avif_boxes import read_properties
from retouch_common.photo.cicp import cicp_profile
from retouch_common.photo.damage import DamageError
from retouch_common.photo.exif import Exif
from retouch_common.photo.formats import FORMATS, Format
from retouch_common.photo.limits import refuse_large
from retouch_common.photo.metadata import MALFORMED_EXIF, Metadata
from retouch_common.photo.pixels import image_from_array
from retouch_common.photo.raw_files import RENDERED_TAGS
from retouch_common.photo.tiff_exif import losses_in_tiff, read_tiff_tags
from retouch_common.photo.writing import write_file


def convert(path: Path, format: Format, folder: Path, max_pixels: int | None) -> tuple[Path, Format, tuple[str, ...]]:
    """Decode a file into an upright TIFF file in a folder, with its metadata.

    Returns:
        The TIFF file, or the JPEG file that a JPEG XL file is made of; its format; and the names of what else the file
        has.

    Raises:
        OSError: If the folder cannot be written to.
        ValueError: If the extra is missing, or the file is damaged or has more than ``max_pixels``.
    """
    limit = format.limit(max_pixels)
    try:
        if format.name == "JPEG XL":
            levels, metadata = jpegxl.decode(path, folder, limit)
        elif format.name == "HEIC":
            levels, metadata = _read_heif(path, format, limit)
        else:
            levels, metadata = _read_raw(path, format, limit)
    except ImportError as error:
        install = f"pip install 'retouch-common[{format.extra}]'"
        raise ValueError(f"{path}: is {format.description}, which needs an extra: {install}; or convert it") from error
    except DamageError as error:
        raise _damaged(path, error) from error
    if isinstance(levels, Path):
        return levels, FORMATS["JPEG"], metadata.losses
    height, width, bands = levels.shape
    if metadata.exif is not None:
        try:
            exif = Exif(metadata.exif)
            resolution = metadata.resolution or exif.resolution
            losses = (*metadata.losses, *losses_in_tiff(exif.data))
            metadata = replace(metadata, exif=exif.updated(width, height), resolution=resolution, losses=losses)
        except DamageError:
            metadata = replace(metadata, exif=None, losses=(*metadata.losses, MALFORMED_EXIF))
    space = {1: ("b-w", "grey16"), 2: ("b-w", "grey16")}.get(bands, ("srgb", "rgb16"))[levels.itemsize - 1]
    target = folder / "photo.tif"
    options = {"compression": "none", "bigtiff": levels.nbytes > 3_500_000_000}
    write_file(image_from_array(levels, space), target, FORMATS["TIFF"], options, metadata)
    return target, FORMATS["TIFF"], metadata.losses


def _read_heif(path: Path, format: Format, limit: int | None) -> tuple[np.ndarray, Metadata]:
    import pillow_heif

    damage = (OSError, RuntimeError, EOFError, SyntaxError, ValueError)  # what pillow-heif raises
    try:
        losses = read_properties(path).others  # HEIC has the boxes of AVIF
        image = pillow_heif.open_heif(path, convert_hdr_to_8bit=False)
    except damage as error:
        raise _damaged(path, error) from error
    if not len(image):
        raise _damaged(path, DamageError("it holds no image"))
    if len(image) > 1:
        raise ValueError(f"{path}: holds {len(image)} images; only still photographs of one image are supported")
    width, height = image.size
    refuse_large(path, format.name, width, height, limit)
    try:
        levels = np.asarray(image)
    except damage as error:
        raise _damaged(path, error) from error
    info = image.info
    profile, nclx = info.get("icc_profile"), info.get("nclx_profile")
    if not profile and nclx:
        try:
            profile = cicp_profile(
                nclx["color_primaries"], nclx["transfer_characteristics"], grey=image.mode in ("L", "LA", "I;16")
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    metadata = Metadata(profile=profile or None, exif=info.get("exif"), xmp=info.get("xmp") or None, losses=losses)
    return levels.reshape(*levels.shape[:2], -1), metadata


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path}: cannot be read, it is damaged or cut off: {' '.join(str(error).split())}")


def _read_raw(path: Path, format: Format, limit: int | None) -> tuple[np.ndarray, Metadata]:
    import rawpy

    try:
        with rawpy.imread(str(path)) as raw:
            refuse_large(path, format.name, raw.sizes.width, raw.sizes.height, limit)
            black, white = max(raw.black_level_per_channel), raw.white_level
            if black >= white:  # libraw renders that as black, with random pixels
                raise ValueError(
                    f"{path}: is damaged: its level of black, {black}, is not below that of white, {white}"
                )
            levels = raw.postprocess(
                use_camera_wb=True, output_bps=16, no_auto_bright=True, output_color=rawpy.ColorSpace.sRGB
            )
    except rawpy.LibRawError as error:
        why = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise ValueError(f"{path}: is {format.description} that libraw cannot read: {why}") from error
    return levels, replace(read_tiff_tags(path, RENDERED_TAGS), extra_samples=None)
