"""Retouching of a photograph according to a recipe: :func:`apply_recipe`.

The network's change of every face, or of the whole photo, is computed in full (:class:`RetouchedParts`). The recipe's
steps then scale it, bring blemishes back, and protect what brushes cover (:class:`EditedChange`).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from retouch_common.errors import printable
from retouch_common.faces.face import Face
from retouch_common.inference.batch import Summary
from retouch_common.inference.blemishes import Blemishes, KeptWeights
from retouch_common.inference.brush_strokes import ProtectionMask
from retouch_common.inference.photos import PhotoOptions, edit_record, open_photo, write_photo
from retouch_common.inference.recipe import Recipe, require_same_size
from retouch_common.inference.recipe_steps import RecipeState
from retouch_common.inference.workers import Work
from retouch_common.photo.io import Photo
from retouch_common.photo.pasting import RandomLayer, pasted_rows

logger = logging.getLogger(__name__)


class RecipeNetwork(Protocol):
    """Interface of a paper's network."""

    name: str
    """Name of the package."""

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights."""

    def changes(self, photo: Photo, faces: Sequence[Face]) -> Sequence[RandomLayer]:
        """Return the change of every face, in their order."""


@runtime_checkable
class WholePhotoNetwork(Protocol):
    """Interface of a network that also retouches whole photos."""

    def photo_change(self, photo: Photo) -> RandomLayer:
        """Return the change of the whole photo."""


class EditedChange:
    """Change of a part after the steps of a recipe: a layer for :func:`retouch_common.photo.pasting.pasted_rows`."""

    def __init__(
        self, change: RandomLayer, strength: float, kept: KeptWeights | None, protection: ProtectionMask
    ) -> None:
        self.x, self.y, self.width, self.height = change.x, change.y, change.width, change.height
        self._change, self._strength, self._kept, self._protection = change, np.float32(strength), kept, protection

    def read(self, x: int, y: int, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`retouch_common.photo.pasting.RandomLayer`.

        The steps scale d, not w, which weighs overlapping faces against each other.
        """
        difference, weights = self._change.read(x, y, width, height)
        share = np.full(weights.shape, self._strength)
        if self._kept is not None:
            share *= self._kept.read(x, y, width, height)
        protected = self._protection.read(x, y, width, height)
        if protected is not None:
            share *= 1 - protected
        return difference * share[..., None], weights

    def take(self, before: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`retouch_common.photo.pasting.Layer`."""
        return self.read(self.x, first, self.width, len(before))


@dataclass(frozen=True)
class RetouchedParts:
    """Change of a network on the parts of a photo, its faces or the whole, and the blemishes it removes, by part."""

    changes: Sequence[RandomLayer]
    blemishes: Sequence[Blemishes]

    @classmethod
    def compute(cls, network: RecipeNetwork, photo: Photo, state: RecipeState) -> RetouchedParts:
        """Run a network on what the steps of a recipe choose.

        Raises:
            ValueError: If the network does not retouch whole photos, or the photo is damaged.
        """
        if state.region == "faces":
            changes = network.changes(photo, state.faces)
        elif isinstance(network, WholePhotoNetwork):
            changes = [network.photo_change(photo)]
        else:
            raise ValueError(f"{network.name} retouches faces, and not the whole photo")
        limit = int(np.iinfo(photo.dtype).max)
        pairs = zip(changes, state.part_faces, strict=True)
        return cls(changes, [Blemishes(change, face, limit) for change, face in pairs])

    def edited(
        self, state: RecipeState, *, factor: int = 1, changes: Sequence[RandomLayer] | None = None
    ) -> list[EditedChange]:
        """Return the changes of the enabled parts after the steps of a recipe.

        Args:
            state: State after the steps.
            factor: Factor by which the photo is reduced.
            changes: Changes of the reduced photo; by default those in full resolution.
        """
        protection = ProtectionMask(state.strokes, factor)
        edited = []
        for change, blemishes, on in zip(changes or self.changes, self.blemishes, state.parts_on, strict=True):
            if on and state.strength:
                kept = blemishes.kept_weights(state.kept_labels(blemishes))
                kept = kept.reduced(factor) if kept is not None and factor > 1 else kept
                edited.append(EditedChange(change, state.strength, kept, protection))
        return edited


def apply_recipe(
    recipe: Recipe,
    network: RecipeNetwork,
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    options: PhotoOptions | None = None,
    *,
    retouched: RetouchedParts | None = None,
) -> Summary:
    """Retouch a photograph file according to a recipe, and keep its profile, metadata, transparency and bit depth.

    Args:
        recipe: Recipe.
        network: The network that it names.
        src: Photograph.
        dst: Output file, written atomically; its suffix selects the format.
        options: Options of the output.
        retouched: Change of the network if it has been computed already.

    Returns:
        A summary with the numbers of faces and steps.

    Raises:
        OSError: If a file cannot be opened or written.
        ValueError: If the recipe is for another network or another photo, or ``src`` or ``dst`` do not fit.
    """
    options, target = options or PhotoOptions(), Path(dst)
    if recipe.network != network.name:
        raise ValueError(
            f"the recipe is for {recipe.network}: use {recipe.network}-retouch, not {network.name}-retouch"
        )
    photo = open_photo(Path(src), target, options)
    require_same_size(recipe, photo)
    if recipe.weights is not None and recipe.weights != network.weights_sha256:
        logger.warning(
            "%s: the recipe was made with other weights of %s; the result may differ", printable(str(src)), network.name
        )
    state = recipe.state
    retouched = retouched or RetouchedParts.compute(network, photo, state)
    layers = retouched.edited(state)
    rows = pasted_rows(photo, layers) if layers else None
    parts = [(layer.x, layer.y, layer.width, layer.height) for layer in layers]
    settings = {"strength": state.strength, "steps": len(recipe.steps)}
    edit = edit_record(options, network.weights_sha256, package=network.name, settings=settings, when=recipe.time)
    changed = write_photo(photo, target, rows, options, parts, edit=edit)
    num_faces, num_steps = len(layers) if state.region == "faces" else 0, len(recipe.steps)
    what = f"{num_faces} face{'' if num_faces == 1 else 's'}" if state.region == "faces" else "the whole photo"
    text = f"{what}, {num_steps} step{'' if num_steps == 1 else 's'} of the recipe"
    return Summary(text, num_faces, changed)


def recipe_work(path: Path, network: RecipeNetwork, options: PhotoOptions) -> Work:
    """Return the work of a command that applies a recipe's file; see :func:`apply_recipe`.

    Raises:
        OSError: If the recipe cannot be read.
        ValueError: If it is not a recipe, or options that the recipe decides differ from their defaults.
    """
    output = {entry.name for entry in fields(PhotoOptions)} - {"face_boxes"}
    decided = [
        entry.name
        for entry in fields(options)
        if entry.name not in output and getattr(options, entry.name) != entry.default
    ]
    if decided:
        names = ", ".join(name.replace("_", " ").replace("face boxes", "face box") for name in decided)
        raise ValueError(f"a recipe says how to retouch; leave out {names}")
    recipe = Recipe.read(path)
    return Work(lambda job: apply_recipe(recipe, network, job.source, job.target, options), network.weights_sha256)
