"""A single decoding of a photo's file, from the first row to the check after the last."""

from __future__ import annotations

import io
from typing import BinaryIO

import pyvips

from retouch_common.photo.damage import DamageError, decoder_warnings
from retouch_common.photo.jpeg_source import JpegSource, end_of_picture
from retouch_common.photo.limits import IN_MEMORY_SHARE, MAX_PIXELS


class Decoding:
    """Sequential decoding of a file.

    Attributes:
        image: Image; may be replaced by one derived from it. It must not outlive this object.
    """

    def __init__(self, image: pyvips.Image, source: JpegSource | None = None) -> None:
        self.image = image
        self._source = source

    @classmethod
    def of_jpeg(cls, file: BinaryIO, end: int, shrink: int = 1) -> Decoding:
        """Start decoding a JPEG image whose end marker is at offset ``end``; warnings of the decoder are errors.

        The file is closed with the decoding; ``shrink`` is the reduction while decoding, 1, 2, 4 or 8.

        Raises:
            pyvips.Error: If the header is damaged.
        """
        source = JpegSource(file, end)
        load = pyvips.Image.jpegload_source
        return cls(load(source.source, access="sequential", fail_on="warning", shrink=shrink), source)

    def finish(self) -> None:
        """End the decoding after the last row, and check for damage.

        libvips holds warnings back until the next rows are requested; those of the last rows come when the image is
        closed, so nothing else may reference it.

        Raises:
            DamageError: If the file is damaged.
        """
        with decoder_warnings() as messages:
            del self.image
        if messages:
            raise DamageError(messages[-1])
        if self._source is not None:
            unread = self._source.num_unread_bytes
            self._source.close()
            if unread:
                raise DamageError(f"{unread} bytes are left over after its last row")


def check_jpeg(data: bytes, max_pixels: int) -> None:
    """Decode a JPEG image only to check it.

    Raises:
        DamageError: If it is damaged, has more than ``max_pixels``, or is progressive, which is decoded in memory, and
            has more than a third of MAX_PIXELS.
        pyvips.Error: Likewise.
    """
    header = pyvips.Image.jpegload_buffer(data, access="sequential")
    if header.width * header.height > max_pixels:
        raise DamageError("a strip or tile is larger than it should be")
    in_memory = MAX_PIXELS // IN_MEMORY_SHARE
    if header.get_typeof("interlaced") and header.width * header.height > in_memory:
        raise DamageError(f"a strip or tile is a progressive JPEG image of more than {in_memory:,} pixels")
    decoding = Decoding.of_jpeg(io.BytesIO(data), end_of_picture(data), shrink=8)
    decoding.image.copy_memory()
    decoding.finish()
