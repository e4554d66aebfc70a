"""Turns a clean portrait into a training pair by drawing blemishes on its skin.

The line between what goes and what stays: **moles** (drawn by `blemish_kinds.mole` into both pictures, and
left in place by the cleaning) are dark brown to black, crisp and round: optical density ≥ 0.65 in the middle,
an edge narrower than a third of the radius, radius up to about 12 px at a 1024² face crop. A **dark spot**,
which goes, stays below 0.45, and is softer or irregular.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from retouch_common.synthesis.blemish_kinds import KINDS, Canvas, mole
from retouch_common.synthesis.blemish_shapes import NoisePool

__all__ = ["BlemishConfig", "BlemishPair", "BlemishSynthesizer"]


@dataclass(frozen=True, kw_only=True)
class BlemishConfig:
    """What is drawn how often. Radii are pixels on a face 600 px wide."""

    clean_probability: float = 0.12
    """Share of pairs without any blemish."""
    mole_probability: float = 0.4
    """Share of pairs with moles, drawn into both pictures."""
    freckle_probability: float = 0.08
    """Share of pairs with a field of freckles, drawn into both pictures."""
    max_count: int = 200
    """Most blemishes in a picture."""
    min_radius: float = 0.7
    max_radius: float = 14.0
    """Of single spots; patches, shine and shade are up to nine times as large."""
    mask_threshold: float = 2.0 / 255.0
    """A pixel belongs to the mask if a channel differs by more than this."""
    weights: dict[str, float] = field(
        default_factory=lambda: {
            "papule": 3.0, "pustule": 1.5, "comedone": 1.5, "dark_spot": 2.0, "red_spot": 2.5, "pale_spot": 1.0,
            "scar": 1.2, "solid_spot": 2.5, "scratch": 1.2, "crease": 0.8, "patch": 0.8, "shine": 0.6,
            "shade": 0.5, "rough": 0.5, "smear": 0.7,
        }
    )  # fmt: skip
    """How often each kind of `blemish_kinds.KINDS` is drawn, relative to the others."""


@dataclass(frozen=True)
class BlemishPair:
    """A training pair.

    Attributes:
        raw: (H, W, 3) float32 in [0, 1], with blemishes.
        target: The same without; moles and freckles are in both.
        mask: (H, W) float32, 1 where they differ by more than the threshold.
    """

    raw: np.ndarray
    target: np.ndarray
    mask: np.ndarray


class BlemishSynthesizer:
    """Draws blemishes on portraits.

    Args:
        config: What is drawn how often.
    """

    LARGE = frozenset({"patch", "shine", "shade", "rough"})

    def __init__(self, config: BlemishConfig | None = None) -> None:
        self.config = config or BlemishConfig()
        unknown = set(self.config.weights) - set(KINDS)
        if unknown:
            raise ValueError(f"unknown kinds of blemishes: {sorted(unknown)}; there are {sorted(KINDS)}")
        self.noise = NoisePool()

    def __call__(
        self, image: np.ndarray, skin: np.ndarray, *, generator: np.random.Generator, scale: float = 1.0
    ) -> BlemishPair:
        """Draw one pair.

        Args:
            image: (H, W, 3) float32 in [0, 1], free of natural blemishes.
            skin: (H, W) float32 in [0, 1]; nothing is drawn where it is 0.
            generator: Source of all randomness.
            scale: Width of the face in pixels / 600.
        """
        angle = generator.uniform(0.0, 2.0 * np.pi)
        light = np.array([np.sin(angle), np.cos(angle)])
        places = np.flatnonzero(skin > 0.4)
        target = image.astype(np.float32, copy=True)
        if len(places) < 30:
            return BlemishPair(target.copy(), target, np.zeros(skin.shape, dtype=np.float32))
        canvas = Canvas(target, skin, light, 1.0, self.noise)
        self._draw_kept(canvas, places, scale, generator)
        canvas.image = target.copy()
        if generator.random() >= self.config.clean_probability:
            self._draw_blemishes(canvas, places, scale, generator)
        return BlemishPair(canvas.image, target, self.mask(canvas.image, target))

    def mask(self, raw: np.ndarray, target: np.ndarray) -> np.ndarray:
        """(H, W) float32, 1 where a channel differs by more than `mask_threshold`."""
        difference = np.abs(raw - target)
        largest = np.maximum(np.maximum(difference[..., 0], difference[..., 1]), difference[..., 2])
        return (largest > self.config.mask_threshold).astype(np.float32)

    def _draw_kept(
        self, canvas: Canvas, places: np.ndarray, scale: float, generator: np.random.Generator
    ) -> None:
        width = canvas.image.shape[1]
        if generator.random() < self.config.mole_probability:
            for _ in range(1 + int(generator.geometric(0.35))):
                cy, cx = divmod(int(generator.choice(places)), width)
                radius = float(np.exp(generator.uniform(np.log(1.5), np.log(9.0)))) * max(scale, 0.7)
                mole(canvas, cy, cx, radius, generator)
        if generator.random() < self.config.freckle_probability:
            canvas.strength = float(generator.uniform(0.3, 1.0))
            for _ in range(int(generator.integers(20, 120))):
                cy, cx = divmod(int(generator.choice(places)), width)
                KINDS["dark_spot"](canvas, cy, cx, float(generator.uniform(0.8, 2.2)) * scale, generator)
            canvas.strength = 1.0

    def _draw_blemishes(
        self, canvas: Canvas, places: np.ndarray, scale: float, generator: np.random.Generator
    ) -> None:
        config = self.config
        height, width = canvas.skin.shape
        names = list(config.weights)
        weights = np.array([config.weights[name] for name in names])
        # most faces have a few kinds of blemishes, not all
        weights = weights * generator.gamma(0.35, 1.0, len(names)) + 1e-9
        weights /= weights.sum()
        cover = min(1.0, len(places) / (0.25 * height * width) + 0.15)
        count = int(np.exp(generator.uniform(np.log(2.0), np.log(140.0))) * cover) + 1
        if generator.random() < 0.04:
            count *= 4
        count = min(count, config.max_count)
        largest = float(np.exp(generator.uniform(np.log(2.0), np.log(config.max_radius))))
        centres = generator.choice(places, size=int(generator.integers(1, 5)))
        clustered = generator.random() < 0.35
        spread = generator.uniform(10.0, 60.0) * scale
        canvas.strength = float(np.exp(generator.normal(-0.1, 0.45)))
        large = 0
        for kind in generator.choice(len(names), size=count, p=weights):
            name = names[kind]
            if name in self.LARGE:
                large += 1
                if large > 6:
                    continue
            if clustered and generator.random() < 0.8:
                cy, cx = divmod(int(generator.choice(centres)), width)
                cy, cx = cy + generator.normal(0.0, spread), cx + generator.normal(0.0, spread)
            else:
                cy, cx = divmod(int(generator.choice(places)), width)
            radius = float(np.exp(generator.uniform(np.log(config.min_radius), np.log(largest))))
            KINDS[name](
                canvas, cy + generator.random(), cx + generator.random(), max(0.6, radius * scale), generator
            )
