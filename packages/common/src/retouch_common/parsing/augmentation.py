"""Augmentation of labelled faces: pose, light, occlusion and camera.

Many portraits are frontal, evenly lit and before plain walls, which a parser for other photographs must not learn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from retouch_common.faces.alignment import FaceSquare
from retouch_common.parsing.labels import CLASSES, mirrored
from retouch_common.parsing.portraits import LabelledPortrait
from retouch_common.photo.colour import luminance
from retouch_common.photo.filters import gaussian_blur, resize, smoothstep
from retouch_common.ranges import to_levels
from retouch_common.synthesis.blemish_shapes import NoisePool
from retouch_common.synthesis.jpeg import compress
from retouch_common.synthesis.photometric import NoiseBank, colour_shift, light_field, relight
from retouch_common.synthesis.scenes import occluder, random_background

EYES = [CLASSES.index(name) for name in ("eye_left", "eye_right")]
HAIRY = [CLASSES.index(name) for name in ("hair", "brow_left", "brow_right")]


@dataclass(frozen=True, kw_only=True)
class Pose:
    """How a face's square is moved before it is cut out.

    Attributes:
        scale: Scale of the face.
        aspect: Scale of its width over that of its height.
        angle: Rotation in radians, clockwise.
        shear: Shift of its top to the right of its bottom, as a share of the square.
        shift: Shift right and down, as shares of the square.
        mirror: Exchange left and right.
    """

    scale: float = 1.0
    aspect: float = 1.0
    angle: float = 0.0
    shear: float = 0.0
    shift: tuple[float, float] = (0.0, 0.0)
    mirror: bool = False


@dataclass(frozen=True)
class Framed:
    """A face cut out of a portrait; S is the side in pixels.

    Attributes:
        image: (S, S, 3) float32 in [0, 1].
        labels: (S, S) uint8.
        background: (S, S) float32, matte of the replaceable background.
        tone: (S, S) float32, where the tone of skin can be changed.
        outside: (S, S) bool, beyond the portrait, where its border is repeated.
    """

    image: np.ndarray
    labels: np.ndarray
    background: np.ndarray
    tone: np.ndarray
    outside: np.ndarray


def random_pose(generator: np.random.Generator, *, strong: bool) -> Pose:
    """Draw a pose, mostly near the alignment, sometimes far from it; scale 0.6 to 1.5, rotation up to 30 degrees.

    Not ``strong``, it is what the paper names: mirroring, and slight scale, rotation and shift, as which we read its
    "geometry transform".
    """
    mirror = bool(generator.random() < 0.5)
    if not strong:
        scale, angle = float(np.exp(generator.uniform(-0.1, 0.1))), np.radians(generator.uniform(-10, 10))
        shift = generator.uniform(-0.05, 0.05, 2)
        return Pose(scale=scale, angle=float(angle), shift=(float(shift[0]), float(shift[1])), mirror=mirror)
    far = generator.random() < 0.5
    low, high = (0.6, 1.5) if far else (0.87, 1.15)
    spread = 0.15 if far else 0.04
    shift = generator.normal(0.0, spread, 2).clip(-0.3, 0.3)
    return Pose(
        scale=float(np.exp(generator.uniform(np.log(low), np.log(high)))),
        aspect=float(np.exp(generator.normal(0.0, 0.06))),
        angle=float(np.radians(np.clip(generator.normal(0.0, 14.0 if far else 6.0), -30, 30))),
        shear=float(generator.normal(0.0, 0.05)),
        shift=(float(shift[0]), float(shift[1])),
        mirror=mirror,
    )


def cut(portrait: LabelledPortrait, size: int, pose: Pose | None = None) -> Framed:
    """Cut the face's square, moved by ``pose``, out of a portrait and resize it to ``size`` pixels a side."""
    pose = pose or Pose()
    height, width = portrait.planes.shape[:2]
    x, y = _points(portrait.square, size, pose)
    factor = max(1, int(portrait.square.side / pose.scale / size / 1.3))
    left, right = (int(np.clip(edge, 0, width)) for edge in (np.floor(x.min()) - 2 * factor, x.max() + 3 * factor))
    top, bottom = (int(np.clip(edge, 0, height)) for edge in (np.floor(y.min()) - 2 * factor, y.max() + 3 * factor))
    if right - left < 2 * factor or bottom - top < 2 * factor:
        left, right, top, bottom = 0, width, 0, height
    part = portrait.planes[top:bottom, left:right]
    tensor = torch.from_numpy(np.ascontiguousarray(part[..., [0, 1, 2, 4, 5]])).permute(2, 0, 1)[None].float()
    if factor > 1:  # average first: interpolation alone would skip pixels
        tensor = F.avg_pool2d(tensor, factor, ceil_mode=True)
    extent = (tensor.shape[3] * factor, tensor.shape[2] * factor)
    grid = np.stack([2 * (x - left) / extent[0] - 1, 2 * (y - top) / extent[1] - 1], axis=-1).astype(np.float32)
    grid_ = torch.from_numpy(grid)[None]
    cut_ = F.grid_sample(tensor, grid_, mode="bilinear", padding_mode="border", align_corners=False)[0]
    planes = (cut_.permute(1, 2, 0).contiguous().numpy() / np.float32(255)).clip(0, 1)
    rows, columns = (np.floor(axis).astype(np.int64).clip(0, n - 1) for axis, n in ((y, height), (x, width)))
    labels = portrait.planes[rows, columns, 3]
    outside = (x < 0) | (y < 0) | (x >= width) | (y >= height)
    if pose.mirror:
        planes, outside = np.ascontiguousarray(planes[:, ::-1]), np.ascontiguousarray(outside[:, ::-1])
        labels = mirrored(labels)
    return Framed(planes[..., :3], labels, planes[..., 3], planes[..., 4], outside)


def dead_leaves(size: int, generator: np.random.Generator, noise: NoisePool) -> np.ndarray:
    """Draw (size, size, 3) in [0, 1] of overlapping shapes of all sizes, with the statistics of rooms and streets."""
    side = max(16, size // 2)
    y, x = np.mgrid[:side, :side].astype(np.float32) / np.float32(side)
    image = np.broadcast_to(generator.random(3).astype(np.float32), (side, side, 3)).copy()
    for _ in range(int(generator.integers(5, 40))):
        cx, cy = generator.uniform(-0.1, 1.1, 2)
        radius = 0.5 * float(generator.random() ** 2) + 0.02
        angle, aspect = generator.uniform(0, np.pi), np.exp(generator.uniform(-1.2, 1.2))
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        u = ((x - np.float32(cx)) * cos + (y - np.float32(cy)) * sin) / np.float32(radius * aspect)
        v = ((y - np.float32(cy)) * cos - (x - np.float32(cx)) * sin) / np.float32(radius)
        inside = (u * u + v * v < 1) if generator.random() < 0.5 else (np.maximum(np.abs(u), np.abs(v)) < 1)
        colour = generator.random(3) * generator.uniform(0.1, 1.0)
        shade = np.float32(generator.normal(0, 0.3)) * u[inside] + np.float32(1)
        image[inside] = colour.astype(np.float32) * shade[:, None]
    image = resize(image, size, size)
    if generator.random() < 0.5:
        texture = noise.cut((size, size), float(np.exp(generator.uniform(0.4, 3.2))), generator)
        image = image * (1 + np.float32(generator.uniform(0.02, 0.25)) * texture[..., None])
    if generator.random() < 0.7:
        image = gaussian_blur(image, float(np.exp(generator.uniform(np.log(0.5), np.log(0.06 * size)))))
    return np.clip(image, 0.0, 1.0).astype(np.float32)


def draw_glasses(image: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draw glasses on an image (S, S, 3) in [0, 1]: rims of any shape, bridge, temples, tinted or reflecting lenses.

    Without both eyes in its labels (S, S) nothing is drawn. The labels still hold: eyes, brows and skin are labelled
    through glasses.
    """
    places = [np.argwhere(labels == eye) for eye in EYES]
    if min(len(place) for place in places) < 3:
        return image
    (top_l, left), (top_r, right) = (place.mean(axis=0) for place in places)
    unit = float(np.hypot(right - left, top_r - top_l))
    if unit < 6:
        return image
    cos, sin = np.float32((right - left) / unit), np.float32((top_r - top_l) / unit)
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]].astype(np.float32) + np.float32(0.5)
    x, y = x - np.float32((left + right) / 2), y - np.float32((top_l + top_r) / 2)
    across, down = (cos * x + sin * y) / np.float32(unit), (cos * y - sin * x) / np.float32(unit)
    down = down - np.float32(generator.uniform(-0.03, 0.14))
    half_width, half_height = generator.uniform(0.33, 0.44), generator.uniform(0.2, 0.38)
    power, thickness = float(np.exp(generator.uniform(np.log(1.8), np.log(6.0)))), generator.uniform(0.008, 0.05)
    beside = np.abs(across) - np.float32(generator.uniform(0.49, 0.53))
    radius = (np.abs(beside / half_width) ** power + np.abs(down / half_height) ** power) ** np.float32(1 / power)
    away = (radius - 1) * np.float32(min(half_width, half_height))  # from the rim, in eye distances
    soft = np.float32(max(1.0 / unit, 0.004))
    rim = np.clip((thickness - np.abs(away)) / soft + 0.5, 0, 1)
    bar = np.float32(half_height * generator.uniform(-0.8, 0.0))
    bars = np.clip((0.8 * thickness - np.abs(down - bar)) / soft + 0.5, 0, 1)
    bars = bars * ((np.abs(across) < 1.05) & (away > 0))
    if generator.random() < 0.15:  # only the upper half has a rim
        rim = rim * (down < 0)
    inside = np.clip(-away / soft + 0.5, 0, 1)[..., None]
    tint = generator.random(3).astype(np.float32)
    dark = generator.uniform(0.0, 0.25) if generator.random() < 0.8 else generator.uniform(0.25, 0.7)
    result = image + inside * np.float32(dark) * (tint * np.float32(0.5) - image)
    if generator.random() < 0.25:
        slope, offset = generator.normal(0.0, 2.0), generator.normal(0.0, 0.25)
        glare = smoothstep(np.abs(down + np.float32(slope) * beside - np.float32(offset)), 0.12, 0.0)
        result = result + inside * (np.float32(generator.uniform(0.2, 0.8)) * glare[..., None]) * (1 - result)
    matte = (np.maximum(rim, bars) * np.float32(generator.uniform(0.6, 1.0)))[..., None]
    colour = generator.random(3) ** (3.0 if generator.random() < 0.7 else 1.0)
    return np.clip(result + matte * (colour.astype(np.float32) - result), 0, 1)


class Augmenter:
    """Strong augmentation of labelled faces.

    Args:
        size: Largest side of the faces in pixels.
    """

    def __init__(self, size: int = 768) -> None:
        self.pool, self.noise = NoisePool(size=max(768, size)), NoiseBank(size=max(1024, size))

    def __call__(self, framed: Framed, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Vary light, hair, background, foreground and camera.

        Returns:
            Image (S, S, 3) float32 in [0, 1], and its labels (S, S) uint8.
        """
        levels = to_levels(framed.image)
        labels = framed.labels
        image = relight(levels, framed.tone, generator)
        if generator.random() < 0.3:
            image = self._dyed(image, labels, generator)
        if generator.random() < 0.12:
            image = draw_glasses(image, labels, generator)
        if framed.background.max() > 0.5 and generator.random() < 0.75:
            matte = np.maximum(framed.background, framed.outside)
            scene = self.scene(len(image), generator)
            image = image + matte[..., None] * (scene - image)
            labels = np.where(framed.outside, 0, labels).astype(np.uint8)
        if generator.random() < 0.15:
            cover = occluder(len(labels), len(labels), generator)
            image = image + cover[..., None] * (self.scene(len(image), generator) - image)
            labels = np.where(cover > 0.5, 0, labels).astype(np.uint8)
        return self.camera(np.clip(image, 0, 1), generator), labels

    def scene(self, size: int, generator: np.random.Generator) -> np.ndarray:
        """Return an image without a face, (size, size, 3) float32 in [0, 1]."""
        if generator.random() < 0.5:
            return dead_leaves(size, generator, self.pool)
        return random_background(size, size, generator, self.pool)

    def camera(self, image: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Vary colour cast, light, black and white, blur, noise and compression."""
        size = len(image)
        if generator.random() < 0.3:
            image = np.clip(image * light_field(size, size, generator), 0, 1)
        if generator.random() < 0.3:
            cast = np.exp(generator.normal(0.0, 0.15, 3)).astype(np.float32)
            image = np.clip((image @ colour_shift(generator)) * cast, 0, 1)
        if generator.random() < 0.12:
            toned = np.exp(generator.normal(0.0, 0.05, 3)).astype(np.float32)
            image = np.minimum(luminance(image)[..., None] * toned, 1.0)
        if generator.random() < 0.2:
            image = gaussian_blur(image, float(np.exp(generator.uniform(np.log(0.4), np.log(2.5)))))
        elif generator.random() < 0.15:  # a small image, upsampled
            side = round(size / np.exp(generator.uniform(0.3, 1.4)))
            image = resize(resize(image, side, side, antialias=True), size, size)
        if generator.random() < 0.35:
            image = np.clip(image + self.noise(image, generator), 0, 1)
        if generator.random() < 0.3:
            image = compress(image, int(generator.integers(25, 98)), subsample=bool(generator.random() < 0.7))
        return np.ascontiguousarray(np.clip(image, 0, 1), dtype=np.float32)  # the sums above round

    def _dyed(self, image: np.ndarray, labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        where = gaussian_blur(np.isin(labels, HAIRY).astype(np.float32), 1.5)[..., None]
        exponent = np.float32(np.exp(generator.normal(0.0, 0.45)))
        tint = np.exp(generator.normal(0.0, 0.2, 3)).astype(np.float32)
        other = np.clip(np.power(image, exponent) * tint, 0, 1)
        return image + where * (other - image)


def _points(square: FaceSquare, size: int, pose: Pose) -> tuple[np.ndarray, np.ndarray]:
    """Return the portrait's (x, y), each (size, size), of the pixels of a moved square."""
    unit = (np.arange(size) + 0.5) / size - 0.5
    u, v = np.meshgrid(unit - pose.shift[0], unit - pose.shift[1])
    cos, sin = np.cos(-pose.angle), np.sin(-pose.angle)
    u, v = cos * u - sin * v, sin * u + cos * v
    u = (u + pose.shear * v) / pose.aspect
    return square.to_photo(u / pose.scale + 0.5, v / pose.scale + 0.5)
