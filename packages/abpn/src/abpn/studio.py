"""ABPN in the studio's Retouch tool; see :mod:`retouch_common.studio.retouch.networks`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from retouch_common.faces.face import Face
    from retouch_common.inference.changes import CropChange
    from retouch_common.photo.io import Photo
    from retouch_common.studio.retouch.networks import Overlay

OVERLAY_SIDE = 1024
CONTRAST = 4  # of the blend layer, in which 0 changes nothing


class StudioABPN:
    """The bundled network."""

    name: ClassVar[str] = "abpn"
    title: ClassVar[str] = "ABPN"
    overlays: ClassVar[Mapping[str, str]] = {"blend": "Blend layer"}

    def __init__(self, device: str) -> None:
        from abpn.retouch import Retoucher

        self._retoucher = Retoucher("small", device=device)

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights."""
        return self._retoucher.weights_sha256

    def changes(self, photo: Photo, faces: Sequence[Face]) -> list[CropChange]:
        """Return the change of every face."""
        return self._retoucher.changes(photo, faces)

    def photo_change(self, photo: Photo) -> CropChange:
        """Return the change of the whole photo."""
        return self._retoucher.photo_change(photo)

    def overlay(self, name: str, photo: Photo, faces: Sequence[Face]) -> list[Overlay]:
        """Return the blend layer around every face; grey changes nothing."""
        from retouch_common.faces.face import face_crop
        from retouch_common.inference.regions import FACE_MARGIN
        from retouch_common.studio.retouch.networks import Overlay

        overlays = []
        for face in faces:
            crop = face_crop(face, photo.height, photo.width, FACE_MARGIN)
            B = self._retoucher.blend_layer(photo.thumbnail(OVERLAY_SIDE, crop))
            overlays.append(Overlay(crop, (0.5 + CONTRAST * B).clip(0, 1)))
        return overlays
