"""Whitening and smoothing of skin."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

from retouch_common.photo.colour import luminance, rgb_to_lab
from retouch_common.photo.filters import bounding_box, gaussian_blur, resize, smoothstep

WhiteningKind = Literal["lab", "log", "ycc", "hsv", "linear", "screen"]

SmoothingKind = Literal["guided", "bilateral", "bands", "gaussian", "median", "surface"]

MEDIAN_RADIUS, BILATERAL_RADIUS = 2, 4  # pixels of the reduced copies that these filters work in
LIGHT = 0.8  # quantile of the skin's lightness to which shadows are filled
EVENED = (0.75, 1.45)  # limits of the factors by which skin is darkened and brightened


def whiten(
    image: np.ndarray,
    skin: np.ndarray,
    *,
    gamma: float,
    pull: float,
    hue: tuple[float, float],
    kind: WhiteningKind = "lab",
    tint: Sequence[float] = (1.0, 1.0, 1.0),
) -> np.ndarray:
    """Lighten skin so that a middle grey of 0.5 becomes 0.5^gamma.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        skin: (H, W) float32 in [0, 1]; where it is 0 nothing changes.
        gamma: 0.5 to 1; 1 keeps the lightness.
        pull: 0 to 1, how far colours are moved towards `hue`, or for all kinds but "lab" towards grey.
        hue: Lab's a and b.
        kind: "lab" is L' = 100 (L / 100)^gamma; "log" the curve log(1 + b x) / log(1 + b) of each channel; "ycc" a
            gamma of luma alone; "hsv" a gamma of value; "linear" a gain in linear light with a soft shoulder; "screen"
            the image screened with a share of itself.
        tint: Exponents of red, green and blue, afterwards.
    """
    if kind not in _WHITENING:
        raise ValueError(f"whitening is {', '.join(_WHITENING)}, not {kind!r}")
    result = image.copy()
    if not skin.any() or (gamma == 1.0 and pull == 0.0):
        return result
    window = bounding_box(skin > 0)
    changed = _WHITENING[kind](image[window], gamma, pull, hue)
    if any(exponent != 1.0 for exponent in tint):
        changed = np.power(np.clip(changed, 0.0, 1.0), np.array(tint, np.float32))
    return _blended(result, window, changed, skin)


def _white_lab(image: np.ndarray, gamma: float, pull: float, hue: tuple[float, float]) -> np.ndarray:
    from kornia.color import lab_to_rgb

    lab = rgb_to_lab(image)
    lab[..., 0] = 100.0 * np.power(np.clip(lab[..., 0] / 100.0, 0.0, 1.0), np.float32(gamma))
    lab[..., 1:] += np.float32(pull) * (np.array(hue, dtype=np.float32) - lab[..., 1:])
    planes = torch.from_numpy(lab).permute(2, 0, 1)[None]
    return lab_to_rgb(planes, clip=True)[0].permute(1, 2, 0).numpy()


def _white_log(image: np.ndarray, gamma: float, pull: float, hue: tuple[float, float]) -> np.ndarray:
    middle = 0.5**gamma
    bend = max((middle / (1.0 - middle)) ** 2 - 1.0, 1e-4)  # log(1 + b/2) / log(1 + b) is within 0.02 of it
    return _greyed(np.log1p(np.float32(bend) * image) / np.float32(np.log1p(bend)), pull)


def _white_ycc(image: np.ndarray, gamma: float, pull: float, hue: tuple[float, float]) -> np.ndarray:
    luma = luminance(image)[..., None]
    return np.power(luma, np.float32(gamma)) + np.float32(1.0 - pull) * (image - luma)


def _white_hsv(image: np.ndarray, gamma: float, pull: float, hue: tuple[float, float]) -> np.ndarray:
    value = np.maximum(image.max(axis=-1, keepdims=True), np.float32(1e-4))
    ratio = 1.0 - np.float32(1.0 - pull) * (1.0 - image / value)  # saturation is 1 - min / max
    return np.power(value, np.float32(gamma)) * ratio


def _white_linear(image: np.ndarray, gamma: float, pull: float, hue: tuple[float, float]) -> np.ndarray:
    gain = np.float32((0.5 ** (2.2 * gamma) / 0.5**2.2 - 0.5 ** (2.2 * gamma)) / (1.0 - 0.5 ** (2.2 * gamma)))
    light = np.power(image, np.float32(2.2))
    return _greyed(np.power(gain * light / (1.0 + (gain - 1.0) * light), np.float32(1 / 2.2)), pull)


def _white_screen(image: np.ndarray, gamma: float, pull: float, hue: tuple[float, float]) -> np.ndarray:
    share = np.float32(4.0 * (0.5**gamma - 0.5))
    return _greyed(1.0 - (1.0 - image) * (1.0 - share * image), pull)


def _greyed(image: np.ndarray, pull: float) -> np.ndarray:
    return image + np.float32(pull) * (luminance(image)[..., None] - image)


_WHITENING: dict[str, Callable[[np.ndarray, float, float, tuple[float, float]], np.ndarray]] = {
    "lab": _white_lab,
    "log": _white_log,
    "ycc": _white_ycc,
    "hsv": _white_hsv,
    "linear": _white_linear,
    "screen": _white_screen,
}


def smooth(
    image: np.ndarray,
    skin: np.ndarray,
    *,
    kind: SmoothingKind,
    radius: float,
    contrast: float,
    amount: float,
    evenness: float = 0.0,
) -> np.ndarray:
    """Remove texture, spots and wrinkles from skin and keep its edges.

    Args:
        image: (H, W, 3) float32 in [0, 1].
        skin: (H, W) float32 in [0, 1]; where it is 0 nothing changes.
        kind: "guided" is a guided filter; "bilateral" a bilateral one of a smaller copy, with finer detail weakened;
            "bands" removes what is neither fine (pores stay) nor coarse; "gaussian" blurs skin by skin alone and keeps
            strong detail; "median" is a median of a smaller copy; "surface" a mean over pixels of similar lightness.
        radius: Size of the removed detail in pixels.
        contrast: Larger differences are edges, as a share of the skin's mean lightness.
        amount: 0 to 1, strength of it all.
        evenness: 0 to 1, how far shadows on the skin, three times as wide as `radius`, are filled.
    """
    if kind not in _KINDS:
        raise ValueError(f"smoothing is {', '.join(_KINDS)}, not {kind!r}")
    result = image.copy()
    if not skin.any() or amount == 0.0:
        return result
    window = bounding_box(skin > 0, round(3 * radius))
    part, where = image[window], skin[window]
    level = float(np.average(luminance(part), weights=where))
    flat = _KINDS[kind](part, where, radius, contrast * max(level, 0.05))
    if evenness:
        shade = np.maximum(_on_skin(luminance(part)[..., None], where, 3 * radius), 1e-3)
        light = float(np.quantile(shade[where > 0.5 * where.max()], LIGHT))
        flat = flat * np.clip(light / shade, *EVENED) ** np.float32(evenness)
    return _blended(result, window, flat, np.float32(amount) * skin)


def _guided(image: np.ndarray, skin: np.ndarray, radius: float, contrast: float) -> np.ndarray:
    from kornia.filters import guided_blur

    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    reach = max(1, round(radius))
    # subsampled where the windows stay large: as good, and many times faster
    subsample = 4 if reach >= 16 else 2 if reach >= 6 else 1
    blurred = guided_blur(planes, planes, 2 * reach + 1, contrast**2, border_type="replicate", subsample=subsample)
    return blurred[0].permute(1, 2, 0).numpy()


def _bilateral(image: np.ndarray, skin: np.ndarray, radius: float, contrast: float) -> np.ndarray:
    from kornia.filters import bilateral_blur

    height, width = image.shape[:2]
    factor = max(1.0, radius / BILATERAL_RADIUS)
    small = _reduced(image, factor)
    planes = torch.from_numpy(small).permute(2, 0, 1)[None]
    spread = radius / factor / 2
    blurred = bilateral_blur(planes, 2 * BILATERAL_RADIUS + 1, contrast, (spread, spread), border_type="replicate")
    fine = image - resize(small, height, width)
    return resize(blurred[0].permute(1, 2, 0).numpy(), height, width) + _edges(fine, contrast)


def _bands(image: np.ndarray, skin: np.ndarray, radius: float, contrast: float) -> np.ndarray:
    coarse = _on_skin(image, skin, radius)
    fine = image - gaussian_blur(image, radius / 8)
    middle = image - fine - coarse
    return coarse + _edges(middle, contrast) + fine


def _gaussian(image: np.ndarray, skin: np.ndarray, radius: float, contrast: float) -> np.ndarray:
    coarse = _on_skin(image, skin, 0.5 * radius)
    return coarse + _edges(image - coarse, contrast)


def _median(image: np.ndarray, skin: np.ndarray, radius: float, contrast: float) -> np.ndarray:
    height, width = image.shape[:2]
    factor = max(1.0, 0.5 * radius / MEDIAN_RADIUS)
    small = _reduced(image, factor)
    planes = torch.from_numpy(small).permute(2, 0, 1)[:, None]
    around = F.pad(planes, (MEDIAN_RADIUS,) * 4, mode="replicate").unfold(2, 2 * MEDIAN_RADIUS + 1, 1)
    windows = around.unfold(3, 2 * MEDIAN_RADIUS + 1, 1).flatten(4)
    middle = windows.median(dim=-1).values[:, 0].permute(1, 2, 0).numpy()
    fine = image - resize(small, height, width)
    return resize(middle, height, width) + _edges(fine, contrast)


def _surface(image: np.ndarray, skin: np.ndarray, radius: float, contrast: float) -> np.ndarray:
    """Interpolate between copies blurred with pixels of about one lightness each."""
    light = luminance(image)
    low, high = float(light.min()), float(light.max()) + 1e-4
    steps = int(np.clip(np.ceil((high - low) / contrast), 2, 8))
    at = (light - low) / (high - low) * (steps - 1)
    result = np.zeros_like(image)
    for step in range(steps):
        weight = np.maximum(1.0 - np.square((at - step) / 1.5), 0.0)[..., None] + np.float32(1e-4)
        level = gaussian_blur(image * weight, 0.5 * radius) / gaussian_blur(weight, 0.5 * radius)
        result += np.maximum(1.0 - np.abs(at - step), 0.0)[..., None] * level
    return result


def _reduced(image: np.ndarray, factor: float) -> np.ndarray:
    height, width = (max(8, round(n / factor)) for n in image.shape[:2])
    return resize(image, height, width, antialias=True)


def _on_skin(image: np.ndarray, skin: np.ndarray, radius: float) -> np.ndarray:
    """Blur with skin alone, so that hair and eyes cast no halo."""
    weight = np.maximum(skin, np.float32(1e-3))[..., None]
    return gaussian_blur(image * weight, radius) / gaussian_blur(weight, radius)


def _edges(detail: np.ndarray, contrast: float) -> np.ndarray:
    strength = np.abs(detail).max(axis=-1, keepdims=True)
    return detail * smoothstep(strength, 0.5 * contrast, 1.5 * contrast)


_KINDS: dict[str, Callable[[np.ndarray, np.ndarray, float, float], np.ndarray]] = {
    "guided": _guided,
    "bilateral": _bilateral,
    "bands": _bands,
    "gaussian": _gaussian,
    "median": _median,
    "surface": _surface,
}


def _blended(image: np.ndarray, window: tuple[slice, slice], changed: np.ndarray, skin: np.ndarray) -> np.ndarray:
    part, weight = image[window], skin[window][..., None]
    image[window] = np.where(weight > 0, np.clip(part + weight * (changed - part), 0.0, 1.0), part)
    return image
