"""Outlines, profiles and textures of single blemishes in small windows, float32 in [0, 1] unless said otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retouch_common.photo.filters import smooth_noise, smoothstep

FADE = 0.15  # of its reach: width of a window's border in which spots fade out


@dataclass(frozen=True)
class Window:
    """A rectangle of the image and the coordinates of its pixels relative to a centre, at most ``reach`` away."""

    rows: slice
    columns: slice
    y: np.ndarray
    x: np.ndarray
    reach: float

    @property
    def index(self) -> tuple[slice, slice]:
        """For indexing an (H, W, …) array."""
        return self.rows, self.columns

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.y.shape[0], self.x.shape[1]


class OutsideImage(Exception):
    """A window has no pixel in the image."""


def window_around(cy: float, cx: float, reach: float, shape: tuple[int, ...]) -> Window:
    """Return the window of pixels at most ``reach`` away in rows and columns; raise OutsideImage if there are none."""
    y0, y1 = max(0, int(np.floor(cy - reach))), min(shape[0], int(np.ceil(cy + reach)) + 1)
    x0, x1 = max(0, int(np.floor(cx - reach))), min(shape[1], int(np.ceil(cx + reach)) + 1)
    if y1 <= y0 or x1 <= x0:
        raise OutsideImage
    y = (np.arange(y0, y1, dtype=np.float32) - np.float32(cy))[:, None]
    x = (np.arange(x0, x1, dtype=np.float32) - np.float32(cx))[None, :]
    return Window(slice(y0, y1), slice(x0, x1), y, x, reach)


class NoisePool:
    """Fields of noise of ``size`` rows and columns, generated once; windows are cut at random places."""

    CELLS = (1.5, 3.0, 6.0, 12.0, 24.0)

    def __init__(self, size: int = 768) -> None:
        generator = np.random.default_rng(0)
        self.size = size
        self.fields = [smooth_noise(size, size, cell, generator)[..., 0] for cell in self.CELLS]

    def cut(self, shape: tuple[int, int], cell: float, generator: np.random.Generator) -> np.ndarray:
        """Return a window of standard normal noise with features of about ``cell`` pixels, at a random place."""
        field = self.fields[int(np.argmin([abs(np.log(cell / c)) for c in self.CELLS]))]
        y = int(generator.integers(0, self.size - shape[0] + 1))
        x = int(generator.integers(0, self.size - shape[1] + 1))
        return field[y : y + shape[0], x : x + shape[1]]


def blob(
    window: Window,
    radius: float,
    generator: np.random.Generator,
    *,
    aspect: float = 1.0,
    irregular: float = 0.0,
    hardness: float = 2.0,
) -> np.ndarray:
    """Return a round or irregular spot, 1 in the middle and 0 at the window's reach.

    Args:
        window: Where.
        radius: Distance in pixels at which the profile has fallen to 1/e.
        generator: Source of direction and outline.
        aspect: Length over width.
        irregular: Deviation of the outline from an ellipse, 0 to 0.6.
        hardness: Exponent of the profile exp(-r^hardness): 1 is a soft peak, 2 a Gaussian, 10 nearly a disc.
    """
    angle = generator.uniform(0.0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    stretch = np.float32(np.sqrt(aspect))
    u = (window.x * cos + window.y * sin) / np.float32(radius * stretch)
    v = (window.y * cos - window.x * sin) * np.float32(stretch / radius)
    square = u * u + v * v
    if irregular > 0.0:
        theta = np.arctan2(v, u)
        bend = np.ones_like(theta)
        for k in (1, 2, 3, 5, 8):
            amplitude = np.float32(1.3 * irregular * generator.normal() / k)
            bend += amplitude * np.cos(k * theta + np.float32(generator.uniform(0.0, 6.2832)))
        square = square / np.clip(bend, 0.35, 2.0) ** 2
    profile = np.exp(-np.power(np.minimum(square, np.float32(50.0)), np.float32(hardness / 2.0)))
    # Long and soft spots reach beyond the window, whose straight border would be seen.
    edge = np.float32(window.reach) - np.maximum(np.abs(window.y), np.abs(window.x))
    return profile * smoothstep(edge, 0.0, FADE * window.reach)


def curve_distance(window: Window, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return distances to a curve (n, 2) y, x, and the place of the nearest point along it in [0, 1], (h, w) each."""
    best = np.full(window.shape, np.inf, dtype=np.float32)
    place = np.zeros(window.shape, dtype=np.float32)
    for i in range(len(points) - 1):
        (y0, x0), (y1, x1) = points[i].astype(np.float32), points[i + 1].astype(np.float32)
        dy, dx = y1 - y0, x1 - x0
        length = max(float(dy * dy + dx * dx), 1e-6)
        t = np.clip(((window.y - y0) * dy + (window.x - x0) * dx) / np.float32(length), 0.0, 1.0)
        square = (window.y - y0 - t * dy) ** 2 + (window.x - x0 - t * dx) ** 2
        nearer = square < best
        best = np.where(nearer, square, best)
        place = np.where(nearer, (i + t) / np.float32(len(points) - 1), place)
    return np.sqrt(best), place
