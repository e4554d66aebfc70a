"""Portraits made ready for retouching: faces in their own pixels, with landmarks and skin; made once and kept."""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from retouch_common.data.face_cache import default_cache, portrait_key, read_levels
from retouch_common.data.portraits import mesh_of
from retouch_common.faces.alignment import FaceSquare, align, face_square
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.face import Face
from retouch_common.faces.landmarks import (
    FFHQ_SIDE,
    FaceLandmarks,
    canonical_landmarks,
    ffhq_square,
    read_landmarks,
    to_aligned,
)
from retouch_common.faces.mesh import landmarks_from_mesh
from retouch_common.files import write_atomically
from retouch_common.progress import progress_bar
from retouch_common.ranges import from_levels, to_levels
from retouch_common.synthesis.retouching_skin import retouching_skin

from mofrr.history import resized

logger = logging.getLogger(__name__)

VERSION = 2  # of what is kept; raise it when framing or skin are found in another way
LANDMARKS = (".tem", ".npy")
MARGIN = 1.25  # side of what is kept of a photograph over that of the face's square
LARGEST = 1536  # side of the largest square in pixels; larger faces are reduced


@dataclass(frozen=True)
class Portrait:
    """A face in its photograph's own pixels, with some room around it.

    Attributes:
        levels: (H, W, 3) uint8.
        landmarks: In its pixels.
        skin: (H, W) uint8, 255 where whitening and smoothing act in full.
        points: (5, 2) float32, the detector's landmarks in its pixels, from which the face is framed in use.
    """

    levels: np.ndarray
    landmarks: FaceLandmarks
    skin: np.ndarray
    points: np.ndarray

    @property
    def square(self) -> FaceSquare:
        """The face's square, as in use."""
        return square_of(self.points, *self.levels.shape[:2])


def square_of(points: np.ndarray, height: int, width: int) -> FaceSquare:
    """The square of a face with these five landmarks in a picture of this size.

    Raises:
        ValueError: The face lies outside the picture, or its landmarks fall into one point.
    """
    low, size = points.min(0), np.ptp(points, axis=0)
    box = (float(low[0]), float(low[1]), float(size[0]), float(size[1]))
    return face_square(Face(box, 1.0, points.astype(np.float32)), height, width)


def prepare_portraits(paths: Sequence[Path]) -> list[Path]:
    """Find the face of every portrait, or find what was kept of it before.

    Args:
        paths: Portraits.

    Returns:
        Files for :func:`load_portrait`; portraits that show no face are left out, with a warning.

    Raises:
        DetectorUnavailable: The detector is needed and its weights cannot be had.
        ValueError: A portrait or its landmarks cannot be read.
        OSError: Nothing can be kept in the cache folder.
    """
    folder = default_cache().with_name("portraits")
    folder.mkdir(parents=True, exist_ok=True)
    entries = {path: folder / f"{_key(path)}.npz" for path in paths}
    missing = [path for path in paths if not entries[path].is_file()]
    with progress_bar(unit="portraits", disable=not missing) as bar:
        for path in bar.track(missing, description="Finding faces"):
            write_atomically(entries[path], _packed(open_portrait(path)))
    alone = [path for path in paths if not entries[path].stat().st_size]  # an entry without a face is empty
    if alone:
        named = ", ".join(path.name for path in alone[:5])
        logger.warning("%d portraits show no face that could be found, and are left out: %s", len(alone), named)
    return [entries[path] for path in paths if entries[path].stat().st_size]


def load_portrait(entry: Path) -> Portrait:
    """Read what :func:`prepare_portraits` kept.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        with np.load(entry, allow_pickle=False) as kept:
            parts = {name: kept[name] for name in kept.files}
        levels, skin, points = (parts.pop(name) for name in ("levels", "skin", "points"))
        eyes, brows = ((parts.pop(f"{name}_left"), parts.pop(f"{name}_right")) for name in ("eyes", "brows"))
        return Portrait(levels, FaceLandmarks(eyes=eyes, brows=brows, **parts), skin, points)
    except Exception as error:  # zipfile, numpy and the landmarks each have their own
        raise ValueError(f"{entry}: damaged ({error}); remove it, and it is made again") from error


def open_portrait(path: Path) -> Portrait | None:
    """Cut the face out of a photograph, neither turned nor, up to :data:`LARGEST`, resized.

    Landmarks come from a ``.tem`` template or a ``.npy`` of 68 points beside the photograph, or from the folder's
    ``landmarks.npz``; else they are an average face's. The square comes from the face detector; where it finds none,
    from the landmarks.

    Returns:
        None without landmarks and without a face that the detector finds.

    Raises:
        DetectorUnavailable: If the detector is needed and its weights cannot be had.
        ValueError: If a file cannot be read.
    """
    levels = read_levels(path)
    landmarks, found = known_landmarks(path), detect_faces(levels)
    if landmarks is not None:
        middle = landmarks.eye_centres.mean(0)
        found = [face for face in found if np.hypot(*(face.landmarks[:2].mean(0) - middle)) < landmarks.unit / 2]
    if not found and landmarks is None:
        return None
    points = found[0].landmarks if found and np.isfinite(found[0].landmarks).all() else None
    if points is None and landmarks is not None:
        points = landmarks.five_points
    square = face_square(found[0], *levels.shape[:2]) if points is None else square_of(points, *levels.shape[:2])
    if landmarks is None:
        landmarks = canonical_landmarks(FFHQ_SIDE).mapped(
            lambda given: np.stack(square.to_photo(*((given.T + 0.5) / FFHQ_SIDE)), axis=-1) - 0.5
        )
    points = landmarks.five_points if points is None else points
    x, y, width, height = replace(square, side=MARGIN * square.side).bounds(*levels.shape[:2])
    levels = levels[y : y + height, x : x + width]
    landmarks = landmarks.mapped(lambda given: (given - (x, y)).astype(np.float32))
    points = (points - (x, y)).astype(np.float32)
    if square.side > LARGEST:
        factor = LARGEST / square.side
        levels = to_levels(resized(from_levels(levels), factor))
        landmarks, points = landmarks.scaled(factor), (points + 0.5) * factor - 0.5
    skin = to_levels(retouching_skin(from_levels(levels), landmarks))
    return Portrait(np.ascontiguousarray(levels), landmarks, skin, points.astype(np.float32))


def known_landmarks(path: Path) -> FaceLandmarks | None:
    """The landmarks that came with a portrait; None if none did.

    Raises:
        ValueError: If they cannot be read.
    """
    given = _landmark_file(path)
    if given is not None:
        return read_landmarks(given)
    mesh = mesh_of(path)
    return None if mesh is None else landmarks_from_mesh(mesh)


def open_face(path: Path, side: int) -> tuple[np.ndarray, FaceLandmarks] | None:
    """The face of a portrait, upright and framed as FFHQ's.

    Args:
        path: The portrait; see :func:`open_portrait` for its landmarks.
        side: Side of the result in pixels.

    Returns:
        (side, side, 3) uint8, and the landmarks in it; None if no face is found.

    Raises:
        DetectorUnavailable: If the detector is needed and its weights cannot be had.
        ValueError: If a file cannot be read.
    """
    levels, landmarks = read_levels(path), known_landmarks(path)
    if landmarks is not None:
        square = ffhq_square(landmarks)
        return to_levels(align(levels, square, side)), to_aligned(landmarks, square, side)
    found = detect_faces(levels)
    if not found:
        return None
    return to_levels(align(levels, face_square(found[0], *levels.shape[:2]), side)), canonical_landmarks(side)


def _landmark_file(path: Path) -> Path | None:
    files = (path.with_suffix(ending) for ending in LANDMARKS)
    return next((file for file in files if file.is_file()), None)


def _key(path: Path) -> str:
    """Name of an entry, which changes with the portrait and its landmarks."""
    given = _landmark_file(path)
    files, mesh = ([], mesh_of(path)) if given is None else ([given], None)
    return portrait_key(path, VERSION, MARGIN, LARGEST, files=files, mesh=mesh)


def _packed(portrait: Portrait | None) -> bytes:
    if portrait is None:
        return b""
    parts: dict[str, np.ndarray] = {name: getattr(portrait, name) for name in ("levels", "skin", "points")}
    for name, part in vars(portrait.landmarks).items():
        parts |= {f"{name}_left": part[0], f"{name}_right": part[1]} if isinstance(part, tuple) else {name: part}
    file = io.BytesIO()
    np.savez(file, **parts)  # type: ignore[arg-type]
    return file.getvalue()
