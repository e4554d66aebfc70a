"""Open photos of the Restore tool: router and experts run once per face, the Combine Module whenever a share changes.

Independent of HTTP. Without changed shares the result is that of ``mofrr-restore``.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from retouch_common.faces.alignment import FaceSquare
from retouch_common.faces.pasting import AlignedLayer
from retouch_common.inference.face_plan import plan_faces
from retouch_common.inference.faces import ChangedFace, changed_face_rows, face_change
from retouch_common.inference.photos import edit_record, require_strength, write_photo
from retouch_common.studio.files import DECODE_LOCK, PhotoCache, StoredFile, export_paths
from retouch_common.studio.views import PhotoPreview, Window, encode_view, export_change, paste_layers

from mofrr.config import NUM_DEGREES
from mofrr.restore import RestoreOptions
from mofrr.router import THRESHOLD
from mofrr.traces import read_faces

if TYPE_CHECKING:
    from mofrr.model import Consultation
    from mofrr.restore import Restorer

PHOTOS = 4  # of which the least recently used is closed

Step = Mapping[str, Any]


@dataclass(frozen=True)
class OpenFace:
    """A face: its square, its aligned image (1, 3, S, S) in [0, 1], and the outputs of router and experts."""

    square: FaceSquare
    image: torch.Tensor
    found: Consultation


@dataclass(frozen=True)
class OpenPhoto:
    """An open photo.

    Attributes:
        id: Id for pages.
        preview: The photo and its proxy.
        squares: The squares of its faces; empty until they are detected.
        faces: Its faces; empty until the network has seen them.
    """

    id: str
    preview: PhotoPreview
    squares: list[FaceSquare] = field(default_factory=list, repr=False)
    faces: list[OpenFace] = field(default_factory=list, repr=False)


class RestoreSession:
    """Open photos and the network.

    Methods that take an id raise :class:`UnknownPhotoError` for photos that are not open, and ValueError for steps
    that do not exist.
    """

    def __init__(self, restorer: Restorer) -> None:
        self.restorer = restorer
        self.operations: tuple[str, ...] = restorer.network.config.operations
        self._photos: PhotoCache[OpenPhoto] = PhotoCache(PHOTOS)
        self._network_lock = threading.Lock()

    def open(self, file: StoredFile) -> OpenPhoto:
        """Open a photo and reduce it; for errors see :meth:`PhotoPreview.open`."""
        return self._photos.add(OpenPhoto("", PhotoPreview.open(file)))

    def photo(self, id: str) -> OpenPhoto:
        """Return an open photo."""
        return self._photos[id]

    def faces(self, id: str) -> list[OpenFace]:
        """Return the faces of a photo, with the outputs of router and experts; computed at the first call.

        Raises:
            NoFaceFound: If there is none.
            ValueError: If the detector's weights are missing.
        """
        opened, network, options = self.photo(id), self.restorer.network, self.restorer.options
        preview, photo = opened.preview, opened.preview.photo
        if not opened.squares:
            with DECODE_LOCK, preview.lock:  # panoramas are decoded again
                if not opened.squares:
                    opened.squares.extend(plan_faces(photo, overview=preview.overview).squares)
        preview.load()  # read here, and by views of parts
        with self._network_lock, preview.lock:
            if not opened.faces:
                faces = []
                for index, face, traces in read_faces(photo, opened.squares, network.config.size):
                    image = torch.from_numpy(face).permute(2, 0, 1)[None]
                    found = network.consult(
                        image, traces=torch.from_numpy(traces)[None], **{**options, "experts": self.operations}
                    )
                    faces.append((index, OpenFace(opened.squares[index], image, found)))
                opened.faces.extend(face for _, face in sorted(faces, key=lambda pair: pair[0]))
        return opened.faces

    def describe(self, id: str, steps: Sequence[Step]) -> dict[str, Any]:
        """Return for every face and operation the router's probability, the degree and the share; and the strength."""
        strength, shares = self._state(id, steps)
        faces = []
        for face, chosen in zip(self.faces(id), shares, strict=True):
            probabilities, degrees = face.found.probabilities[0].tolist(), face.found.degrees[0].tolist()
            operations = [
                {"name": name, "probability": p, "found": p > THRESHOLD, "degree": NUM_DEGREES * z, "share": share}
                for name, p, z, share in zip(self.operations, probabilities, degrees, chosen, strict=True)
            ]
            photo = self.photo(id).preview.photo
            faces.append({"box": face.square.bounds(photo.height, photo.width), "operations": operations})
        return {"strength": strength, "faces": faces}

    def _state(self, id: str, steps: Sequence[Step]) -> tuple[float, list[list[float]]]:
        """Return the strength and the shares by face after the steps, which start from those of the network."""
        faces = self.faces(id)
        strength, shares = 1.0, []
        for face in faces:
            probabilities = face.found.probabilities[0].tolist()
            shares.append([float(p > THRESHOLD) for p in probabilities])
        for number, step in enumerate(steps, 1):
            try:
                if step["step"] == "strength":
                    require_strength(step["value"])
                    strength = float(step["value"])
                elif step["step"] == "share":
                    require_strength(step["value"])
                    if not 0 <= step["face"] < len(faces) or step["name"] not in self.operations:
                        raise ValueError("unknown face or operation")
                    shares[step["face"]][self.operations.index(step["name"])] = float(step["value"])
                else:
                    raise ValueError(f"unknown step {str(step['step'])[:40]!r}")
            except (KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"step {number} is damaged: {error!r}") from error
        return strength, shares

    def restored(self, id: str, steps: Sequence[Step]) -> list[ChangedFace]:
        """Return the change of every face after steps."""
        strength, shares = self._state(id, steps)
        faces = []
        for face, chosen in zip(self.faces(id), shares, strict=True):
            with self._network_lock:
                output = self.restorer.network.combine(face.found, torch.tensor([chosen]))
            change = face_change(output, face.image)[0]
            faces.append(ChangedFace(face.square, change * np.float32(strength)))
        return faces

    def view(self, id: str, steps: Sequence[Step], window: Window, size: tuple[int, int]) -> bytes:
        """Return a part of the restored photo as JPEG; arguments as of :meth:`PhotoPreview.crop`."""
        preview = self.photo(id).preview
        faces = self.restored(id, steps)
        pixels, factor = preview.crop(window, size)
        limit = np.iinfo(pixels.dtype).max
        rows, columns = -(-preview.photo.height // factor), -(-preview.photo.width // factor)
        layers = []
        for face in faces:
            square = replace(
                face.square,
                centre=(face.square.centre[0] / factor, face.square.centre[1] / factor),
                side=face.square.side / factor,
            )
            layers.append(AlignedLayer(square, face.change * np.float32(limit), rows, columns))
        paste_layers(pixels, window, factor, layers)
        return encode_view(pixels, size)

    def export(
        self, id: str, steps: Sequence[Step], folder: Path, suffix: str | None, options: RestoreOptions
    ) -> tuple[Path, str]:
        """Write the restored photo to ``folder``, in a format and with its metadata; return file and name.

        Raises:
            OSError: The file cannot be written.
            ValueError: The format cannot hold the photo.
        """
        preview, (strength, shares) = self.photo(id).preview, self._state(id, steps)
        target, name = export_paths(preview.photo, preview.file, folder, suffix, "restored", convert=options.convert)
        summaries = (
            " ".join(f"{name} {share:.2f}" for name, share in zip(self.operations, face, strict=True) if share)
            for face in shares
        )
        settings = {"strength": strength, "experts": "; ".join(summary or "none" for summary in summaries)}
        edit = edit_record(options, self.restorer.network.model.weights_sha256, settings=settings)
        faces = self.restored(id, steps)
        with DECODE_LOCK:
            photo = preview.photo.reopen()
            write_photo(photo, target, changed_face_rows(photo, faces), options, (), edit=edit)
        return target, name

    def export_change(self, id: str, steps: Sequence[Step], folder: Path) -> tuple[Path, str]:
        """Write the change alone; see :func:`retouch_common.studio.views.export_change`."""
        preview, faces = self.photo(id).preview, self.restored(id, steps)
        return export_change(preview.photo, preview.file, folder, lambda photo: changed_face_rows(photo, faces))
