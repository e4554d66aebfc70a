"""BPFRe in the studio's Retouch tool; see :mod:`retouch_common.studio.retouch.networks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

if TYPE_CHECKING:
    from retouch_common.faces.face import Face
    from retouch_common.faces.pasting import AlignedLayer
    from retouch_common.photo.io import Photo
    from retouch_common.studio.retouch.networks import Overlay

OVERLAY_SIDE = 1024
MIN_PEAK = 0.1  # maps are divided by their largest value, but not by less


class StudioBPFRe:
    """The bundled network."""

    name: ClassVar[str] = "bpfre"
    title: ClassVar[str] = "BPFRe"
    overlays: ClassVar[Mapping[str, str]] = {
        "attention_coarse": "Attention, first stage",
        "attention_refined": "Attention, second stage",
    }

    def __init__(self, device: str) -> None:
        from bpfre.retouch import Retoucher

        self._retoucher = Retoucher("small", device=device)

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights."""
        return self._retoucher.weights_sha256

    def changes(self, photo: Photo, faces: Sequence[Face]) -> list[AlignedLayer]:
        """Return the change of every face."""
        return self._retoucher.changes(photo, faces)

    def overlay(self, name: str, photo: Photo, faces: Sequence[Face]) -> list[Overlay]:
        """Return an attention map around every face, stretched by its largest value: it is small on clean skin."""
        from retouch_common.faces.alignment import face_square
        from retouch_common.inference.regions import face_in_crop
        from retouch_common.photo.pasting import map_rows
        from retouch_common.photo.sources import ArraySource
        from retouch_common.studio.retouch.networks import Overlay

        from bpfre.retouch import map_layers

        overlays = []
        for face in faces:
            box = face_square(face, photo.height, photo.width).bounds(photo.height, photo.width)
            view = photo.thumbnail(OVERLAY_SIDE, box)
            height, width = view.shape[:2]
            square = face_square(face_in_crop(face, *box[:2], width / box[2]), height, width)
            found = self._retoucher.retouch_faces(ArraySource(view), [square], confine=False)
            rows = list(map_rows(height, width, map_layers(found, (name,), height, width)))
            attention = np.concatenate(rows)[..., 0].astype(np.float32) / 255
            overlays.append(Overlay(box, attention / max(MIN_PEAK, float(attention.max()))))
        return overlays
