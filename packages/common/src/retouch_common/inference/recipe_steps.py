"""The steps of a recipe, and the state after them.

Later steps override earlier ones:

    strength  value                fraction of the change that is applied, 0 to 1
    region    value                what is retouched: "faces", or "photo" for the whole photo
    face      face, on             whether a face, by its index, is retouched
    add_face  box                  a face that was not detected
    blemish   at, on               whether the blemish at a pixel is removed
    size      size, on             the same for all of a size: small, medium, large, or the rest of the change
    protect   radius, points       a stroke that keeps the photo unchanged
    restore   radius, points       a stroke that removes this protection

Positions and radii are in pixels of the upright photo.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from retouch_common.faces.face import Face, require_inside
from retouch_common.inference.blemishes import REST, SIZES, Blemishes
from retouch_common.inference.brush_strokes import Stroke
from retouch_common.inference.photos import require_strength

REGIONS = ("faces", "photo")
MAX_POINTS = 200_000

Step = Mapping[str, Any]


class RecipeState:
    """State after the steps of a recipe.

    Args:
        width: Width of the upright photo in pixels.
        height: Its height.
        faces: Detected faces.
        steps: Steps, see the module.

    Attributes:
        strength: Fraction of the change that is applied.
        region: What is retouched, "faces" or "photo".
        faces: Faces, detected and added.
        faces_on: Whether each is retouched.
        strokes: Strokes of the brushes in their order.

    Raises:
        ValueError: If a step is unknown or malformed, or lies outside the photo.
    """

    def __init__(self, width: int, height: int, faces: Sequence[Face], steps: Sequence[Step]) -> None:
        self._width, self._height = width, height
        self.strength = 1.0
        self.region = "faces"
        self.faces: list[Face] = []
        self.faces_on: list[bool] = []
        self.strokes: list[Stroke] = []
        self._choices: list[tuple[str | tuple[int, int], bool]] = []  # by size or pixel
        for face in faces:
            self._add_face(face)
        for number, step in enumerate(steps, 1):
            try:
                self._apply(step)
            except (KeyError, TypeError, AttributeError, OverflowError, IndexError) as error:
                raise ValueError(f"step {number} of the recipe is damaged: {error!r}") from error
            except ValueError as error:
                raise ValueError(f"step {number} of the recipe: {error}") from None
        if sum(len(stroke.points) for stroke in self.strokes) > MAX_POINTS:
            raise ValueError(f"the strokes of the recipe have more than {MAX_POINTS} points")

    def _apply(self, step: Step) -> None:
        kind = step["step"]
        if kind == "strength":
            require_strength(step["value"])
            self.strength = float(step["value"])
        elif kind == "region":
            if step["value"] not in REGIONS:
                raise ValueError(f"unknown region {step['value']!r}; choose from {', '.join(REGIONS)}")
            self.region = step["value"]
        elif kind == "face":
            if not 0 <= step["face"] < len(self.faces):
                raise ValueError(f"there is no face {step['face']}")
            self.faces_on[step["face"]] = _parse_on(step)
        elif kind == "add_face":
            self._add_face(parse_face(step))
        elif kind == "blemish":
            x, y = step["at"]
            self._choices.append(((int(x), int(y)), _parse_on(step)))
        elif kind == "size":
            if step["size"] not in SIZES:
                raise ValueError(f"unknown size {step['size']!r}; choose from {', '.join(SIZES)}")
            self._choices.append((step["size"], _parse_on(step)))
        elif kind in ("protect", "restore"):
            self.strokes.append(_parse_stroke(step, max(self._width, self._height)))
        else:
            raise ValueError(f"unknown step {str(kind)[:40]!r}")

    def _add_face(self, face: Face) -> None:
        require_inside(face, self._height, self._width)
        self.faces.append(face)
        self.faces_on.append(True)

    @property
    def parts_on(self) -> list[bool]:
        """Whether each part is retouched: each face, or the whole photo."""
        return self.faces_on if self.region == "faces" else [True]

    @property
    def part_faces(self) -> list[Face]:
        """Return the face of each part, which tells how large blemishes are: of the whole photo, its largest face.

        Without one, a face that is as large as the photo's shorter side.
        """
        if self.region == "faces":
            return self.faces
        side = min(self._width, self._height)
        return [max(self.faces, key=lambda face: face.size, default=parse_face({"box": (0, 0, side, side)}))]

    def kept_labels(self, blemishes: Blemishes) -> set[int]:
        """Return the labels of a part's blemishes that are kept."""
        kept: set[int] = set()
        for choice, on in self._choices:
            if choice == "rest":
                labels = {REST}
            elif isinstance(choice, str):
                labels = {blemish.label for blemish in blemishes.all if blemish.size == choice}
            else:
                labels = {blemishes.label_at(*choice)} - {REST}
            kept = kept - labels if on else kept | labels
        return kept


def _parse_on(step: Step) -> bool:
    if not isinstance(step["on"], bool):
        raise ValueError("on must be true or false")
    return step["on"]


def _parse_stroke(step: Step, largest: int) -> Stroke:
    points = np.array(step["points"], np.float64)
    radius = float(step["radius"])
    if points.ndim != 2 or points.shape[1] != 2 or not len(points) or not np.isfinite(points).all():
        raise ValueError("the points of a stroke are pairs of numbers")
    if not 0 < radius <= largest:
        raise ValueError(f"the radius of a stroke must lie above 0, within the photo, not at {radius:g}")
    return Stroke(float(step["step"] == "protect"), radius, points)


def parse_face(content: Any) -> Face:
    """Return the face of a step, or of a recipe's faces.

    Raises:
        ValueError: If it is malformed; also KeyError, TypeError and AttributeError.
    """
    box = tuple(float(value) for value in content["box"])
    landmarks = content.get("landmarks")
    points = np.full((5, 2), np.nan) if landmarks is None else np.array(landmarks, np.float64)
    if len(box) != 4 or not all(map(math.isfinite, box)) or points.shape != (5, 2):
        raise ValueError("a face has a box of four numbers, and five landmarks or none")
    return Face(box, 1.0, points.astype(np.float32))
