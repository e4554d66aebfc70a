"""Kinds of skin blemishes: how each looks, with everything about it drawn at random.

Colour is added mostly as absorption, multiplying the picture by exp(-amount · density) where density is
that of blood or melanin per channel: the same blemish then suits dark and light skin and any light. Some
kinds blend towards a colour or replace texture, because real blemishes do all of this.

Each kind is a function (canvas, cy, cx, radius, generator) that paints on `canvas.image`, weighted by
`canvas.skin`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from retouch_common.synthesis.blemish_shapes import NoisePool, Window, blob, curve_distance, window_around
from retouch_common.synthesis.filters import gaussian_blur

__all__ = ["KINDS", "Canvas", "mole"]

BLOOD = np.array([0.25, 1.0, 0.85], dtype=np.float32)
MELANIN = np.array([0.55, 0.85, 1.1], dtype=np.float32)


@dataclass
class Canvas:
    """What the kinds paint on.

    Attributes:
        image: (H, W, 3) float32 in [0, 1], changed in place.
        skin: (H, W) float32 in [0, 1].
        light: Direction of the light (y, x), unit length.
        strength: Factor on all amounts.
        noise: Pool of noise.
    """

    image: np.ndarray
    skin: np.ndarray
    light: np.ndarray
    strength: float
    noise: NoisePool

    def window(self, cy: float, cx: float, reach: float) -> Window | None:
        """Window around a point, limited so that the noise pool covers it."""
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
        self.image[window.index] = np.clip(values, 0.0, 1.0)

    def local_colour(self, window: Window) -> np.ndarray:
        """Mean colour of the window, (3,)."""
        return (
            self.image[window.index].reshape(-1, 3)[:: max(1, window.y.size * window.x.size // 256)].mean(0)
        )

    def relief(self, window: Window, height: np.ndarray, amount: float) -> None:
        """Shade a bump (`amount` > 0) or a pit (< 0) of the given height profile."""
        if min(window.shape) < 3:
            return
        dy, dx = np.gradient(height)
        slope = dy * np.float32(self.light[0]) + dx * np.float32(self.light[1])
        peak = float(np.abs(slope).max()) + 1e-6
        self.absorb(window, slope * np.float32(amount / peak), np.ones(3, dtype=np.float32))


Kind = Callable[[Canvas, float, float, float, np.random.Generator], None]


def _log_uniform(generator: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(generator.uniform(np.log(low), np.log(high))))


def _spot(
    canvas: Canvas,
    window: Window,
    radius: float,
    generator: np.random.Generator,
    *,
    hard: tuple[float, float],
) -> np.ndarray:
    """A blob of random outline, sometimes with a textured interior."""
    irregular = generator.choice([0.0, 0.1, 0.2, 0.35]) if radius > 1.5 else 0.0
    shape = blob(
        window,
        radius,
        generator,
        aspect=float(np.exp(abs(generator.normal(0.0, 0.3)))),
        irregular=float(irregular),
        hardness=_log_uniform(generator, *hard),
    )
    if generator.random() < 0.35 and radius > 2.0:
        grain = canvas.noise.cut(window.shape, max(1.5, radius * generator.uniform(0.2, 0.8)), generator)
        shape = shape * np.clip(1.0 + generator.uniform(0.1, 0.7) * grain, 0.0, 2.0)
    return shape


def _tint(generator: np.random.Generator, base: np.ndarray, variation: float = 0.2) -> np.ndarray:
    if generator.random() < 0.07:
        return generator.uniform(-0.3, 1.2, 3).astype(np.float32)
    return (base * np.exp(generator.normal(0.0, variation, 3))).astype(np.float32)


def papule(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Red bump: halo, core, shading and sometimes a highlight."""
    window = canvas.window(cy, cx, radius * 4.5)
    if window is None:
        return
    red = _tint(generator, BLOOD)
    halo = blob(window, radius * generator.uniform(1.3, 2.4), generator, irregular=0.15, hardness=1.6)
    canvas.absorb(window, halo * np.float32(_log_uniform(generator, 0.02, 0.25)), red)
    core = _spot(canvas, window, radius, generator, hard=(1.4, 5.0))
    canvas.absorb(window, core * np.float32(_log_uniform(generator, 0.06, 0.6)), red)
    if generator.random() < 0.7:
        canvas.relief(window, core, generator.uniform(0.02, 0.25))
    if generator.random() < 0.45:
        _highlight(canvas, window, radius, generator)


def _highlight(canvas: Canvas, window: Window, radius: float, generator: np.random.Generator) -> None:
    shift = canvas.light * radius * generator.uniform(0.1, 0.6)
    moved = Window(
        window.rows, window.columns, window.y + np.float32(shift[0]), window.x + np.float32(shift[1])
    )
    gleam = blob(moved, max(0.6, radius * generator.uniform(0.12, 0.4)), generator, aspect=1.4)
    canvas.add(window, gleam * np.float32(generator.uniform(0.05, 0.45)), np.ones(3, dtype=np.float32))


def pustule(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """White or yellow head in a red halo."""
    papule(canvas, cy, cx, radius * generator.uniform(1.1, 1.8), generator)
    window = canvas.window(cy, cx, radius * 2.5)
    if window is None:
        return
    skin_colour = canvas.local_colour(window)
    pus = np.clip(skin_colour * generator.uniform(1.1, 1.6) + np.array([0.08, 0.05, -0.04]), 0.0, 1.0)
    head = blob(
        window,
        radius * generator.uniform(0.3, 0.7),
        generator,
        irregular=0.1,
        hardness=generator.uniform(2, 6),
    )
    canvas.blend(window, head * np.float32(generator.uniform(0.3, 0.95)), pus.astype(np.float32))
    if generator.random() < 0.4:
        _highlight(canvas, window, radius * 0.6, generator)


def comedone(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Blackhead (small, dark, crisp) or closed comedone (small pale bump)."""
    radius = min(radius, 4.0) * 0.7
    window = canvas.window(cy, cx, radius * 4.0 + 1.0)
    if window is None:
        return
    core = _spot(canvas, window, max(radius, 0.6), generator, hard=(1.6, 6.0))
    if generator.random() < 0.6:
        canvas.absorb(
            window, core * np.float32(_log_uniform(generator, 0.12, 0.9)), _tint(generator, MELANIN, 0.15)
        )
    else:
        canvas.relief(window, core, generator.uniform(0.05, 0.25))
        canvas.absorb(
            window, core * np.float32(-_log_uniform(generator, 0.04, 0.25)), _tint(generator, MELANIN, 0.2)
        )


def dark_spot(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Hyperpigmentation: light to middle brown, soft or irregular."""
    window = canvas.window(cy, cx, radius * 3.2)
    if window is None:
        return
    shape = _spot(canvas, window, radius, generator, hard=(1.2, 5.0))
    brown = _tint(generator, MELANIN + generator.uniform(0.0, 0.5) * BLOOD)
    canvas.absorb(window, shape * np.float32(_log_uniform(generator, 0.05, 0.45)), brown)


def red_spot(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Flat red mark, soft to sharp."""
    window = canvas.window(cy, cx, radius * 3.2)
    if window is None:
        return
    shape = _spot(canvas, window, radius, generator, hard=(1.1, 8.0))
    canvas.absorb(window, shape * np.float32(_log_uniform(generator, 0.05, 0.6)), _tint(generator, BLOOD))


def pale_spot(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Depigmented spot."""
    window = canvas.window(cy, cx, radius * 3.2)
    if window is None:
        return
    shape = _spot(canvas, window, radius, generator, hard=(1.2, 8.0))
    canvas.absorb(window, shape * np.float32(-_log_uniform(generator, 0.04, 0.35)), _tint(generator, MELANIN))


def scar(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Pit or raised scar: shading, one darker and one lighter rim, sometimes a change of colour."""
    window = canvas.window(cy, cx, radius * 3.5)
    if window is None:
        return
    shape = _spot(canvas, window, radius, generator, hard=(2.0, 9.0))
    canvas.relief(window, shape, generator.uniform(0.05, 0.4) * generator.choice([-1.0, -1.0, 1.0]))
    tone = generator.normal(0.0, 0.12)
    canvas.absorb(window, shape * np.float32(tone), _tint(generator, BLOOD if tone > 0 else MELANIN))


def solid_spot(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """A spot of one colour that covers the texture: reddish, brownish, pale or any colour at all."""
    window = canvas.window(cy, cx, radius * 3.0)
    if window is None:
        return
    here = canvas.local_colour(window)
    if generator.random() < 0.75:
        density = _tint(generator, BLOOD if generator.random() < 0.65 else MELANIN)
        colour = here * np.exp(
            -density * generator.choice([-0.25, 0.2, 0.4, 0.7]) * generator.uniform(0.5, 1.3)
        )
    else:
        colour = here * generator.uniform(0.5, 1.5) + generator.normal(0.0, 0.15, 3)
    shape = _spot(canvas, window, radius, generator, hard=(1.3, 12.0))
    colour = np.clip(colour, 0.0, 1.0).astype(np.float32)
    canvas.blend(window, np.minimum(shape, 1.0) * np.float32(generator.uniform(0.2, 0.95)), colour)


def _curve(generator: np.random.Generator, length: float, bend: float, segments: int) -> np.ndarray:
    """Points (y, x) of a random curve through the origin's neighbourhood."""
    heading = generator.uniform(0.0, 2.0 * np.pi)
    turn = generator.normal(0.0, bend) / segments
    wobble = np.cumsum(generator.normal(0.0, bend * 0.15, segments))
    angles = heading + turn * np.arange(segments) + wobble
    steps = np.stack([np.sin(angles), np.cos(angles)], 1) * (length / segments)
    points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
    return points - points.mean(0)


def scratch(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Thin, more or less curved line: red, brown, pale or dark."""
    length = float(np.clip(radius * generator.uniform(4.0, 16.0), 8.0, 160.0))
    width = float(np.clip(radius * generator.uniform(0.1, 0.35), 0.4, 3.5))
    points = _curve(generator, length, generator.uniform(0.1, 1.2), int(np.clip(length / 8, 4, 10)))
    window = canvas.window(cy, cx, float(np.abs(points).max()) + 3.0 * width + 1.0)
    if window is None:
        return
    distance, place = curve_distance(window, points)
    profile = np.exp(-np.power(distance / np.float32(width), np.float32(generator.uniform(1.5, 4.0))))
    profile *= np.clip(np.minimum(place, 1.0 - place) * generator.uniform(3.0, 20.0), 0.0, 1.0)
    if generator.random() < 0.4:
        profile *= np.clip(0.7 + canvas.noise.cut(window.shape, 6.0, generator), 0.0, 1.3)
    amount = _log_uniform(generator, 0.06, 0.6) * (1.0 if generator.random() < 0.75 else -0.6)
    canvas.absorb(
        window, profile * np.float32(amount), _tint(generator, BLOOD if generator.random() < 0.6 else MELANIN)
    )


def crease(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Fine wrinkle: a soft dark valley with a lighter bank."""
    length = float(np.clip(radius * generator.uniform(6.0, 25.0), 15.0, 180.0))
    width = float(np.clip(radius * generator.uniform(0.15, 0.5), 0.7, 5.0))
    points = _curve(generator, length, generator.uniform(0.05, 0.5), int(np.clip(length / 12, 4, 9)))
    window = canvas.window(cy, cx, float(np.abs(points).max()) + 4.0 * width + 1.0)
    if window is None:
        return
    distance, place = curve_distance(window, points)
    ends = np.clip(np.minimum(place, 1.0 - place) * 4.0, 0.0, 1.0)
    valley = np.exp(-((distance / np.float32(width)) ** 2)) * ends
    wide = np.exp(-((distance / np.float32(2.5 * width)) ** 2)) * ends
    amount = _log_uniform(generator, 0.03, 0.3)
    tone = _tint(generator, np.array([0.7, 1.0, 1.1], dtype=np.float32), 0.15)
    canvas.absorb(
        window, (valley - np.float32(generator.uniform(0.0, 0.5)) * wide) * np.float32(amount), tone
    )


def patch(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Large flat patch with an irregular outline: rosacea, erythema, melasma, pallor."""
    radius = radius * generator.uniform(3.0, 9.0) + 6.0
    window = canvas.window(cy, cx, min(radius * 2.2, 180.0))
    if window is None:
        return
    envelope = blob(
        window, min(radius, 80.0), generator, aspect=generator.uniform(1.0, 2.5), irregular=0.25, hardness=3.0
    )
    grain = canvas.noise.cut(window.shape, max(3.0, radius * generator.uniform(0.15, 0.6)), generator)
    sharp = _log_uniform(generator, 0.6, 8.0)
    level = envelope * 2.2 - 1.0 + generator.uniform(0.1, 0.9) * grain
    shape = 1.0 / (1.0 + np.exp(np.clip(-sharp * level, -30.0, 30.0))) * np.minimum(1.0, 4.0 * envelope)
    if generator.random() < 0.5:
        fine = canvas.noise.cut(window.shape, generator.choice([1.5, 3.0, 6.0]), generator)
        shape = shape * np.clip(1.0 + generator.uniform(0.1, 0.5) * fine, 0.0, 2.0)
    choice = generator.random()
    amount = _log_uniform(generator, 0.03, 0.4)
    if choice < 0.5:
        canvas.absorb(window, shape * np.float32(amount), _tint(generator, BLOOD))
    elif choice < 0.85:
        canvas.absorb(window, shape * np.float32(0.8 * amount), _tint(generator, MELANIN))
    else:
        canvas.absorb(window, shape * np.float32(-0.6 * amount), _tint(generator, MELANIN))


def shine(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Oily highlight: soft light with a fine grain."""
    radius = min(radius * generator.uniform(1.5, 6.0) + 2.0, 55.0)
    window = canvas.window(cy, cx, radius * 2.6)
    if window is None:
        return
    gleam = blob(
        window,
        radius,
        generator,
        aspect=generator.uniform(1.0, 2.5),
        irregular=0.2,
        hardness=generator.uniform(1.3, 3.0),
    )
    if generator.random() < 0.6:
        grain = canvas.noise.cut(window.shape, generator.choice([1.5, 3.0, 6.0]), generator)
        gleam = gleam * np.clip(1.0 + generator.uniform(0.2, 0.8) * grain, 0.0, 2.5)
    white = np.clip(canvas.local_colour(window) * 0.3 + 0.7, 0.0, 1.0).astype(np.float32)
    amount = np.float32(_log_uniform(generator, 0.06, 0.6))
    if generator.random() < 0.5:
        canvas.blend(window, gleam * amount, white)
    else:
        canvas.add(window, gleam * amount * np.float32(0.5), white)


def shade(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Soft dark area as under tired eyes or of a bruise: brownish, bluish or violet."""
    radius = min(radius * generator.uniform(2.5, 7.0) + 4.0, 60.0)
    window = canvas.window(cy, cx, radius * 2.6)
    if window is None:
        return
    shape = blob(
        window,
        radius,
        generator,
        aspect=generator.uniform(1.0, 3.0),
        irregular=0.2,
        hardness=generator.uniform(1.4, 4.0),
    )
    tones = np.array([[0.8, 0.9, 0.8], [0.9, 0.8, 0.4], [0.5, 1.0, 0.6], [0.3, 0.5, 0.9]], dtype=np.float32)
    tone = _tint(generator, tones[generator.integers(len(tones))])
    if generator.random() < 0.4:
        shape = shape * np.clip(1.0 + 0.4 * canvas.noise.cut(window.shape, radius * 0.3, generator), 0.0, 2.0)
    canvas.absorb(window, shape * np.float32(_log_uniform(generator, 0.05, 0.4)), tone)


def rough(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Flaky or rough patch: added fine texture, sometimes pale flakes on red."""
    radius = min(radius * generator.uniform(2.0, 6.0) + 3.0, 50.0)
    window = canvas.window(cy, cx, radius * 2.2)
    if window is None:
        return
    area = blob(window, radius, generator, aspect=generator.uniform(1.0, 2.0), irregular=0.3, hardness=4.0)
    grain = canvas.noise.cut(window.shape, generator.choice([1.5, 3.0]), generator)
    if generator.random() < 0.5:
        grain = np.maximum(grain - generator.uniform(0.0, 1.0), 0.0)
    amount = np.float32(_log_uniform(generator, 0.03, 0.2))
    canvas.absorb(window, area * grain * -amount, np.ones(3, dtype=np.float32))
    if generator.random() < 0.5:
        canvas.absorb(window, area * np.float32(_log_uniform(generator, 0.02, 0.2)), _tint(generator, BLOOD))


def smear(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """A blemish that destroys texture: the skin blurred and tinted."""
    window = canvas.window(cy, cx, radius * 3.0)
    if window is None:
        return
    soft = gaussian_blur(np.ascontiguousarray(canvas.image[window.index]), max(1.0, radius * 0.4))
    soft = soft * np.exp(-_tint(generator, BLOOD) * generator.uniform(-0.1, 0.4))
    shape = _spot(canvas, window, radius, generator, hard=(1.5, 8.0))
    canvas.blend(
        window, np.minimum(shape, 1.0) * np.float32(generator.uniform(0.4, 1.0)), soft.astype(np.float32)
    )


def mole(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """A mole, which is *not* a blemish: dark brown to black, round, well-defined, sometimes raised."""
    window = canvas.window(cy, cx, radius * 2.5 + 1.5)
    if window is None:
        return
    shape = blob(
        window,
        radius,
        generator,
        aspect=float(generator.uniform(1.0, 1.35)),
        irregular=0.06,
        hardness=generator.uniform(3.5, 9.0),
    )
    brown = (MELANIN * np.exp(generator.normal(0.0, 0.1, 3))).astype(np.float32)
    canvas.absorb(window, shape * np.float32(generator.uniform(0.65, 2.0)), brown)
    if generator.random() < 0.3:
        canvas.relief(window, shape, generator.uniform(0.05, 0.3))
        _highlight(canvas, window, radius, generator)


KINDS: dict[str, Kind] = {
    "papule": papule,
    "pustule": pustule,
    "comedone": comedone,
    "dark_spot": dark_spot,
    "red_spot": red_spot,
    "pale_spot": pale_spot,
    "scar": scar,
    "solid_spot": solid_spot,
    "scratch": scratch,
    "crease": crease,
    "patch": patch,
    "shine": shine,
    "shade": shade,
    "rough": rough,
    "smear": smear,
}
"""All kinds of blemishes by name; moles are drawn by `mole` and stay."""
