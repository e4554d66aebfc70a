"""What the studio does with photographs: open them, render edits of their faces, export the results.

Nothing here knows of HTTP. Photographs are known by random ids, so that pages in several tabs do not meet, and never
change once opened: reading a face's appearance anew through a corrected mask makes another entry of the same file.
The network runs one call at a time.

Shapes: S is the network's size; labels are (S, S) uint8, 0 to 10; pictures for the page (V, V, 3) uint8, where the side
V is up to twice S, as much as the photograph has.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from retouch_common.faces.alignment import FaceSquare, portrait_square, read_aligned, whole_square
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.registry import DetectorUnavailable
from retouch_common.inference.regions import locate_faces
from retouch_common.photo.io import Photo
from retouch_common.ranges import to_levels

from maskgan.components import warnings_of
from maskgan.studio.pictures import png

if TYPE_CHECKING:
    from maskgan.editor import Edited, Editor, Portrait

View = Literal["photo", "network"]
SHARPNESS = 2  # V over S at most: faces are shown sharper than the network sees them


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much the studio takes on.

    Attributes:
        upload_bytes: Of a photograph's file.
        photos: That are open at once; the one that was not used for longest goes first.
    """

    upload_bytes: int = 80_000_000
    photos: int = 16


class UnknownPhoto(LookupError):
    """A photograph is not, or no longer, open; the message says so."""


class NoFace(ValueError):
    """No face was found in a square picture, which may be one that a face fills."""


class StoredFile:
    """A photograph's file, as long as somebody refers to it.

    Args:
        path: The file.
        name: What its owner calls it.
        ours: Whether it is to be deleted when nobody refers to it any more.
    """

    def __init__(self, path: Path, name: str, *, ours: bool) -> None:
        self.path, self.name = path, name
        self._delete = weakref.finalize(self, path.unlink, missing_ok=True) if ours else None

    def discard(self) -> None:
        """Delete it now, if it is ours."""
        if self._delete is not None:
            self._delete()


@dataclass(frozen=True)
class OpenPhoto:
    """A photograph whose face can be edited, or lend its appearance.

    Attributes:
        id: What pages call it.
        file: Where it is.
        photo: Its header; its pixels are read from the file when they are needed.
        portrait: Its largest face, with the appearance of every component.
        view: The face as the photograph has it, (V, V, 3) uint8.
    """

    id: str
    file: StoredFile
    photo: Photo
    portrait: Portrait
    view: np.ndarray


@dataclass(frozen=True)
class Edit:
    """What a page wants to see.

    Attributes:
        photo: Id of the photograph.
        labels: (S, S) uint8, the painted mask.
        parts: Component to (id of the photograph that lends it, share of it from 0 to 1).
    """

    photo: str
    labels: np.ndarray
    parts: Mapping[str, tuple[str, float]] = field(default_factory=dict)


class Studio:
    """Open photographs and the network.

    Args:
        editor: The network.
        limits: How much to take on.
    """

    def __init__(self, editor: Editor, limits: Limits | None = None) -> None:
        self.editor, self.limits = editor, limits or Limits()
        self.size: int = editor.size
        self._photos: OrderedDict[str, OpenPhoto] = OrderedDict()
        self._store, self._network = threading.Lock(), threading.Lock()

    def prepare(self) -> None:
        """Load the face detector, if it can be had; photographs opened later say why if not."""
        with contextlib.suppress(DetectorUnavailable):
            detect_faces(np.zeros((128, 128, 3), np.uint8))

    def open(self, file: StoredFile, *, aligned: bool = False) -> OpenPhoto:
        """Open a photograph and read the appearance of its largest face.

        Args:
            file: The photograph: JPEG, PNG, TIFF, WebP or AVIF.
            aligned: It is a square picture that a face fills.

        Raises:
            NoFace: No face was found, and ``aligned`` is worth a try.
            ValueError: It is no photograph, too large, or shows no face.
            OSError: It cannot be read.
        """
        photo = Photo.open(file.path)
        square = _find(photo, file.name, aligned)
        with self._network:
            portrait = self.editor.open_source(photo, square)
        side = min(SHARPNESS * self.size, max(self.size, round(square.side)))
        ((_, view),) = read_aligned(Photo.open(file.path), [square], side)
        return self._keep(OpenPhoto("", file, Photo.open(file.path), portrait, to_levels(view)))

    def reread(self, id: str, labels: np.ndarray) -> OpenPhoto:
        """Read a face's appearance anew through a mask that fits it better.

        Args:
            id: The photograph, which stays as it is.
            labels: (S, S) uint8.

        Returns:
            Another entry of the same photograph, with this mask.

        Raises:
            UnknownPhoto: It is not open.
            ValueError: The labels do not fit.
        """
        opened = self.photo(id)
        with self._network:
            source = Photo.open(opened.file.path)
            portrait = self.editor.open_source(source, opened.portrait.square, labels=labels)
        return self._keep(replace(opened, portrait=portrait))

    def adapt(self, id: str, steps: int) -> Iterator[tuple[int, OpenPhoto | None]]:
        """Adapt the network to a face, a step at a time; whoever stops asking for the next one cancels.

        Between the steps others can render.

        Args:
            id: The photograph, which stays as it is.
            steps: How many.

        Yields:
            The number of steps taken and None; after the last one the number and another entry of the same photograph.

        Raises:
            UnknownPhoto: It is not open.
            ValueError: ``steps`` is less than 1.
        """
        opened = self.photo(id)
        with self._network:
            adaptation = self.editor.adaptation(opened.portrait, steps=steps)
        taken = enumerate(adaptation, 1)
        while True:
            with self._network:
                step = next(taken, None)
            if step is None:
                break
            yield step[0], None
        with self._network:
            portrait = self.editor.adapted(opened.portrait, adaptation)
        yield steps, self._keep(replace(opened, portrait=portrait))

    def photo(self, id: str) -> OpenPhoto:
        """An open photograph.

        Raises:
            UnknownPhoto: It is not, or no longer, open.
        """
        with self._store:
            if id not in self._photos:
                raise UnknownPhoto(f"a photo is no longer open, the studio keeps {self.limits.photos}; open it again")
            self._photos.move_to_end(id)
            return self._photos[id]

    def _keep(self, opened: OpenPhoto) -> OpenPhoto:
        opened = replace(opened, id=secrets.token_urlsafe(9))
        with self._store:
            self._photos[opened.id] = opened
            while len(self._photos) > self.limits.photos:
                self._photos.popitem(last=False)
        return opened

    def render(self, edit: Edit, view: View = "photo") -> tuple[bytes, list[str]]:
        """Show an edit.

        Args:
            edit: The edit.
            view: "photo" for the face as it will be in the photograph, (V, V); "network" for the network's own
                picture, (S, S).

        Returns:
            A PNG file, and warnings about the mask.

        Raises:
            UnknownPhoto: A photograph is not open any more.
            ValueError: Labels or parts do not fit.
        """
        opened = self.photo(edit.photo)
        picture = self._picture(opened, self._edited(opened, edit), view)
        return png(picture, opened.photo), warnings_of(edit.labels)

    def export_face(self, edit: Edit, view: View = "photo") -> tuple[bytes, str]:
        """The edited face as a picture of the network's size.

        Returns:
            A PNG file of S x S pixels, and a name for it.

        Raises:
            UnknownPhoto: A photograph is not open any more.
            ValueError: Labels or parts do not fit.
        """
        opened = self.photo(edit.photo)
        edited = self._edited(opened, edit)
        face = edited.image if view == "network" else edited.finished
        return png(to_levels(face), opened.photo), f"{Path(opened.file.name).stem}.face.png"

    def export_photo(self, edit: Edit, folder: Path) -> tuple[Path, str]:
        """The whole photograph with the edit pasted in, in its own format, with everything its file carries.

        Args:
            edit: The edit.
            folder: Where to write.

        Returns:
            The file, and a name for it.

        Raises:
            UnknownPhoto: A photograph is not open any more.
            ValueError: Labels or parts do not fit.
            OSError: The file cannot be written.
        """
        opened = self.photo(edit.photo)
        edited = self._edited(opened, edit)
        photo = Photo.open(opened.file.path)
        target = folder / f"{secrets.token_hex(8)}{photo.format.suffixes[0]}"
        photo.write_stripes(target, self.editor.pasted_rows(photo, opened.portrait, edited))
        given = Path(opened.file.name)
        suffix = given.suffix if given.suffix.lower() in photo.format.suffixes else photo.format.suffixes[0]
        return target, f"{given.stem}.edited{suffix}"

    def _edited(self, opened: OpenPhoto, edit: Edit) -> Edited:
        """Run the network."""
        parts = {name: (self.photo(id).portrait.codes, amount) for name, (id, amount) in edit.parts.items()}
        with self._network:
            codes = self.editor.blend(opened.portrait.codes, parts) if parts else opened.portrait.codes
            return self.editor.render(opened.portrait, edit.labels, codes)

    def _picture(self, opened: OpenPhoto, edited: Edited, view: View) -> np.ndarray:
        if view == "network":
            return to_levels(edited.image)
        # Pasted into the view as it is into the photograph: the same softness, the same detail kept.
        side = len(opened.view)
        square = FaceSquare((side / 2, side / 2), float(side), feather=opened.portrait.square.feather)
        portrait = replace(opened.portrait, square=square, photo_size=(side, side))
        return self.editor.paste(opened.view, portrait, edited)


def _find(photo: Photo, name: str, aligned: bool) -> FaceSquare:
    """Where the largest face is.

    Raises:
        NoFace: There is none, and ``aligned`` is worth a try.
        ValueError: There is none, or the photograph is not aligned as it is said to be.
    """
    if aligned:
        return whole_square(photo.height, photo.width)
    try:
        faces = locate_faces(photo)
        reason = "no face was found"
    except DetectorUnavailable as error:
        faces, reason = [], str(error)
    if faces:
        return portrait_square(faces[0], photo.height, photo.width)
    if photo.width == photo.height:
        raise NoFace(f"{name}: {reason}")
    raise ValueError(f"{name}: {reason}; a square picture that the face fills can be opened all the same")
