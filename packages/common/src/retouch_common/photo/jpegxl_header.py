"""The header of a JPEG XL file, read without decoding it.

Reference: ISO/IEC 18181-1, annexes B.2 and D (headers); 18181-2 (boxes). Names of fields are the standard's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from retouch_common.photo.avif_boxes import boxes_of
from retouch_common.photo.damage import DamageError

_HEAD = 1 << 24  # bytes at the start of a file that are searched for the codestream
_SIGNATURE = b"\xff\x0a"
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_ALPHA = 0


@dataclass(frozen=True)
class JpegXlHeader:
    """What a JPEG XL file says of itself.

    Attributes:
        width: Width in pixels before the orientation is applied.
        height: Height likewise.
        bits: Bits per channel, the largest of colours and alpha.
        unsupported: Why it cannot be read, None if it can.
    """

    width: int
    height: int
    bits: int = 8
    unsupported: str | None = None


def read_header(path: str | os.PathLike[str]) -> JpegXlHeader:
    """Read the header of a JPEG XL file, of what is not supported only up to that.

    Raises:
        DamageError: If it is damaged.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD)
    if not head.startswith(_SIGNATURE):
        parts = [(kind, body) for kind, _, body in boxes_of(head) if kind in (b"jxlc", b"jxlp")]
        head = b"".join(body[4:] if kind == b"jxlp" else body for kind, body in parts)
    if not head.startswith(_SIGNATURE):
        raise DamageError("it has no image")
    return _read(_Bits(head[2:1024]))


class _Bits:
    """Reader of a bit stream, the lowest bit of each byte first."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "little"), 8 * len(data)

    def u(self, count: int) -> int:
        """Read an unsigned integer of a number of bits."""
        if count > self._left:
            raise DamageError("its header is cut off")
        value = self._value & ((1 << count) - 1)
        self._value >>= count
        self._left -= count
        return value

    def bool(self) -> bool:
        """Read a bit."""
        return bool(self.u(1))

    def u32(self, *choices: tuple[int, int]) -> int:
        """Read the standard's U32: one of four pairs of a constant and the number of bits of what is added to it."""
        constant, count = choices[self.u(2)]
        return constant + self.u(count)


def _read(bits: _Bits) -> JpegXlHeader:
    width, height = _size(bits)
    if bits.bool():  # all_default
        return JpegXlHeader(width, height)
    if bits.bool():  # extra_fields
        bits.u(3)  # orientation, which the decoder applies
        if bits.bool():  # have_intr_size
            _size(bits)
        if bits.bool():
            return JpegXlHeader(width, height, unsupported="holds a preview")
        if bits.bool():
            return JpegXlHeader(width, height, unsupported="is animated")
    depth, is_float = _bit_depth(bits)
    if is_float:
        return JpegXlHeader(width, height, depth, "has floating-point pixels")
    bits.bool()  # modular_16bit_buffers
    num_extra = bits.u32((0, 0), (1, 0), (2, 4), (1, 12))
    if num_extra > 1:
        return JpegXlHeader(width, height, depth, "has channels besides colours and transparency")
    if num_extra and not bits.bool():  # d_alpha
        if bits.u32((0, 0), (1, 0), (2, 4), (18, 6)) != _ALPHA:
            return JpegXlHeader(width, height, depth, "has channels besides colours and transparency")
        depth = max(depth, _bit_depth(bits)[0])
        bits.u32((0, 0), (3, 0), (4, 0), (1, 3))  # dim_shift
        bits.u(8 * bits.u32((0, 0), (0, 4), (16, 5), (48, 10)))  # name
        if bits.bool():  # alpha_associated
            return JpegXlHeader(width, height, depth, "has premultiplied transparency")
    return JpegXlHeader(width, height, depth)


def _size(bits: _Bits) -> tuple[int, int]:
    """Read a SizeHeader: width and height."""
    small = bits.bool()

    def side() -> int:
        return 8 * (1 + bits.u(5)) if small else bits.u32((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.u(3)
    if ratio == 0:
        return side(), height
    numerator, denominator = _RATIOS[ratio - 1]
    return height * numerator // denominator, height


def _bit_depth(bits: _Bits) -> tuple[int, bool]:
    """Read a BitDepth: bits per sample, and whether samples are floating-point numbers."""
    if bits.bool():
        depth = bits.u32((32, 0), (16, 0), (24, 0), (1, 6))
        bits.u(4)  # exp_bits
        return depth, True
    return bits.u32((8, 0), (10, 0), (12, 0), (1, 6)), False
