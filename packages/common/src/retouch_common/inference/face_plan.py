"""Which faces of a photo a network for aligned faces processes, and why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from retouch_common.faces.alignment import FaceSquare, face_square, whole_square
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.face import Face, NoFaceFound
from retouch_common.faces.registry import DetectorUnavailable
from retouch_common.inference.regions import faces_from_boxes, locate_faces
from retouch_common.photo.sources import ArraySource

if TYPE_CHECKING:
    from retouch_common.inference.regions import Box
    from retouch_common.photo.io import Photo


REMEDY = "give a face box (--face-box), or say that the photo is aligned (--aligned) if a face fills it"

Frame = Callable[[Face, int, int], FaceSquare]
"""What a network's square of a face is, given the photo's height and width."""


@dataclass(frozen=True)
class FacePlan:
    """Squares of the faces to process, largest first, and the reason, phrased to follow "because".

    ``reason`` is None if the detector found the faces.
    ``outcome`` is what was done to them, for the summary. ``changed`` is the share of pixels that were changed, once
    that is measured.
    """

    squares: tuple[FaceSquare, ...]
    reason: str | None
    changed: float | None = None
    outcome: str | None = None

    @property
    def num_faces(self) -> int:
        """Number of faces to process."""
        return len(self.squares)

    def __str__(self) -> str:
        count = len(self.squares)
        what = f"{count} face{'s' if count > 1 else ''}"
        line = f"{what} found" if self.reason is None else f"{what}, because {self.reason}"
        return line if self.outcome is None else f"{line}; {self.outcome}"


def plan_faces(
    photo: Photo,
    *,
    face_boxes: Sequence[Box] = (),
    aligned: bool = False,
    frame: Frame = face_square,
    overview: np.ndarray | None = None,
) -> FacePlan:
    """Choose the faces of a photo to process: the whole photo if it is aligned, ``face_boxes``, or the detector's.

    Boxes are (x, y, w, h) in pixels of the upright photo; ``frame`` returns a face's square; ``overview`` as of
    :func:`retouch_common.inference.regions.locate_faces`.

    Raises:
        NoFaceFound: If no face is found.
        ValueError: If the detector's weights are unavailable, a box lies outside the photo, or an aligned photo is not
            square.
    """
    if aligned and face_boxes:
        raise ValueError("a face box and an aligned photo are mutually exclusive; omit one")
    try:
        if aligned:
            return FacePlan((whole_square(photo.height, photo.width),), "the photo is said to be aligned")
        faces = faces_from_boxes(face_boxes) if face_boxes else locate_faces(photo, overview)
        if not faces:
            raise NoFaceFound(f"{photo.path}: no face was found; {REMEDY}")
        squares = tuple(frame(face, photo.height, photo.width) for face in faces)
    except DetectorUnavailable as error:
        raise ValueError(f"{photo.path}: {error}; or {REMEDY}") from error
    except NoFaceFound:
        raise
    except ValueError as error:
        line = str(error)
        raise ValueError(line if str(photo.path) in line else f"{photo.path}: {line}") from None
    return FacePlan(squares, "the face box was given" if face_boxes else None)


def squares_in(
    image: np.ndarray, faces: Sequence[Face] | None, aligned: bool, *, frame: Frame = face_square
) -> list[FaceSquare]:
    """Return the squares of an image's faces: the given ones, or the detector's if None, or the whole image if aligned.

    Raises:
        DetectorUnavailable: If the detector is needed and its weights are unavailable.
        ValueError: If shape or type are not those of a photo, no face is found, ``faces`` and ``aligned`` are both
            given, or an aligned image is not square.
    """
    source = ArraySource(image)
    height, width = source.height, source.width
    if aligned:
        if faces is not None:
            raise ValueError("faces and aligned are mutually exclusive; omit one")
        return [whole_square(height, width)]
    if faces is None:
        faces = detect_faces(image if image.dtype == np.uint8 else (image >> 8).astype(np.uint8))
        if not faces:
            raise ValueError("no face was found; give it as a Face, or aligned=True if it fills the image")
    return [frame(face, height, width) for face in faces]
