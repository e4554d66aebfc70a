"""All kinds of blemishes by name."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from retouch_common.synthesis import blemish_areas, blemish_spots
from retouch_common.synthesis.blemish_canvas import Canvas

Kind = Callable[[Canvas, float, float, float, np.random.Generator], None]
"""Paints one blemish: canvas, row, column and radius in pixels, source of randomness. Raises OutsideImage."""

SPOTS: dict[str, Kind] = {
    "papule": blemish_spots.papule,
    "pustule": blemish_spots.pustule,
    "comedone": blemish_spots.comedone,
    "dark_spot": blemish_spots.dark_spot,
    "red_spot": blemish_spots.red_spot,
    "pale_spot": blemish_spots.pale_spot,
    "scar": blemish_spots.scar,
    "solid_spot": blemish_spots.solid_spot,
    "tinted_spot": blemish_spots.tinted_spot,
    "disc": blemish_spots.disc,
    "smear": blemish_spots.smear,
    "scratch": blemish_areas.scratch,
}
"""Drawn in large numbers."""

AREAS: dict[str, Kind] = {
    "patch": blemish_areas.patch,
    "flat": blemish_areas.flat,
    "rough": blemish_areas.rough,
}
"""Large; only a few in an image."""

KEPT: dict[str, Kind] = {
    "shine": blemish_areas.shine,
    "shade": blemish_areas.shade,
    "crease": blemish_areas.crease,
}
"""Shading and wrinkles, which retouching keeps; only a few in an image."""

KINDS: dict[str, Kind] = SPOTS | AREAS | KEPT
