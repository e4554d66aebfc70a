"""Open the mouths of portraits, most of which are closed."""

from __future__ import annotations

import numpy as np

from retouch_common.parsing.labels import CLASSES
from retouch_common.photo.filters import gaussian_blur

UPPER, INSIDE, LOWER = (CLASSES.index(name) for name in ("upper_lip", "mouth", "lower_lip"))


def open_mouth(planes: np.ndarray, unit: float, generator: np.random.Generator) -> np.ndarray:
    """Part the lips of a portrait: the chin moves down, teeth or darkness show.

    ``planes`` are those of :class:`retouch_common.parsing.portraits.LabelledPortrait`, ``unit`` is the distance between
    the eyes in pixels. A portrait whose lips meet in too few columns (open already, or hidden) is returned unchanged.
    """
    labels = planes[..., 3]
    columns, seam = _seam(labels)
    if len(columns) < 0.2 * unit:
        return planes
    middle, half = (columns[0] + columns[-1]) / 2, (columns[-1] - columns[0] + 1) / 2
    top, bottom = (int(np.clip(seam.mean() + reach * unit, 0, len(planes))) for reach in (-0.75, 1.6))
    left, right = int(columns[0]), int(columns[-1]) + 1
    x = np.arange(left, right, dtype=np.float32)
    line = np.interp(x, columns, seam).astype(np.float32)
    share = np.sqrt(np.clip(1 - ((x - middle) / half) ** 2, 0, 1)) ** float(generator.uniform(0.8, 1.8))
    gap = float(np.exp(generator.uniform(np.log(0.06), np.log(0.35)))) * unit
    above = float(generator.uniform(0.1, 0.5))
    up, down = above * gap * share, (1 - above) * gap * share
    y = np.arange(top, bottom, dtype=np.float32)[:, None]
    # Lips keep their thickness; what lies further from the seam moves less, so that nose and neck stay.
    higher, lower = line - y, y - line
    rise = up * np.clip(1 - (higher - up - 0.15 * unit) / (0.4 * unit), 0, 1)
    fall = down * np.clip(1 - (lower - down - 0.2 * unit) / (0.9 * unit), 0, 1)
    source = np.where(higher > up, y + rise, np.where(lower > down, y - fall, line))
    inside = (higher <= up) & (lower <= down) & (up + down > 0.7)
    image = _sampled(planes[:, left:right], source)
    content = _content(line - up, line + down, y, generator)
    soft = gaussian_blur(inside.astype(np.float32), 0.008 * unit)[..., None]
    light = float(planes[top:bottom, left:right, :3].mean()) / 150  # teeth are lit as the face is
    image += soft * (np.clip(content * light, 0, 255) - image)
    result = np.array(planes)
    part = result[top:bottom, left:right]
    part[..., :3] = np.rint(image.clip(0, 255))
    rows = np.clip(np.floor(source + 0.5).astype(np.int64), 0, len(planes) - 1)
    part[..., 3] = np.where(inside, INSIDE, labels[rows, np.arange(left, right)[None]])
    return result


def _seam(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns in which the upper lip touches the lower one, and the row of the boundary in each."""
    meet = (labels[:-1] == UPPER) & (labels[1:] == LOWER)
    columns = np.nonzero(meet.any(axis=0))[0]
    return columns, meet[:, columns].argmax(axis=0).astype(np.float32) + 0.5


def _sampled(planes: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return colours at fractional rows of every column, (h, w, 3) float32."""
    rows = rows.clip(0, len(planes) - 1)
    above = rows.astype(np.int64)
    below, columns = np.minimum(above + 1, len(planes) - 1), np.arange(planes.shape[1])
    share = (rows - above)[..., None].astype(np.float32)
    return (1 - share) * planes[above, columns, :3] + share * planes[below, columns, :3]


def _content(top: np.ndarray, bottom: np.ndarray, y: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw what shows between the lips, (h, w, 3) float32 levels: teeth above, perhaps below, tongue or darkness.

    ``top`` and ``bottom`` (w,) are the rows of the upper and the lower lip, ``y`` (h, 1) those of the result.
    """
    depth = np.clip((y - top) / np.maximum(bottom - top, 1), 0, 1)
    dark = np.array(generator.uniform((15, 5, 5), (80, 40, 40)), np.float32)
    tongue = np.array(generator.uniform((110, 40, 45), (190, 100, 105)), np.float32)
    shades = np.array((240, 228, 208)) * generator.uniform(0.6, 1.05) + generator.normal(0, 6, 3)
    teeth = shades.astype(np.float32)
    content = np.where(depth[..., None] > generator.uniform(0.3, 1.2), tongue, dark)
    upper, lower = (
        float(generator.choice([0.0, generator.uniform(0.2, 0.6), 1.0], p=p))
        for p in ((0.25, 0.35, 0.4), (0.7, 0.25, 0.05))
    )
    width = len(top)
    pitch = width / generator.uniform(6, 11)
    shade = 1 - 0.25 * np.exp(-(((np.arange(width) / pitch) % 1 - 0.5) ** 2) / 0.004)
    fall_off = 1 - 0.5 * np.linspace(-1, 1, width) ** 2
    row = (teeth * (shade * fall_off)[:, None])[None].astype(np.float32)
    visible = (depth < upper) | (depth > 1 - lower)
    return np.where(visible[..., None], row, content).astype(np.float32)
