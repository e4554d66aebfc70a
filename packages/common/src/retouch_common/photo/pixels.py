"""Conversion between stored pixels and RGB.

Files store grey, RGB or CMYK, with or without alpha. Only the *difference* that a network makes is carried back into
the stored channels, so that unchanged pixels stay bit-identical in every colour model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyvips

Kind = Literal["grey", "rgb", "cmyk"]

_KINDS: dict[str, Kind] = {
    "b-w": "grey",
    "grey16": "grey",
    "srgb": "rgb",
    "rgb": "rgb",
    "rgb16": "rgb",
    "cmyk": "cmyk",
}
_COLOUR_BANDS = {"grey": 1, "rgb": 3, "cmyk": 4}
_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)
VIPS_FORMATS: dict[np.dtype[Any], str] = {np.dtype(np.uint8): "uchar", np.dtype(np.uint16): "ushort"}


@dataclass(frozen=True)
class Layout:
    """How a photo's pixels are stored.

    Attributes:
        kind: Colour model.
        bands: Channels per pixel, colour first, then alpha and others.
        dtype: uint8 or uint16.
        profile: Embedded ICC profile, None if there is none.
    """

    kind: Kind
    bands: int
    dtype: np.dtype
    profile: bytes | None

    @classmethod
    def of(cls, image: pyvips.Image) -> Layout:
        """Return the layout of an opened photo.

        Raises:
            ValueError: If the pixels are neither 8- nor 16-bit unsigned integers, or not grey, RGB or CMYK.
        """
        dtype = next((key for key, name in VIPS_FORMATS.items() if name == image.format), None)
        if dtype is None:
            raise ValueError(f"its pixels are of type {image.format}; only 8 and 16 bits per channel are supported")
        kind = _KINDS.get(image.interpretation)
        if kind is None or image.bands < _COLOUR_BANDS[kind]:
            raise ValueError(
                f"its colours are {image.interpretation} with {image.bands} channels; "
                "only grey, RGB and CMYK are supported"
            )
        profile = image.get("icc-profile-data") if image.get_typeof("icc-profile-data") else None
        return cls(kind, image.bands, dtype, profile)

    @property
    def colour_bands(self) -> int:
        """Number of colour channels: 1, 3 or 4."""
        return _COLOUR_BANDS[self.kind]

    @property
    def interpretation(self) -> str:
        """Name of the colour space in libvips."""
        if self.kind == "cmyk":
            return "cmyk"
        names = {"grey": ("b-w", "grey16"), "rgb": ("srgb", "rgb16")}[self.kind]
        return names[self.dtype.itemsize - 1]

    def to_rgb(self, stored: np.ndarray) -> np.ndarray:
        """Convert stored pixels (H, W, bands) to RGB (H, W, 3) of the same dtype, without alpha.

        RGB stays in the photo's colour space; grey is replicated; CMYK is converted to sRGB through its profile, or a
        generic one if it has none.
        """
        if self.kind == "rgb":
            return stored[..., :3].copy()
        if self.kind == "grey":
            return np.repeat(stored[..., :1], 3, axis=2)
        source = {"embedded": True} if self.profile is not None else {"input_profile": "cmyk"}
        depth = 8 * self.dtype.itemsize
        return self._cmyk(stored[..., :4]).icc_transform("srgb", **source, depth=depth, intent="relative").numpy()

    def merge(self, stored: np.ndarray, rgb: np.ndarray) -> np.ndarray:
        """Carry the changes of ``rgb``, the retouched version of ``to_rgb(stored)``, into stored pixels (H, W, bands).

        RGB is replaced; grey changes by the difference in luminance, CMYK by the difference of both separations; alpha
        is kept. Unchanged pixels are bit-identical.
        """
        if self.kind == "rgb":
            return np.concatenate([rgb, stored[..., 3:]], axis=2) if self.bands > 3 else rgb
        before = self.to_rgb(stored)
        result = stored.copy()
        if self.kind == "grey":
            change = (rgb.astype(np.float32) - before) @ _LUMA
            result[..., 0] = self._moved(stored[..., 0], change)
        else:
            rows = np.flatnonzero((rgb != before).any(axis=(1, 2)))
            if rows.size:
                part = slice(rows[0], rows[-1] + 1)
                change = self._separate(rgb[part]).astype(np.int32) - self._separate(before[part])
                result[part, :, :4] = self._moved(stored[part, :, :4], change)
        return result

    def _moved(self, values: np.ndarray, change: np.ndarray) -> np.ndarray:
        limit = np.iinfo(self.dtype).max
        return np.clip(values.astype(np.int32) + np.rint(change).astype(np.int32), 0, limit).astype(self.dtype)

    def _cmyk(self, pixels: np.ndarray) -> pyvips.Image:
        image = image_from_array(np.ascontiguousarray(pixels), "cmyk")
        if self.profile is not None:
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", self.profile)
        return image

    def _separate(self, rgb: np.ndarray) -> np.ndarray:
        """Convert sRGB pixels to CMYK through the photo's profile."""
        image = image_from_array(rgb, "srgb" if self.dtype == np.uint8 else "rgb16")
        image = image.icc_import(input_profile="srgb", intent="relative")
        options: dict[str, object] = {"depth": 8 * self.dtype.itemsize, "intent": "relative"}
        if self.profile is not None:
            image = image.copy()
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", self.profile)
        else:
            options["output_profile"] = "cmyk"
        return image.icc_export(**options).numpy()


def image_from_array(array: np.ndarray, interpretation: str) -> pyvips.Image:
    """Copy an array (H, W, bands), uint8 or uint16, to a libvips image of an interpretation."""
    height, width, bands = array.shape
    data = np.ascontiguousarray(array).tobytes()
    image = pyvips.Image.new_from_memory(data, width, height, bands, VIPS_FORMATS[array.dtype])
    return image.copy(interpretation=interpretation)
