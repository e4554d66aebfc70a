"""Processing history of photographs, before and after retouching.

Before: exposure, white balance, size, noise, compression (:func:`photographed`). After: resizing, rotation, sharpening,
compression (:class:`History`), independently of the operations and the same for the retouched photograph and its
original, so that a network cannot tell the two by their processing (Stamm, Wu, Liu, "Information Forensics: An
Overview", IEEE Access 2013).

Images are (H, W, 3) float32 in [0, 1]; points (n, 2) x, y in pixels, the centre of the first pixel at (0, 0).
"""

from __future__ import annotations

import copy
import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.photo.filters import gaussian_blur, smooth_noise
from retouch_common.ranges import to_levels
from retouch_common.synthesis.blemish_canvas import log_uniform
from retouch_common.synthesis.jpeg import compress
from retouch_common.synthesis.photometric import colour_shift
from retouch_common.synthesis.retouching_warps import enlarge, warp_image

SMALLEST, LARGEST = 150, 1280  # side of a face's square in pixels after a history
SMALLEST_RETOUCHED, USUAL = 260, 1000  # the same before it; no face is upsampled beyond
SCALES = (0.3, 3.0)  # of resizing

Resampling = Literal["bilinear", "bicubic"]


def resized(image: np.ndarray, factor: float, resampling: Resampling = "bicubic") -> np.ndarray:
    """Resize an image by a factor, antialiased if it is below 1."""
    height, width = (max(8, round(side * factor)) for side in image.shape[:2])
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    out = F.interpolate(planes, (height, width), mode=resampling, align_corners=False, antialias=factor < 1)
    return np.ascontiguousarray(out[0].permute(1, 2, 0).clamp(0, 1).numpy())


def photographed(image: np.ndarray, side: float, generator: np.random.Generator) -> tuple[np.ndarray, float]:
    """Vary a portrait as photographs vary before retouching: size, light, noise, compression.

    Args:
        image: The portrait.
        side: Side of the face's square in pixels.
        generator: Source of randomness.

    Returns:
        The photograph, and its scale.
    """
    factor = 1.0
    if generator.random() < 0.65:
        low, high = min(max(SMALLEST_RETOUCHED, 0.4 * side), side), max(min(USUAL, 2.5 * side), side)
        factor = log_uniform(generator, low, high) / side
        image = resized(image, factor)
    image = _relit(image, generator)
    if generator.random() < 0.4:
        image = _lit(image, generator)
    if generator.random() < 0.3:
        image = _sharpened(image, float(generator.uniform(0.6, 1.6)), float(generator.uniform(0.2, 1.0)))
    if factor > 1.0 or generator.random() < 0.5:  # upsampled images are too smooth
        image = _grained(image, log_uniform(generator, 0.003, 0.025), generator)
    if generator.random() < 0.4:
        image = compress(image, int(generator.integers(85, 99)), subsample=generator.random() < 0.5)
    return image, factor


@dataclass(frozen=True)
class History:
    """Processing of a photograph after retouching; None and 0 skip a step.

    Attributes:
        turn: Rotation about the centre in radians.
        bend: Amplitude of a smooth displacement field in pixels.
        bumps: Number of small local warps.
        warping: Interpolation of the warp.
        scale: Factor of resizing.
        resampling: Interpolation of resizing.
        sharpening: Amount of unsharp masking; negative blurs.
        radius: Standard deviation of its Gaussian in pixels.
        grain: Standard deviation of the noise.
        quality: JPEG quality.
        subsample: Whether JPEG subsamples chroma.
        seed: Seed of bend, bumps and noise.
    """

    turn: float = 0.0
    bend: float = 0.0
    bumps: int = 0
    warping: Resampling = "bicubic"
    scale: float = 1.0
    resampling: Resampling = "bicubic"
    sharpening: float = 0.0
    radius: float = 1.0
    grain: float = 0.0
    quality: int | None = None
    subsample: bool = True
    seed: int = 0

    @classmethod
    def random(cls, generator: np.random.Generator, side: float) -> History:
        """Draw a history for a face whose square has a side in pixels; a third at most compress."""
        modes: tuple[Resampling, ...] = ("bilinear", "bicubic")
        chance = generator.random(6) if generator.random() < 0.67 else np.ones(6)
        low, high = max(SMALLEST / side, SCALES[0]), min(LARGEST / side, SCALES[1])
        drawn = cls(
            turn=float(generator.uniform(-0.15, 0.15)) if chance[0] < 0.25 else 0.0,
            bend=float(generator.uniform(0.0, 0.008)) * side if chance[1] < 0.25 else 0.0,
            bumps=int(generator.integers(1, 4)) if chance[2] < 0.4 else 0,
            warping=modes[int(generator.integers(2))],
            scale=log_uniform(generator, low, max(high, low)) if chance[3] < 0.6 else 1.0,
            resampling=modes[int(generator.integers(2))],
            sharpening=float(generator.uniform(-0.6, 1.0)) if chance[4] < 0.3 else 0.0,
            radius=float(generator.uniform(0.6, 1.6)),
            grain=log_uniform(generator, 0.002, 0.02) if chance[5] < 0.3 else 0.0,
            seed=int(generator.integers(2**31)),
        )
        if generator.random() < 0.5:
            quality = int(100 - 40 * generator.random() ** 2)
            return cls(**vars(drawn) | {"quality": quality, "subsample": bool(generator.random() < 0.5)})
        return drawn

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the processed photograph, (H', W', 3) uint8."""
        flow, drawn = _draw_flow(self, *image.shape[:2])
        generator = copy.deepcopy(drawn)
        if flow is not None:
            image = warp_image(image, flow, self.warping)
        if self.scale != 1.0:
            image = resized(image, self.scale, self.resampling)
        if self.sharpening:
            image = _sharpened(image, self.radius, self.sharpening)
        if self.grain:
            image = _grained(image, self.grain, generator)
        if self.quality is not None:
            image = compress(np.ascontiguousarray(image), self.quality, subsample=self.subsample)
        return to_levels(image)

    def moved(self, points: np.ndarray, height: int, width: int) -> np.ndarray:
        """Return where points of a photograph of this size lie afterwards."""
        flow, _ = _draw_flow(self, height, width)
        if flow is not None:
            target = points.copy()
            for _ in range(4):  # fixed-point inversion: the flow is defined on the output
                x, y = np.rint(points).astype(int).T
                points = target - flow[y.clip(0, height - 1), x.clip(0, width - 1)]
        return (points + 0.5) * self.scale - 0.5


@functools.lru_cache(maxsize=1)  # both images of a pair and their landmarks have the same
def _draw_flow(history: History, height: int, width: int) -> tuple[np.ndarray | None, np.random.Generator]:
    """Return the displacement to the source of each pixel, (H, W, 2) as x, y in pixels, and the generator after it."""
    generator = np.random.default_rng(history.seed)
    if not (history.turn or history.bend or history.bumps):
        return None, generator
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grid = np.stack([x, y], axis=-1)
    centre = np.array([width - 1, height - 1], np.float32) / 2
    cos, sin = np.float32(np.cos(history.turn)), np.float32(np.sin(history.turn))
    points = (grid - centre) @ np.array([[cos, sin], [-sin, cos]], np.float32) + centre
    if history.bend:
        field = smooth_noise(height, width, max(height, width) / 2.5, generator, channels=2)
        points = points + np.float32(history.bend / 2) * field
    side = min(height, width)
    for _ in range(history.bumps):
        centre = generator.uniform(0, [width, height])
        amount = float(generator.uniform(-0.25, 0.25))
        points = enlarge(points, centre, float(generator.uniform(0.05, 0.25)) * side, amount)
    return points - grid, generator


def _relit(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Vary exposure, white balance and saturation, so that a network cannot learn the skin tones of the portraits."""
    gamma = np.exp(generator.normal(0, 0.12))
    light = np.exp(generator.normal(0, 0.03, 3)) * np.exp(generator.normal(0, 0.08))
    matrix = (colour_shift(generator, 0.2) * light).astype(np.float32)
    return ((image ** np.float32(gamma)) @ matrix).clip(0, 1)


def _lit(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Brighten or darken a smooth part of the image, tinted, as lamps do: local light is no sign of whitening."""
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    cy, cx = generator.uniform(0.2, 0.8, 2) * (height, width)
    radius = generator.uniform(0.15, 0.5) * min(height, width)
    spot = np.exp(-0.5 * ((y - cy) ** 2 + (x - cx) ** 2) / radius**2).astype(np.float32)
    gain = (generator.normal(0.0, 0.2) + generator.normal(0.0, 0.04, 3)).astype(np.float32)
    return (image * np.exp(spot[..., None] * gain)).clip(0, 1)


def _sharpened(image: np.ndarray, radius: float, amount: float) -> np.ndarray:
    """Unsharp masking; a negative amount blurs."""
    return (image + np.float32(amount) * (image - gaussian_blur(image, radius))).clip(0, 1)


def _grained(image: np.ndarray, std: float, generator: np.random.Generator) -> np.ndarray:
    """Add sensor noise, white or slightly correlated, of each channel or of lightness alone."""
    height, width = image.shape[:2]
    channels = 1 if generator.random() < 0.4 else 3
    noise = generator.standard_normal((height, width, channels), dtype=np.float32)
    if generator.random() < 0.5:
        noise = gaussian_blur(noise, 0.7)
        noise /= noise.std()
    return (image + np.float32(std) * noise).clip(0, 1)
