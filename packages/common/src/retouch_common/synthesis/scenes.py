"""Random backgrounds, occluders and distractors outside skin.

A network that has seen plain studio walls only takes everything else for a blemish.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retouch_common.photo.filters import smooth_noise
from retouch_common.synthesis.blemish_canvas import Canvas, log_uniform
from retouch_common.synthesis.blemish_kinds import KINDS
from retouch_common.synthesis.blemish_shapes import NoisePool, blob, window_around
from retouch_common.synthesis.blemish_spots import mole

_DISTRACTORS = ("red_spot", "solid_spot", "scratch", "pale_spot", "comedone", "papule", "patch", "rough")


def random_background(
    height: int,
    width: int,
    generator: np.random.Generator,
    noise: NoisePool,
    photo: Callable[[np.random.Generator], np.ndarray] | None = None,
) -> np.ndarray:
    """Draw a background (H, W, 3) float32 in [0, 1]: one colour, a gradient, noise, a pattern, or a crop of a photo.

    ``noise`` must be at least this large; ``photo`` returns a crop of this size.
    """
    kind = generator.random()
    if photo is not None and kind < 0.3:
        return photo(generator)
    first, second = generator.random((2, 3)).astype(np.float32)
    if kind < 0.42:
        return np.broadcast_to(first, (height, width, 3)).copy()
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None]
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :]
    angle = generator.uniform(0.0, 2.0 * np.pi)
    ramp = y * np.float32(np.sin(angle)) + x * np.float32(np.cos(angle))
    if kind < 0.55:
        blend = 0.5 + 0.5 * ramp
    elif kind < 0.7:
        frequency = log_uniform(generator, 4.0, 120.0)
        wave = np.sin(ramp * np.float32(frequency))
        if generator.random() < 0.5:
            other = y * np.float32(np.cos(angle)) - x * np.float32(np.sin(angle))
            wave = wave * np.sin(other * np.float32(frequency * generator.uniform(0.5, 2.0)))
        blend = 0.5 + 0.5 * np.clip(wave * np.float32(generator.uniform(1.0, 6.0)), -1.0, 1.0)
    else:
        cell = log_uniform(generator, 2.0, 100.0)
        if cell < 24.0:
            field = noise.cut((height, width), cell, generator)
        else:
            field = smooth_noise(height, width, cell, generator)[..., 0]
        if generator.random() < 0.5:
            field = field + 0.4 * noise.cut((height, width), 3.0, generator)
        blend = 0.5 + 0.5 * np.tanh(field * np.float32(np.exp(generator.uniform(-1.0, 2.0))))
    blend = blend[..., None]
    return np.clip(first + blend * (second - first), 0.0, 1.0).astype(np.float32)


def draw_distractors(
    image: np.ndarray, where: np.ndarray, generator: np.random.Generator, noise: NoisePool, scale: float
) -> np.ndarray:
    """Return a copy of an image (H, W, 3) with dots, lines, patches and moles drawn within ``where``, outside skin.

    ``scale`` is the width of the face in pixels / 600.
    """
    places = np.flatnonzero(where > 0.5)
    canvas = Canvas(image.copy(), where, np.array([-1.0, 0.0]), float(generator.uniform(0.7, 2.5)), noise)
    if len(places) < 100:
        return canvas.image
    names = generator.choice(_DISTRACTORS, size=2)
    largest = generator.uniform(2.0, 12.0)
    for _ in range(int(log_uniform(generator, 3.0, 60.0))):
        cy, cx = divmod(int(generator.choice(places)), where.shape[1])
        radius = log_uniform(generator, 0.8, largest) * scale
        kind = mole if generator.random() < 0.25 else KINDS[str(generator.choice(names))]
        kind(canvas, float(cy), float(cx), max(0.7, radius), generator)
    return canvas.image


def occluder(height: int, width: int, generator: np.random.Generator) -> np.ndarray:
    """Draw the matte of something before the face (a hand, a scarf, a sign), (H, W) float32 in [0, 1]."""
    matte = np.zeros((height, width), dtype=np.float32)
    side = generator.integers(4)
    cy = float([0.0, height, generator.uniform(0.0, height), generator.uniform(0.0, height)][side])
    cx = float([generator.uniform(0.0, width), generator.uniform(0.0, width), 0.0, width][side])
    window = window_around(cy, cx, 2.0 * max(height, width), matte.shape)
    radius = generator.uniform(0.12, 0.4) * max(height, width)
    shape = blob(window, radius, generator, aspect=generator.uniform(1.0, 3.0), irregular=0.2, hardness=16.0)
    matte[window.index] = shape
    return matte
