"""Random crops of prepared portraits: scaled, rotated, mirrored."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from retouch_common.synthesis.preparation import PreparedFace

MAX_ENLARGEMENT, MAX_REDUCTION = 1.1, 3.0  # more looks blurred, or loses small blemishes
ROTATED = 0.12  # share of crops that are rotated, by up to 30 degrees


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """Limits of random crops; widths of faces are pixels in a crop 512 px wide and grow with it."""

    min_face_width: float = 200.0
    max_face_width: float = 900.0
    reach: float | None = None
    """Largest distance between the centres of crop and face, in widths of the face; None: about half of one."""
    lift: float = 0.0
    """How far above the face's centre the crops' lie on average, in heights of the face."""
    anywhere_probability: float = 0.12
    """Share of crops whose place is independent of the face."""


@dataclass(frozen=True)
class Crop:
    """A square piece of a portrait.

    Attributes:
        levels: (S, S, 3) uint8, natural blemishes taken out.
        natural: (S, S, 3) uint8, as photographed; None if it was not asked for.
        maps: (S, S, 4) float32 in [0, 1], the maps of `PreparedFace`.
        face_width: Width of the face in pixels of the crop.
    """

    levels: np.ndarray
    natural: np.ndarray | None
    maps: np.ndarray
    face_width: float


def random_crop(
    face: PreparedFace,
    size: int,
    generator: np.random.Generator,
    *,
    config: CropConfig | None = None,
    anywhere: bool = False,
    natural: bool = True,
) -> Crop:
    """Cut a random square of ``size`` pixels out of a portrait.

    Its centre lies on or near the face, or with ``anywhere`` independently of it. ``natural`` crops the uncleaned image
    too.
    """
    config = config or CropConfig()
    height, width = face.image.shape[:2]
    x, y, box_width, box_height = face.box
    unit = size / 512.0
    widest = min(config.max_face_width * unit, MAX_ENLARGEMENT * box_width)
    narrowest = min(max(config.min_face_width * unit, box_width / MAX_REDUCTION), widest)
    face_width = float(np.exp(generator.uniform(np.log(narrowest), np.log(widest))))
    window = size * box_width / face_width
    if anywhere:
        cx, cy = generator.uniform(0.0, width), generator.uniform(0.0, height)
    else:
        reach = config.reach
        if reach is None:
            reach = 0.55 if window < 0.7 * box_width else 0.4
        lowest = reach + (0.1 if config.reach is None else 0.0)
        cx = x + box_width * (0.5 + generator.uniform(-reach, reach))
        cy = y + box_height * (0.5 - config.lift + generator.uniform(-reach, lowest))
    half = max(8, round(window / 2))
    x0, y0 = _start(cx, half, width // 2), _start(cy, half, height // 2)
    flip = bool(generator.random() < 0.5)
    angle = 0.0
    if generator.random() < ROTATED:
        angle = float(np.clip(generator.normal(0.0, 12.0), -30.0, 30.0))

    def cut(array: np.ndarray, step: int) -> np.ndarray:
        window = _window(array, 2 * y0 // step, 2 * x0 // step, 2 * half // step)
        return _resample(window, size, flip, angle)

    maps = cut(face.maps, 2) * np.float32(1.0 / 255.0)
    photographed = cut(face.natural, 1) if natural else None
    return Crop(cut(face.image, 1), photographed, maps, size * box_width / (2.0 * half))


def _start(centre: float, half: int, length: int) -> int:
    """Return where a window of ``half`` map pixels starts within a row of ``length``, centred if it is longer."""
    if half >= length:
        return (length - half) // 2
    return int(np.clip(round((centre - half) / 2), 0, length - half))


def _window(array: np.ndarray, y0: int, x0: int, side: int) -> np.ndarray:
    """Return a square of an (H, W, C) array, padded by reflection beyond its borders."""
    (top, bottom), (left, right) = (
        (max(0, -s), max(0, s + side - n)) for s, n in zip((y0, x0), array.shape, strict=False)
    )
    part = np.array(array[max(0, y0) : y0 + side, max(0, x0) : x0 + side])
    if top or bottom or left or right:
        part = np.pad(part, ((top, bottom), (left, right), (0, 0)), mode="symmetric")
    return part


def _resample(levels: np.ndarray, size: int, flip: bool, angle: float) -> np.ndarray:
    tensor = torch.from_numpy(levels).permute(2, 0, 1)[None]
    if tensor.shape[-1] != size:
        tensor = F.interpolate(tensor, (size, size), mode="bilinear", align_corners=False, antialias=True)
    if flip:
        tensor = tensor.flip(-1)
    if angle:
        theta = np.deg2rad(angle)
        turn = torch.tensor([[np.cos(theta), -np.sin(theta), 0.0], [np.sin(theta), np.cos(theta), 0.0]])
        grid = F.affine_grid(turn[None].float(), [1, 1, size, size], align_corners=False)
        values = F.grid_sample(tensor.float(), grid, "bilinear", padding_mode="reflection", align_corners=False)
        tensor = values.round_().to(torch.uint8)
    return tensor[0].permute(1, 2, 0).contiguous().numpy()
