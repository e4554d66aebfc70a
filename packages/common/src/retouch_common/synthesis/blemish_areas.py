"""Lines and areas: scratches, creases, patches, shine, shade, rough skin.

Each function is a :data:`~retouch_common.synthesis.blemish_kinds.Kind`. Areas are several times as large as spots.
"""

from __future__ import annotations

import numpy as np

from retouch_common.synthesis.blemish_canvas import MELANIN, Canvas, log_uniform, tint
from retouch_common.synthesis.blemish_shapes import blob, curve_distance


def _curve(generator: np.random.Generator, length: float, bend: float, segments: int) -> np.ndarray:
    """Return points (y, x) of a random curve around the origin."""
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
    distance, place = curve_distance(window, points)
    profile = np.exp(-np.power(distance / np.float32(width), np.float32(generator.uniform(1.5, 4.0))))
    profile *= np.clip(np.minimum(place, 1.0 - place) * generator.uniform(3.0, 20.0), 0.0, 1.0)
    if generator.random() < 0.4:
        profile *= np.clip(0.7 + canvas.noise.cut(window.shape, 6.0, generator), 0.0, 1.3)
    amount = log_uniform(generator, 0.06, 0.6)
    kind = generator.random()
    if kind < 0.6:
        canvas.absorb(window, profile * np.float32(amount), canvas.redness(generator))
    elif kind < 0.75:  # a dark one would be a hair
        canvas.absorb(window, profile * np.float32(0.5 * amount), tint(generator, MELANIN))
    else:
        canvas.absorb(window, profile * np.float32(-0.6 * amount), tint(generator, MELANIN))


def crease(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Fine wrinkle: a soft dark valley with a lighter bank."""
    length = float(np.clip(radius * generator.uniform(6.0, 25.0), 15.0, 180.0))
    width = float(np.clip(radius * generator.uniform(0.15, 0.5), 0.7, 5.0))
    points = _curve(generator, length, generator.uniform(0.05, 0.5), int(np.clip(length / 12, 4, 9)))
    window = canvas.window(cy, cx, float(np.abs(points).max()) + 4.0 * width + 1.0)
    distance, place = curve_distance(window, points)
    ends = np.clip(np.minimum(place, 1.0 - place) * 4.0, 0.0, 1.0)
    valley = np.exp(-((distance / np.float32(width)) ** 2)) * ends
    wide = np.exp(-((distance / np.float32(2.5 * width)) ** 2)) * ends
    amount = log_uniform(generator, 0.03, 0.3)
    tone = tint(generator, np.array([0.7, 1.0, 1.1], dtype=np.float32), 0.15)
    canvas.absorb(window, (valley - np.float32(generator.uniform(0.0, 0.5)) * wide) * np.float32(amount), tone)


def patch(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Large flat patch with an irregular outline: rosacea, erythema, melasma, pallor."""
    radius = radius * generator.uniform(3.0, 9.0) + 6.0
    window = canvas.window(cy, cx, min(radius * 2.2, 180.0))
    extent = min(radius, 80.0)
    envelope = blob(window, extent, generator, aspect=generator.uniform(1.0, 2.5), irregular=0.25, hardness=3.0)
    grain = canvas.noise.cut(window.shape, max(3.0, radius * generator.uniform(0.15, 0.6)), generator)
    sharp = log_uniform(generator, 0.6, 8.0)
    level = envelope * 2.2 - 1.0 + generator.uniform(0.1, 0.9) * grain
    shape = 1.0 / (1.0 + np.exp(np.clip(-sharp * level, -30.0, 30.0))) * np.minimum(1.0, 4.0 * envelope)
    if generator.random() < 0.5:
        fine = canvas.noise.cut(window.shape, generator.choice([1.5, 3.0, 6.0]), generator)
        shape = shape * np.clip(1.0 + generator.uniform(0.1, 0.5) * fine, 0.0, 2.0)
    choice = generator.random()
    amount = log_uniform(generator, 0.03, 0.5)
    if choice < 0.5:
        canvas.absorb(window, shape * np.float32(amount), canvas.redness(generator))
    elif choice < 0.85:
        canvas.absorb(window, shape * np.float32(0.8 * amount), tint(generator, MELANIN))
    else:
        canvas.absorb(window, shape * np.float32(-0.6 * amount), tint(generator, MELANIN))


def flat(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Large even area, faint to strong, with a soft or hard edge: birthmark, rash, sunburn, lightened skin."""
    radius = min(radius * generator.uniform(2.0, 8.0) + 4.0, 110.0)
    window = canvas.window(cy, cx, radius * 2.0)
    shape = blob(
        window, radius, generator, aspect=generator.uniform(1.0, 2.0),
        irregular=float(generator.choice([0.0, 0.1, 0.25])),
        hardness=log_uniform(generator, 1.4, 3.0) if generator.random() < 0.5 else log_uniform(generator, 3.0, 30.0),
    )  # fmt: skip
    amount = np.float32(log_uniform(generator, 0.04, 0.8))
    if generator.random() < 0.7:
        density = canvas.redness(generator) if generator.random() < 0.6 else tint(generator, MELANIN)
        canvas.absorb(window, shape * amount * np.float32(generator.choice([1.0, 1.0, 1.0, -0.6])), density)
    else:
        tone = np.array([0.4, -1.0, -0.9]) if generator.random() < 0.6 else np.full(3, generator.choice([-0.8, 0.6]))
        canvas.add(window, shape * amount * np.float32(0.5), (tone + generator.normal(0.0, 0.15, 3)).astype(np.float32))


def shine(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Oily highlight: soft light with a fine grain."""
    radius = min(radius * generator.uniform(1.5, 6.0) + 2.0, 55.0)
    window = canvas.window(cy, cx, radius * 2.6)
    aspect, hardness = generator.uniform(1.0, 2.5), generator.uniform(1.3, 3.0)
    gleam = blob(window, radius, generator, aspect=aspect, irregular=0.2, hardness=hardness)
    if generator.random() < 0.6:
        grain = canvas.noise.cut(window.shape, generator.choice([1.5, 3.0, 6.0]), generator)
        gleam = gleam * np.clip(1.0 + generator.uniform(0.2, 0.8) * grain, 0.0, 2.5)
    white = np.clip(canvas.local_colour(window) * 0.3 + 0.7, 0.0, 1.0).astype(np.float32)
    amount = np.float32(log_uniform(generator, 0.06, 0.6))
    if generator.random() < 0.5:
        canvas.blend(window, gleam * amount, white)
    else:
        canvas.add(window, gleam * amount * np.float32(0.5), white)


def shade(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Soft dark area as under tired eyes or of a bruise: brownish, bluish or violet."""
    radius = min(radius * generator.uniform(2.5, 7.0) + 4.0, 60.0)
    window = canvas.window(cy, cx, radius * 2.6)
    aspect, hardness = generator.uniform(1.0, 3.0), generator.uniform(1.4, 4.0)
    shape = blob(window, radius, generator, aspect=aspect, irregular=0.2, hardness=hardness)
    tones = np.array([[0.8, 0.9, 0.8], [0.9, 0.8, 0.4], [0.5, 1.0, 0.6], [0.3, 0.5, 0.9]], dtype=np.float32)
    tone = tint(generator, tones[generator.integers(len(tones))])
    if generator.random() < 0.4:
        shape = shape * np.clip(1.0 + 0.4 * canvas.noise.cut(window.shape, radius * 0.3, generator), 0.0, 2.0)
    canvas.absorb(window, shape * np.float32(log_uniform(generator, 0.05, 0.4)), tone)


def rough(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Flaky or rough patch: added fine texture, sometimes pale flakes on red."""
    radius = min(radius * generator.uniform(2.0, 6.0) + 3.0, 50.0)
    window = canvas.window(cy, cx, radius * 2.2)
    area = blob(window, radius, generator, aspect=generator.uniform(1.0, 2.0), irregular=0.3, hardness=4.0)
    grain = canvas.noise.cut(window.shape, generator.choice([1.5, 3.0]), generator)
    if generator.random() < 0.5:
        grain = np.maximum(grain - generator.uniform(0.0, 1.0), 0.0)
    amount = np.float32(log_uniform(generator, 0.03, 0.2))
    canvas.absorb(window, area * grain * -amount, np.ones(3, dtype=np.float32))
    if generator.random() < 0.5:
        canvas.absorb(window, area * np.float32(log_uniform(generator, 0.02, 0.2)), canvas.redness(generator))


def hair_strand(canvas: Canvas, cy: float, cx: float, radius: float, generator: np.random.Generator) -> None:
    """Strand of hair before the face, which is *not* a blemish: long, thin, smooth, dark or fair."""
    length = float(np.clip(radius * generator.uniform(40.0, 120.0), 120.0, 420.0))
    width = float(np.clip(radius * generator.uniform(0.15, 0.4), 0.5, 1.8))
    points = _curve(generator, length, generator.uniform(0.05, 0.35), 14)
    window = canvas.window(cy, cx, float(np.abs(points).max()) + 3.0 * width + 1.0)
    distance, _ = curve_distance(window, points)
    profile = np.exp(-np.power(distance / np.float32(width), np.float32(generator.uniform(2.0, 4.0))))
    shade_of_hair = canvas.local_colour(window) * np.float32(generator.uniform(0.05, 0.6))
    canvas.blend(window, profile * np.float32(generator.uniform(0.4, 0.95)), shade_of_hair)
