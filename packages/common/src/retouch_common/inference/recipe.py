"""Recipes: retouching as a list of edit steps, which can be applied to the photo again.

A recipe is a small JSON file beside the photo. It holds the network, the faces and every step, in pixels of the upright
photo; see :mod:`retouch_common.inference.recipe_steps`. The studio and the option ``--recipe`` apply it by the same
function, :func:`retouch_common.inference.recipe_retouching.apply_recipe`, and write the same bytes.

    {"retouch-recipe": 1, "photo": {"name": "anna.jpg", "width": 4000, "height": 6000}, "network": "abpn",
     "weights": SHA-256, "time": "2026-01-31T12:00:00+00:00", "faces": [{"box": [x, y, w, h], "landmarks": [...]}],
     "steps": [{"step": "strength", "value": 0.8}, {"step": "blemish", "at": [x, y], "on": false}, ...]}
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from retouch_common.faces.face import Face
from retouch_common.files import refuse_special, write_atomically
from retouch_common.inference.names import RECIPE, sibling_path
from retouch_common.inference.recipe_steps import RecipeState, Step, parse_face
from retouch_common.photo.io import Photo

VERSION = 1
MAX_STEPS, MAX_FACES = 10_000, 1000
MAX_BYTES = 20_000_000


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Retouching of a photo as a list of steps.

    Attributes:
        network: Name of the package whose network retouches.
        width: Width of the upright photo in pixels.
        height: Its height.
        faces: Detected faces.
        steps: Edit steps, see :mod:`retouch_common.inference.recipe_steps`.
        name: Name of the photo.
        weights: SHA-256 of the network's weights, None if unknown.
        time: Time of the last step, for the photo's history: UTC as ISO 8601.
        state: State after the steps.

    Raises:
        ValueError: If a step is unknown or malformed, or lies outside the photo.
    """

    network: str
    width: int
    height: int
    faces: tuple[Face, ...] = ()
    steps: tuple[Step, ...] = ()
    name: str = ""
    weights: str | None = None
    time: str | None = None
    state: RecipeState = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "state", RecipeState(self.width, self.height, self.faces, self.steps))

    def to_json(self) -> str:
        """Return the recipe as JSON."""
        content = {
            "retouch-recipe": VERSION,
            "photo": {"name": self.name, "width": self.width, "height": self.height},
            "network": self.network,
            "weights": self.weights,
            "time": self.time,
            "faces": [_face_to_json(face) for face in self.faces],
            "steps": list(self.steps),
        }
        return json.dumps(content, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, content: Any) -> Recipe:
        """Return the recipe of parsed JSON.

        Raises:
            ValueError: If it is not a recipe; the message says what is wrong.
        """
        if not isinstance(content, dict) or "retouch-recipe" not in content:
            raise ValueError("is not a recipe of the studio")
        if content["retouch-recipe"] != VERSION:
            raise ValueError(f"is a recipe of version {content['retouch-recipe']!r}; this program reads {VERSION}")
        try:
            photo, faces, steps = content["photo"], content["faces"], content["steps"]
            if len(steps) > MAX_STEPS or len(faces) > MAX_FACES:
                raise ValueError(f"has more than {MAX_STEPS} steps or {MAX_FACES} faces")
            return cls(
                network=str(content["network"]),
                width=int(photo["width"]),
                height=int(photo["height"]),
                faces=tuple(parse_face(face) for face in faces),
                steps=tuple(steps),
                name=str(photo.get("name", "")),
                weights=None if content.get("weights") is None else str(content["weights"]),
                time=None if content.get("time") is None else str(content["time"])[:40],
            )
        except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise ValueError(f"is a damaged recipe: {error!r}") from error

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Recipe:
        """Read a recipe's file.

        Raises:
            OSError: If it cannot be read.
            ValueError: If it is not a recipe.
        """
        path = Path(path)
        refuse_special(path)
        try:
            if path.stat().st_size > MAX_BYTES:
                raise ValueError("is too large for a recipe")
            return cls.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, RecursionError) as error:
            reason = "is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else error
            raise ValueError(f"{path}: {reason}") from error

    def write(self, photo: Path) -> Path:
        """Write the recipe beside a photo, NAME.recipe.json, atomically; return the file.

        Raises:
            OSError: If it cannot be written.
        """
        path = sibling_path(photo, RECIPE)
        write_atomically(path, self.to_json().encode())
        return path


def _face_to_json(face: Face) -> dict[str, Any]:
    known = bool(np.isfinite(face.landmarks).all())
    return {"box": list(face.box), "landmarks": face.landmarks.astype(float).tolist() if known else None}


def require_same_size(recipe: Recipe, photo: Photo) -> None:
    """Refuse a recipe for a photo of another size.

    Raises:
        ValueError: If the sizes differ.
    """
    if (recipe.width, recipe.height) != (photo.width, photo.height):
        raise ValueError(
            f"{photo.path}: has {photo.width}x{photo.height} pixels and the recipe is for a photo of "
            f"{recipe.width}x{recipe.height}"
        )
