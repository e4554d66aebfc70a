"""ICC profiles of colour spaces that PNG and AVIF state by numbers.

Reference: ITU-T H.273 (code points); PNG (Third Edition), section 11.3.2; ICC.1:2022.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence

import numpy as np

# x and y of red, green, blue and white.
_D65 = (0.3127, 0.3290)
_PRIMARIES: dict[int, tuple[tuple[float, float], ...]] = {
    1: ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), _D65),
    4: ((0.67, 0.33), (0.21, 0.71), (0.14, 0.08), (0.310, 0.316)),
    5: ((0.64, 0.33), (0.29, 0.60), (0.15, 0.06), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), (0.314, 0.351)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
}
# Exponent, and a, b, c, d of ICC's parametric curve 3: (a x + b)^g from d on, c x below.
_SRGB = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_CURVES: dict[int, Sequence[float]] = {4: (2.2,), 5: (2.8,), 8: (1.0,), 13: _SRGB}
_UNSPECIFIED = 2
_HDR = {16: "PQ", 18: "HLG"}
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])
_D50 = np.array([0.9642, 1.0, 0.8249])


def cicp_profile(primaries: int, transfer: int, *, grey: bool = False) -> bytes | None:
    """Return the ICC profile of code points of ITU-T H.273, of RGB or of its greys; None for sRGB, which needs none.

    Photographs that name Rec. 709's transfer are treated as sRGB, as viewers do.

    Raises:
        ValueError: If they stand for HDR or are not supported.
    """
    if transfer in _HDR:
        raise ValueError(f"is HDR ({_HDR[transfer]}); only photographs of standard dynamic range can be retouched")
    primaries = 1 if primaries == _UNSPECIFIED else primaries
    transfer = 13 if transfer in (1, 6, 14, 15, _UNSPECIFIED) else transfer
    if (primaries, transfer) == (1, 13):
        return None
    if primaries not in _PRIMARIES or transfer not in _CURVES:
        raise ValueError(f"its colour space (CICP {primaries}/{transfer}) is not supported; convert it to sRGB")
    if grey:
        return None if transfer == 13 else grey_profile(_CURVES[transfer])
    return matrix_profile(_PRIMARIES[primaries], _CURVES[transfer])


def png_profile(chunks: Mapping[bytes, bytes], *, grey: bool = False) -> bytes | None:
    """Return the ICC profile that a PNG's cICP, or gAMA and cHRM, stand for, of RGB or of its greys; None for sRGB.

    Raises:
        ValueError: If the colour space is not supported.
    """
    if len(chunks.get(b"cICP", b"")) == 4:
        primaries, transfer, matrix, full_range = chunks[b"cICP"]
        if matrix or not full_range:
            raise ValueError("its cICP names a matrix or a limited range, which are not supported; convert it to sRGB")
        return cicp_profile(primaries, transfer, grey=grey)
    if b"sRGB" in chunks or not {b"gAMA", b"cHRM"}.intersection(chunks):
        return None
    chromaticities = _PRIMARIES[1]
    if len(chunks.get(b"cHRM", b"")) == 32:
        values = [value / 100_000 for value in struct.unpack(">8I", chunks[b"cHRM"])]
        white, red, green, blue = zip(values[::2], values[1::2], strict=True)
        chromaticities = (red, green, blue, white)
    gamma = struct.unpack(">I", chunks[b"gAMA"])[0] if len(chunks.get(b"gAMA", b"")) == 4 else 45455
    same = np.abs(np.array(chromaticities) - np.array(_PRIMARIES[1])).max() < 0.002
    curve = _SRGB if abs(gamma - 45455) < 500 else (100_000 / max(gamma, 1),)
    if (same or grey) and curve is _SRGB:
        return None
    try:
        return grey_profile(curve) if grey else matrix_profile(chromaticities, curve)
    except (ValueError, ArithmeticError, np.linalg.LinAlgError, struct.error):
        raise ValueError("its gAMA or cHRM are not those of a colour space; remove them") from None


def matrix_profile(chromaticities: Sequence[tuple[float, float]], curve: Sequence[float]) -> bytes:
    """Return the ICC profile of an RGB space.

    Args:
        chromaticities: x and y of red, green, blue and white.
        curve: Parameters of ICC's parametric curve: an exponent, or that and a, b, c, d.

    Raises:
        ValueError: If the primaries span no colour space.
        numpy.linalg.LinAlgError: Likewise.
    """
    xyz = np.array([[x / y, 1, (1 - x - y) / y] for x, y in chromaticities]).T
    white = xyz[:, 3]
    columns = xyz[:, :3] * np.linalg.solve(xyz[:, :3], white)
    cone = _BRADFORD @ white
    adapted = np.linalg.inv(_BRADFORD) @ np.diag(_BRADFORD @ _D50 / cone) @ _BRADFORD @ columns
    if not np.isfinite(adapted).all():
        raise ValueError("no colour space")
    trc, (red, green, blue) = _trc(curve), map(_xyz, adapted.T)
    return _packed(b"RGB ", {b"rXYZ": red, b"gXYZ": green, b"bXYZ": blue, b"rTRC": trc, b"gTRC": trc, b"bTRC": trc})


def grey_profile(curve: Sequence[float]) -> bytes:
    """Return the ICC profile of greys of a curve; see :func:`matrix_profile`."""
    return _packed(b"GRAY", {b"kTRC": _trc(curve)})


def _packed(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    tags = {b"desc": _text(space.decode().strip()), b"cprt": _text("CC0"), b"wtpt": _xyz(_D50)} | tags
    table, data = b"", b""
    for name, value in tags.items():
        table += struct.pack(">4sII", name, 132 + 12 * len(tags) + len(data), len(value))
        data += value + b"\0" * (-len(value) % 4)
    body = struct.pack(">I", len(tags)) + table + data
    head = struct.pack(">II4s4s4s", 128 + len(body), 0, b"\x04\x40\0\0", b"mntr", space) + b"XYZ "
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp")
    return head.ljust(68, b"\0") + b"".join(map(_fixed, _D50)) + b"\0" * 48 + body


def _trc(curve: Sequence[float]) -> bytes:
    kind = 0 if len(curve) == 1 else 3
    return struct.pack(">4sIHH", b"para", 0, kind, 0) + b"".join(map(_fixed, curve))


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65536))


def _xyz(values: np.ndarray) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(_fixed, values))


def _text(text: str) -> bytes:
    coded = text.encode("utf-16-be")
    return struct.pack(">4sIII4sII", b"mluc", 0, 1, 12, b"enUS", len(coded), 28) + coded
