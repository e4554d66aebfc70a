"""Blemishes of a few pixels, drawn at random far beyond what is plausible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from retouch_common.photo.filters import gaussian_blur
from retouch_common.synthesis.blemish_canvas import BLOOD, MELANIN, Canvas, log_uniform, spot, tint
from retouch_common.synthesis.blemish_shapes import Window, blob


def papule(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Red bump with halo, core, shading and sometimes a highlight."""
    window = canvas.window(cy, cx, radius * 3.8)
    red = canvas.redness(generator)
    halo = blob(window, radius * generator.uniform(1.3, 2.4), generator, irregular=0.15, hardness=1.6)
    canvas.absorb(window, halo * np.float32(log_uniform(generator, 0.02, 0.25)), red)
    core = spot(canvas, window, radius, generator, hard=(1.4, 5.0))
    canvas.absorb(window, core * np.float32(log_uniform(generator, 0.06, 0.6)), red)
    if generator.random() < 0.7:
        canvas.relief(window, core, generator.uniform(0.02, 0.25))
    if generator.random() < 0.45:
        _highlight(canvas, window, radius, generator)


def _highlight(canvas: Canvas, window: Window, radius: float, generator: np.random.Generator) -> None:
    shift = canvas.light * radius * generator.uniform(0.1, 0.6)
    moved = replace(window, y=window.y + np.float32(shift[0]), x=window.x + np.float32(shift[1]))
    gleam = blob(moved, max(0.6, radius * generator.uniform(0.12, 0.4)), generator, aspect=1.4)
    canvas.add(window, gleam * np.float32(generator.uniform(0.05, 0.45)), np.ones(3, dtype=np.float32))


def pustule(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """White or yellow head in a red halo."""
    papule(canvas, cy, cx, radius * generator.uniform(1.1, 1.8), generator)
    window = canvas.window(cy, cx, radius * 2.5)
    skin_colour = canvas.local_colour(window)
    pus = np.clip(skin_colour * generator.uniform(1.1, 1.6) + np.array([0.08, 0.05, -0.04]), 0.0, 1.0)
    radius_of_head = radius * generator.uniform(0.3, 0.7)
    head = blob(window, radius_of_head, generator, irregular=0.1, hardness=generator.uniform(2, 6))
    canvas.blend(window, head * np.float32(generator.uniform(0.3, 0.95)), pus.astype(np.float32))
    if generator.random() < 0.4:
        _highlight(canvas, window, radius * 0.6, generator)


def comedone(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Blackhead (small, dark, crisp) or closed comedone (small pale bump)."""
    radius = min(radius, 3.0) * 0.6
    window = canvas.window(cy, cx, radius * 4.0 + 1.0)
    core = spot(canvas, window, max(radius, 0.6), generator, hard=(1.6, 6.0))
    if generator.random() < 0.6:
        canvas.absorb(window, core * np.float32(log_uniform(generator, 0.12, 0.9)), tint(generator, MELANIN, 0.15))
    else:
        canvas.relief(window, core, generator.uniform(0.05, 0.25))
        canvas.absorb(window, core * np.float32(-log_uniform(generator, 0.04, 0.25)), tint(generator, MELANIN, 0.2))


def dark_spot(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Hyperpigmentation: light to middle brown, soft or irregular."""
    window = canvas.window(cy, cx, radius * 3.2)
    shape = spot(canvas, window, radius, generator, hard=(1.2, 5.0))
    brown = tint(generator, MELANIN + generator.uniform(0.0, 0.5) * BLOOD)
    amount = min(log_uniform(generator, 0.05, 0.8), 0.8 / max(canvas.strength, 0.1))  # darker is a mole
    canvas.absorb(window, shape * np.float32(amount), brown)


def red_spot(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Flat red mark, soft to sharp."""
    window = canvas.window(cy, cx, radius * 3.2)
    shape = spot(canvas, window, radius, generator, hard=(1.1, 8.0))
    canvas.absorb(window, shape * np.float32(log_uniform(generator, 0.05, 0.6)), canvas.redness(generator))


def pale_spot(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Depigmented spot."""
    window = canvas.window(cy, cx, radius * 3.2)
    shape = spot(canvas, window, radius, generator, hard=(1.2, 8.0))
    canvas.absorb(window, shape * np.float32(-log_uniform(generator, 0.04, 0.35)), tint(generator, MELANIN))


def scar(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Pit or raised scar: shading, one darker and one lighter rim, sometimes a change of colour."""
    window = canvas.window(cy, cx, radius * 3.5)
    shape = spot(canvas, window, radius, generator, hard=(2.0, 9.0))
    canvas.relief(window, shape, generator.uniform(0.05, 0.4) * generator.choice([-1.0, -1.0, 1.0]))
    tone = generator.normal(0.0, 0.12)
    canvas.absorb(window, shape * np.float32(tone), canvas.redness(generator) if tone > 0 else tint(generator, MELANIN))


def solid_spot(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Spot of one colour that covers the texture: reddish, brownish, pale or any colour."""
    window = canvas.window(cy, cx, radius * 3.0)
    here = canvas.local_colour(window)
    if generator.random() < 0.75:
        density = canvas.redness(generator) if generator.random() < 0.65 else tint(generator, MELANIN)
        colour = here * np.exp(-density * generator.choice([-0.25, 0.2, 0.4, 0.7]) * generator.uniform(0.5, 1.3))
    else:
        colour = np.maximum(here * generator.uniform(0.6, 1.5) + generator.normal(0.0, 0.15, 3), 0.6 * here)
    shape = spot(canvas, window, radius, generator, hard=(1.3, 12.0))
    colour = np.clip(colour, 0.0, 1.0).astype(np.float32)
    canvas.blend(window, np.minimum(shape, 1.0) * np.float32(generator.uniform(0.2, 0.95)), colour)


def tinted_spot(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Spot that adds or removes the same amount of light whatever the skin, soft or hard, round or irregular."""
    window = canvas.window(cy, cx, radius * 3.2)
    shape = spot(canvas, window, radius, generator, hard=(1.3, 14.0))
    kinds = np.array([[0.3, -1.0, -0.9], [-0.6, -0.9, -1.0], [-1.0, -1.0, -1.0], [1.0, 0.9, 0.8]], dtype=np.float32)
    tone = kinds[int(generator.choice(4, p=[0.4, 0.3, 0.15, 0.15]))] + generator.normal(0.0, 0.15, 3)
    canvas.add(window, shape * np.float32(log_uniform(generator, 0.03, 0.3)), tone.astype(np.float32))


def disc(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Flat ellipse or irregular shape with a sharp edge through which the texture shows."""
    window = canvas.window(cy, cx, radius * 2.2)
    shape = blob(
        window, radius, generator, aspect=float(np.exp(abs(generator.normal(0.0, 0.4)))),
        irregular=float(generator.choice([0.0, 0.0, 0.15, 0.3])), hardness=log_uniform(generator, 8.0, 40.0),
    )  # fmt: skip
    density = canvas.redness(generator) if generator.random() < 0.6 else tint(generator, MELANIN)
    amount = log_uniform(generator, 0.04, 0.6) * generator.choice([1.0, 1.0, 1.0, -0.5])
    canvas.absorb(window, shape * np.float32(amount), density)


def smear(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Blemish that destroys texture: the skin blurred and tinted."""
    window = canvas.window(cy, cx, radius * 3.0)
    soft = gaussian_blur(np.ascontiguousarray(canvas.image[window.index]), max(1.0, radius * 0.4))
    soft = soft * np.exp(-canvas.redness(generator) * generator.uniform(-0.1, 0.4))
    shape = spot(canvas, window, radius, generator, hard=(1.5, 8.0))
    canvas.blend(window, np.minimum(shape, 1.0) * np.float32(generator.uniform(0.4, 1.0)), soft.astype(np.float32))


def mole(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Mole, which is *not* a blemish: dark brown to black, round, well-defined, sometimes raised."""
    window = canvas.window(cy, cx, radius * 2.5 + 1.5)
    aspect, hardness = float(generator.uniform(1.0, 1.35)), generator.uniform(3.5, 9.0)
    shape = blob(window, radius, generator, aspect=aspect, irregular=0.06, hardness=hardness)
    brown = (MELANIN * np.exp(generator.normal(0.0, 0.1, 3))).astype(np.float32)
    canvas.absorb(window, shape * np.float32(generator.uniform(1.0, 2.2)), brown)
    if generator.random() < 0.3:
        canvas.relief(window, shape, generator.uniform(0.05, 0.2))
    if generator.random() < 0.15:
        _highlight(canvas, window, radius * 0.6, generator)
