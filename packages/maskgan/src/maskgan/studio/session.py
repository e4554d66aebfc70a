"""Open photos of the Edit tool: render edits of their faces, export the results.

Independent of HTTP. Photos have random ids, so that pages in several tabs do not interfere, and are immutable:
re-encoding a face with a corrected mask adds another entry of the same file. The network runs one call at a time.

Shapes: S is the network's size; labels are (S, S) uint8, 0 to 10; images for the page (V, V, 3) uint8, where the side V
is at most 2 S and not larger than the face in the photo.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from retouch_common.faces.alignment import FaceSquare, portrait_square, read_aligned, whole_square
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.registry import DetectorUnavailable
from retouch_common.inference.photos import edit_record, write_photo
from retouch_common.inference.regions import locate_faces
from retouch_common.photo.io import Photo
from retouch_common.photo.pixels import image_from_array
from retouch_common.ranges import to_levels
from retouch_common.studio.files import DECODE_LOCK, PhotoCache, StoredFile, export_paths
from retouch_common.studio.views import export_change

from maskgan.components import warnings_of
from maskgan.edit_files import EditOptions

if TYPE_CHECKING:
    from maskgan.editor import Edited, Editor, Portrait

View = Literal["photo", "network"]
PHOTOS = 16  # that are open; the least recently used is closed
MAX_ZOOM = 2  # largest V / S


class NoFaceError(ValueError):
    """No face was found in a square photo, which may be an aligned face."""

    hints: ClassVar[dict[str, bool]] = {"aligned": True}


@dataclass(frozen=True)
class OpenPhoto:
    """A photo with a face to edit or to take appearance from.

    Attributes:
        id: Id for pages.
        file: Its file.
        photo: Its header; pixels are read from the file when needed.
        squares: Its faces, the largest first.
        face: Index of the face that is open.
        portrait: That face.
        view: The face in the photo, (V, V, 3) uint8.
    """

    id: str
    file: StoredFile
    photo: Photo
    squares: Sequence[FaceSquare]
    face: int
    portrait: Portrait
    view: np.ndarray


@dataclass(frozen=True)
class Edit:
    """A painted mask (S, S) uint8 of a photo; other photos' ids and weights in [0, 1] by component."""

    photo: str
    labels: np.ndarray
    parts: Mapping[str, tuple[str, float]] = field(default_factory=dict)


class EditSession:
    """Open photos and the network.

    Methods that take ids raise :class:`UnknownPhotoError` for photos that are not open, and ValueError for labels
    or parts that do not fit.
    """

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.size: int = editor.size
        self._photos: PhotoCache[OpenPhoto] = PhotoCache(PHOTOS)
        self._network_lock = threading.Lock()

    def prepare(self) -> None:
        """Load the face detector if it is available; otherwise opening photos reports why it is not."""
        with contextlib.suppress(DetectorUnavailable):
            detect_faces(np.zeros((128, 128, 3), np.uint8))

    def open(self, file: StoredFile, *, aligned: bool = False) -> OpenPhoto:
        """Open a photo and encode its largest face.

        Args:
            file: The photo.
            aligned: It is an aligned face.

        Raises:
            NoFaceError: No face was found; ``aligned`` is an option.
            ValueError: It is not a photo, too large, or shows no face.
            OSError: It cannot be read.
        """
        with DECODE_LOCK:
            photo = Photo.open(file.path)
            photo.load()  # read twice
            return self._open_face(file, photo, _find_faces(photo, file.name, aligned), 0)

    def open_face(self, id: str, face: int) -> OpenPhoto:
        """Encode another face of a photo, by its index; return a new entry of the same photo.

        Raises:
            ValueError: There is no such face.
        """
        opened = self.photo(id)
        if not 0 <= face < len(opened.squares):
            raise ValueError(f"there is no face {face + 1}; the photo shows {len(opened.squares)}")
        with DECODE_LOCK:
            photo = opened.photo.reopen()
            photo.load()  # read twice
            return self._open_face(opened.file, photo, opened.squares, face)

    def _open_face(self, file: StoredFile, photo: Photo, squares: Sequence[FaceSquare], face: int) -> OpenPhoto:
        square = squares[face]
        with self._network_lock:
            portrait = self.editor.open_source(photo, square)
        side = min(MAX_ZOOM * self.size, max(self.size, round(square.side)))
        ((_, view),) = read_aligned(photo, [square], side)
        return self._photos.add(OpenPhoto("", file, photo.reopen(), squares, face, portrait, to_levels(view)))

    def reencode(self, id: str, labels: np.ndarray) -> OpenPhoto:
        """Encode a face with a corrected mask (S, S); return a new entry of the same photo."""
        opened = self.photo(id)
        with DECODE_LOCK, self._network_lock:
            portrait = self.editor.open_source(opened.photo.reopen(), opened.portrait.square, labels=labels)
        return self._photos.add(replace(opened, portrait=portrait))

    def adapt(self, id: str, steps: int) -> Iterator[tuple[int, OpenPhoto | None]]:
        """Adapt the network to a face; closing the iterator cancels, and others can render between steps.

        Yields:
            The number of steps taken and None; at the end the number and another entry of the same photo.
        """
        opened = self.photo(id)
        with self._network_lock:
            adaptation = self.editor.adaptation(opened.portrait, steps=steps)
        taken = enumerate(adaptation, 1)
        while True:
            with self._network_lock:
                step = next(taken, None)
            if step is None:
                break
            yield step[0], None
        with self._network_lock:
            portrait = self.editor.adapted(opened.portrait, adaptation)
        yield steps, self._photos.add(replace(opened, portrait=portrait))

    def photo(self, id: str) -> OpenPhoto:
        """Return an open photo."""
        return self._photos[id]

    def render(self, edit: Edit, view: View = "photo") -> tuple[bytes, list[str]]:
        """Render an edit: a PNG file, and warnings about the mask.

        ``view`` is "photo" for the face in the photo, (V, V), or "network" for the network's output, (S, S).
        """
        opened = self.photo(edit.photo)
        image = self._view(opened, self._render(opened, edit), view)
        return encode_png(image), warnings_of(edit.labels)

    def export_face(self, edit: Edit, view: View = "photo") -> tuple[bytes, str]:
        """Return the edited face as a PNG file of S x S pixels, and a name for it."""
        opened = self.photo(edit.photo)
        edited = self._render(opened, edit)
        face = edited.image if view == "network" else edited.finished
        return encode_png(to_levels(face)), f"{Path(opened.file.name).stem}.face.png"

    def export_photo(self, edit: Edit, folder: Path, suffix: str | None, options: EditOptions) -> tuple[Path, str]:
        """Write the photo with the edit to ``folder``, in a format and with its metadata; return file and name.

        Raises:
            OSError: The file cannot be written.
            ValueError: The format cannot hold the photo.
        """
        opened = self.photo(edit.photo)
        target, name = export_paths(opened.photo, opened.file, folder, suffix, "edited", convert=options.convert)
        edited = self._render(opened, edit)
        swapped = ",".join(f"{part} {amount:g}" for part, (_, amount) in edit.parts.items() if amount)
        further = {"parts_of_another_face": swapped} if swapped else {}
        record = edit_record(options, self.editor.model.weights_sha256, further=further)
        with DECODE_LOCK:
            photo = opened.photo.reopen()
            rows = self.editor.pasted_rows(photo, opened.portrait, edited)
            write_photo(photo, target, rows, options, (), edit=record)
        return target, name

    def export_change(self, edit: Edit, folder: Path) -> tuple[Path, str]:
        """Write the change alone; see :func:`retouch_common.studio.views.export_change`."""
        opened = self.photo(edit.photo)
        edited = self._render(opened, edit)
        return export_change(
            opened.photo, opened.file, folder, lambda photo: self.editor.pasted_rows(photo, opened.portrait, edited)
        )

    def _render(self, opened: OpenPhoto, edit: Edit) -> Edited:
        parts = {name: (self.photo(id).portrait.codes, amount) for name, (id, amount) in edit.parts.items()}
        with self._network_lock:
            codes = self.editor.blend(opened.portrait.codes, parts) if parts else opened.portrait.codes
            return self.editor.render(opened.portrait, edit.labels, codes)

    def _view(self, opened: OpenPhoto, edited: Edited, view: View) -> np.ndarray:
        if view == "network":
            return to_levels(edited.image)
        # Pasted as into the photo: with the same feathering and detail.
        side = len(opened.view)
        square = FaceSquare((side / 2, side / 2), float(side), feather=opened.portrait.square.feather)
        portrait = replace(opened.portrait, square=square, photo_size=(side, side))
        return self.editor.paste(opened.view, portrait, edited)


def _find_faces(photo: Photo, name: str, aligned: bool) -> list[FaceSquare]:
    """Return the positions of the faces, the largest first; for errors see :meth:`EditSession.open`."""
    if aligned:
        return [whole_square(photo.height, photo.width)]
    try:
        faces = locate_faces(photo)
        reason = "no face was found"
    except DetectorUnavailable as error:
        faces, reason = [], str(error)
    if faces:
        squares = [portrait_square(faces[0], photo.height, photo.width)]
        for face in faces[1:]:
            with contextlib.suppress(ValueError):  # it lies at the edge: no reason to refuse the others
                squares.append(portrait_square(face, photo.height, photo.width))
        return squares
    if photo.width == photo.height:
        raise NoFaceError(f"{name}: {reason}")
    raise ValueError(f"{name}: {reason}; a square photo that the face fills can be opened nevertheless")


def encode_png(pixels: np.ndarray) -> bytes:
    """Encode (H, W, 3) uint8 sRGB as PNG."""
    image = image_from_array(pixels, "srgb")
    return image.pngsave_buffer(compression=1)  # for a page on the same computer: speed matters, size does not
