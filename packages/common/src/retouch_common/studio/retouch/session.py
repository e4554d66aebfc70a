"""Open photos of the Retouch tool: views and exports of recipes.

Independent of HTTP. The change of a network is computed once, in full resolution. Networks run one call at a time.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from retouch_common.faces.detection import detect_faces
from retouch_common.faces.face import Face
from retouch_common.faces.registry import DetectorUnavailable
from retouch_common.inference.blemishes import SIZES
from retouch_common.inference.changes import ReducedChange
from retouch_common.inference.names import RECIPE, sibling_path
from retouch_common.inference.photos import PhotoOptions
from retouch_common.inference.recipe import Recipe, require_same_size
from retouch_common.inference.recipe_retouching import EditedChange, RetouchedParts, apply_recipe
from retouch_common.inference.recipe_steps import RecipeState
from retouch_common.inference.regions import faces_from_boxes, locate_faces
from retouch_common.photo.io import Photo
from retouch_common.photo.pasting import pasted_rows
from retouch_common.photo.pixels import image_from_array
from retouch_common.ranges import to_levels
from retouch_common.studio.files import DECODE_LOCK, PhotoCache, StoredFile, export_paths
from retouch_common.studio.retouch.networks import Overlay, StudioNetwork
from retouch_common.studio.views import PhotoPreview, Window, encode_view, export_change, paste_layers

PHOTOS = 4  # that are open; the least recently used is closed
KEPT_CHANGES = 4  # changes of a photo that are kept, for different networks and faces


@dataclass(frozen=True)
class OpenPhoto:
    """An open photo.

    Attributes:
        id: Id for pages.
        preview: The photo and its proxy.
        recipe: Recipe found beside the photo or opened for it.
        notice: What the user should know about that recipe, or about one that was not opened.
    """

    id: str
    preview: PhotoPreview
    recipe: Recipe | None = None
    notice: str | None = None
    located: list[tuple[Face, ...]] = field(default_factory=list, repr=False)
    retouched: dict[Any, _Retouched] = field(default_factory=dict, repr=False)

    @property
    def file(self) -> StoredFile:
        """Its file."""
        return self.preview.file

    @property
    def photo(self) -> Photo:
        """The photo."""
        return self.preview.photo


class _Retouched:
    """The change of a photo by a network in full resolution, and reduced by the factors that views have asked for."""

    def __init__(self, full: RetouchedParts, photo: Photo) -> None:
        self.full = full
        self._photo, self._lock = photo, threading.Lock()
        self._reduced: dict[int, Sequence[ReducedChange]] = {}

    def edited(self, state: RecipeState, factor: int) -> list[EditedChange]:
        """Return the changes after the steps of a recipe, on the photo reduced by a factor."""
        if factor == 1:
            return self.full.edited(state)
        with self._lock:
            if factor not in self._reduced:
                self._reduced[factor] = [ReducedChange(part, factor, self._photo) for part in self.full.changes]
        return self.full.edited(state, factor=factor, changes=self._reduced[factor])


@dataclass(frozen=True, kw_only=True)
class RetouchRequest:
    """A photo, a network, and the steps taken on the page.

    Attributes:
        photo: Id of the photo.
        network: Name of the network.
        steps: Steps of the recipe.
        time: Time of the last step, UTC as ISO 8601.
    """

    photo: str
    network: str
    steps: tuple[Mapping[str, Any], ...] = ()
    time: str | None = None


class RetouchSession:
    """Open photos and the networks.

    Methods that take a :class:`RetouchRequest` raise :class:`UnknownPhotoError` for photos that are not open, and
    ValueError for networks and steps that do not exist.

    Args:
        networks: Constructors of networks by name, called with ``device`` at the first use.
        device: "auto", "cpu", "cuda" or another torch device.
    """

    def __init__(self, networks: Mapping[str, Callable[[str], StudioNetwork]], device: str = "auto") -> None:
        self.networks, self._device = dict(networks), device
        self._loaded: dict[str, StudioNetwork] = {}
        self._recipes: set[Path] = set()  # beside photos, read or written here
        self._photos: PhotoCache[OpenPhoto] = PhotoCache(PHOTOS)
        self._network_lock = threading.Lock()

    def prepare(self) -> None:
        """Load the face detector and the first network ahead of the first photo."""
        with contextlib.suppress(DetectorUnavailable):
            detect_faces(np.zeros((128, 128, 3), np.uint8))
        with self._network_lock:
            self._network(next(iter(self.networks)))

    def open(self, file: StoredFile) -> OpenPhoto:
        """Open a photo, reduce it, and read the recipe beside it.

        Raises:
            OSError: It cannot be read.
            ValueError: It is not a photo, or too large.
        """
        preview = PhotoPreview.open(file)
        return self._photos.add(OpenPhoto("", preview, *self._recipe_beside(file, preview.photo)))

    def faces(self, id: str) -> tuple[Face, ...]:
        """Return the faces of an open photo's recipe, or those detected; detection runs at the first call.

        Raises:
            ValueError: If the detector's weights are missing.
        """
        opened = self.photo(id)
        if opened.recipe is not None:
            return opened.recipe.faces
        if not opened.located:
            with DECODE_LOCK, self._network_lock, opened.preview.lock:  # panoramas are decoded again
                if not opened.located:
                    opened.located.append(tuple(locate_faces(opened.photo, opened.preview.overview)))
        return opened.located[0]

    def _recipe_beside(self, file: StoredFile, photo: Photo) -> tuple[Recipe | None, str | None]:
        """Return the recipe beside a photo and a notice about it; one that is not for this photo is left alone."""
        path = sibling_path(file.path, RECIPE)
        if file.owned or not path.is_file():
            return None, None
        try:
            recipe = Recipe.read(path)
            self._require_usable(recipe, photo)
            other = file.path.with_name(recipe.name or file.path.name)
            if other.is_file() and not other.samefile(file.path):
                raise ValueError(f"it is for {recipe.name}")
        except (ValueError, OSError) as error:
            return None, f"{path.name} beside the photo is not opened, and will not be replaced: {error}"
        self._recipes.add(path)
        return recipe, self._weights_notice(recipe)

    def _require_usable(self, recipe: Recipe, photo: Photo) -> None:
        require_same_size(recipe, photo)
        if recipe.network not in self.networks:
            raise ValueError(f"the recipe is for {recipe.network}, which is not installed")

    def _weights_notice(self, recipe: Recipe) -> str | None:
        if recipe.weights is None:
            return None
        with self._network_lock:
            try:
                weights = self._network(recipe.network).weights_sha256
            except (ValueError, OSError, RuntimeError):  # said when it is used
                return None
        return None if recipe.weights == weights else "The recipe was made with other weights; the result may differ."

    def open_recipe(self, id: str, recipe: Recipe) -> OpenPhoto:
        """Open a recipe for a photo; return a new entry of the photo with the recipe's faces.

        Raises:
            ValueError: If it is for another photo, or a network that is not installed.
        """
        opened = self.photo(id)
        self._require_usable(recipe, opened.photo)
        return self._photos.add(replace(opened, recipe=recipe, notice=self._weights_notice(recipe), retouched={}))

    def photo(self, id: str) -> OpenPhoto:
        """Return an open photo."""
        return self._photos[id]

    def _network(self, name: str) -> StudioNetwork:
        if name not in self.networks:
            raise ValueError(f"unknown network {name[:40]}; choose from {', '.join(self.networks)}")
        if name not in self._loaded:
            self._loaded[name] = self.networks[name](self._device)
        return self._loaded[name]

    def recipe(self, request: RetouchRequest) -> Recipe:
        """Return the recipe of a request."""
        opened, faces = self.photo(request.photo), self.faces(request.photo)
        with self._network_lock:
            weights = self._network(request.network).weights_sha256
        return Recipe(
            network=request.network,
            width=opened.photo.width,
            height=opened.photo.height,
            faces=faces,
            steps=request.steps,
            name=opened.file.basename,
            weights=weights,
            time=request.time,
        )

    def _retouched(self, opened: OpenPhoto, recipe: Recipe) -> _Retouched:
        """Return the change of the network on the parts of a recipe, from the cache or computed."""
        state = recipe.state
        key = (recipe.network, state.region, tuple(face.box for face in state.part_faces))
        opened.preview.load()
        with self._network_lock:
            if key not in opened.retouched:
                with opened.preview.lock:
                    full = RetouchedParts.compute(self._network(recipe.network), opened.photo, state)
                opened.retouched[key] = _Retouched(full, opened.photo)
                while len(opened.retouched) > KEPT_CHANGES:
                    del opened.retouched[next(iter(opened.retouched))]
            return opened.retouched[key]

    def describe(self, request: RetouchRequest) -> dict[str, Any]:
        """Return the state after the steps of a recipe, for the page: strength, region, faces, blemishes, sizes."""
        opened, recipe = self.photo(request.photo), self.recipe(request)
        state, retouched = recipe.state, self._retouched(opened, recipe).full
        blemishes = []
        sizes = {size: {"count": 0, "on": 0} for size in SIZES}
        for number, (found, on) in enumerate(zip(retouched.blemishes, state.parts_on, strict=True)):
            kept = state.kept_labels(found)
            sizes["rest"]["count"] += 1
            sizes["rest"]["on"] += 0 not in kept
            for blemish in found.all:
                sizes[blemish.size]["count"] += 1
                sizes[blemish.size]["on"] += blemish.label not in kept
                if on:
                    place = {"face": number, "at": blemish.at, "box": blemish.box, "size": blemish.size}
                    blemishes.append({**place, "on": blemish.label not in kept})
        faces = [{"box": face.box, "on": on} for face, on in zip(state.faces, state.faces_on, strict=True)]
        return {
            "strength": state.strength, "region": state.region, "faces": faces, "blemishes": blemishes, "sizes": sizes,
        }  # fmt: skip

    def view(self, request: RetouchRequest, window: Window, size: tuple[int, int]) -> bytes:
        """Return a part of the retouched photo as JPEG; arguments as of :meth:`PhotoPreview.crop`."""
        opened, recipe = self.photo(request.photo), self.recipe(request)
        retouched = self._retouched(opened, recipe)
        pixels, factor = opened.preview.crop(window, size)
        paste_layers(pixels, window, factor, retouched.edited(recipe.state, factor))
        return encode_view(pixels, size)

    def overlay(self, request: RetouchRequest, name: str) -> list[Overlay]:
        """Return an overlay of the network."""
        opened, recipe = self.photo(request.photo), self.recipe(request)
        with DECODE_LOCK, self._network_lock, opened.preview.lock:  # it may decode the photo reduced
            network = self._network(request.network)
            if name not in network.overlays:
                raise ValueError(f"{request.network} has no overlay {name[:40]}")
            faces = recipe.state.faces
            if recipe.state.region == "photo":
                faces = faces_from_boxes([(0, 0, recipe.width, recipe.height)])
            return network.overlay(name, opened.photo, faces)

    def export(
        self, request: RetouchRequest, folder: Path, suffix: str | None, options: PhotoOptions
    ) -> tuple[Path, str]:
        """Write the retouched photo to ``folder`` as ``--recipe`` of the commands does; return file and name.

        Raises:
            OSError: The file cannot be written.
            ValueError: The format cannot hold the photo.
        """
        opened, recipe = self.photo(request.photo), self.recipe(request)
        target, name = export_paths(opened.photo, opened.file, folder, suffix, "retouched", convert=options.convert)
        retouched, network = self._retouched(opened, recipe).full, self._loaded[recipe.network]
        with DECODE_LOCK:
            opened.photo.check_unchanged()
            apply_recipe(recipe, network, opened.file.path, target, options, retouched=retouched)
        return target, name

    def export_change(self, request: RetouchRequest, folder: Path) -> tuple[Path, str]:
        """Write the change alone; see :func:`retouch_common.studio.views.export_change`."""
        opened, recipe = self.photo(request.photo), self.recipe(request)
        layers = self._retouched(opened, recipe).full.edited(recipe.state)
        return export_change(opened.photo, opened.file, folder, lambda photo: pasted_rows(photo, layers))

    def save_recipe(self, request: RetouchRequest) -> tuple[Path | None, str, Recipe]:
        """Write the recipe beside the photo; return its file, a name, and the recipe.

        The file is None, and nothing is written, for a photo that was uploaded, and where another recipe is beside it.

        Raises:
            OSError: It cannot be written.
        """
        opened, recipe = self.photo(request.photo), self.recipe(request)
        name = sibling_path(Path(opened.file.basename), RECIPE).name
        beside = sibling_path(opened.file.path, RECIPE)
        if opened.file.owned or (os.path.lexists(beside) and beside not in self._recipes):
            return None, name, recipe
        self._recipes.add(recipe.write(opened.file.path))
        return beside, name, recipe


def encode_overlay(image: np.ndarray) -> bytes:
    """Encode an overlay as PNG: an image, or a heat map whose opacity is the value."""
    if image.ndim == 3:
        return image_from_array(to_levels(image), "srgb").pngsave_buffer(compression=1)
    heat = np.empty((*image.shape, 4), np.float32)
    heat[..., 0], heat[..., 1], heat[..., 2], heat[..., 3] = 1, 0.85 - 0.6 * image, 0.1, 0.85 * image
    return image_from_array(to_levels(heat), "srgb").pngsave_buffer(compression=1)
