"""Parts of a face (eyes, brows, lips, nose, jaw) from landmarks.

Sources are the 189 manual points of a `.tem` template, the 68 points of detectors such as dlib's and of FFHQ, and the
mean face in FFHQ's framing. Points are x, y in pixels, the centre of the first pixel at (0, 0).
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retouch_common.faces.alignment import FaceSquare, fit_portrait, points_in_square
from retouch_common.faces.webmorph import Template, read_template
from retouch_common.files import refuse_special

FFHQ_SIDE = 1024
"""Size in pixels of FFHQ's aligned images, to which its landmarks refer."""

FOREHEAD = 0.674
"""From the eyes up to the hairline, as a share of the way from the eyes down to the chin: the mean of 112 people."""

BROW_THICKNESS = 0.06
"""Half the height of a brow in eye distances, for landmarks that give its middle only."""

# The 68 points of 112 frontal faces (the Face Research Lab's London and Canada sets, DeBruine & Jones, CC BY 4.0) in
# FFHQ's framing at 512 pixels: their mean, made symmetric. By rows: jaw, brows, nose, eyes, lips, gap of the mouth.
# fmt: off
_CANONICAL = np.array([
    (116, 252), (116, 289), (120, 325), (127, 362), (138, 397), (159, 427), (187, 450), (219, 466), (255.5, 473),
    (292, 466), (324, 450), (352, 427), (373, 397), (384, 362), (391, 325), (395, 289), (395, 252),
    (138, 226), (157, 209), (183, 205), (209, 209), (228, 220), (283, 220), (302, 209), (328, 205), (354, 209),
    (373, 226),
    (255.5, 232), (255.5, 261), (255.5, 289), (255.5, 318), (230, 332), (245, 325), (255.5, 333), (266, 325),
    (281, 332),
    (168, 245), (185, 236), (205, 237), (222, 249), (203, 252), (185, 253),
    (289, 249), (306, 237), (326, 236), (343, 245), (326, 253), (308, 252),
    (206, 381), (224, 369), (241, 362), (255.5, 365), (270, 362), (287, 369), (305, 381), (291, 391), (275, 397),
    (255.5, 399), (236, 397), (220, 391),
    (206, 381), (231, 378), (255.5, 378), (280, 378), (305, 381), (280, 378), (255.5, 378), (231, 378),
])
# fmt: on


@dataclass(frozen=True)
class FaceLandmarks:
    """Parts of one face. Left and right are the image's; outlines close automatically.

    Attributes:
        eyes: Outlines of the left and the right eye, each (n, 2).
        brows: Outlines of the left and the right brow, each (n, 2).
        lips: Outline of both lips together, (n, 2).
        mouth: Left and right corner of the mouth, (2, 2).
        nose: From between the eyes to the tip, (n, 2).
        jaw: From the left ear along the chin to the right ear, (n, 2).
        outline: Face from hairline to chin, (n, 2).

    Raises:
        ValueError: If a part is not a list of finite points, or both eyes coincide.
    """

    eyes: tuple[np.ndarray, np.ndarray]
    brows: tuple[np.ndarray, np.ndarray]
    lips: np.ndarray
    mouth: np.ndarray
    nose: np.ndarray
    jaw: np.ndarray
    outline: np.ndarray

    def __post_init__(self) -> None:
        for name, part in vars(self).items():
            for points in part if isinstance(part, tuple) else (part,):
                if points.ndim != 2 or points.shape[1] != 2 or len(points) < 2 or not np.isfinite(points).all():
                    raise ValueError(f"the landmarks' {name} must be at least two finite points x, y")
        if not self.unit > 0:
            raise ValueError("the eye landmarks coincide")

    @property
    def eye_centres(self) -> np.ndarray:
        """(2, 2): centres of the left and the right eye."""
        return np.stack([eye.mean(0) for eye in self.eyes])

    @property
    def eye_widths(self) -> np.ndarray:
        """(2,) widths of the eyes in pixels."""
        return np.array([float(np.hypot(*(eye[:, None] - eye).T).max()) for eye in self.eyes])

    @property
    def unit(self) -> float:
        """Distance between the eyes' centres in pixels."""
        left, right = self.eye_centres
        return float(np.hypot(*(right - left)))

    @property
    def five_points(self) -> np.ndarray:
        """(5, 2): left eye, right eye, tip of the nose, left and right corner of the mouth, as from detectors."""
        return np.concatenate([self.eye_centres, self.nose[-1:], self.mouth])

    def mapped(self, function: Callable[[np.ndarray], np.ndarray]) -> FaceLandmarks:
        """Return the face with a function applied to each part's (n, 2) points."""

        def moved(part: Any) -> Any:
            return tuple(map(function, part)) if isinstance(part, tuple) else function(part)

        return FaceLandmarks(**{name: moved(part) for name, part in vars(self).items()})

    def scaled(self, factor: float) -> FaceLandmarks:
        """Return the face in the image resized by a factor."""
        return self.mapped(lambda points: (points + 0.5) * factor - 0.5)


def landmarks_from_template(template: Template) -> FaceLandmarks:
    """Return the parts of a face from a 189-point template, in its own photo.

    Raises:
        ValueError: If it is another kind of template.
    """
    outline = template.outline("face")
    jaw = outline[len(template.lines("face")[0]) :]
    if jaw[0, 0] > jaw[-1, 0]:
        jaw = jaw[::-1]
    sides = template.lines("nose")[:2]
    bridge, tip = (np.concatenate([line[part] for line in sides]).mean(0) for part in (slice(0, 1), slice(-2, None)))
    lips = template.outline("lips")
    return FaceLandmarks(
        eyes=(template.outline("eye_left"), template.outline("eye_right")),
        brows=(template.outline("brow_left"), template.outline("brow_right")),
        lips=lips,
        mouth=lips[[lips[:, 0].argmin(), lips[:, 0].argmax()]],
        nose=np.stack([bridge, tip]),
        jaw=jaw,
        outline=outline,
    )


def landmarks_from_68(points: np.ndarray) -> FaceLandmarks:
    """Return the parts of a face from 68 points in iBUG 300-W's order (dlib, FFHQ), (68, 2); the hairline is estimated.

    Raises:
        ValueError: If they are not 68 finite points.
    """
    points = np.asarray(points, dtype=np.float32)
    if points.shape != (68, 2):
        raise ValueError(f"expected 68 landmarks as an array (68, 2), got {points.shape}")
    jaw, eyes, lips = points[:17], (points[36:42], points[42:48]), points[48:60]
    middle = (eyes[0].mean(0) + eyes[1].mean(0)) / 2
    drop = middle - jaw[8]
    centre, across = (jaw[0] + jaw[16]) / 2, (jaw[0] - jaw[16]) / 2
    rise = middle + FOREHEAD * drop - centre
    angle = np.linspace(0.0, np.pi, 15, dtype=np.float32)[1:-1, None]
    cos, sin = np.cos(angle), np.sin(angle)
    # a cubic superellipse is within 2 % of an eye distance of the mean hairline
    hairline = centre - np.sign(cos) * np.abs(cos) ** (2 / 3) * across + np.abs(sin) ** (2 / 3) * rise
    eye_distance = float(np.hypot(*(eyes[1] - eyes[0]).mean(0)))
    thickness = BROW_THICKNESS * drop / max(float(np.hypot(*drop)), 1e-6) * eye_distance
    left, right = (
        np.concatenate([brow + thickness, brow[::-1] - thickness]) for brow in (points[17:22], points[22:27])
    )
    return FaceLandmarks(
        eyes=eyes,
        brows=(left, right),
        lips=lips,
        mouth=lips[[0, 6]],
        nose=points[27:31],
        jaw=jaw,
        outline=np.concatenate([jaw, hairline]),
    )


def canonical_landmarks(size: int) -> FaceLandmarks:
    """Return the mean face in an image of `size` pixels in FFHQ's framing, for faces without landmarks.

    Standard deviations of single faces are 1 % of the side around eyes and mouth, 2 % at the jaw.
    """
    return landmarks_from_68(_CANONICAL).scaled(size / 512)


def ffhq_square(landmarks: FaceLandmarks) -> FaceSquare:
    """Return the square of FFHQ's alignment (Karras et al., CVPR 2019).

    `retouch_common.faces.alignment.face_square` takes a detector's points instead, which differ a little.
    """
    left, right = landmarks.eye_centres.astype(np.float64) + 0.5
    eyes, mouth = (left + right) / 2, landmarks.mouth.astype(np.float64).mean(0) + 0.5
    across, down = right - left, mouth - eyes
    axis = across + np.array([down[1], -down[0]])
    centre = eyes + 0.1 * down
    side = 2.0 * max(2.0 * float(np.hypot(*across)), 1.8 * float(np.hypot(*down)))
    return FaceSquare((float(centre[0]), float(centre[1])), side, math.atan2(axis[1], axis[0]))


def portrait_square_of(landmarks: FaceLandmarks) -> FaceSquare:
    """Return the square of :func:`retouch_common.faces.alignment.portrait_square` from landmarks."""
    return fit_portrait(landmarks.eye_centres.astype(np.float64) + 0.5, landmarks.mouth.mean(0) + 0.5)


def to_aligned(landmarks: FaceLandmarks, square: FaceSquare, size: int) -> FaceLandmarks:
    """Map landmarks of a photo to the image that `alignment.align(photo, square, size)` crops."""
    return landmarks.mapped(lambda points: points_in_square(points, square, size))


def read_landmarks(path: str | Path) -> FaceLandmarks:
    """Read a 189-point `.tem` template or a `.npy` array (68, 2), in pixels of its image.

    Raises:
        ValueError: If the file is neither; the message names it.
        OSError: If it cannot be read.
    """
    path = Path(path)
    refuse_special(path)
    try:
        if path.suffix.lower() == ".tem":
            return landmarks_from_template(read_template(path))
        if path.suffix.lower() == ".npy":
            return landmarks_from_68(np.load(path, allow_pickle=False))
    except (ValueError, EOFError, zipfile.BadZipFile) as error:  # the latter two of numpy, for damaged files
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from error
    raise ValueError(f"{path}: landmarks are read from .tem templates and .npy arrays")
