"""The canvas that blemishes are painted on.

Most colour is absorption, multiplying the image by exp(-amount · density), where density is that of blood or melanin
per channel: the same blemish suits dark and light skin and any light.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retouch_common.synthesis.blemish_shapes import NoisePool, Window, blob, window_around

BLOOD = np.array([0.25, 1.0, 0.85], dtype=np.float32)
MELANIN = np.array([0.55, 0.85, 1.1], dtype=np.float32)


@dataclass
class Canvas:
    """The image that kinds of blemishes paint on.

    Attributes:
        image: (H, W, 3) float32 in [0, 1], modified in place.
        skin: (H, W) float32 in [0, 1].
        light: Direction of the light (y, x), unit length.
        strength: Factor on all amounts.
        noise: Pool of noise.
        red_variety: Share of red blemishes whose hue is drawn freely.
    """

    image: np.ndarray
    skin: np.ndarray
    light: np.ndarray
    strength: float
    noise: NoisePool
    red_variety: float = 0.0

    def redness(self, generator: np.random.Generator) -> np.ndarray:
        """Draw the density of a red blemish: near that of blood, or anything from crimson to violet."""
        if self.red_variety and generator.random() < self.red_variety:
            return np.array([generator.uniform(-0.25, 0.5), 1.0, generator.uniform(0.2, 1.2)], dtype=np.float32)
        return tint(generator, BLOOD)

    def window(self, cy: float, cx: float, reach: float) -> Window:
        """Return the window around a point, limited to the size of the noise pool."""
        return window_around(cy, cx, min(reach, self.noise.size / 2.0 - 2.0), self.image.shape)

    def absorb(self, window: Window, amount: np.ndarray, density: np.ndarray) -> None:
        """Multiply by exp(-amount · density); negative amounts lighten."""
        amount = amount * self.skin[window.index] * np.float32(self.strength)
        self._put(window, self.image[window.index] * np.exp(-amount[..., None] * density))

    def blend(self, window: Window, alpha: np.ndarray, colour: np.ndarray) -> None:
        """Mix with a colour, (3,) or (h, w, 3)."""
        alpha = np.clip(alpha * np.float32(min(1.0, self.strength)), 0.0, 1.0) * self.skin[window.index]
        here = self.image[window.index]
        self._put(window, here + alpha[..., None] * (colour - here))

    def add(self, window: Window, amount: np.ndarray, colour: np.ndarray) -> None:
        """Add light."""
        amount = amount * self.skin[window.index] * np.float32(self.strength)
        self._put(window, self.image[window.index] + amount[..., None] * colour)

    def _put(self, window: Window, values: np.ndarray) -> None:
        np.maximum(values, np.float32(0.0), out=values)
        np.minimum(values, np.float32(1.0), out=self.image[window.index])

    def local_colour(self, window: Window) -> np.ndarray:
        """Return the mean colour of the window, (3,)."""
        return self.image[window.index].reshape(-1, 3)[:: max(1, window.y.size * window.x.size // 256)].mean(0)

    def relief(self, window: Window, height: np.ndarray, amount: float) -> None:
        """Shade a bump (``amount`` > 0) or a pit (< 0) of the given height profile."""
        if min(window.shape) < 3:
            return
        dy, dx = np.gradient(height)
        slope = dy * np.float32(self.light[0]) + dx * np.float32(self.light[1])
        peak = float(np.abs(slope).max()) + 1e-6
        self.absorb(window, slope * np.float32(amount / peak), np.ones(3, dtype=np.float32))


def log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of ``low`` and ``high``."""
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


def spot(
    canvas: Canvas, window: Window, radius: float, generator: np.random.Generator, *, hard: tuple[float, float]
) -> np.ndarray:
    """Return a blob of random outline, sometimes with a textured interior."""
    irregular = generator.choice([0.0, 0.1, 0.2, 0.35]) if radius > 1.5 else 0.0
    aspect = float(np.exp(abs(generator.normal(0.0, 0.3))))
    hardness = log_uniform(generator, *hard)
    shape = blob(window, radius, generator, aspect=aspect, irregular=float(irregular), hardness=hardness)
    if generator.random() < 0.35 and radius > 2.0:
        grain = canvas.noise.cut(window.shape, max(1.5, radius * generator.uniform(0.2, 0.8)), generator)
        shape = shape * np.clip(1.0 + generator.uniform(0.1, 0.7) * grain, 0.0, 2.0)
    return shape


def tint(generator: np.random.Generator, base: np.ndarray, variation: float = 0.2) -> np.ndarray:
    """Draw a density near ``base``; now and then one of any colour."""
    if generator.random() < 0.07:
        return generator.uniform(-0.3, 1.2, 3).astype(np.float32)
    return (base * np.exp(generator.normal(0.0, variation, 3))).astype(np.float32)
