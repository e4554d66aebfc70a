"""JPEG data as a source for libvips that notices undecoded data.

libjpeg stops once it has decoded all blocks. Damage that makes it consume too few bits leaves data over, which only the
read of the end marker would reveal; libvips does not get there. So the source hands out the last bytes before the end
marker one by one, and counts those never requested: an intact image leaves none.

Reference: ITU-T T.81, annexes B and F.
"""

from __future__ import annotations

import mmap
import re
import weakref
from typing import BinaryIO

import numpy as np
import pyvips

from retouch_common.photo.damage import DamageError

_MARKER = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])", re.DOTALL)  # neither a stuffed byte nor a restart marker
_SOI, _EOI, _SOS, _TEM = 0xD8, 0xD9, 0xDA, 0x01
_FRAMES = set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # without tables and reserved markers
_ALL = 16  # more than any number of bits that a scan can leave to later ones
_ONE_BY_ONE = 64  # bytes before the end marker
MAX_SEGMENTS = 20_000  # several times what a photo with 100 MB of extended XMP has; millions of empty ones take seconds


class JpegSource:
    """A JPEG image for ``jpegload_source``: ``source``, which must not outlive this object.

    The file is closed with this object; ``end`` is the offset of the end marker.
    """

    def __init__(self, file: BinaryIO, end: int) -> None:
        self._file = file
        self._end = end
        self._finalizer = weakref.finalize(self, file.close)

        def read(size: int) -> bytes:
            left = end - file.tell()
            if left > _ONE_BY_ONE:
                size = min(size, left - _ONE_BY_ONE)
            elif left > 0:
                size = 1
            return file.read(size)

        self.source = pyvips.SourceCustom()
        self.source.on_read(read)
        self.source.on_seek(file.seek)

    @property
    def num_unread_bytes(self) -> int:
        """Number of bytes before the end marker that were not requested; 0 after an intact image."""
        return max(0, self._end - self._file.tell())

    def close(self) -> None:
        """Close the file."""
        self._finalizer()


def end_of_picture(data: bytes | mmap.mmap) -> int:
    """Return the offset of a JPEG image's end marker, after checking that all scans precede it.

    A file cut between two scans, or whose header lost them, decodes without complaint: missing coefficients are 0. What
    follows the image (a gain map, a second image, maker notes) is ignored.

    Raises:
        DamageError: If the end marker or scans are missing, or there are too many segments.
    """
    at = len(b"\xff\xd8")
    missing_bits: dict[int, np.ndarray] = {}  # of the 64 coefficients, by component
    for _ in range(MAX_SEGMENTS):
        if (marker := _MARKER.search(data, at)) is None:
            raise DamageError("its end marker is missing")
        kind, at = marker[1][0], marker.end()
        if kind == _EOI:
            if any(bits.any() for bits in missing_bits.values()):
                raise DamageError("scans of its data are missing")
            return _first_fill_byte(data, marker.start())
        if kind in (_SOI, _TEM):
            continue
        length = int.from_bytes(data[at : at + 2], "big")
        segment = data[at + 2 : at + length]
        if kind in _FRAMES:
            missing_bits = {component: np.full(64, _ALL) for component in segment[6::3]}
        elif kind == _SOS and len(segment) > 3:
            first, last, bits = segment[-3:]
            for component in set(segment[1:-3:2]).intersection(missing_bits):
                missing_bits[component][first : last + 1] = bits & 15
        at += length
    raise DamageError(f"it has more than {MAX_SEGMENTS} segments")


def _first_fill_byte(data: bytes | mmap.mmap, at: int) -> int:
    """Return the offset of the first of the bytes 0xFF that end at ``at``: any number of them may start a marker."""
    while at > 0 and data[at - 1] == 0xFF:
        at -= 1
    return at
