"""Make training pairs from clean portraits by drawing blemishes on their skin.

What a retoucher keeps is drawn into both images: **moles** (dark brown to black, optical density of at least 1 in the
middle, crisp, nearly round, 1.5 to 10 px in radius on a face 600 px wide), strands of hair before the face, shine,
shade and creases, and, in some pairs, a field of freckles. A **dark spot** is removed: its density stays below 0.8, and
it is softer, redder or irregular. Blackheads are darker but smaller than moles.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from retouch_common.photo.filters import gaussian_blur
from retouch_common.synthesis.blemish_areas import hair_strand
from retouch_common.synthesis.blemish_canvas import Canvas, log_uniform
from retouch_common.synthesis.blemish_kinds import AREAS, KEPT, KINDS, SPOTS
from retouch_common.synthesis.blemish_shapes import NoisePool, OutsideImage
from retouch_common.synthesis.blemish_spots import mole


@dataclass(frozen=True, kw_only=True)
class BlemishConfig:
    """Frequencies of blemishes. Radii are pixels on a face 600 px wide."""

    clean_probability: float = 0.2
    """Probability of a pair without any blemish."""
    mole_probability: float = 0.3
    """Probability of moles."""
    freckle_probability: float = 0.12
    """Probability of a field of freckles."""
    hair_probability: float = 0.08
    """Probability of strands of hair before the face."""
    kept_probabilities: dict[str, float] = field(default_factory=lambda: {"shine": 0.1, "shade": 0.08, "crease": 0.08})
    """Probabilities of kinds of `blemish_kinds.KEPT`."""
    min_count: float = 4.0
    max_count: float = 120.0
    """Limits of the number of spots on a face that fills the image; its logarithm is uniform between them."""
    spot_weights: dict[str, float] = field(
        default_factory=lambda: {
            "papule": 3.0, "pustule": 1.5, "comedone": 1.2, "dark_spot": 2.2, "red_spot": 2.8, "pale_spot": 2.2,
            "scar": 1.8, "solid_spot": 2.8, "tinted_spot": 2.2, "disc": 1.6, "smear": 0.8, "scratch": 1.8,
        }
    )  # fmt: skip
    """Relative frequencies of `blemish_kinds.SPOTS`."""
    area_probabilities: dict[str, float] = field(default_factory=lambda: {"patch": 0.45, "flat": 0.2, "rough": 0.06})
    """Probabilities of each kind of `blemish_kinds.AREAS`."""
    red_variety: float = 0.7
    """Share of red blemishes whose hue is drawn freely: depth, light, camera and program move it to both sides."""


NOTHING_KEPT: dict[str, Any] = {
    "mole_probability": 0.0,
    "freckle_probability": 0.0,
    "hair_probability": 0.0,
    "kept_probabilities": {},
}
"""Arguments of :class:`BlemishConfig` for pairs that differ from the portrait by blemishes only."""

SOFTENED = 0.25  # share of pairs whose blemishes are blurred, as by a lens
SMALLEST, LARGEST = 0.7, 32.0  # radii of single spots; areas are up to nine times as large


class BlemishSynthesizer:
    """Draws blemishes on portraits with the frequencies of ``config``; ValueError if it names an unknown kind."""

    def __init__(self, config: BlemishConfig | None = None) -> None:
        self.config = config or BlemishConfig()
        c = self.config
        for names, known in ((c.spot_weights, SPOTS), (c.area_probabilities, AREAS), (c.kept_probabilities, KEPT)):
            unknown = sorted(set(names) - set(known))
            if unknown:
                raise ValueError(f"unknown kinds of blemishes: {', '.join(unknown)}; choose from {', '.join(known)}")
        self.noise = NoisePool()

    def __call__(
        self, image: np.ndarray, skin: np.ndarray, *, generator: np.random.Generator, scale: float = 1.0
    ) -> tuple[np.ndarray, np.ndarray]:
        """Draw on a clean image (H, W, 3) float32 in [0, 1], nothing where ``skin`` is 0.

        ``scale`` is the width of the face in pixels / 600. Returns raw, with blemishes, and target, the same without;
        moles, freckles and hair are in both.
        """
        angle = generator.uniform(0.0, 2.0 * np.pi)
        light = np.array([np.sin(angle), np.cos(angle)])
        places = np.flatnonzero(skin > 0.4)
        target = image.astype(np.float32, copy=True)
        if len(places) < 30:
            return target.copy(), target
        canvas = Canvas(target, skin, light, 1.0, self.noise, self.config.red_variety)
        self._draw_kept(canvas, places, scale, generator)
        if generator.random() < self.config.clean_probability:
            return target.copy(), target
        canvas.image = target.copy()
        self._draw_spots(canvas, places, scale, generator)
        self._draw_areas(canvas, places, scale, generator)
        raw = canvas.image
        if generator.random() < SOFTENED:
            softened = gaussian_blur(raw - target, float(generator.uniform(0.5, 1.6)))
            raw = np.clip(target + softened * (skin > 0)[..., None], 0.0, 1.0)
        return raw, target

    def _draw_kept(self, canvas: Canvas, places: np.ndarray, scale: float, generator: np.random.Generator) -> None:
        config = self.config
        for name, probability in config.kept_probabilities.items():
            if generator.random() < probability:
                canvas.strength = float(np.exp(generator.normal(0.2, 0.4)))
                for _ in range(int(generator.integers(1, 5))):
                    radius = log_uniform(generator, 2.5, 10.0) * scale
                    KEPT[name](canvas, *_place(places, canvas, generator), radius, generator)
                canvas.strength = 1.0
        if generator.random() < config.mole_probability:
            for _ in range(1 + int(generator.geometric(0.3))):
                cy, cx = _place(places, canvas, generator)
                mole(canvas, cy, cx, max(1.2, log_uniform(generator, 1.5, 10.0) * scale), generator)
        if generator.random() < config.hair_probability:
            everywhere = Canvas(canvas.image, np.ones_like(canvas.skin), canvas.light, 1.0, self.noise)
            for _ in range(int(generator.integers(1, 7))):
                hair_strand(everywhere, *_place(places, canvas, generator), 4.0 * scale, generator)
        if generator.random() < config.freckle_probability:
            canvas.strength = float(generator.uniform(0.3, 1.0))
            for _ in range(int(generator.integers(20, 120))):
                radius = float(generator.uniform(0.8, 2.2)) * scale
                KINDS["dark_spot"](canvas, *_place(places, canvas, generator), radius, generator)
            canvas.strength = 1.0

    def _draw_spots(self, canvas: Canvas, places: np.ndarray, scale: float, generator: np.random.Generator) -> None:
        config = self.config
        names = list(config.spot_weights)
        weights = np.array([config.spot_weights[name] for name in names])
        weights = weights * generator.gamma(0.5, 1.0, len(names)) + 1e-9  # a face has some kinds, not all
        weights /= weights.sum()
        cover = min(1.25, len(places) / (0.25 * canvas.skin.size))
        count = 1 + int(log_uniform(generator, config.min_count, config.max_count) * cover)
        smallest = log_uniform(generator, SMALLEST, 3.5)
        largest = log_uniform(generator, 4.0, LARGEST)
        canvas.strength = float(np.exp(generator.normal(0.35, 0.45)))
        centres = [_place(places, canvas, generator) for _ in range(int(generator.integers(1, 5)))]
        clustered = generator.uniform(0.3, 1.0) if generator.random() < 0.4 else 0.0
        spread = generator.uniform(8.0, 70.0) * scale
        for kind in generator.choice(len(names), size=count, p=weights):
            cy, cx = _place(places, canvas, generator)
            if generator.random() < clustered:
                cy, cx = centres[int(generator.integers(len(centres)))] + generator.normal(0.0, spread, 2)
            radius = max(0.6, log_uniform(generator, smallest, largest) * scale)
            with contextlib.suppress(OutsideImage):  # of a cluster at the border
                SPOTS[names[kind]](canvas, cy, cx, radius, generator)

    def _draw_areas(self, canvas: Canvas, places: np.ndarray, scale: float, generator: np.random.Generator) -> None:
        canvas.strength = float(np.exp(generator.normal(0.2, 0.4)))
        for name, probability in self.config.area_probabilities.items():
            if generator.random() < probability:
                for _ in range(int(generator.integers(1, 5))):
                    radius = log_uniform(generator, 2.5, 10.0) * scale
                    AREAS[name](canvas, *_place(places, canvas, generator), radius, generator)


def _place(places: np.ndarray, canvas: Canvas, generator: np.random.Generator) -> tuple[float, float]:
    cy, cx = divmod(int(places[int(generator.integers(len(places)))]), canvas.skin.shape[1])
    return cy + generator.random() - 0.5, cx + generator.random() - 0.5
