"""What retouching programs do to an aligned face, for training networks that restore the original.

Four operations, in this order: `white` and `smooth` on skin, then `lift` (a slimmer lower face) and `eye` (larger eyes)
as one displacement field. A style is how one program does them, and a seed varies it a little. The style "any" is drawn
from the seed, from everything but what is special to "foreign", a program for tests that training does not see.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from retouch_common.faces.landmarks import FaceLandmarks
from retouch_common.photo.filters import gaussian_blur
from retouch_common.synthesis.retouching_regions import RegionKind, retouched_region
from retouch_common.synthesis.retouching_skin import retouching_skin
from retouch_common.synthesis.retouching_tones import SmoothingKind, WhiteningKind, smooth, whiten
from retouch_common.synthesis.retouching_warps import (
    CHEEK,
    EyeKind,
    Interpolation,
    LiftKind,
    Warp,
    displacement,
    enlarge,
    face_lift,
    warp_image,
)

OPERATIONS = ("white", "smooth", "lift", "eye")

LEVELS = (0.3, 0.6, 0.9)  # the strengths of RetouchingFFHQ's labels 1, 2 and 3
RESPONSE = 0.5  # the effect is the strength to this power: programs act most at the beginning of their sliders


@dataclass(frozen=True, kw_only=True)
class RetouchStyle:
    """Parameters of one program at strength 1. Lengths are eye distances unless said otherwise."""

    gamma: float
    """Exponent of lightness; less is whiter."""
    pull: float
    """How far the skin's colour is moved towards `hue`, 0 to 1."""
    hue: tuple[float, float]
    """Lab's a and b of the ideal skin."""
    smoothing: SmoothingKind
    smoothing_radius: float
    smoothing_contrast: float
    """Larger differences are edges and stay, as a share of the skin's lightness."""
    evenness: float
    """How far shadows are filled, 0 to 1."""
    lift: LiftKind
    lift_amount: float
    lift_reach: float
    eye_amount: float
    """The eye's middle is enlarged by 1 / (1 - amount)."""
    eye_radius: float
    """Radius of the enlarged disc in widths of the eye."""
    eye_power: float
    """How quickly the enlargement fades."""
    whitening: WhiteningKind = "lab"
    tint: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Exponents of red, green and blue after whitening: below 1, more of that colour."""
    whitened: RegionKind = "skin"
    smoothed: RegionKind = "skin"
    softness: float = 0.0
    """Standard deviation by which both regions are blurred."""
    lift_peak: float = CHEEK
    """Where along the jaw it is moved most, as of :func:`~retouch_common.synthesis.retouching_warps.face_lift`."""
    eye: EyeKind = "power"
    interpolation: Interpolation = "bicubic"


STYLES: dict[str, RetouchStyle] = {
    "porcelain": RetouchStyle(
        gamma=0.76,
        pull=0.34,
        hue=(7.0, 6.0),
        smoothing="guided",
        smoothing_radius=0.12,
        smoothing_contrast=0.18,
        evenness=0.9,
        lift="drag",
        lift_amount=0.058,
        lift_reach=0.75,
        eye_amount=0.25,
        eye_radius=1.1,
        eye_power=2.0,
    ),
    "rosy": RetouchStyle(
        gamma=0.765,
        pull=0.27,
        hue=(17.0, 8.0),
        smoothing="bilateral",
        smoothing_radius=0.14,
        smoothing_contrast=0.25,
        evenness=0.85,
        lift="pull",
        lift_amount=0.085,
        lift_reach=1.0,
        eye_amount=0.23,
        eye_radius=1.3,
        eye_power=2.0,
    ),
    "studio": RetouchStyle(
        gamma=0.74,
        pull=0.18,
        hue=(9.0, 17.0),
        smoothing="bands",
        smoothing_radius=0.1,
        smoothing_contrast=0.2,
        evenness=0.65,
        lift="narrow",
        lift_amount=0.07,
        lift_reach=1.0,
        eye_amount=0.28,
        eye_radius=1.2,
        eye_power=3.0,
    ),
    "foreign": RetouchStyle(
        gamma=0.76,
        pull=0.2,
        hue=(10.0, 10.0),
        smoothing="surface",
        smoothing_radius=0.12,
        smoothing_contrast=0.16,
        evenness=0.4,
        lift="pinch",
        lift_amount=0.065,
        lift_reach=1.0,
        eye_amount=0.25,
        eye_radius=1.2,
        eye_power=2.0,
        whitening="screen",
        whitened="face",
        eye="cosine",
        interpolation="bilinear",
    ),
}

ANY = "any"  # the style that is drawn from the seed


@dataclass(frozen=True, kw_only=True)
class RetouchConfig:
    """Frequencies of styles, operations and strengths."""

    styles: tuple[str, ...] = tuple(STYLES)
    """Styles to choose from with equal probability."""
    counts: tuple[float, ...] = (0.05, 0.35, 0.2, 0.2, 0.2)
    """Probability of 0, 1, 2, 3 and 4 operations at once."""
    spread: float | None = 0.1
    """Strengths lie evenly within this of 0.3, 0.6 or 0.9; None: evenly from 0.2 to 1."""

    def __post_init__(self) -> None:
        for style in self.styles:
            _known(style, (*STYLES, ANY), "style")
        if not self.styles:
            raise ValueError("styles is empty; name at least one")
        if len(self.counts) != 5 or min(self.counts) < 0 or abs(sum(self.counts) - 1) > 1e-6:
            raise ValueError(f"counts is {self.counts}; it must be five probabilities that sum to 1")
        if self.spread is not None and not 0 <= self.spread <= 0.1:
            raise ValueError(f"spread is {self.spread}; it must lie between 0 and 0.1")


@dataclass(frozen=True)
class RetouchRecipe:
    """Arguments of :func:`retouch_face`.

    Attributes:
        strengths: 0 to 1 by operation; 0 is off.
        style: A key of `STYLES`, or `ANY`.
        seed: Seed of the style's variations.
    """

    strengths: dict[str, float]
    style: str
    seed: int


@dataclass(frozen=True)
class Retouched:
    """A retouched face.

    Attributes:
        image: (H, W, 3) float32 in [0, 1].
        flow: (H, W, 2) float32; how many pixels right of (x) and below (y) its own place a pixel's colour comes from.
    """

    image: np.ndarray
    flow: np.ndarray


def random_recipe(
    generator: np.random.Generator, config: RetouchConfig, *, operations: Sequence[str] | None = None
) -> RetouchRecipe:
    """Draw operations (or take exactly ``operations``; ValueError for an unknown one), strengths, style and seed."""
    if operations is None:
        count = int(generator.choice(5, p=config.counts))
        operations = [OPERATIONS[i] for i in generator.permutation(4)[:count]]
    for name in operations:
        _known(name, OPERATIONS, "operation")
    strengths = {name: 0.0 for name in OPERATIONS}
    for name in OPERATIONS:
        if name not in operations:
            continue
        if config.spread is None:
            strengths[name] = float(generator.uniform(LEVELS[0] - 0.1, LEVELS[-1] + 0.1))
        else:
            strengths[name] = float(generator.choice(LEVELS) + generator.uniform(-config.spread, config.spread))
    style = config.styles[int(generator.integers(len(config.styles)))]
    return RetouchRecipe(strengths, style, int(generator.integers(2**31)))


def retouch_face(
    image: np.ndarray,
    landmarks: FaceLandmarks,
    strengths: Mapping[str, float],
    *,
    style: str = "porcelain",
    seed: int = 0,
    skin: np.ndarray | None = None,
) -> Retouched:
    """Retouch a face, deterministically.

    Args:
        image: (H, W, 3) float32 in [0, 1], an aligned face, best of 256 pixels a side or more.
        landmarks: In the image's pixels.
        strengths: 0 to 1 by operation; those left out are off.
        style: A key of `STYLES`, or `ANY`.
        seed: Seed of the style's variations, independent for each operation.
        skin: The result of `retouching_skin` for this image; None to compute it.

    Raises:
        ValueError: An argument is wrong.
    """
    _check_image(image, landmarks)
    _known(style, (*STYLES, ANY), "style")
    if seed < 0:
        raise ValueError(f"seed is {seed}; it must not be negative")
    values = {name: 0.0 for name in OPERATIONS}
    for name, strength in strengths.items():
        _known(name, OPERATIONS, "operation")
        if not 0.0 <= strength <= 1.0:
            raise ValueError(f"the strength of {name!r} is {strength}; it must lie between 0 and 1")
        values[name] = float(strength)
    height, width = image.shape[:2]
    mask = retouching_skin(image, landmarks) if skin is None else skin
    if mask.shape != (height, width):
        raise ValueError(f"the skin's mask {mask.shape} is not of the image's size {(height, width)}")
    effects = {name: value**RESPONSE for name, value in values.items()}
    variations = {name: np.random.default_rng((seed, i)) for i, name in enumerate(OPERATIONS)}
    chosen, result = any_style(seed) if style == ANY else STYLES[style], image
    if values["white"] > 0:
        region = _region(image, landmarks, chosen.whitened, chosen, mask)
        result = _whitened(result, region, chosen, effects["white"], variations["white"])
    if values["smooth"] > 0:
        region = _region(image, landmarks, chosen.smoothed, chosen, mask)
        result = _smoothed(result, region, landmarks.unit, chosen, effects["smooth"], variations["smooth"])
    warps = []
    if values["lift"] > 0:
        warps.append(_lifting(landmarks, chosen, effects["lift"], variations["lift"]))
    if values["eye"] > 0:
        warps += _enlarging(landmarks, chosen, effects["eye"], variations["eye"])
    flow = displacement(height, width, warps)
    return Retouched(warp_image(result, flow, chosen.interpolation), flow)


def any_style(seed: int) -> RetouchStyle:
    """Draw a program: each operation independently, from everything but what "foreign" does."""
    generator = np.random.default_rng((seed, 0xA11))

    def one(*kinds: str) -> Any:
        return kinds[int(generator.integers(len(kinds)))]

    def within(low: float, high: float) -> float:
        return float(generator.uniform(low, high))

    lift = one("drag", "pull", "narrow", "mls", "taper")
    return RetouchStyle(
        gamma=within(0.62, 0.86),
        pull=within(0.0, 0.4),
        hue=(within(4.0, 18.0), within(3.0, 18.0)),
        smoothing=one("guided", "bilateral", "bands", "gaussian", "median"),
        smoothing_radius=within(0.05, 0.17),
        smoothing_contrast=within(0.08, 0.28),
        evenness=within(0.0, 0.9) if generator.random() < 0.6 else 0.0,
        lift=lift,
        lift_amount=within(0.6, 1.3) * {"drag": 0.058, "pull": 0.085}.get(lift, 0.07),
        lift_reach=within(0.65, 1.15),
        eye_amount=within(0.15, 0.36),
        eye_radius=within(0.85, 1.6),
        eye_power=within(1.5, 3.5),
        whitening=one("lab", "lab", "log", "ycc", "hsv", "linear"),
        whitened=one("skin", "skin", "face", "ellipse", "colour", "likelihood", "likelihood"),
        smoothed=one("skin", "skin", "face", "colour", "likelihood"),
        eye=one("power", "cone", "gaussian"),
        interpolation=one("bilinear", "bicubic"),
        tint=tuple(np.exp(generator.normal(0.0, 0.07, 3)).tolist()) if generator.random() < 0.5 else (1.0, 1.0, 1.0),
        softness=within(0.0, 0.12) if generator.random() < 0.5 else 0.0,
        lift_peak=within(0.1, 0.32),
    )


def strength_label(strength: float) -> int:
    """Return the nearest of RetouchingFFHQ's degrees: 0 for 0, 1 around 0.3, 2 around 0.6, 3 around 0.9."""
    if strength <= 0:
        return 0
    return 1 + int(np.searchsorted([0.45, 0.75], strength, side="right"))


def _region(
    image: np.ndarray, landmarks: FaceLandmarks, kind: RegionKind, style: RetouchStyle, skin: np.ndarray
) -> np.ndarray:
    region = retouched_region(image, landmarks, kind, skin)
    return gaussian_blur(region, style.softness * landmarks.unit) if style.softness else region


def _whitened(
    image: np.ndarray, skin: np.ndarray, style: RetouchStyle, effect: float, generator: np.random.Generator
) -> np.ndarray:
    gamma = 1.0 - effect * (1.0 - style.gamma) * _around_one(generator, 0.1)
    hue = (style.hue[0] + float(generator.normal(0.0, 1.5)), style.hue[1] + float(generator.normal(0.0, 1.5)))
    pull = effect * style.pull * _around_one(generator, 0.1)
    tint = tuple(1.0 + effect * (exponent - 1.0) for exponent in style.tint)
    return whiten(image, skin, gamma=gamma, pull=pull, hue=hue, kind=style.whitening, tint=tint)


def _smoothed(
    image: np.ndarray, skin: np.ndarray, unit: float, style: RetouchStyle, effect: float, generator: np.random.Generator
) -> np.ndarray:
    radius = unit * style.smoothing_radius * _around_one(generator, 0.12)
    contrast = style.smoothing_contrast * _around_one(generator, 0.1)
    evenness = min(1.0, style.evenness * _around_one(generator, 0.1))
    return smooth(image, skin, kind=style.smoothing, radius=radius, contrast=contrast, amount=effect, evenness=evenness)


def _lifting(landmarks: FaceLandmarks, style: RetouchStyle, effect: float, generator: np.random.Generator) -> Warp:
    amount = effect * style.lift_amount * _around_one(generator, 0.1)
    reach = style.lift_reach * _around_one(generator, 0.08)
    return face_lift(landmarks, style.lift, amount, reach, peak=style.lift_peak)


def _enlarging(
    landmarks: FaceLandmarks, style: RetouchStyle, effect: float, generator: np.random.Generator
) -> list[Warp]:
    amount = min(0.6, effect * style.eye_amount * _around_one(generator, 0.1))
    share = style.eye_radius * _around_one(generator, 0.08)
    radius = share * float(landmarks.eye_widths.mean())

    def about(centre: np.ndarray) -> Warp:
        return lambda points: enlarge(points, centre, radius, amount, style.eye_power, style.eye)

    return [about(centre) for centre in landmarks.eye_centres]


def _around_one(generator: np.random.Generator, spread: float) -> float:
    """Draw a factor around 1, at most 2.5 spreads away."""
    return float(np.exp(spread * np.clip(generator.normal(), -2.5, 2.5)))


def _check_image(image: np.ndarray, landmarks: FaceLandmarks) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.float32:
        raise ValueError(f"expected an (H, W, 3) float32 image, got shape {image.shape} and type {image.dtype}")
    if not (image.min() >= 0.0 and image.max() <= 1.0):
        raise ValueError("the image has values outside [0, 1]")
    height, width = image.shape[:2]
    centres = landmarks.eye_centres
    if not ((centres >= 0) & (centres < (width, height))).all():
        raise ValueError(f"the landmarks' eyes lie outside the image of {width}x{height} pixels: are they for another?")


def _known(name: str, names: Sequence[str] | Mapping[str, object], what: str) -> None:
    if name not in names:
        near = difflib.get_close_matches(name, names, 1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"unknown {what} {name!r}{hint}; choose from {', '.join(names)}")
