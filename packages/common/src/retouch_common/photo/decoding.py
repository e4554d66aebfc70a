"""One decoding of a photo's file, from the first row to the check after the last."""

from __future__ import annotations

import io
from typing import BinaryIO

import pyvips

from retouch_common.photo.damage import DamageError, decoder_warnings
from retouch_common.photo.jpeg_source import JpegSource, end_of_picture


class Decoding:
    """One decoding of a file from top to bottom.

    Args:
        image: The image, opened for sequential access.
        source: What it is read from, None if libvips reads the file itself.

    Attributes:
        image: The image; may be replaced by one that is made from it. It lives no longer than this object.
    """

    def __init__(self, image: pyvips.Image, source: JpegSource | None = None) -> None:
        self.image = image
        self._source = source

    @classmethod
    def of_jpeg(cls, file: BinaryIO, end: int, shrink: int = 1) -> Decoding:
        """Start decoding a JPEG picture; the decoder's warnings are errors.

        Args:
            file: The file, open for reading; closed with the decoding.
            end: Offset of the picture's end marker.
            shrink: 1, 2, 4 or 8: reduce by that factor while decoding.

        Raises:
            pyvips.Error: If the header is damaged.
        """
        source = JpegSource(file, end)
        load = pyvips.Image.jpegload_source
        return cls(load(source.source, access="sequential", fail_on="warning", shrink=shrink), source)

    def finish(self) -> None:
        """Check, after the last row was decoded, that the decoder has nothing to complain about; end the decoding.

        libvips holds back a warning until it is asked for the next rows. Those of the last rows come when the
        image is closed, so nothing else may hold the image any more.

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


def check_jpeg(data: bytes) -> None:
    """Decode a JPEG picture for its errors only.

    Args:
        data: The picture.

    Raises:
        DamageError: If it is damaged.
        pyvips.Error: If it is damaged.
    """
    decoding = Decoding.of_jpeg(io.BytesIO(data), end_of_picture(data), shrink=8)
    decoding.image.copy_memory()
    decoding.finish()
