"""An independent program that draws blemishes, for measuring networks that were trained on others.

It shares nothing with :mod:`retouch_common.synthesis`. Colours are targets in OKLCh relative to the local skin, shapes
are sums of anisotropic Gaussians, discs with soft rims, splines and fractal noise. Moles are not drawn.

Björn Ottosson, *A perceptual color space for image processing*, 2020 (OKLab, and OKLCh, its polar form).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, gaussian_filter

from retouch_common.faces.mesh import OVAL
from retouch_common.testing.anywhere import CHEEKS, MeshPortrait, filled
from retouch_common.testing.portraits import VISIBLE

SHARES = (0.005, 0.03)  # of the skin that is visibly covered
MOST = 400  # blemishes on a face

_TO_LMS = np.array(
    [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566],
     [0.0883024619, 0.2817188376, 0.6299787005]]
)  # fmt: skip
_TO_LAB = np.array(
    [[0.2104542553, 0.7936177850, -0.0040720468], [1.9779984951, -2.4285922050, 0.4505937099],
     [0.0259040371, 0.7827717662, -0.8086757660]]
)  # fmt: skip


def to_oklab(image: np.ndarray) -> np.ndarray:
    """Return OKLab (..., 3) of sRGB in [0, 1]."""
    linear = np.where(image <= 0.04045, image / 12.92, ((image + 0.055) / 1.055) ** 2.4)
    return np.cbrt(linear @ _TO_LMS.T) @ _TO_LAB.T


def from_oklab(lab: np.ndarray) -> np.ndarray:
    """Return sRGB in [0, 1], clipped, of OKLab (..., 3)."""
    linear = np.clip((lab @ np.linalg.inv(_TO_LAB).T) ** 3 @ np.linalg.inv(_TO_LMS).T, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


@dataclass(frozen=True)
class Target:
    """Change of the surrounding skin's colour in OKLCh.

    Attributes:
        lightness: Factor on L.
        chroma: Added to C.
        turn: Added to h, in degrees; negative is redder.
    """

    lightness: float
    chroma: float
    turn: float = 0.0

    def offset(self, skin: np.ndarray) -> np.ndarray:
        """Return the difference (3,) in OKLab to the skin's colour, (3,) OKLab."""
        hue = np.arctan2(skin[2], skin[1]) + np.radians(self.turn)
        chroma = max(float(np.hypot(skin[1], skin[2])) + self.chroma, 0.0)
        return np.array([self.lightness * skin[0], chroma * np.cos(hue), chroma * np.sin(hue)]) - skin


Layers = list[tuple[np.ndarray, Target]]  # coverages in [0, 1] over a square window, each with its colour
Kind = Callable[[float, np.random.Generator], Layers]  # draws a blemish on a face of a given width in pixels


def draw_blemishes(portrait: MeshPortrait, seed: int) -> np.ndarray:
    """Return the photograph with blemishes on 0.5 to 3 % of its skin, (H, W, 3) uint8, unchanged elsewhere."""
    generator = np.random.default_rng((seed, 0xB1E))
    oval, width = portrait.mesh[list(OVAL)], portrait.face_width
    top, left = (max(0, int(value)) for value in oval.min(axis=0)[::-1])
    bottom, right = (int(value) + 2 for value in oval.max(axis=0)[::-1])
    window = slice(top, bottom), slice(left, right)
    before = portrait.levels[window]
    lab = to_oklab(before.astype(np.float64) / 255)
    skin = portrait.skin[window] & _of_skin_colour(portrait, window, lab)
    places = np.argwhere(binary_erosion(skin, iterations=max(1, round(0.012 * width))))
    result = portrait.levels.copy()
    if not len(places):
        return result
    cover = gaussian_filter(skin.astype(np.float64), 0.004 * width) * skin
    wanted = np.exp(generator.uniform(*np.log(SHARES))) * portrait.skin.sum()
    weights = generator.dirichlet(np.full(len(KINDS), 0.6))
    changed, kinds = np.zeros(skin.shape, bool), list(KINDS)
    for _ in range(MOST):
        if changed.sum() >= wanted:
            break
        layers = kinds[int(generator.choice(len(kinds), p=weights))](width, generator)
        y, x = places[generator.integers(len(places))]
        part = _paint(lab, cover, layers, int(y), int(x))
        drawn = np.rint(255 * from_oklab(lab[part])).clip(0, 255).astype(np.uint8)
        apart = np.abs(drawn.astype(np.int16) - before[part]).max(axis=-1)
        changed[part] = apart > VISIBLE
        result[window][part] = np.where((apart > 0)[..., None] & (cover[part] > 0)[..., None], drawn, before[part])
    return result


def _of_skin_colour(portrait: MeshPortrait, window: tuple[slice, slice], lab: np.ndarray) -> np.ndarray:
    """Return where the oval shows skin and not hair, beard, glasses or deep shade, by the cheeks' colour."""
    cheeks = sum(filled(portrait.mesh[list(part)], *portrait.levels.shape[:2])[window] for part in CHEEKS) > 0
    cheek = np.median(lab[cheeks], axis=0)
    smooth = gaussian_filter(lab, (0.006 * portrait.face_width,) * 2 + (0,))
    tinted = np.hypot(smooth[..., 1] - cheek[1], smooth[..., 2] - cheek[2]) < 0.05
    return tinted & (smooth[..., 0] > 0.72 * cheek[0]) & (smooth[..., 0] < 1.35 * cheek[0])


def _paint(lab: np.ndarray, cover: np.ndarray, layers: Layers, y: int, x: int) -> tuple[slice, slice]:
    half = len(layers[0][0]) // 2
    rows, columns = (slice(max(0, at - half), min(n, at + half + 1)) for at, n in zip((y, x), cover.shape, strict=True))
    inside = (
        slice(rows.start - y + half, rows.stop - y + half),
        slice(columns.start - x + half, columns.stop - x + half),
    )
    weights = cover[rows, columns]
    skin = np.average(lab[rows, columns], axis=(0, 1), weights=np.repeat(weights[..., None] + 1e-9, 3, axis=2))
    for coverage, target in layers:
        lab[rows, columns] += (weights * coverage[inside])[..., None] * target.offset(skin)
    return rows, columns


def _grid(reach: float) -> tuple[np.ndarray, np.ndarray]:
    half = int(np.ceil(reach))
    y, x = np.mgrid[-half : half + 1, -half : half + 1].astype(np.float64)
    return y, x


def _gaussians(radius: float, number: int, spread: float, generator: np.random.Generator) -> np.ndarray:
    """Return a sum of anisotropic Gaussians around the middle, at most 1."""
    y, x = _grid(3.5 * radius)
    total = np.zeros_like(y)
    for _ in range(number):
        cy, cx = generator.normal(0, spread * radius, 2)
        angle, long, wide = generator.uniform(0, np.pi), *(radius * generator.uniform(0.5, 1.1, 2))
        along = (y - cy) * np.sin(angle) + (x - cx) * np.cos(angle)
        across = (y - cy) * np.cos(angle) - (x - cx) * np.sin(angle)
        total += generator.uniform(0.5, 1.0) * np.exp(-0.5 * ((along / long) ** 2 + (across / wide) ** 2))
    return np.minimum(total, 1.0)


def _disc(radius: float, rim: float, reach: float) -> np.ndarray:
    y, x = _grid(reach)
    return 0.5 * (1 - np.tanh((np.hypot(y, x) - radius) / max(rim, 0.5)))


def _inflamed(width: float, generator: np.random.Generator) -> Layers:
    """Red spot with a soft border; a third of them with a pale head."""
    radius = width * np.exp(generator.uniform(np.log(0.005), np.log(0.018)))
    halo = _gaussians(radius, int(generator.integers(2, 5)), 0.4, generator)
    layers = [(halo, Target(generator.uniform(0.8, 0.95), generator.uniform(0.02, 0.06), generator.uniform(-30, -8)))]
    if generator.random() < 0.33:
        head = _disc(0.35 * radius, 0.12 * radius, 3.5 * radius)
        layers.append((head, Target(generator.uniform(1.05, 1.2), -0.01, generator.uniform(5, 20))))
    return layers


def _crust(width: float, generator: np.random.Generator) -> Layers:
    """Dark red or brown disc with a narrow rim."""
    radius = width * generator.uniform(0.004, 0.011)
    disc = _disc(radius, generator.uniform(0.08, 0.3) * radius, 2.5 * radius + 3)
    return [(disc, Target(generator.uniform(0.55, 0.85), generator.uniform(0.0, 0.05), generator.uniform(-25, 5)))]


def _mark(width: float, generator: np.random.Generator) -> Layers:
    """Flat brown mark of irregular outline."""
    radius = width * generator.uniform(0.006, 0.014)
    body = _gaussians(radius, int(generator.integers(3, 7)), 0.7, generator)
    shape = 1 / (1 + np.exp(-(body - 0.45) / generator.uniform(0.05, 0.15))) * (body > 0.05)
    return [(shape, Target(generator.uniform(0.82, 0.95), generator.uniform(-0.01, 0.02), generator.uniform(-8, 6)))]


def _comedone(width: float, generator: np.random.Generator) -> Layers:
    """Dark, grey pore."""
    radius = max(0.7, width * generator.uniform(0.002, 0.0045))
    return [(_disc(radius, 0.4 * radius, 3 * radius + 3), Target(generator.uniform(0.55, 0.8), -0.03))]


def _scar(width: float, generator: np.random.Generator) -> Layers:
    """Pale pit with a faint dark border."""
    radius = width * generator.uniform(0.005, 0.014)
    pit = _gaussians(radius, 2, 0.6, generator)
    border = np.clip(pit * (1 - pit) * 4, 0, 1)
    return [(pit, Target(generator.uniform(1.08, 1.2), -0.03)), (border, Target(generator.uniform(0.92, 0.98), 0.0))]


def _scratch(width: float, generator: np.random.Generator) -> Layers:
    """Thin red line along a cubic spline."""
    from scipy.interpolate import CubicSpline
    from scipy.spatial import cKDTree

    length, thick = width * generator.uniform(0.05, 0.2), max(0.6, width * generator.uniform(0.0012, 0.004))
    heading, knots = generator.uniform(0, 2 * np.pi), np.linspace(-0.5, 0.5, 5)
    bend = generator.normal(0, 0.12, 5)
    along, aside = np.array([np.sin(heading), np.cos(heading)]), np.array([np.cos(heading), -np.sin(heading)])
    curve = CubicSpline(knots, length * (knots[:, None] * along + bend[:, None] * aside))
    line = curve(np.linspace(-0.5, 0.5, 200))
    y, x = _grid(float(np.abs(line).max()) + 4 * thick)
    distance, nearest = cKDTree(line).query(np.stack([y, x], axis=-1))
    ends = np.sin(np.pi * (nearest + 0.5) / len(line)) ** 0.5
    shape = np.exp(-((distance / thick) ** 2)) * ends
    return [(shape, Target(generator.uniform(0.75, 0.92), generator.uniform(0.02, 0.06), generator.uniform(-30, -8)))]


def _rosacea(width: float, generator: np.random.Generator) -> Layers:
    """Blotchy red patch: fractal noise above a threshold, within a soft envelope."""
    radius = width * generator.uniform(0.03, 0.07)
    y, x = _grid(2.2 * radius)
    noise = _fractal(len(y), generator)
    envelope = np.exp(-((y**2 + x**2) / (1.4 * radius**2)))
    level = noise + 2.2 * envelope - 1.6
    shape = 1 / (1 + np.exp(-level / generator.uniform(0.1, 0.4))) * np.minimum(1, 3 * envelope)
    return [(shape, Target(generator.uniform(0.9, 0.97), generator.uniform(0.02, 0.05), generator.uniform(-30, -10)))]


def _fractal(side: int, generator: np.random.Generator) -> np.ndarray:
    """Return noise whose amplitude falls with frequency, (side, side), mean 0 and standard deviation 1."""
    spectrum = np.fft.rfft2(generator.normal(size=(side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    noise = np.fft.irfft2(spectrum / frequency**1.4, (side, side))
    return noise / noise.std()


KINDS: tuple[Kind, ...] = (_inflamed, _crust, _mark, _comedone, _scar, _scratch, _rosacea)
