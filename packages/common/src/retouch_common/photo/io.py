"""Photographs in and out: any size, 8 or 16 bits, with all metadata.

A :class:`Photo` is opened lazily. Its pixels are read upright and as sRGB, as crops in any order or as rows from top to
bottom in bounded memory. Written pixels go back into the stored channels and colour space (see
:mod:`retouch_common.photo.pixels`), together with alpha and metadata (see :mod:`retouch_common.photo.metadata`).

Refused are files of several pages or frames, floating-point pixels, Lab colours, sides below 16 pixels, and outputs
that cannot hold the photo (CMYK; 16 bits and transparency unless they are to be converted). Some damage shows only
after the last row; reading that row raises then, so that no output is left. Losslessly coded WebP and AVIF are written
losslessly; JPEG and other WebP and AVIF are lossy, also for unchanged pixels. WebP and AVIF encoders and the decoders
of progressive JPEG and interlaced PNG keep the whole photo in memory.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyvips

from retouch_common.errors import joined, printable
from retouch_common.files import ScratchDirectory, atomic_output, scratch_output
from retouch_common.photo.content_credentials import Signature
from retouch_common.photo.damage import DamageError, messages
from retouch_common.photo.decoder import Decoder
from retouch_common.photo.formats import Format, format_for_output, is_lossless_avif, is_lossless_webp, sniff
from retouch_common.photo.imports import convert
from retouch_common.photo.jpeg_header import MAX_PROFILE
from retouch_common.photo.limits import MAX_PIXELS, MIN_SIDE, refuse_large
from retouch_common.photo.metadata import UNUSED_PROFILE
from retouch_common.photo.outgoing import Strip, outgoing_metadata, stripped
from retouch_common.photo.pixels import Layout
from retouch_common.photo.reading import read_metadata
from retouch_common.photo.reduction import Reduction
from retouch_common.photo.rows import RowReader
from retouch_common.photo.sink import atomic_image_output, stream_rows
from retouch_common.photo.sources import blocks
from retouch_common.photo.writing import write_file
from retouch_common.photo.xmp import Edit

pyvips.cache_set_max(0)  # remembered operations would keep pixels, and show an overwritten file's old content

logger = logging.getLogger(__name__)


class Photo:
    """A still photograph in a file; pixels are decoded on request.

    JPEG, PNG, TIFF, WebP and AVIF are read, and with extras HEIC, JPEG XL and camera raw files.

    Args:
        path: File.
        max_pixels: Largest number of pixels, a third for photos that are decoded in memory; None for any.

    Attributes:
        path: File.
        format: Format of the file.
        width: Width of the upright photo in pixels.
        height: Height of the upright photo in pixels.
        dtype: uint8 or uint16.
        kind: "grey", "rgb" or "cmyk".

    Raises:
        OSError: If the file does not exist or cannot be opened, or a temporary file cannot be written.
        ValueError: If it is not a supported still photograph; the message names file and reason.
    """

    def __init__(self, path: str | os.PathLike[str], *, max_pixels: int | None = MAX_PIXELS) -> None:
        self.path = Path(path)
        self.format = sniff(path)
        self._stamp = _stamp(self.path)
        file, stored = self.path, self.format
        losses: tuple[str, ...] = ()
        if self.format.extra is not None:
            self._scratch = ScratchDirectory("retouch-")
            with scratch_output(self.path):
                file, stored, losses = convert(self.path, self.format, Path(self._scratch.name), max_pixels)
        self._file = Decoder(file, stored, self.path)
        with self._file.reading():
            header = self._file.header
            try:
                metadata = read_metadata(file, stored, header)
                header = header.autorot()
                self._layout = Layout.of(header, metadata.profile)
                if metadata.profile is not None and self._layout.profile is None:
                    losses = (*losses, UNUSED_PROFILE)
                self._metadata = replace(metadata, profile=self._layout.profile, losses=(*metadata.losses, *losses))
            except DamageError:
                raise
            except ValueError as error:
                raise ValueError(f"{self.path}: {error}") from None
        try:
            with messages.shared():
                self._layout.check_profile()
        except pyvips.Error as error:
            why = messages.reason(error, self._layout.check_profile)
            raise ValueError(f"{self.path}: its colour profile cannot be used: {why}; replace it") from error
        self.width, self.height = header.width, header.height
        self._bits = header.get("bits-per-sample") if header.get_typeof("bits-per-sample") else None
        self.dtype, self.kind = self._layout.dtype, self._layout.kind
        if min(self.width, self.height) < MIN_SIDE:
            raise ValueError(
                f"{self.path}: is {self.width}x{self.height} pixels; at least {MIN_SIDE}x{MIN_SIDE} are needed"
            )
        interlaced = header.get_typeof("interlaced") != 0  # also a JPEG of several scans
        name = stored.interlaced if interlaced else self.format.name
        limit = self.format.limit(max_pixels, interlaced=interlaced)
        refuse_large(self.path, name, self.width, self.height, limit)
        self._rows = RowReader(self._file.upright_rows)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, max_pixels: int | None = MAX_PIXELS) -> Photo:
        """Open a photograph and read its header; see the class."""
        return cls(path, max_pixels=max_pixels)

    def reopen(self) -> Photo:
        """Open the file again, to be read independently.

        Raises:
            OSError: If it cannot be opened.
            ValueError: As of :meth:`check_unchanged`.
        """
        self.check_unchanged()
        return type(self)(self.path, max_pixels=None)

    def check_unchanged(self) -> None:
        """Refuse a file that was written since it was opened: what was computed from it does not fit any longer.

        Raises:
            OSError: If it is gone.
            ValueError: If its size or time differs.
        """
        if _stamp(self.path) != self._stamp:
            raise ValueError(f"{self.path}: has changed since it was opened; open it again")

    def load(self) -> None:
        """Decode the whole photo now, into memory or, above 100 MB, a temporary file.

        Later requests in full resolution read from there.

        Raises:
            OSError: If the temporary file cannot be written.
            ValueError: If the file is damaged or truncated.
        """
        with self._file.reading():
            self._file.any_order()

    def read(self, x: int = 0, y: int = 0, width: int | None = None, height: int | None = None) -> np.ndarray:
        """Decode a crop as (height, width, 3) sRGB of the photo's dtype; without width and height, to the edge.

        Crops may be requested in any order. The first decodes the whole photo, see :meth:`load`.

        Raises:
            ValueError: If the crop exceeds the photo, or the file is damaged or truncated.
        """
        width = self.width - x if width is None else width
        height = self.height - y if height is None else height
        if x < 0 or y < 0 or width < 1 or height < 1 or x + width > self.width or y + height > self.height:
            raise ValueError(
                f"{self.path}: the part {x},{y},{width},{height} is not inside {self.width}x{self.height} pixels"
            )
        with self._file.reading():
            stored = self._file.any_order().crop(x, y, width, height).numpy()
            stored = stored.reshape(height, width, self._layout.bands)
            return self._layout.to_rgb(stored)

    def read_rows(self, y0: int, y1: int) -> np.ndarray:
        """Decode rows y0 to y1 (exclusive) in bounded memory as (y1 - y0, width, 3) sRGB of the photo's dtype.

        Rows of the previous request are still available, e.g. for a halo; requests further up restart the decoding.

        Raises:
            ValueError: If the rows exceed the photo, or the file is damaged or truncated.
        """
        if not 0 <= y0 < y1 <= self.height:
            raise ValueError(f"{self.path}: rows {y0} to {y1} are not inside a height of {self.height} pixels")
        with self._file.reading():
            return self._layout.to_rgb(self._rows.fetch(y0, y1))

    @property
    def has_opacity(self) -> bool:
        """Whether pixels have an opacity."""
        return self._layout.bands > self._layout.colour_bands and not self._has_extra_channels

    def read_opacity(self, y0: int, y1: int) -> np.ndarray:
        """Decode the opacity of rows y0 to y1 (exclusive) as :meth:`read_rows` does colours: (y1 - y0, width)."""
        with self._file.reading():
            return self._rows.fetch(y0, y1)[..., self._layout.colour_bands].copy()

    def reduction(self, max_side: int, part: tuple[int, int, int, int] | None = None) -> int:
        """Return the factor by which :meth:`thumbnail` decodes the photo reduced: 2, 4 or 8 of a large JPEG, else 1."""
        width, height = part[2:] if part else (self.width, self.height)
        may_shrink = self.format.name == "JPEG" and not (part and self._file.turned)
        shrink = 1
        while may_shrink and shrink < 8 and max(width, height) >= 2 * shrink * max_side:
            shrink *= 2  # the JPEG decoder can leave out detail cheaply
        return shrink

    def thumbnail(self, max_side: int, part: tuple[int, int, int, int] | None = None) -> np.ndarray:
        """Return the photo, or a part (x, y, w, h) in pixels, reduced to ``max_side`` pixels: (h, w, 3) sRGB uint8.

        Raises:
            ValueError: If the file is damaged or truncated.
        """
        x, y, width, height = part or (0, 0, self.width, self.height)
        shrink = self.reduction(max_side, part)
        with self._file.reading():
            small_first = self._file.turned and not part  # turned when it is small
            decoding = self._file.decode(shrink) if small_first else self._file.upright_rows(shrink)
            image = decoding.image
            if part:
                x, y = x // shrink, y // shrink
                width, height = min(width // shrink, image.width - x), min(height // shrink, image.height - y)
                image = image.crop(x, y, max(1, width), max(1, height))
            scale = max_side / max(image.width, image.height)
            image = (image.resize(scale) if scale < 1 else image).copy_memory().autorot()
            stored = image.numpy().reshape(image.height, image.width, image.bands)
            rgb = self._layout.to_rgb(stored)
        return (rgb >> 8).astype(np.uint8) if rgb.dtype == np.uint16 else rgb

    def check_output(self, path: str | os.PathLike[str], *, convert: bool = False) -> Format:
        """Return the format of an output, after checking that it can hold the photo; ``convert`` as in `write_stripes`.

        Raises:
            ValueError: If its suffix is not supported, or the format cannot hold the photo.
        """
        target = format_for_output(path)
        reduction = self._reduction(target)
        better, wants = "TIFF", None
        if self.kind == "cmyk" and not target.cmyk:
            wants = f"the photo is CMYK and {target.name} is not"
        elif self._has_extra_channels and target.name != "TIFF":
            wants = f"the photo has channels besides colours and transparency and {target.name} does not"
        elif reduction.opacity and self.kind == "cmyk":
            wants = f"the photo has transparency and {target.name} does not"
        elif reduction and not convert:
            better = ("TIFF" if self.kind == "cmyk" else "PNG or TIFF") + ", or convert it with --convert"
            if reduction.depth:
                wants = f"the photo has 16 bits per channel and {target.name} holds {target.bits}"
            else:
                wants = f"the photo has transparency and {target.name} does not"
        if wants:
            raise ValueError(f"{path}: {wants}; write it as {better}")
        longest = max(self.width, self.height)
        if target.max_side is not None and longest > target.max_side:
            raise ValueError(
                f"{path}: {target.name} holds at most {target.max_side} pixels a side "
                f"and the photo has {longest}; write it as TIFF"
            )
        profile = self._metadata.profile
        if target.name == "JPEG" and profile is not None and len(profile) > MAX_PROFILE:
            raise ValueError(f"{path}: the photo's colour profile is too large for JPEG; write it as TIFF")
        return target

    def _reduction(self, target: Format) -> Reduction:
        """Return what the pixels lose in a format."""
        return Reduction(
            depth=self.dtype == np.uint16 and target.bits < 16 and self.format is not target,
            opacity=self._layout.bands > self._layout.colour_bands and not target.alpha,
        )

    @property
    def _has_extra_channels(self) -> bool:
        extra, bands = self._metadata.extra_samples, self._layout.bands - self._layout.colour_bands
        return bands > 1 or (extra is not None and bool((extra.integers() == 0).any()))

    def write_stripes(
        self,
        path: str | os.PathLike[str],
        stripes: Iterable[np.ndarray],
        *,
        quality: int | None = None,
        edit: Edit | None = None,
        strip: Strip | None = None,
        signature: Signature | None = None,
        convert: bool = False,
    ) -> None:
        """Write new pixels that are computed from top to bottom, in bounded memory.

        Warnings are logged that name what was converted, and what the output does not carry; the record of the latter
        has it as the attribute ``losses``.

        Args:
            path: Output; its suffix selects the format. May be the photo's own file.
            stripes: Consecutive blocks (n, width, 3) sRGB of the photo's dtype, ``height`` rows in all. Where they are
                as read by :meth:`read_rows`, stored pixels stay bit-identical.
            quality: 1..100 for JPEG, WebP and AVIF; None for 95 (AVIF: 90).
            edit: What was done, recorded in the output's XMP; None to record nothing.
            strip: "gps" to leave out coordinates, "all" to leave out all metadata but colour space and ``edit``.
            signature: Content credentials to add; None to add none.
            convert: Whether to round 16 bits to 8 and flatten transparency onto white, where the format needs it.

        Raises:
            OSError: If the output cannot be written.
            ValueError: If the stripes do not fit the photo, the format cannot hold it, or the photo is damaged. No
                output is left then, nor when ``stripes`` raises.
        """
        path = Path(path)
        target = self.check_output(path, convert=convert)
        reduction = self._reduction(target)
        layout = reduction.layout(self._layout)
        options = self._save_options(path, target, quality, layout)
        with messages.shared():  # a gain map may be damaged
            metadata = outgoing_metadata(
                stripped(self._metadata, strip),
                self.format,
                target,
                width=self.width,
                height=self.height,
                orientation=self._file.orientation,
                edit=edit,
            )
        with atomic_image_output(path) as temporary:

            def save(image: pyvips.Image) -> None:
                image = image.copy(interpretation=layout.interpretation)
                write_file(image, temporary, target, options, metadata)

            rows = map(reduction.apply, self._stored_rows(stripes))
            stream_rows(rows, self.width, self.height, layout.bands, layout.dtype, save)
            if signature is not None:
                try:
                    signature.add_to(temporary, target.name, self.path, self.format.name)
                except OSError as error:
                    if error.errno is not None:  # a full disk, which the caller names
                        raise
                    raise OSError(f"{path}: {error}") from error
        if reduction:
            logger.warning("%s: converted for %s: %s", printable(str(path)), target.name, reduction)
        if metadata.losses:
            names, losses = (printable(str(path)), printable(self.path.name)), joined(metadata.losses, "; ")
            logger.warning("%s: not carried over from %s: %s", *names, losses, extra={"losses": losses})

    def write_unchanged(
        self,
        path: str | os.PathLike[str],
        *,
        quality: int | None = None,
        strip: Strip | None = None,
        convert: bool = False,
    ) -> None:
        """Copy the file, atomically; pixels are decoded and encoded for another format, or to leave out metadata.

        Arguments and exceptions are those of :meth:`write_stripes`.
        """
        path = Path(path)
        if self.check_output(path, convert=convert) is not self.format or strip is not None:
            rows = (self.read_rows(*block) for block in blocks(self.height, self.width))
            self.write_stripes(path, rows, quality=quality, strip=strip, convert=convert)
        elif not (path.exists() and path.samefile(self.path)):
            with atomic_output(path) as temporary:
                shutil.copyfile(self.path, temporary)

    def _stored_rows(self, stripes: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Merge the stripes into the stored channels."""
        as_read = self._layout.bands == 3 and self.kind == "rgb" and not self._layout.is_converted
        rows = None if as_read else RowReader(self._file.upright_rows)
        y = 0
        for stripe in stripes:
            self._check_stripe(stripe, y)
            bottom = y + stripe.shape[0]
            if rows is None:
                yield stripe
            else:
                with self._file.reading():
                    block = self._layout.merge(rows.fetch(y, bottom), stripe)
                yield block
            y = bottom
        if y != self.height:
            raise ValueError(f"{self.path}: the stripes end at row {y} of {self.height}")

    def _check_stripe(self, stripe: np.ndarray, y: int) -> None:
        fits = stripe.ndim == 3 and stripe.shape[0] > 0 and stripe.shape[1:] == (self.width, 3)
        if not fits or y + stripe.shape[0] > self.height or stripe.dtype != self.dtype:
            raise ValueError(
                f"{self.path}: a stripe of shape {stripe.shape} and type {stripe.dtype} at row {y} does not fit "
                f"{self.width}x{self.height} RGB pixels of type {self.dtype}"
            )

    def _save_options(self, path: Path, target: Format, quality: int | None, layout: Layout) -> dict[str, Any]:
        if quality is not None and not 1 <= quality <= 100:
            raise ValueError(f"{path}: quality must be between 1 and 100, not {quality}")
        options = dict(target.options)
        if target.quality is not None:
            options["Q"] = quality or target.quality
        if target.name == "PNG":
            options["bitdepth"] = 8 * layout.dtype.itemsize
        elif target.name == "TIFF":
            size = self.width * self.height * layout.bands * layout.dtype.itemsize
            options["bigtiff"] = size > 3_500_000_000
        elif target.name == "AVIF":
            options["bitdepth"] = self._bits if self._bits in (10, 12) and layout.dtype == np.uint16 else 8
            options["lossless"] = self.format is target and is_lossless_avif(self.path)
        elif target.name == "WebP" and self.format is target and is_lossless_webp(self.path):
            options["lossless"] = True
        return options


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
