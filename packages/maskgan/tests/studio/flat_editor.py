"""A stand-in for the network, quick and easy to foresee: it paints every component in one colour, its own mean."""

from __future__ import annotations

import io
import time
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
from maskgan.components import COMPONENTS
from maskgan.config import COMPONENT_NAMES
from PIL import Image
from retouch_common.faces.alignment import read_aligned
from retouch_common.faces.pasting import changed_rows
from retouch_common.parsing.labels import CLASSES
from retouch_common.photo.sources import ArraySource

SIZE = 64
HEIGHT, WIDTH = 180, 150  # of photographs; the face's square lies inside
MARKS = np.array([[66, 80], [84, 80], [75, 90], [70, 100], [80, 100]], np.float32)


@dataclass(frozen=True)
class Codes:
    colours: dict[str, np.ndarray]
    present: dict[str, bool]

    def shows(self, name):
        return self.present[name]


@dataclass(frozen=True)
class Portrait:
    image: np.ndarray
    labels: np.ndarray
    square: object
    photo_size: tuple[int, int]
    codes: Codes


@dataclass(frozen=True)
class Edited:
    image: np.ndarray
    finished: np.ndarray
    change: np.ndarray


class FlatEditor:
    """The methods of :class:`maskgan.editor.Editor` that the studio uses."""

    size = SIZE
    model = SimpleNamespace(weights_sha256=None)

    def __init__(self):
        self.pace, self.taken = 0.0, 0  # seconds for a step of an adaptation; steps taken in all

    def adaptation(self, portrait, *, steps):
        def run():
            for _ in range(steps):
                time.sleep(self.pace)
                self.taken += 1
                yield 0.5

        return run()

    def adapted(self, portrait, adaptation):
        """Every component in the negative of its colour: easy to tell from what was."""
        colours = {name: 1 - colour for name, colour in portrait.codes.colours.items()}
        return replace(portrait, codes=Codes(colours, portrait.codes.present))

    def open_source(self, source, square, *, labels=None):
        ((_, image),) = read_aligned(source, [square], self.size)
        labels = plain_mask(self.size) if labels is None else labels
        where = {part.name: np.isin(labels, part.labels) for part in COMPONENTS}
        codes = Codes(
            {name: image[at].mean(axis=0) if at.any() else np.zeros(3, np.float32) for name, at in where.items()},
            {name: bool(at.any()) for name, at in where.items()},
        )
        return Portrait(image, labels, square, (source.height, source.width), codes)

    def blend(self, codes, parts):
        colours = dict(codes.colours)
        for name, (other, share) in parts.items():
            assert name in COMPONENT_NAMES and 0 <= share <= 1
            colours[name] = (1 - share) * colours[name] + share * other.colours[name]
        return Codes(colours, codes.present)

    def render(self, portrait, labels, codes):
        image = portrait.image.copy()
        for part in COMPONENTS:
            image[np.isin(labels, part.labels)] = codes.colours[part.name]
        return Edited(image, image, image - portrait.image)

    def paste(self, image, portrait, edited):
        return np.concatenate(list(self.pasted_rows(ArraySource(image), portrait, edited)))

    def pasted_rows(self, source, portrait, edited):
        yield from changed_rows(source, [(portrait.square, edited.change, None)])


def plain_mask(size: int) -> np.ndarray:
    """Hair above an oval of skin with eyes, brows, nose and mouth."""
    labels = np.zeros((size, size), np.uint8)
    y, x = (np.mgrid[:size, :size] + 0.5) / size * 256

    def ellipse(name, cx, cy, rx, ry):
        labels[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1] = CLASSES.index(name)

    ellipse("hair", 128, 110, 84, 96)
    ellipse("skin", 128, 140, 60, 82)
    for side, cx in (("left", 99), ("right", 156)):
        ellipse(f"brow_{side}", cx, 98, 19, 5)
        ellipse(f"eye_{side}", cx, 116, 14, 6)
    ellipse("nose", 128, 142, 13, 20)
    ellipse("upper_lip", 127, 176, 25, 6)
    ellipse("lower_lip", 127, 185, 23, 8)
    ellipse("mouth", 127, 180, 20, 3)
    return labels


def portrait_pixels(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A smooth picture with colours of its own, (height, width, 3) uint8."""
    y, x = np.mgrid[:height, :width]
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    values = 0.5 + 0.35 * np.sin(x[..., None] / 23 + y[..., None] / 31 + phase)
    return np.rint(255 * values).astype(np.uint8)


def encoded(pixels: np.ndarray, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()
