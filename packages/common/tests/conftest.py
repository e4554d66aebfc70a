"""A drawn person with the landmarks of the 189-point template's named parts, and photo files made to order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pyvips
from retouch_common.faces.webmorph import LINES, Template
from retouch_common.photo.filters import fill_polygon, gaussian_blur

HEIGHT, WIDTH = 300, 260
EYES = ((130.0, 100.0), (130.0, 160.0))  # y, x
LIPS = (200.0, 130.0)
NOSE = (165.0, 130.0)


def arc(cy: float, cx: float, ry: float, rx: float, start: float, stop: float, count: int = 9) -> np.ndarray:
    """Points (x, y) of an ellipse between two angles in degrees; 0 is right, 90 below."""
    angle = np.deg2rad(np.linspace(start, stop, count))
    return np.stack([cx + rx * np.cos(angle), cy + ry * np.sin(angle)], 1)


def _polylines() -> dict[int, np.ndarray]:
    lines: dict[int, np.ndarray] = {}
    for name, (cy, cx) in zip(("eye_left", "eye_right"), EYES, strict=True):
        upper, lower = LINES[name]
        lines[upper] = arc(cy, cx, 7, 15, 180, 360)
        lines[lower] = arc(cy, cx, 7, 15, 180, 0)
    for name, (cy, cx) in zip(("brow_left", "brow_right"), EYES, strict=True):
        upper, lower = LINES[name]
        lines[upper] = arc(cy - 20, cx, 6, 20, 180, 360)
        lines[lower] = arc(cy - 20, cx, 3, 20, 180, 0)
    upper, lower = LINES["lips"]
    lines[upper] = arc(*LIPS, 9, 26, 180, 360)
    lines[lower] = arc(*LIPS, 11, 26, 180, 0)
    lines[21] = lines[22] = np.array([[104.0, 200.0], [130.0, 200.0], [156.0, 200.0]])  # closed lips
    lines[LINES["head"][0]] = arc(150, 130, 115, 84, 160, 380, 24)
    hair, right, right_jaw, chin, left_jaw, left = LINES["face"]
    lines[hair] = arc(160, 130, 95, 68, 180, 360)
    lines[left], lines[left_jaw] = arc(160, 130, 80, 68, 180, 160), arc(160, 130, 80, 68, 160, 130)
    lines[chin] = arc(160, 130, 80, 68, 130, 50)
    lines[right_jaw], lines[right] = arc(160, 130, 80, 68, 50, 20), arc(160, 130, 80, 68, 20, 0)
    lines[LINES["ear_left"][0]] = arc(150, 60, 18, 8, 90, 270)
    lines[LINES["ear_right"][0]] = arc(150, 200, 18, 8, -90, 90)
    neck_left, neck_bottom, neck_right = LINES["neck"][:3]
    lines[neck_left] = np.array([[86.0, 221.0], [88.0, 250.0]])
    lines[neck_right] = np.array([[174.0, 221.0], [172.0, 250.0]])
    lines[neck_bottom] = np.array([[88.0, 250.0], [130.0, 270.0], [172.0, 250.0]])
    lines[12], lines[13] = np.array([[122.0, 130.0], [118.0, 160.0]]), np.array([[138.0, 130.0], [142.0, 160.0]])
    lines[14] = arc(*NOSE, 8, 16, 180, 90, 8)
    lines[15] = arc(*NOSE, 8, 16, 0, 90, 8)
    return lines


@dataclass(frozen=True)
class Person:
    """A drawn portrait, its template, and true masks by name."""

    image: np.ndarray
    template: Template
    parts: dict[str, np.ndarray]

    @property
    def levels(self) -> np.ndarray:
        return (self.image * 255).round().astype(np.uint8)

    @property
    def landmarks(self) -> np.ndarray:
        points = [EYES[0], EYES[1], NOSE, (LIPS[0], LIPS[1] - 26), (LIPS[0], LIPS[1] + 26)]
        return np.array(points, dtype=np.float32)[:, ::-1].copy()

    def save(self, photo: Path, *, with_template: bool) -> None:
        import pyvips

        photo.parent.mkdir(parents=True, exist_ok=True)
        pyvips.Image.new_from_array(self.levels).write_to_file(str(photo))
        if with_template:
            points = self.template.points
            rows = [str(len(points))] + [f"{x}\t{y}" for x, y in points] + [str(len(self.template.polylines))]
            for line in self.template.polylines:
                rows += ["0", str(len(line)), " ".join(map(str, line))]
            photo.with_suffix(".tem").write_text("\n".join(rows) + "\n")


def draw_person(tone: tuple[float, float, float] = (0.78, 0.58, 0.49), seed: int = 0) -> Person:
    lines = _polylines()
    points = [(EYES[0][1], EYES[0][0]), (EYES[1][1], EYES[1][0])]
    polylines: list[tuple[int, ...]] = []
    for index in range(44):
        line = lines.get(index, np.array([points[0], points[1]]))
        polylines.append(tuple(range(len(points), len(points) + len(line))))
        points += [(float(x), float(y)) for x, y in line]
    template = Template(np.array(points, dtype=np.float32), tuple(polylines))
    parts = {n: fill_polygon(template.outline(n), HEIGHT, WIDTH) for n in LINES if n not in ("nose", "head")}

    generator = np.random.default_rng(seed)
    image = np.full((HEIGHT, WIDTH, 3), (0.62, 0.64, 0.66), dtype=np.float32)
    hair = fill_polygon(arc(150, 130, 125, 90, 0, 360, 40), HEIGHT, WIDTH)
    shirt = fill_polygon(np.array([[10.0, 300], [60, 262], [200, 262], [250, 300]]), HEIGHT, WIDTH)
    for mask, colour in (
        (hair, (0.12, 0.09, 0.07)),
        (np.maximum.reduce([parts["neck"], parts["face"], parts["ear_left"], parts["ear_right"]]), tone),
        (shirt, (0.15, 0.25, 0.55)),
        (np.maximum(parts["eye_left"], parts["eye_right"]), (0.08, 0.07, 0.07)),
        (np.maximum(parts["brow_left"], parts["brow_right"]), (0.14, 0.1, 0.08)),
        (parts["lips"], (0.65, 0.25, 0.28)),
    ):
        image += gaussian_blur(mask, 0.7)[..., None] * (np.array(colour, dtype=np.float32) - image)
    strands = generator.normal(0, 0.06, (HEIGHT, WIDTH, 1)) * (hair * (1 - parts["face"]))[..., None]
    image += strands + generator.normal(0, 0.008, image.shape)
    parts |= {"hair": hair * (1 - parts["face"]), "shirt": shirt}
    return Person(np.clip(image, 0, 1).astype(np.float32), template, parts)


@pytest.fixture(scope="session", name="draw_person")
def draw_person_fixture() -> Callable[..., Person]:
    return draw_person


@pytest.fixture(scope="session")
def person() -> Person:
    return draw_person()


@pytest.fixture(scope="session")
def dark_person() -> Person:
    return draw_person((0.33, 0.21, 0.15), seed=1)


SAVERS = {
    ".jpg": ("jpegsave", {"Q": 95, "subsample_mode": "off"}),
    ".png": ("pngsave", {}),
    ".tif": ("tiffsave", {"compression": "lzw"}),
    ".webp": ("webpsave", {"lossless": True, "exact": True}),
    ".avif": ("heifsave", {"compression": "av1", "Q": 90, "subsample_mode": "off", "effort": 1}),
}
INTERPRETATIONS = {
    ("grey", 1): "b-w",
    ("grey", 2): "grey16",
    ("rgb", 1): "srgb",
    ("rgb", 2): "rgb16",
    ("cmyk", 1): "cmyk",
    ("cmyk", 2): "cmyk",
}
BANDS = {"grey": 1, "rgb": 3, "cmyk": 4}


def smooth_pixels(height, width, bands, dtype, seed=0):
    """A picture with slopes and a little noise, (height, width, bands)."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    phases = generator.uniform(0, 6, bands)
    values = 0.5 + 0.4 * np.sin(x[..., None] / 17 + y[..., None] / 23 + phases)
    values = values + generator.normal(0, 0.01, (height, width, bands))
    limit = np.iinfo(dtype).max
    return np.clip(np.rint(values * limit), 0, limit).astype(dtype)


@pytest.fixture
def make_photo(tmp_path):
    """Write a photo file: kind, type, alpha and metadata to order; gives (path, stored pixels)."""

    def make(name, *, kind="rgb", dtype=np.uint8, alpha=False, size=(61, 83), metadata=None, **options):
        pixels = smooth_pixels(*size, BANDS[kind] + alpha, dtype)
        image = pyvips.Image.new_from_array(pixels)
        image = image.copy(interpretation=INTERPRETATIONS[kind, np.dtype(dtype).itemsize])
        for field, (kind_of_field, value) in (metadata or {}).items():
            image.set_type(kind_of_field, field, value)
        path = tmp_path / name
        saver, defaults = SAVERS[path.suffix]
        getattr(image, saver)(str(path), **{**defaults, **options})
        return path, pixels

    return make


def write_photo(photo, path, patches=(), **options):
    """Write a photo with some parts replaced, [(x, y, array)], all else as it was decoded."""

    def blocks():
        for top in range(0, photo.height, 50):
            rows = photo.read_rows(top, min(top + 50, photo.height))
            for x, y, patch in patches:
                first, last = max(y, top), min(y + patch.shape[0], top + rows.shape[0])
                if first < last:
                    rows[first - top : last - top, x : x + patch.shape[1]] = patch[first - y : last - y]
            yield rows

    photo.write_stripes(path, blocks(), **options)
