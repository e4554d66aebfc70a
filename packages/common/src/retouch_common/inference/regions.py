"""Which part of a photo to retouch, and how retouched faces are pasted back.

Faces are cropped with a margin, retouched at their own scale and pasted as a feathered difference (see
:mod:`retouch_common.photo.pasting`), from top to bottom; crops that exceed the memory are retouched as streams.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from retouch_common.faces.detection import detect_faces
from retouch_common.faces.face import Face, NoFaceFound, face_crop
from retouch_common.faces.pasting import AlignedMask
from retouch_common.faces.registry import DetectorUnavailable
from retouch_common.faces.yunet import DETECTION_SIDE
from retouch_common.photo.io import Photo
from retouch_common.photo.pasting import pasted_rows
from retouch_common.photo.sources import ArraySource, ChangedRows, RowSource

if TYPE_CHECKING:
    from retouch_common.parsing.skin import SkinSegmenter

Region = Literal["auto", "faces", "photo"]
Box = tuple[float, float, float, float]
Crop = tuple[int, int, int, int]

FACE_MARGIN = 1.7  # side of a crop in longer sides of the face; without the feathered ramps it is 1.3
FEATHER_RAMP = 0.125
PANORAMA_PART = 3  # long side of the parts of a panorama, in its short sides
IN_MEMORY_PIXELS = 48_000_000  # crops beyond this are retouched as streams

REMEDY = "give a face box (--face-box), or use the region 'photo' (--region photo)"


class ArrayRetoucher(Protocol):
    """Interface of a paper's retoucher."""

    def __call__(self, image: np.ndarray, *, strength: float) -> np.ndarray:
        """Retouch an (H, W, 3) uint8 or uint16 array."""

    def stripes(self, source: RowSource, *, strength: float) -> ChangedRows:
        """Retouch rows into consecutive blocks of rows."""


@dataclass(frozen=True)
class RegionPlan:
    """Part of a photo to retouch.

    Attributes:
        region: "faces" or "photo".
        crops: (x, y, w, h) in pixels, one for each face; empty for the whole photo, and without faces.
        reason: Reason, phrased to follow "because"; None if the detector found the faces.
        faces: Faces in the order of their crops.
        changed: Share of pixels that were changed, once that is measured.
    """

    region: Literal["faces", "photo"]
    crops: tuple[Crop, ...]
    reason: str | None
    faces: tuple[Face, ...] = ()
    changed: float | None = None

    @property
    def num_faces(self) -> int:
        """Number of faces to retouch."""
        return len(self.crops)

    @property
    def is_empty(self) -> bool:
        """Whether the photo stays as it is."""
        return self.region == "faces" and not self.crops

    def __str__(self) -> str:
        if self.is_empty:
            return f"unchanged, because {self.reason}"
        count = len(self.crops)
        what = "the whole photo" if self.region == "photo" else f"{count} face{'s' if count > 1 else ''}"
        return f"{what} found" if self.reason is None else f"{what}, because {self.reason}"


def plan_region(photo: Photo, region: Region = "auto", *, face_boxes: Sequence[Box] = ()) -> RegionPlan:
    """Choose the part of a photo to retouch: its faces or the whole frame; with "auto" its faces, or none.

    ``face_boxes`` (x, y, w, h), in pixels of the upright photo, replace the detector.

    Raises:
        ValueError: If the region is "faces" and none is found, the detector's weights are unavailable, a box lies
            outside the photo, or the region is unknown.
    """
    if region not in ("auto", "faces", "photo"):
        raise ValueError(f"region must be auto, faces or photo, not {region!r}")
    if region == "photo":
        if face_boxes:
            raise ValueError("a face box and the region 'photo' are mutually exclusive; omit one")
        return RegionPlan("photo", (), "the region 'photo' was asked for")
    if face_boxes:
        try:
            return _faces_plan(photo, faces_from_boxes(face_boxes), "the face box was given")
        except ValueError as error:
            raise ValueError(f"{photo.path}: {error}") from None
    try:
        faces = locate_faces(photo)
    except DetectorUnavailable as error:
        raise ValueError(f"{photo.path}: {error}; or {REMEDY}") from error
    if faces:
        return _faces_plan(photo, faces, None)
    if region == "faces":
        raise NoFaceFound(f"{photo.path}: no face was found; {REMEDY}")
    return RegionPlan("faces", (), "no face was found; the region 'photo' retouches the whole frame")


def locate_faces(photo: Photo, overview: np.ndarray | None = None) -> list[Face]:
    """Detect the faces of a photo of any size, in its pixels, largest first.

    ``overview`` is the photo reduced to ``DETECTION_SIDE`` by :meth:`Photo.thumbnail`; by default it is decoded here.

    Raises:
        DetectorUnavailable: If the detector's weights are unavailable.
        ValueError: If the photo is damaged.
    """
    faces: list[Face] = []
    for part in _detection_parts(photo.width, photo.height):
        left, top, width, height = part
        if (width, height) != (photo.width, photo.height):
            small = photo.thumbnail(DETECTION_SIDE, part)
        else:
            small = photo.thumbnail(DETECTION_SIDE) if overview is None else overview
        scale = np.array([width / small.shape[1], height / small.shape[0]])
        for face in detect_faces(small):
            x, y, w, h = (float(value) for value in np.array(face.box) * np.tile(scale, 2))
            landmarks = (face.landmarks * scale + np.array([left, top])).astype(np.float32)
            faces.append(Face((x + left, y + top, w, h), face.score, landmarks))
    return _deduplicate(faces)


def _detection_parts(width: int, height: int) -> list[Crop]:
    """Return the photo, or if it is a large panorama, overlapping parts in which its faces are not reduced too far."""
    long, short = max(width, height), min(width, height)
    side = PANORAMA_PART * short
    if long <= max(DETECTION_SIDE, side):
        return [(0, 0, width, height)]
    count = -(-(long - short) // (side - short))  # a face is no larger than the short side, by which parts overlap
    starts = [round(index * (long - side) / (count - 1)) for index in range(count)]
    return [(start, 0, side, height) if width > height else (0, start, width, side) for start in starts]


def _deduplicate(faces: Sequence[Face]) -> list[Face]:
    """Return faces, largest first, without those that another part of the photo has shown, whole or cut off."""
    kept: list[Face] = []
    for face in sorted(faces, key=lambda face: -face.size):
        x, y, w, h = face.box
        others = (other.box for other in kept)
        if not any(
            max(0, min(x + w, a + c) - max(x, a)) * max(0, min(y + h, b + d) - max(y, b)) > 0.5 * w * h
            for a, b, c, d in others
        ):
            kept.append(face)
    return kept


def faces_from_boxes(boxes: Sequence[Box]) -> list[Face]:
    """Return faces of which only the boxes (x, y, w, h) are known.

    Raises:
        ValueError: If a number is not finite.
    """
    for box in boxes:
        if not all(map(math.isfinite, box)):
            raise ValueError(f"the face box {box} is not four finite numbers")
    return [Face(box, 1.0, np.full((5, 2), np.nan, np.float32)) for box in boxes]


def feather_profile(length: int, ramp: float, *, open_start: bool, open_stop: bool) -> np.ndarray:
    """Return weights (length,) along an axis of a crop: 1 inside, falling to 0 over a share ``ramp`` at both ends.

    Ends that lie on the photo's border are open: there is no slope.
    """
    slope = max(1.0, ramp * length)
    position = np.arange(length, dtype=np.float32)
    weights = np.ones(length, np.float32)
    for is_open, distance in ((open_start, position), (open_stop, position[::-1])):
        if not is_open:
            t = np.clip(distance / slope, 0, 1)
            weights *= t * t * (3 - 2 * t)
    return weights


def crop_weights(photo: Photo, crop: Crop) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of a crop's columns and rows, see :func:`feather_profile`."""
    x, y, width, height = crop
    across = feather_profile(width, FEATHER_RAMP, open_start=x == 0, open_stop=x + width == photo.width)
    down = feather_profile(height, FEATHER_RAMP, open_start=y == 0, open_stop=y + height == photo.height)
    return across, down


def _faces_plan(photo: Photo, faces: Sequence[Face], reason: str | None) -> RegionPlan:
    crops = tuple(face_crop(face, photo.height, photo.width, FACE_MARGIN) for face in faces)
    return RegionPlan("faces", crops, reason, tuple(faces))


def face_in_crop(face: Face, left: float, top: float, scale: float = 1.0) -> Face:
    """Return a face of a photo in pixels of a part at (left, top), which are ``scale`` per pixel of the photo."""
    x, y, w, h = face.box
    box = (scale * (x - left), scale * (y - top), scale * w, scale * h)
    return replace(face, box=box, landmarks=scale * (face.landmarks - np.array([left, top], np.float32)))


def retouched_rows(
    photo: Photo,
    plan: RegionPlan,
    retoucher: ArrayRetoucher,
    *,
    strength: float = 1.0,
    skin: SkinSegmenter | None = None,
    protect: RowSource | None = None,
) -> ChangedRows:
    """Retouch a photo according to a plan; yield consecutive blocks of rows, (n, width, 3) of its dtype.

    The change is confined to the skin of the faces that ``skin`` locates, if given. Where ``protect``, an image of the
    photo's size, is white, the photo stays unchanged; where it is grey, in part.

    Raises:
        ValueError: If the photo is damaged, or the strength is outside [0, 1].
    """
    if plan.region == "photo":
        stripes = retoucher.stripes(photo, strength=strength)
        if protect is None:
            return (yield from stripes)
        whole = _Layer(photo, (0, 0, photo.width, photo.height), stripes, None)
        return (yield from pasted_rows(photo.reopen(), [whole], protect=protect))
    layers = []
    budget = IN_MEMORY_PIXELS
    faces = plan.faces if skin else [None] * len(plan.crops)
    for crop, face in sorted(zip(plan.crops, faces, strict=True), key=lambda part: part[0][2] * part[0][3]):
        budget -= crop[2] * crop[3]
        source = ArraySource(photo.read(*crop)) if budget >= 0 else _CropSource(photo, crop)
        mask = None if skin is None or face is None else skin.locate(source, face_in_crop(face, *crop[:2]))
        if isinstance(source, ArraySource):
            retouched = iter([retoucher(source.image, strength=strength)])
        else:
            retouched = retoucher.stripes(_CropSource(photo, crop), strength=strength)
        layers.append(_Layer(photo, crop, retouched, mask))
    return (yield from pasted_rows(photo, layers, protect=protect))


class _CropSource:
    """A crop of a photo as a source of rows, decoded independently of other readers."""

    def __init__(self, photo: Photo, crop: Crop) -> None:
        self._photo = photo.reopen()
        self._x, self._y, self.width, self.height = crop
        self.dtype = photo.dtype

    def read_rows(self, y0: int, y1: int) -> np.ndarray:
        rows = self._photo.read_rows(self._y + y0, self._y + y1)
        return np.ascontiguousarray(rows[:, self._x : self._x + self.width])


class _Layer:
    """A retouched crop with its weights, taken from top to bottom."""

    def __init__(self, photo: Photo, crop: Crop, stripes: Iterator[np.ndarray], skin: AlignedMask | None) -> None:
        self.x, self.y, self.width, self.height = crop
        self.across, self.down = crop_weights(photo, crop)
        self._stripes, self._skin = stripes, skin
        self._waiting: np.ndarray | None = None

    def take(self, before: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the difference of the retouched crop to ``before``, rows from ``first`` on, and its weights."""
        weights = self.down[first - self.y : first - self.y + len(before), None] * self.across
        if self._skin is not None:
            weights *= self._skin.weights(0, first - self.y, self.width, len(before))
        return self._next(len(before)).astype(np.float32) - before, weights

    def _next(self, count: int) -> np.ndarray:
        parts = []
        while count:
            block = next(self._stripes) if self._waiting is None else self._waiting
            parts.append(block[:count])
            self._waiting = block[count:] if len(block) > count else None
            count -= len(parts[-1])
        return parts[0] if len(parts) == 1 else np.concatenate(parts)
