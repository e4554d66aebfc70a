"""Open photos of the Retouch tool: views of recipes, and their export.

Independent of HTTP. What a network changes is computed in full resolution, once. Networks run one call at a time.
"""

from __future__ import annotations

import contextlib
import secrets
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
from retouch_common.inference.names import CHANGE, RECIPE, sibling_path
from retouch_common.inference.photos import PhotoOptions
from retouch_common.inference.recipe import Recipe, RetouchedFaces, apply_recipe, require_photo, write_change
from retouch_common.inference.regions import locate_faces
from retouch_common.photo.io import Photo
from retouch_common.photo.pasting import paste_part
from retouch_common.photo.pixels import image_from_array
from retouch_common.ranges import to_levels
from retouch_common.studio.files import OpenPhotos, StoredFile
from retouch_common.studio.retouch.networks import Overlay, StudioNetwork
from retouch_common.studio.views import ShownPhoto, Window, encode_view


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of uploads, in bytes, and of open photos, of which the least recently used is closed."""

    upload_bytes: int = 2_000_000_000
    photos: int = 4


@dataclass(frozen=True)
class OpenPhoto:
    """A photo that is retouched.

    Attributes:
        id: Id for pages.
        shown: The photo.
        recipe: The recipe that was beside it, or was opened for it.
    """

    id: str
    shown: ShownPhoto
    recipe: Recipe | None = None
    located: list[tuple[Face, ...]] = field(default_factory=list, repr=False)
    retouched: dict[Any, _Retouched] = field(default_factory=dict, repr=False)

    @property
    def file(self) -> StoredFile:
        """Its file."""
        return self.shown.file

    @property
    def photo(self) -> Photo:
        """The photo."""
        return self.shown.photo


@dataclass(frozen=True)
class _Retouched:
    """What a network changes, in full resolution and on the proxy."""

    full: RetouchedFaces
    reduced: Sequence[ReducedChange] | None


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a page has done with a photo.

    Attributes:
        photo: Id of the photo.
        network: Name of the network.
        steps: Steps of the recipe.
        time: When the last step was taken, UTC as ISO 8601.
    """

    photo: str
    network: str
    steps: tuple[Mapping[str, Any], ...] = ()
    time: str | None = None


class Retouching:
    """Open photos and the networks.

    Methods that take a :class:`Request` raise :class:`UnknownPhoto` for photos that are not open, and ValueError for
    networks and steps that do not exist.

    Args:
        networks: Networks by name, made with the name of a device when they are used first.
        device: Where to compute.
        limits: Limits.
    """

    def __init__(
        self, networks: Mapping[str, Callable[[str], StudioNetwork]], device: str = "auto", limits: Limits | None = None
    ) -> None:
        self.networks, self.limits = dict(networks), limits or Limits()
        self._device = device
        self._loaded: dict[str, StudioNetwork] = {}
        self._photos: OpenPhotos[OpenPhoto] = OpenPhotos(self.limits.photos)
        self._running = threading.Lock()

    def prepare(self) -> None:
        """Load the face detector and the first network, so that the first photo need not wait."""
        with contextlib.suppress(DetectorUnavailable):
            detect_faces(np.zeros((128, 128, 3), np.uint8))
        with self._running:
            self._network(next(iter(self.networks)))

    def open(self, file: StoredFile) -> OpenPhoto:
        """Open a photo, reduce it, and read the recipe beside it.

        Raises:
            OSError: It cannot be read.
            ValueError: It is not a photo, or too large.
        """
        shown = ShownPhoto.open(file)
        return self._photos.add(OpenPhoto("", shown, self._recipe_beside(file, shown.photo)))

    def faces(self, id: str) -> tuple[Face, ...]:
        """Return the faces of an open photo, or of its recipe; they are found at the first call.

        Raises:
            ValueError: If the detector's weights are missing.
        """
        opened = self.photo(id)
        if opened.recipe is not None:
            return opened.recipe.faces
        with self._running:
            if not opened.located:
                opened.located.append(tuple(locate_faces(Photo.open(opened.file.path))))
        return opened.located[0]

    def _recipe_beside(self, file: StoredFile, photo: Photo) -> Recipe | None:
        path = sibling_path(file.path, RECIPE)
        if file.ours or not path.is_file():
            return None
        recipe = Recipe.read(path)
        require_photo(recipe, photo)
        return recipe if recipe.network in self.networks else None

    def open_recipe(self, id: str, recipe: Recipe) -> OpenPhoto:
        """Open a recipe for a photo: another entry of it, with the recipe's faces.

        Raises:
            ValueError: If it is for another photo, or a network that is not installed.
        """
        opened = self.photo(id)
        require_photo(recipe, opened.photo)
        if recipe.network not in self.networks:
            raise ValueError(f"the recipe is for {recipe.network}, which is not installed")
        return self._photos.add(replace(opened, recipe=recipe, retouched={}))

    def photo(self, id: str) -> OpenPhoto:
        """Return an open photo."""
        return self._photos[id]

    def _network(self, name: str) -> StudioNetwork:
        if name not in self.networks:
            raise ValueError(f"no network {name[:40]}; there are {', '.join(self.networks)}")
        if name not in self._loaded:
            self._loaded[name] = self.networks[name](self._device)
        return self._loaded[name]

    def recipe(self, request: Request) -> Recipe:
        """Return the recipe of a request."""
        opened, faces = self.photo(request.photo), self.faces(request.photo)
        with self._running:
            weights = self._network(request.network).weights_sha256
        return Recipe(
            network=request.network,
            width=opened.photo.width,
            height=opened.photo.height,
            faces=faces,
            steps=request.steps,
            name=opened.file.plain_name,
            weights=weights,
            time=request.time,
        )

    def _retouched(self, opened: OpenPhoto, recipe: Recipe) -> _Retouched:
        """Run the network on the faces of a recipe, or return what it found before."""
        faces = recipe.state.faces
        key = (recipe.network, tuple(face.box for face in faces))
        with self._running:
            if key not in opened.retouched:
                with opened.shown.reading:
                    full = RetouchedFaces.of(self._network(recipe.network), opened.photo, faces)
                factor, limit = opened.shown.factor, opened.shown.limit
                reduced = [ReducedChange(change, factor, limit) for change in full.changes] if factor > 1 else None
                opened.retouched[key] = _Retouched(full, reduced)
            return opened.retouched[key]

    def describe(self, request: Request) -> dict[str, Any]:
        """Return what the steps of a recipe amount to, for the page: strength, faces, blemishes, sizes."""
        opened, recipe = self.photo(request.photo), self.recipe(request)
        state, found = recipe.state, self._retouched(opened, recipe).full
        blemishes = []
        sizes = {size: {"count": 0, "on": 0} for size in SIZES}
        for number, (blemishes_of, on) in enumerate(zip(found.blemishes, state.faces_on, strict=True)):
            off = state.brought_back(blemishes_of)
            sizes["rest"]["count"] += 1
            sizes["rest"]["on"] += 0 not in off
            for blemish in blemishes_of.all:
                sizes[blemish.size]["count"] += 1
                sizes[blemish.size]["on"] += blemish.label not in off
                if on:
                    place = {"face": number, "at": blemish.at, "box": blemish.box, "size": blemish.size}
                    blemishes.append({**place, "on": blemish.label not in off})
        faces = [{"box": face.box, "on": on} for face, on in zip(state.faces, state.faces_on, strict=True)]
        return {"strength": state.strength, "faces": faces, "blemishes": blemishes, "sizes": sizes}

    def before(self, id: str, window: Window, width: int, height: int) -> bytes:
        """Return a part of the photo (x, y, w, h) as JPEG, of at most these sides."""
        pixels, _ = self.photo(id).shown.part(window, width)
        return encode_view(pixels, width, height)

    def view(self, request: Request, window: Window, width: int, height: int) -> bytes:
        """Return a part of the retouched photo; arguments as of :meth:`before`."""
        opened, recipe = self.photo(request.photo), self.recipe(request)
        found = self._retouched(opened, recipe)
        pixels, full = opened.shown.part(window, width)
        if full:
            paste_part(pixels, window[0], window[1], found.full.edited(recipe.state))
        else:
            factor = opened.shown.factor
            layers = found.full.edited(recipe.state, factor=factor, changes=found.reduced)
            paste_part(pixels, window[0] // factor, window[1] // factor, layers)
        return encode_view(pixels, width, height)

    def overlay(self, request: Request, name: str) -> list[Overlay]:
        """Return an overlay of the network."""
        opened, recipe = self.photo(request.photo), self.recipe(request)
        with self._running, opened.shown.reading:
            network = self._network(request.network)
            if name not in network.overlays:
                raise ValueError(f"{request.network} has no overlay {name[:40]}")
            return network.overlay(name, opened.photo, recipe.state.faces)

    def export(self, request: Request, folder: Path, suffix: str | None, options: PhotoOptions) -> tuple[Path, str]:
        """Write the retouched photo to ``folder`` as ``--recipe`` of the commands does; return file and name.

        Raises:
            OSError: The file cannot be written.
            ValueError: The format cannot hold the photo.
        """
        opened, recipe = self.photo(request.photo), self.recipe(request)
        given = Path(opened.file.name)
        if suffix is None:
            suffixes = opened.photo.format.suffixes
            suffix = given.suffix if given.suffix.lower() in suffixes else suffixes[0]
        found = self._retouched(opened, recipe)
        target = folder / f"{secrets.token_hex(8)}{suffix}"
        apply_recipe(recipe, self._loaded[recipe.network], opened.file.path, target, options, retouched=found.full)
        return target, f"{given.stem}.retouched{suffix}"

    def export_change(self, request: Request, folder: Path) -> tuple[Path, str]:
        """Write the change alone, see :func:`retouch_common.inference.recipe.write_change`; return file and name."""
        opened, recipe = self.photo(request.photo), self.recipe(request)
        found = self._retouched(opened, recipe)
        target = folder / f"{secrets.token_hex(8)}.tif"
        write_change(Photo.open(opened.file.path), found.full.edited(recipe.state), target)
        return target, sibling_path(Path(opened.file.plain_name), CHANGE).name

    def save_recipe(self, request: Request) -> tuple[Path | None, str, Recipe]:
        """Write the recipe beside the photo if that was opened from a folder; return the file, a name, and the recipe.

        Raises:
            OSError: It cannot be written.
        """
        opened, recipe = self.photo(request.photo), self.recipe(request)
        name = sibling_path(Path(opened.file.plain_name), RECIPE).name
        return (None if opened.file.ours else recipe.write(opened.file.path)), name, recipe


def encode_overlay(image: np.ndarray) -> bytes:
    """Encode an overlay's picture as PNG: colours, or heat whose opacity is the value."""
    if image.ndim == 3:
        return image_from_array(to_levels(image), "srgb").pngsave_buffer(compression=1)
    heat = np.empty((*image.shape, 4), np.float32)
    heat[..., 0], heat[..., 1], heat[..., 2], heat[..., 3] = 1, 0.85 - 0.6 * image, 0.1, 0.85 * image
    return image_from_array(to_levels(heat), "srgb").pngsave_buffer(compression=1)
