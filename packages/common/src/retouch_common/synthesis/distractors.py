"""Things that look like blemishes and stay: drawn before the blemishes, so that both images of a pair have them.

Each kind paints within the mask `where` and modifies image and matte in place. The matte marks what is covered, so that
no blemish is drawn over it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from retouch_common.synthesis.blemish_canvas import log_uniform
from retouch_common.synthesis.blemish_shapes import NoisePool, OutsideImage, Window, blob, curve_distance, window_around


@dataclass
class Scenery:
    """The image that distractors are painted on.

    Attributes:
        image: (H, W, 3) float32 in [0, 1], modified in place.
        where: (H, W) float32 in [0, 1], where things may be.
        matte: (H, W) float32 in [0, 1], what things cover, modified in place.
        scale: Width of the face in pixels / 600.
        noise: Pool of noise.
        photo: Returns a crop of some photo, (H, W, 3) float32 in [0, 1]; None if there are none.
    """

    image: np.ndarray
    where: np.ndarray
    matte: np.ndarray
    scale: float
    noise: NoisePool
    photo: Callable[[np.random.Generator], np.ndarray] | None = None

    def window(self, cy: float, cx: float, reach: float) -> Window:
        """Return the window around a point, limited to the size of the noise pool."""
        return window_around(cy, cx, min(reach, self.noise.size / 2.0 - 2.0), self.image.shape)

    def blend(self, window: Window, alpha: np.ndarray, colour: np.ndarray) -> None:
        """Mix with a colour, (3,) or (h, w, 3)."""
        alpha = np.clip(alpha, 0.0, 1.0) * self.where[window.index]
        here = self.image[window.index]
        here += alpha[..., None] * (colour - here)
        np.maximum(self.matte[window.index], alpha, out=self.matte[window.index])

    def place(self, generator: np.random.Generator) -> tuple[float, float]:
        """Draw a place, where things may be if a few tries find such a one."""
        height, width = self.where.shape
        for _ in range(12):
            cy, cx = int(generator.integers(height)), int(generator.integers(width))
            if self.where[cy, cx] > 0.5:
                break
        return float(cy), float(cx)


Thing = Callable[[Scenery, np.random.Generator], None]


def _colour(generator: np.random.Generator) -> np.ndarray:
    return generator.random(3).astype(np.float32)


def _rotated(window: Window, angle: float) -> tuple[np.ndarray, np.ndarray]:
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    return window.x * cos + window.y * sin, window.y * cos - window.x * sin


def lights(scene: Scenery, generator: np.random.Generator) -> None:
    """Lamps out of focus: bright discs, hard or soft, some with a rim."""
    base = 0.5 + 0.5 * _colour(generator)
    radius = log_uniform(generator, 3.0, 50.0) * scene.scale
    hardness, rim = log_uniform(generator, 1.5, 20.0), generator.random() < 0.3
    for _ in range(int(log_uniform(generator, 3.0, 40.0))):
        own = max(1.0, radius * log_uniform(generator, 0.6, 1.6))
        window = scene.window(*scene.place(generator), 2.2 * own + 1.0)
        disc = blob(window, own, generator, hardness=hardness)
        if rim:
            disc = disc * (0.6 + 0.4 * np.clip(np.hypot(window.y, window.x) / own, 0.0, 1.0) ** 6)
        colour = np.clip(base + generator.normal(0.0, 0.12, 3), 0.0, 1.0).astype(np.float32)
        scene.blend(window, disc * np.float32(generator.uniform(0.3, 1.0)), colour)


def leaves(scene: Scenery, generator: np.random.Generator) -> None:
    """Leaves and petals: pointed ovals with a vein, many alike."""
    base = _colour(generator) * (np.array([0.5, 0.8, 0.3], np.float32) if generator.random() < 0.6 else np.float32(1.0))
    radius = log_uniform(generator, 4.0, 40.0) * scene.scale
    for _ in range(int(log_uniform(generator, 4.0, 50.0))):
        own = max(1.5, radius * log_uniform(generator, 0.6, 1.6))
        window = scene.window(*scene.place(generator), 2.5 * own)
        u, v = _rotated(window, generator.uniform(0.0, np.pi))
        half = np.maximum(1.0 - (u / np.float32(2.0 * own)) ** 2, 0.0) * np.float32(0.8 * own)
        inside = np.clip(half - np.abs(v) + 0.5, 0.0, 1.0) * (half > 0)
        tone = np.clip(base * np.float32(log_uniform(generator, 0.5, 1.6)), 0.0, 1.0)
        vein = np.exp(-((v / np.float32(max(0.6, 0.06 * own))) ** 2))[..., None]
        scene.blend(window, inside, tone * (1.0 - 0.35 * vein) + 0.1 * vein)


def poster(scene: Scenery, generator: np.random.Generator) -> None:
    """Posters, signs or shelves: rectangles of one colour, noise or a photo, perhaps framed."""
    size = min(scene.image.shape[:2])
    for _ in range(int(generator.integers(1, 5))):
        cy, cx = scene.place(generator)
        half = np.exp(generator.uniform(np.log(0.03), np.log(0.3), 2)) * size
        window = scene.window(cy, cx, float(half.max()) * 1.3)
        u, v = _rotated(window, generator.normal(0.0, 0.1))
        edge = np.minimum(half[0] - np.abs(v), half[1] - np.abs(u)).astype(np.float32)
        first, second = _colour(generator), _colour(generator)
        kind = generator.random()
        if scene.photo is not None and kind < 0.3:
            content = scene.photo(generator)[window.index]
        elif kind < 0.7:
            grain = scene.noise.cut(window.shape, log_uniform(generator, 1.5, 24.0), generator)[..., None]
            content = np.clip(first + 0.5 * (1.0 + np.tanh(2.0 * grain)) * (second - first), 0.0, 1.0)
        else:
            content = np.broadcast_to(first, (*window.shape, 3))
        alpha = np.clip(edge + 0.5, 0.0, 1.0)
        if generator.random() < 0.5:
            frame = np.clip(log_uniform(generator, 1.0, 12.0) * scene.scale - edge + 0.5, 0.0, 1.0)[..., None]
            content = content + frame * (second - content)
        scene.blend(window, alpha, content.astype(np.float32))


def buttons(scene: Scenery, generator: np.random.Generator) -> None:
    """Dots in a regular pattern: fabric, buttons, screens."""
    height, width = scene.where.shape
    step = log_uniform(generator, 5.0, 70.0) * max(scene.scale, 0.3)
    radius = step * generator.uniform(0.08, 0.4)
    window = scene.window(*scene.place(generator), generator.uniform(0.1, 0.4) * min(height, width))
    u, v = ((n + 0.5 * step) % step - 0.5 * step for n in _rotated(window, generator.uniform(0.0, np.pi)))
    dots = np.clip(radius - np.hypot(u, v) + 0.5, 0.0, 1.0)
    scene.blend(window, dots * np.float32(generator.uniform(0.4, 1.0)), _colour(generator))


def mesh(scene: Scenery, generator: np.random.Generator) -> None:
    """Lace, veils, fences, knitting: two families of parallel lines."""
    height, width = scene.where.shape
    step = log_uniform(generator, 3.0, 40.0) * max(scene.scale, 0.4)
    line = max(0.5, step * generator.uniform(0.06, 0.3))
    window = scene.window(*scene.place(generator), generator.uniform(0.08, 0.4) * min(height, width))
    first = generator.uniform(0.0, np.pi)
    alpha = np.zeros(window.shape, dtype=np.float32)
    for angle in (first, first + generator.uniform(0.5, 1.6)):
        u, _ = _rotated(window, angle)
        alpha = np.maximum(alpha, np.clip(line - np.abs((u + 0.5 * step) % step - 0.5 * step) + 0.5, 0.0, 1.0))
    scene.blend(window, alpha * np.float32(generator.uniform(0.3, 1.0)), _colour(generator))


def writing(scene: Scenery, generator: np.random.Generator) -> None:
    """Letters of any size: labels, signs, watermarks, tattoos."""
    size = int(np.clip(log_uniform(generator, 8.0, 90.0) * max(scene.scale, 0.4), 6, 120))
    letters = "".join(chr(int(c)) for c in generator.integers(33, 127, int(generator.integers(1, 14))))
    font = ImageFont.load_default(size)
    left, top, right, bottom = font.getbbox(letters)
    canvas = Image.new("L", (max(1, int(right - left)) + 2, max(1, int(bottom - top)) + 2))
    ImageDraw.Draw(canvas).text((1 - left, 1 - top), letters, fill=255, font=font)
    if generator.random() < 0.5:
        canvas = canvas.rotate(generator.uniform(-90.0, 90.0), Image.Resampling.BILINEAR, expand=True)
    _stamp(scene, np.asarray(canvas, dtype=np.float32) / 255.0, _ink(generator), generator)


def _ink(generator: np.random.Generator) -> np.ndarray:
    colour = _colour(generator)
    return colour if generator.random() < 0.5 else colour * np.float32(0.25)


def _stamp(scene: Scenery, shape: np.ndarray, colour: np.ndarray, generator: np.random.Generator) -> None:
    cy, cx = scene.place(generator)
    y, x = int(cy - shape.shape[0] / 2), int(cx - shape.shape[1] / 2)
    height, width = scene.where.shape
    y0, y1, x0, x1 = max(y, 0), min(y + shape.shape[0], height), max(x, 0), min(x + shape.shape[1], width)
    rows, columns = np.arange(y0, y1, dtype=np.float32)[:, None], np.arange(x0, x1, dtype=np.float32)[None]
    window = Window(slice(y0, y1), slice(x0, x1), rows - np.float32(cy), columns - np.float32(cx), max(shape.shape))
    scene.blend(window, shape[y0 - y : y1 - y, x0 - x : x1 - x] * np.float32(generator.uniform(0.4, 1.0)), colour)


def strands(scene: Scenery, generator: np.random.Generator) -> None:
    """Strands of hair: long, smooth, thin lines, some in a bundle."""
    colour = np.array([0.5, 0.35, 0.22], np.float32) * np.float32(log_uniform(generator, 0.06, 1.8))
    colour = np.clip(colour * np.exp(generator.normal(0.0, 0.15, 3)), 0.0, 1.0).astype(np.float32)
    origin, heading = np.array(scene.place(generator)), generator.uniform(0.0, 2.0 * np.pi)
    spread = log_uniform(generator, 5.0, 120.0) * scene.scale
    for _ in range(int(log_uniform(generator, 1.0, 10.0))):
        length = log_uniform(generator, 80.0, 500.0) * scene.scale
        width = max(0.45, log_uniform(generator, 0.5, 3.0) * scene.scale)
        angles = heading + generator.normal(0.0, 0.2) + np.cumsum(generator.normal(0.0, 0.09, 12))
        steps = np.stack([np.sin(angles), np.cos(angles)], 1) * (length / 12)
        points = np.concatenate([np.zeros((1, 2)), np.cumsum(steps, 0)])
        points = points - points.mean(0)
        centre = origin + generator.normal(0.0, spread, 2)
        _line(scene, centre, points, width, colour, generator.uniform(0.4, 1.0))


def _line(
    scene: Scenery, centre: np.ndarray, points: np.ndarray, width: float, colour: np.ndarray, alpha: float
) -> None:
    with contextlib.suppress(OutsideImage):
        window = scene.window(float(centre[0]), float(centre[1]), float(np.abs(points).max()) + 3.0 * width + 1.0)
        distance, _ = curve_distance(window, points)
        scene.blend(window, np.exp(-((distance / np.float32(width)) ** 3)) * np.float32(alpha), colour)


def rims(scene: Scenery, generator: np.random.Generator) -> None:
    """Frames of glasses or rings: outlines of ovals and round rectangles with a temple or bridge, some with a gleam."""
    radius = log_uniform(generator, 25.0, 110.0) * scene.scale
    width = max(0.6, log_uniform(generator, 1.0, 14.0) * scene.scale)
    power = generator.uniform(2.0, 5.0)
    stretch = np.float32(generator.uniform(1.0, 1.6))
    angle = generator.normal(0.0, 0.3)
    centre = np.array(scene.place(generator))
    along = np.array([np.sin(angle), np.cos(angle)])
    colour = _ink(generator)
    for side in (0.0, 1.0)[: 1 + int(generator.random() < 0.6)]:
        cy, cx = centre + side * along * radius * 2.5
        with contextlib.suppress(OutsideImage):
            window = scene.window(float(cy), float(cx), 1.4 * radius + 2.0 * width)
            u, v = _rotated(window, angle)
            u, v = u / stretch, v * stretch
            ring = np.abs((np.abs(u) ** power + np.abs(v) ** power) ** (1.0 / power) - radius)
            tone = np.broadcast_to(colour, (*window.shape, 3))
            if generator.random() < 0.5:  # light from above
                tone = np.clip(tone + 0.4 * np.exp(-(((v + radius) / (3.0 * width)) ** 2))[..., None], 0.0, 1.0)
            scene.blend(
                window, np.clip(width / 2 - ring + 0.5, 0.0, 1.0) * np.float32(generator.uniform(0.6, 1.0)), tone
            )
            if generator.random() < 0.3:  # a reflection in the lens
                gleam = blob(window, radius * generator.uniform(0.2, 0.5), generator, aspect=2.5, hardness=4.0)
                scene.blend(window, gleam * np.float32(generator.uniform(0.1, 0.7)), 0.6 + 0.4 * _colour(generator))


def jewellery(scene: Scenery, generator: np.random.Generator) -> None:
    """Studs, pearls, chains and stones: shaded balls with a dark edge and a gleam, single or in a row."""
    radius = max(1.2, log_uniform(generator, 2.5, 16.0) * scene.scale)
    metal = np.clip(np.array([0.9, 0.75, 0.5], np.float32) + generator.normal(0.0, 0.25, 3), 0.1, 1.0)
    centre, heading = np.array(scene.place(generator)), generator.uniform(0.0, 2.0 * np.pi)
    for number in range(1 if generator.random() < 0.5 else int(generator.integers(2, 24))):
        heading += generator.normal(0.0, 0.12)
        cy, cx = centre + number * 2.05 * radius * np.array([np.sin(heading), np.cos(heading)])
        with contextlib.suppress(OutsideImage):
            window = scene.window(float(cy), float(cx), 1.5 * radius + 1.0)
            distance = np.hypot(window.y, window.x)
            dome = np.clip(1.0 - (distance / radius) ** 2, 0.0, 1.0)
            light = np.exp(-(((window.y + 0.35 * radius) ** 2 + (window.x + 0.3 * radius) ** 2) / (0.3 * radius) ** 2))
            tone = np.clip(metal * (0.25 + 0.7 * dome[..., None]) + 0.9 * light[..., None], 0.0, 1.0)
            scene.blend(window, np.clip(radius - distance + 0.5, 0.0, 1.0), tone.astype(np.float32))


def stubble(scene: Scenery, generator: np.random.Generator) -> None:
    """Short hairs over an area: dark grains of even density."""
    radius = log_uniform(generator, 40.0, 220.0) * scene.scale
    window = scene.window(*scene.place(generator), 1.6 * radius)
    area = blob(window, radius, generator, aspect=generator.uniform(1.0, 2.5), irregular=0.2, hardness=6.0)
    grain = scene.noise.cut(window.shape, 1.5 if scene.scale < 0.9 else generator.choice([1.5, 3.0]), generator)
    hairs = np.clip((grain - generator.uniform(0.2, 1.4)) * generator.uniform(1.0, 3.0), 0.0, 1.0)
    colour = _colour(generator) * np.float32(0.3)
    scene.blend(window, hairs * area * np.float32(generator.uniform(0.2, 0.9)), colour)
    np.maximum(scene.matte[window.index], area, out=scene.matte[window.index])


def lashes(scene: Scenery, generator: np.random.Generator) -> None:
    """A fan of short dark strokes along an arc: lashes, hairs of a brow or a fringe."""
    centre = np.array(scene.place(generator))
    radius = log_uniform(generator, 25.0, 90.0) * scene.scale
    length = radius * generator.uniform(0.1, 0.5)
    turn, colour = generator.uniform(0.0, 2.0 * np.pi), _colour(generator) * np.float32(0.25)
    width = max(0.45, 1.2 * scene.scale)
    for angle in turn + np.linspace(-0.8, 0.8, int(generator.integers(8, 26))):
        lean = angle + generator.normal(0.0, 0.25)
        start = centre + radius * np.array([np.sin(angle), np.cos(angle)])
        stroke = length * generator.uniform(0.6, 1.2) * np.array([np.sin(lean), np.cos(lean)])
        _line(scene, start, np.stack([0 * stroke, 0.5 * stroke, stroke]), width, colour, generator.uniform(0.5, 1.0))


def drawing(scene: Scenery, generator: np.random.Generator) -> None:
    """Tattoos and painted ornaments: dark crisp curves, or a bindi (a disc with a ring or a second disc below)."""
    centre, colour = np.array(scene.place(generator)), _ink(generator)
    if generator.random() < 0.3:
        radius = max(1.5, log_uniform(generator, 4.0, 12.0) * scene.scale)
        for step, share in ((0.0, 1.0), (1.0, 0.5)):
            with contextlib.suppress(OutsideImage):
                window = scene.window(float(centre[0] + step * 2.2 * radius), float(centre[1]), 2.0 * radius + 1.0)
                disc = np.clip(share * radius - np.hypot(window.y, window.x) + 0.5, 0.0, 1.0)
                scene.blend(window, disc, colour)
        return
    for _ in range(int(generator.integers(2, 6))):
        reach = log_uniform(generator, 10.0, 60.0) * scene.scale
        angles = generator.uniform(0.0, 2.0 * np.pi) + np.cumsum(generator.normal(0.0, 0.5, 10))
        points = np.cumsum(np.stack([np.sin(angles), np.cos(angles)], 1) * (reach / 5), 0)
        width = max(0.7, log_uniform(generator, 1.5, 5.0) * scene.scale)
        _line(scene, centre + generator.normal(0.0, 0.4 * reach, 2), points - points.mean(0), width, colour, 0.95)


ANYWHERE: dict[str, Thing] = {
    "lights": lights, "leaves": leaves, "poster": poster, "buttons": buttons, "mesh": mesh, "writing": writing,
    "strands": strands, "jewellery": jewellery, "rims": rims, "drawing": drawing,
}  # fmt: skip
"""Drawn outside skin."""

ON_SKIN: dict[str, tuple[Thing, float]] = {
    "strands": (strands, 0.16), "rims": (rims, 0.16), "jewellery": (jewellery, 0.12), "stubble": (stubble, 0.12),
    "lashes": (lashes, 0.08), "drawing": (drawing, 0.06), "writing": (writing, 0.04), "mesh": (mesh, 0.03),
}  # fmt: skip
"""Drawn over skin too, each with its probability."""


def draw_things(scene: Scenery, generator: np.random.Generator) -> None:
    """Draw one to four kinds of ANYWHERE."""
    for name in generator.choice(list(ANYWHERE), size=int(generator.integers(1, 5))):
        ANYWHERE[str(name)](scene, generator)


def draw_on_skin(scene: Scenery, generator: np.random.Generator) -> None:
    """Draw each kind of ON_SKIN with its probability."""
    for thing, share in ON_SKIN.values():
        if generator.random() < share:
            thing(scene, generator)
