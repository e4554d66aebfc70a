"""What happens to photographs before and after somebody retouches them.

Before: another exposure and white balance, another size, grain, compression (:func:`photographed`). After: programs and
networks enlarge, reduce, turn, sharpen and compress (:class:`History`). A history is drawn without a look at what was
applied and is the same for the retouched photograph and its original: a network that learns from the two cannot tell
them by what happened afterwards (Stamm, Wu, Liu, "Information Forensics: An Overview", IEEE Access 2013).

Pictures are (H, W, 3) float32 in [0, 1]; points (n, 2) x, y in pixels, the middle of the first pixel at (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.photo.filters import gaussian_blur, smooth_noise
from retouch_common.ranges import to_levels
from retouch_common.synthesis.jpeg import compress
from retouch_common.synthesis.photometric import colour_shift
from retouch_common.synthesis.retouching_warps import enlarge

SMALLEST, LARGEST = 150, 1280  # sides of a face's square in pixels after a history
SMALLEST_RETOUCHED, USUAL = 260, 1000  # the same before it; no face is enlarged to more
SCALES = (0.3, 3.0)  # by how much a photograph is reduced or enlarged

Resampling = Literal["bilinear", "bicubic"]


def resized(image: np.ndarray, factor: float, resampling: Resampling = "bicubic") -> np.ndarray:
    """Enlarge or, antialiased, reduce a picture."""
    height, width = (max(8, round(side * factor)) for side in image.shape[:2])
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    out = F.interpolate(planes, (height, width), mode=resampling, align_corners=False, antialias=factor < 1)
    return np.ascontiguousarray(out[0].permute(1, 2, 0).clamp(0, 1).numpy())


def photographed(image: np.ndarray, side: float, generator: np.random.Generator) -> tuple[np.ndarray, float]:
    """Make a photograph of a portrait, as it might have come to somebody who retouches: size, light, grain, a file.

    Args:
        image: The portrait at its own size.
        side: Of the face's square in pixels.
        generator: Source of randomness.

    Returns:
        The photograph, and its scale.
    """
    factor = 1.0
    if generator.random() < 0.65:
        low, high = min(max(SMALLEST_RETOUCHED, 0.4 * side), side), max(min(USUAL, 2.5 * side), side)
        factor = _log_uniform(generator, low, high) / side
        image = resized(image, factor)
    image = _relit(image, generator)
    if generator.random() < 0.3:
        image = _sharpened(image, float(generator.uniform(0.6, 1.6)), float(generator.uniform(0.2, 1.0)))
    if factor > 1.0 or generator.random() < 0.5:  # enlarged pictures are too smooth to be true
        image = _grained(image, _log_uniform(generator, 0.003, 0.025), generator)
    if generator.random() < 0.4:
        image = compress(image, int(generator.integers(85, 99)), subsample=generator.random() < 0.5)
    return image, factor


@dataclass(frozen=True)
class History:
    """What is done to a photograph after retouching; everything that is None or 0 is left out.

    Attributes:
        turn: Radians by which it is turned about its middle.
        bend: Amplitude of a smooth displacement of the whole picture, in pixels.
        bumps: Number of places at which a brush displaced pixels by a little.
        warping: How pixels are interpolated then.
        scale: By how much it is enlarged.
        resampling: How.
        sharpening: Amount of sharpening, or with a minus of blurring.
        radius: Its standard deviation in pixels.
        grain: Standard deviation of noise.
        quality: Of JPEG.
        subsample: Whether colour is stored at half the size.
        seed: Of bend, bumps and noise.
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
        """Draw one; a third of all are no more than rounding to whole levels, perhaps with compression.

        Args:
            generator: Source of randomness.
            side: Of the face's square in pixels.
        """
        how: tuple[Resampling, ...] = ("bilinear", "bicubic")
        chance = generator.random(6) if generator.random() < 0.67 else np.ones(6)
        low, high = max(SMALLEST / side, SCALES[0]), min(LARGEST / side, SCALES[1])
        drawn = cls(
            turn=float(generator.uniform(-0.15, 0.15)) if chance[0] < 0.25 else 0.0,
            bend=float(generator.uniform(0.0, 0.008)) * side if chance[1] < 0.25 else 0.0,
            bumps=int(generator.integers(1, 4)) if chance[2] < 0.25 else 0,
            warping=how[int(generator.integers(2))],
            scale=_log_uniform(generator, low, max(high, low)) if chance[3] < 0.6 else 1.0,
            resampling=how[int(generator.integers(2))],
            sharpening=float(generator.uniform(-0.6, 1.0)) if chance[4] < 0.3 else 0.0,
            radius=float(generator.uniform(0.6, 1.6)),
            grain=_log_uniform(generator, 0.002, 0.02) if chance[5] < 0.3 else 0.0,
            seed=int(generator.integers(2**31)),
        )
        if generator.random() < 0.5:
            quality = int(100 - 40 * generator.random() ** 2)
            return cls(**vars(drawn) | {"quality": quality, "subsample": bool(generator.random() < 0.5)})
        return drawn

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Return the photograph afterwards, (H', W', 3) uint8."""
        generator = np.random.default_rng(self.seed)
        height, width = image.shape[:2]
        flow = self._flow(height, width, generator)
        if flow is not None:
            image = _warped(image, flow, self.warping)
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
        """Where points of a photograph of this size lie afterwards."""
        flow = self._flow(height, width, np.random.default_rng(self.seed))
        if flow is not None:
            wanted = points.copy()
            for _ in range(4):  # the flow says where a pixel comes from
                x, y = np.rint(points).astype(int).T
                points = wanted - flow[y.clip(0, height - 1), x.clip(0, width - 1)]
        return (points + 0.5) * self.scale - 0.5

    def _flow(self, height: int, width: int, generator: np.random.Generator) -> np.ndarray | None:
        """(H, W, 2): from how far right of and below its own place each pixel comes."""
        if not (self.turn or self.bend or self.bumps):
            return None
        y, x = np.mgrid[:height, :width].astype(np.float32)
        grid = np.stack([x, y], axis=-1)
        middle = np.array([width - 1, height - 1], np.float32) / 2
        cos, sin = np.float32(np.cos(self.turn)), np.float32(np.sin(self.turn))
        points = (grid - middle) @ np.array([[cos, sin], [-sin, cos]], np.float32) + middle
        if self.bend:
            field = smooth_noise(height, width, max(height, width) / 2.5, generator, channels=2)
            points = points + np.float32(self.bend / 2) * field
        side = min(height, width)
        for _ in range(self.bumps):
            centre = generator.uniform(0, [width, height])
            amount = float(generator.uniform(-0.25, 0.25))
            points = enlarge(points, centre, float(generator.uniform(0.05, 0.25)) * side, amount)
        return points - grid


def _log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


def _relit(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Another exposure, white balance and saturation: or a network learns by heart how white everybody is."""
    gamma = np.exp(generator.normal(0, 0.12))
    light = np.exp(generator.normal(0, 0.03, 3)) * np.exp(generator.normal(0, 0.08))
    matrix = (colour_shift(generator, 0.2) * light).astype(np.float32)
    return ((image ** np.float32(gamma)) @ matrix).clip(0, 1)


def _sharpened(image: np.ndarray, radius: float, amount: float) -> np.ndarray:
    """Add what a Gaussian takes away, or with a minus take it away."""
    return (image + np.float32(amount) * (image - gaussian_blur(image, radius))).clip(0, 1)


def _grained(image: np.ndarray, deviation: float, generator: np.random.Generator) -> np.ndarray:
    """Noise of a sensor: of single pixels or of small groups, of each colour or of lightness alone."""
    height, width = image.shape[:2]
    channels = 1 if generator.random() < 0.4 else 3
    noise = generator.standard_normal((height, width, channels), dtype=np.float32)
    if generator.random() < 0.5:
        noise = gaussian_blur(noise, 0.7)
        noise /= noise.std()
    return (image + np.float32(deviation) * noise).clip(0, 1)


def _warped(image: np.ndarray, flow: np.ndarray, how: Resampling) -> np.ndarray:
    height, width = image.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grid = np.stack([2 * (x + flow[..., 0] + 0.5) / width - 1, 2 * (y + flow[..., 1] + 0.5) / height - 1], axis=-1)
    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    moved = F.grid_sample(
        planes, torch.from_numpy(grid)[None], mode=how, padding_mode="reflection", align_corners=False
    )
    return np.ascontiguousarray(moved[0].clamp(0, 1).permute(1, 2, 0).numpy())
