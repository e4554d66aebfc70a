"""Random light and cameras.

Tone curves, colour, light and shadow act on the portrait before blemishes are drawn, whose colour is relative to the
skin. Noise, blur and JPEG come last and are the same for both images of a pair.
"""

from __future__ import annotations

import numpy as np

from retouch_common.photo.colour import luminance
from retouch_common.photo.filters import gaussian_blur, resize
from retouch_common.synthesis.blemish_canvas import MELANIN, log_uniform

DARKEST_SKIN = 0.13  # mean luminance, gamma-coded, down to which skin is darkened


def relight(
    levels: np.ndarray, tone: np.ndarray, generator: np.random.Generator, *, brightness: float | None = None
) -> np.ndarray:
    """Vary exposure, colour, skin tone, light and sharpness of an image (H, W, 3) uint8; return float32 in [0, 1].

    ``tone`` (H, W) in [0, 1] is where the tone of skin is changed. With ``brightness``, the mean luminance of the skin
    in [0, 1], tones vary from very dark to very light.
    """
    strength = float(generator.choice([0.0, 0.6, 1.0, 1.6], p=[0.15, 0.4, 0.35, 0.1]))
    image = np.take(tone_table(generator, strength), levels)
    matrix = np.diag(np.exp(generator.normal(0.0, 0.06 * strength, 3))).astype(np.float32)
    if generator.random() < 0.7:
        matrix = matrix @ colour_shift(generator, max(strength, 0.3))
    image = (image.reshape(-1, 3) @ matrix).reshape(image.shape)
    if generator.random() < 0.4:
        amount = float(np.clip(generator.normal(0.05, 0.3), -0.25, 0.7))
        if brightness is not None:
            deepest = np.clip(np.log(max(brightness, 1e-3) / DARKEST_SKIN) / 0.8, 0.0, 1.1)
            amount = float(generator.uniform(-0.3, deepest))
        image *= np.exp(tone[..., None] * (MELANIN * np.float32(-amount)))
    if generator.random() < 0.6:
        image *= light_field(tone.shape[0], tone.shape[1], generator, max(strength, 0.3))
    np.clip(image, 0.0, 1.0, out=image)
    return resharpen(image, generator) if generator.random() < 0.25 else image


def tone_table(generator: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Draw exposure, gamma and contrast as a table (256,) float32 in [0, 1], indexed by an 8-bit level.

    ``strength`` 0 is the identity (but for the roll-off), 1 the usual variation, more gives extreme looks.
    """
    level = np.arange(256, dtype=np.float64) / 255.0
    exposure = np.exp(generator.normal(0.0, 0.35 * strength))
    coded = np.power(level**2.2 * exposure, 1.0 / 2.2)
    if generator.random() < 0.6 * min(strength, 1.0):  # highlights roll off as in most cameras, or clip
        shoulder = generator.uniform(0.75, 0.95)
        room = 1.0 - shoulder
        over = np.maximum(coded - shoulder, 0.0)
        coded = np.where(over > 0.0, shoulder + room * (1.0 - np.exp(-over / room)), coded)
    coded = np.power(np.clip(coded, 0.0, 1.0), np.exp(generator.normal(0.0, 0.2 * strength)))
    contrast = np.exp(generator.normal(0.0, 0.2 * strength))
    pivot = generator.uniform(0.3, 0.6)
    coded = pivot + (coded - pivot) * contrast
    if generator.random() < 0.25 * strength:  # lifted blacks, dimmed whites
        low, high = generator.uniform(0.0, 0.12), generator.uniform(0.85, 1.0)
        coded = low + coded * (high - low)
    return np.clip(coded, 0.0, 1.0).astype(np.float32)


def colour_shift(generator: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Draw saturation, hue and channel mixing as a (3, 3) float32 matrix for row vectors: image @ matrix."""
    grey = np.tile(np.array([[0.2126], [0.7152], [0.0722]]), (1, 3))
    saturation = float(np.clip(np.exp(generator.normal(0.0, 0.3 * strength)), 0.0, 2.2))
    matrix = grey + saturation * (np.eye(3) - grey)
    angle = generator.normal(0.0, 0.08 * strength)
    cos, sin, third = np.cos(angle), np.sin(angle) / np.sqrt(3.0), (1.0 - np.cos(angle)) / 3.0
    hue = np.full((3, 3), third) + cos * np.eye(3) + sin * np.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])
    matrix = matrix @ hue
    if generator.random() < 0.1:
        matrix = matrix @ np.diag(np.exp(generator.normal(0.0, 0.18, 3)))
    return matrix.astype(np.float32)


def light_field(height: int, width: int, generator: np.random.Generator, strength: float = 1.0) -> np.ndarray:
    """Draw uneven, perhaps coloured light, sometimes with the edge of a shadow: (H, W, 3) float32 factors around 1."""
    rows, columns = _waves(height, generator), _waves(width, generator)
    amplitude = generator.exponential(0.16 * strength)
    tint = 1.0 + generator.normal(0.0, 0.25, 3)
    weights = generator.normal(0.0, amplitude, (rows.shape[1], columns.shape[1]))
    field = (rows @ weights.astype(np.float32) @ columns.T)[..., None] * tint.astype(np.float32)
    if generator.random() < 0.2 * strength:
        weights = generator.normal(0.0, 1.0, (rows.shape[1], columns.shape[1])).astype(np.float32)
        edge = rows @ weights @ columns.T
        softness = log_uniform(generator, 2.0, 60.0)
        shadow = 1.0 / (1.0 + np.exp(np.clip(-edge * np.float32(softness), -30.0, 30.0)))
        depth = generator.uniform(0.1, 0.8) * (1.0 + generator.normal(0.0, 0.15, 3))
        field -= shadow[..., None] * depth.astype(np.float32)
    return np.exp(np.clip(field, -1.8, 0.9))


def _waves(length: int, generator: np.random.Generator) -> np.ndarray:
    """Return a few slow cosines with random phases, (length, 4), the first constant."""
    t = np.linspace(0.0, np.pi, length, dtype=np.float32)[:, None]
    frequency = np.array([0.0, 1.0, 2.0, 3.0], dtype=np.float32)
    phase = generator.uniform(0.0, 2.0 * np.pi, 4).astype(np.float32)
    phase[0] = 0.0
    damping = np.array([0.4, 1.0, 0.6, 0.3], dtype=np.float32)
    return damping * np.cos(frequency * t + phase)


def resharpen(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Blur or sharpen an image a little."""
    sigma = float(generator.uniform(0.5, 1.8))
    amount = np.float32(generator.uniform(-1.2, 1.0))  # 1 is fully blurred, negative sharpens
    return np.clip((gaussian_blur(image, sigma) - image) * amount + image, 0.0, 1.0)


def resample(image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Downsample an image to 0.35 to 0.95 of its size and upsample it again."""
    height, width = image.shape[:2]
    factor = generator.uniform(0.35, 0.95)
    small = resize(image, max(8, round(height * factor)), max(8, round(width * factor)), antialias=True)
    return resize(small, height, width)


class NoiseBank:
    """Sensor noise cut from fields of ``size`` rows and columns that are generated once."""

    def __init__(self, size: int = 1024) -> None:
        generator = np.random.default_rng(1)
        fine = generator.standard_normal((size, size, 3), dtype=np.float32)
        coarse = gaussian_blur(generator.standard_normal((size, size, 3), dtype=np.float32), 0.9)
        self.fields = (fine, coarse / coarse.std())
        self.size = size

    def __call__(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return noise (H, W, 3) float32 for an image in [0, 1], at most of the fields' size."""
        height, width = image.shape[:2]
        field = self.fields[int(generator.integers(len(self.fields)))]
        y = int(generator.integers(0, self.size - height + 1))
        x = int(generator.integers(0, self.size - width + 1))
        noise = field[y : y + height, x : x + width]
        if generator.random() < 0.4:
            noise = noise[..., :1]  # lightness only
        sigma = np.float32(log_uniform(generator, 0.003, 0.045))
        slope = np.float32(generator.uniform(-0.6, 0.6))
        return noise * (sigma * (1.0 + slope * (luminance(image)[..., None] * 2.0 - 1.0)))
