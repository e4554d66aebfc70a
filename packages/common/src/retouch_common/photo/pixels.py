"""Conversion between stored pixels and RGB.

Files store grey, RGB or CMYK, with or without alpha, in a colour space of their own. Networks are given sRGB. Only the
*difference* that a network makes is carried back into the stored channels, so that unchanged pixels stay bit-identical
in every colour model.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyvips

from retouch_common.photo.colour import luminance

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
_PROFILE_SPACES = {"grey": b"GRAY", "rgb": b"RGB ", "cmyk": b"CMYK"}
_SAME_LEVELS = 1.5 / 255  # largest difference to sRGB that a profile may make and still count as sRGB
_FIT_STEPS, _FIT_PROBE = 4, 6 / 255  # of CMYK; the probe is a difference in ink
VIPS_FORMATS: dict[np.dtype[Any], str] = {np.dtype(np.uint8): "uchar", np.dtype(np.uint16): "ushort"}


@dataclass(frozen=True)
class Layout:
    """How a photo's pixels are stored.

    Attributes:
        kind: Colour model.
        bands: Channels per pixel, colour first, then alpha and others.
        dtype: uint8 or uint16.
        profile: ICC profile of the colours, None if there is none that fits them.
    """

    kind: Kind
    bands: int
    dtype: np.dtype
    profile: bytes | None

    @classmethod
    def of(cls, image: pyvips.Image, profile: bytes | None = None) -> Layout:
        """Return the layout of an opened photo with an ICC profile, which is ignored if it is of another colour model.

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
        fits = profile is not None and profile[16:20] == _PROFILE_SPACES[kind]
        return cls(kind, image.bands, dtype, profile if fits else None)

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

    @functools.cached_property
    def is_converted(self) -> bool:
        """Whether the colours have to be converted to sRGB: those of CMYK, and of a profile that is not sRGB's."""
        if self.kind == "cmyk":
            return True
        if self.profile is None:
            return False
        levels = np.linspace(0, np.iinfo(self.dtype).max, 6).astype(self.dtype)
        samples = np.stack(np.meshgrid(*[levels] * self.colour_bands), -1).reshape(1, -1, self.colour_bands)
        plain = np.repeat(samples, 3 // self.colour_bands, axis=2).astype(np.float32)
        difference = np.abs(self._convert(samples) - plain).max() / np.iinfo(self.dtype).max
        return bool(difference > _SAME_LEVELS)

    def check_profile(self) -> None:
        """Convert a colour to sRGB and back.

        Raises:
            pyvips.Error: If the profile is damaged, or converts in one direction only.
        """
        if self.is_converted:
            self._separate(np.zeros((1, 1, 3), self.dtype))

    def to_rgb(self, stored: np.ndarray) -> np.ndarray:
        """Convert stored pixels (H, W, bands) to sRGB (H, W, 3) of the same dtype, without alpha.

        Colours are converted through their profile; without one, RGB and grey count as sRGB, and CMYK is converted
        through a generic profile.
        """
        colours = stored[..., : self.colour_bands]
        if self.is_converted:
            return self._convert(colours)
        return colours.copy() if self.kind == "rgb" else np.repeat(colours, 3, axis=2)

    def merge(self, stored: np.ndarray, rgb: np.ndarray) -> np.ndarray:
        """Carry the changes of ``rgb``, the retouched version of ``to_rgb(stored)``, into stored pixels (H, W, bands).

        sRGB is replaced; sRGB's grey changes by the difference in luminance, other colours by the difference of what
        both versions are in the photo's colour space; alpha is kept. Unchanged pixels are bit-identical.
        """
        if self.kind == "rgb" and not self.is_converted:
            return np.concatenate([rgb, stored[..., 3:]], axis=2) if self.bands > 3 else rgb
        before = self.to_rgb(stored)
        result = stored.copy()
        changed = (rgb != before).any(axis=2)
        if not changed.any():
            return result
        colours = stored[changed][None, :, : self.colour_bands]
        after = rgb[changed][None]
        if self.is_converted:
            change = self._separate(after).astype(np.int32) - self._separate(before[changed][None])
        else:
            change = luminance(after.astype(np.float32) - before[changed][None])[..., None]
        moved = self._add_change(colours, change)
        result[changed, : self.colour_bands] = (self._match_inks(moved, after) if self.kind == "cmyk" else moved)[0]
        return result

    def _add_change(self, values: np.ndarray, change: np.ndarray) -> np.ndarray:
        limit = np.iinfo(self.dtype).max
        return np.clip(values.astype(np.int32) + np.rint(change).astype(np.int32), 0, limit).astype(self.dtype)

    def _match_inks(self, inks: np.ndarray, rgb: np.ndarray) -> np.ndarray:
        """Adjust cyan, magenta and yellow of CMYK pixels (1, N, 4) until they show ``rgb`` (1, N, 3).

        The difference of two separations asks for less black than a photo without black has; what is missing is made
        up by the other inks, by Gauss-Newton steps that are kept where they reduce the error.
        """
        limit = np.iinfo(self.dtype).max
        probe = round(_FIT_PROBE * limit)
        best, error = inks, rgb.astype(np.float32) - self._convert(inks)
        for _ in range(_FIT_STEPS):
            slopes = np.empty((*error.shape, 3), np.float32)  # of each colour by each ink
            for ink in range(3):
                probed = best.copy()
                step = np.where(best[..., ink] > limit // 2, -probe, probe)
                probed[..., ink] = best[..., ink].astype(np.int32) + step
                slopes[..., ink] = (self._convert(probed).astype(np.float32) - (rgb - error)) / step[..., None]
            normal = slopes.swapaxes(-1, -2) @ slopes + 1e-3 * np.eye(3, dtype=np.float32)
            change = np.linalg.solve(normal, slopes.swapaxes(-1, -2) @ error[..., None])[..., 0]
            candidate = best.copy()
            candidate[..., :3] = self._add_change(best[..., :3], change)
            left = rgb.astype(np.float32) - self._convert(candidate)
            better = (left**2).sum(axis=-1) < (error**2).sum(axis=-1)
            if not better.any():
                break
            best = np.where(better[..., None], candidate, best)
            error = np.where(better[..., None], left, error)
        return best

    def _convert(self, colours: np.ndarray) -> np.ndarray:
        """Convert colours (H, W, colour bands) to sRGB (H, W, 3) through the photo's profile."""
        image = image_from_array(np.ascontiguousarray(colours), self.interpretation)
        source: dict[str, object] = {"input_profile": "cmyk"}
        if self.profile is not None:
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", self.profile)
            source = {"embedded": True}
        depth = 8 * self.dtype.itemsize
        return image.icc_transform("srgb", **source, depth=depth, intent="relative").numpy()

    def _separate(self, rgb: np.ndarray) -> np.ndarray:
        """Convert sRGB pixels to the photo's colours through its profile."""
        image = image_from_array(rgb, "srgb" if self.dtype == np.uint8 else "rgb16")
        image = image.icc_import(input_profile="srgb", intent="relative")
        options: dict[str, object] = {"depth": 8 * self.dtype.itemsize, "intent": "relative"}
        if self.profile is not None:
            image = image.copy()
            image.set_type(pyvips.GValue.blob_type, "icc-profile-data", self.profile)
        else:
            options["output_profile"] = "cmyk"
        return image.icc_export(**options).numpy().reshape(*rgb.shape[:2], self.colour_bands)


def image_from_array(array: np.ndarray, interpretation: str) -> pyvips.Image:
    """Copy an array (H, W, bands), uint8 or uint16, to a libvips image of an interpretation."""
    height, width, bands = array.shape
    data = np.ascontiguousarray(array).tobytes()
    image = pyvips.Image.new_from_memory(data, width, height, bands, VIPS_FORMATS[array.dtype])
    return image.copy(interpretation=interpretation)
