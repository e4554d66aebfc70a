"""Portraits prepared for retouching: the face's crop at its own resolution, with landmarks and skin; cached."""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from retouch_common.data.face_cache import default_cache, portrait_key, read_levels
from retouch_common.data.portraits import mesh_of
from retouch_common.errors import joined
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

VERSION = 2  # of cache entries; raise it when crops or skin are computed in another way
LANDMARKS = (".tem", ".npy")
MARGIN = 1.25  # side of the crop over that of the face's square
LARGEST = 1536  # side of the largest square in pixels; larger faces are downsampled


@dataclass(frozen=True)
class Portrait:
    """A face at its photograph's own resolution, with a margin.

    Attributes:
        levels: (H, W, 3) uint8.
        landmarks: In pixels.
        skin: (H, W) uint8, strength of whitening and smoothing.
        points: (5, 2) float32, the detector's landmarks in pixels, which define the face's square.
    """

    levels: np.ndarray
    landmarks: FaceLandmarks
    skin: np.ndarray
    points: np.ndarray

    @property
    def square(self) -> FaceSquare:
        """The face's square, as in inference."""
        return square_of(self.points, *self.levels.shape[:2])


def square_of(points: np.ndarray, height: int, width: int) -> FaceSquare:
    """Return the square of a face with five landmarks in an image of a size.

    Raises:
        ValueError: The face lies outside the image, or its landmarks coincide.
    """
    low, size = points.min(0), np.ptp(points, axis=0)
    box = (float(low[0]), float(low[1]), float(size[0]), float(size[1]))
    return face_square(Face(box, 1.0, points.astype(np.float32)), height, width)


def prepare_portraits(paths: Sequence[Path]) -> list[Path]:
    """Find the face of every portrait that is not in the cache.

    Returns:
        Files for :func:`load_portrait`; portraits without a face are skipped with a warning.

    Raises:
        DetectorUnavailable: The detector is needed and its weights are not available.
        ValueError: A portrait or its landmarks cannot be read.
        OSError: The cache cannot be written.
    """
    folder = default_cache().with_name("portraits")
    folder.mkdir(parents=True, exist_ok=True)
    entries = {path: folder / f"{_key(path)}.npz" for path in paths}
    missing = [path for path in paths if not entries[path].is_file()]
    with progress_bar(unit="portraits", disable=not missing) as bar:
        for path in bar.track(missing, description="Finding faces"):
            portrait = open_portrait(path)
            write_atomically(entries[path], b"" if portrait is None else _packed(portrait))
    skipped = [path for path in paths if not entries[path].stat().st_size]  # an entry without a face is empty
    if skipped:
        names = joined((path.name for path in skipped[:5]), ", ")
        logger.warning("no face found in %d portraits, which are skipped: %s", len(skipped), names)
    return [entries[path] for path in paths if entries[path].stat().st_size]


def load_portrait(entry: Path) -> Portrait:
    """Read a cache entry.

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
        raise ValueError(f"{entry}: damaged ({error}); remove it to have it made again") from error


def open_portrait(path: Path) -> Portrait | None:
    """Crop the face of a photograph, neither rotated nor, up to :data:`LARGEST`, resized.

    Landmarks are those that :func:`known_landmarks` finds, else an average face's. The square comes from the face
    detector, or from the landmarks where it finds none.

    Returns:
        None without landmarks and without a detected face.

    Raises:
        DetectorUnavailable: The detector is needed and its weights are not available.
        ValueError: A file cannot be read.
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
            lambda aligned: np.stack(square.to_photo(*((aligned.T + 0.5) / FFHQ_SIDE)), axis=-1) - 0.5
        )
    points = landmarks.five_points if points is None else points
    x, y, width, height = replace(square, side=MARGIN * square.side).bounds(*levels.shape[:2])
    levels = levels[y : y + height, x : x + width]
    landmarks = landmarks.mapped(lambda photo: (photo - (x, y)).astype(np.float32))
    points = (points - (x, y)).astype(np.float32)
    if square.side > LARGEST:
        factor = LARGEST / square.side
        levels = to_levels(resized(from_levels(levels), factor))
        landmarks, points = landmarks.scaled(factor), (points + 0.5) * factor - 0.5
    skin = to_levels(retouching_skin(from_levels(levels), landmarks))
    return Portrait(np.ascontiguousarray(levels), landmarks, skin, points.astype(np.float32))


def known_landmarks(path: Path) -> FaceLandmarks | None:
    """Return the landmarks in a ``.tem`` or ``.npy`` file beside a portrait, or in its folder's ``landmarks.npz``.

    Raises:
        ValueError: They cannot be read.
    """
    files, mesh = _landmark_source(path)
    if files:
        return read_landmarks(files[0])
    return None if mesh is None else landmarks_from_mesh(mesh)


def open_face(path: Path, side: int) -> tuple[np.ndarray, FaceLandmarks] | None:
    """Return the face of a portrait, aligned as in FFHQ, (side, side, 3) uint8, and the landmarks in it.

    Returns:
        None if no face is found.

    Raises:
        DetectorUnavailable: The detector is needed and its weights are not available.
        ValueError: A file cannot be read.
    """
    levels, landmarks = read_levels(path), known_landmarks(path)
    if landmarks is not None:
        square = ffhq_square(landmarks)
        return to_levels(align(levels, square, side)), to_aligned(landmarks, square, side)
    found = detect_faces(levels)
    if not found:
        return None
    return to_levels(align(levels, face_square(found[0], *levels.shape[:2]), side)), canonical_landmarks(side)


def npz_bytes(**arrays: np.ndarray) -> bytes:
    """Return the bytes of an ``.npz`` file."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _landmark_source(path: Path) -> tuple[list[Path], np.ndarray | None]:
    """Return a portrait's landmark file, if it has one, else its mesh."""
    files = [file for file in map(path.with_suffix, LANDMARKS) if file.is_file()][:1]
    return files, None if files else mesh_of(path)


def _key(path: Path) -> str:
    """Return the name of a cache entry, which changes with the portrait and its landmarks."""
    files, mesh = _landmark_source(path)
    return portrait_key(path, VERSION, MARGIN, LARGEST, files=files, mesh=mesh)


def _packed(portrait: Portrait) -> bytes:
    parts: dict[str, np.ndarray] = {name: getattr(portrait, name) for name in ("levels", "skin", "points")}
    for name, part in vars(portrait.landmarks).items():
        parts |= {f"{name}_left": part[0], f"{name}_right": part[1]} if isinstance(part, tuple) else {name: part}
    return npz_bytes(**parts)
