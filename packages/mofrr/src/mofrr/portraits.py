"""Portraits made ready for retouching: upright faces with their landmarks and skin, made once and kept on disk."""

import hashlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from retouch_common.cli import progress_bar
from retouch_common.data.face_cache import default_cache, read_levels
from retouch_common.files import write_atomically
from retouch_common.photo.alignment import FaceSquare, align, face_square, sampled
from retouch_common.photo.faces import detect_faces
from retouch_common.synthesis.face_template import (
    FaceLandmarks,
    canonical_landmarks,
    ffhq_square,
    read_landmarks,
    to_aligned,
)
from retouch_common.synthesis.retouching_skin import retouching_skin

logger = logging.getLogger(__name__)

VERSION = 1  # of what is kept; raise it when framing or skin are found in another way
LANDMARKS = (".tem", ".npy")


@dataclass(frozen=True)
class Portrait:
    """An upright face with some room around it.

    Attributes:
        levels: (S, S, 3) uint8.
        landmarks: In its pixels.
        skin: (S, S) uint8, 255 where whitening and smoothing act in full.
    """

    levels: np.ndarray
    landmarks: FaceLandmarks
    skin: np.ndarray

    def framed(self, square: FaceSquare, size: int) -> tuple[np.ndarray, FaceLandmarks, np.ndarray]:
        """Cut a square out.

        Args:
            square: Of about ``size`` pixels, so that nothing has to be smoothed before it is sampled.
            size: Side of the results in pixels.

        Returns:
            (size, size, 3) float32 in [0, 1], the landmarks in it, and its skin, (size, size) float32 in [0, 1].
        """
        planes = np.concatenate([self.levels, self.skin[..., None]], axis=-1).astype(np.float32) / 255
        unit = (np.arange(size) + 0.5) / size
        points = np.stack(square.to_photo(unit[None, :], unit[:, None]), axis=-1) / len(planes)
        cut = sampled(torch.from_numpy(planes).permute(2, 0, 1)[None], points)[0].clamp_(0, 1)
        face = cut.permute(1, 2, 0).contiguous().numpy()
        return face[..., :3], to_aligned(self.landmarks, square, size), face[..., 3]


def prepare_portraits(paths: Sequence[Path], side: int, *, margin: float) -> list[Path]:
    """Find the face of every portrait, or find what was kept of it before.

    Args:
        paths: Portraits.
        side: Side of the upright face in pixels.
        margin: Side of what is cut out over that of FFHQ's frame.

    Returns:
        Files for :func:`load_portrait`; portraits that show no face are left out, with a warning.

    Raises:
        DetectorUnavailable: The detector is needed and its weights cannot be had.
        ValueError: A portrait or its landmarks cannot be read.
        OSError: Nothing can be kept in the cache folder.
    """
    folder = default_cache().with_name("aligned")
    folder.mkdir(parents=True, exist_ok=True)
    entries = {path: folder / f"{_key(path, side, margin)}.npz" for path in paths}
    missing = [path for path in paths if not entries[path].is_file()]
    with progress_bar(unit="portraits", disable=not missing) as bar:
        for path in bar.track(missing, description="Finding faces"):
            write_atomically(entries[path], _packed(open_face(path, side, margin=margin)))
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
        levels, skin = parts.pop("levels"), parts.pop("skin")
        eyes, brows = ((parts.pop(f"{name}_left"), parts.pop(f"{name}_right")) for name in ("eyes", "brows"))
        return Portrait(levels, FaceLandmarks(eyes=eyes, brows=brows, **parts), skin)
    except Exception as error:  # zipfile, numpy and the landmarks each have their own
        raise ValueError(f"{entry}: damaged ({error}); remove it, and it is made again") from error


def open_face(path: Path, side: int, *, margin: float = 1.0) -> tuple[np.ndarray, FaceLandmarks] | None:
    """The face of a portrait, upright and framed as FFHQ's.

    A ``.tem`` template or a ``.npy`` of 68 points beside the portrait says where it is; else the face detector does,
    and the landmarks are an average face's.

    Args:
        path: The portrait.
        side: Side of the result in pixels.
        margin: Side of what is cut out over that of FFHQ's frame.

    Returns:
        (side, side, 3) uint8, and the landmarks in it; None if the detector finds no face.

    Raises:
        DetectorUnavailable: If the detector is needed and its weights cannot be had.
        ValueError: If a file cannot be read.
    """
    levels = read_levels(path)
    given = _landmark_file(path)
    if given is not None:
        known = read_landmarks(given)
        square = ffhq_square(known)
        square = replace(square, side=square.side * margin)
        return as_levels(align(levels, square, side)), to_aligned(known, square, side)
    found = detect_faces(levels)
    if not found:
        return None
    square = face_square(found[0], *levels.shape[:2])
    average = canonical_landmarks(side).scaled(1 / margin).mapped(lambda points: points + side * (1 - 1 / margin) / 2)
    return as_levels(align(levels, replace(square, side=square.side * margin), side)), average


def as_levels(image: np.ndarray) -> np.ndarray:
    """uint8 of float32 in [0, 1]."""
    return np.rint(255 * image.clip(0, 1)).astype(np.uint8)


def _landmark_file(path: Path) -> Path | None:
    files = (path.with_suffix(ending) for ending in LANDMARKS)
    return next((file for file in files if file.is_file()), None)


def _key(path: Path, side: int, margin: float) -> str:
    """Changes whenever the portrait, its landmarks or the framing do; contents are not read, sets may be large."""
    parts: list[object] = [VERSION, side, margin]
    for file in (path, _landmark_file(path)):
        if file is not None:
            about = file.stat()
            parts += [file.resolve(), about.st_size, about.st_mtime_ns]
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]


def _packed(face: tuple[np.ndarray, FaceLandmarks] | None) -> bytes:
    if face is None:
        return b""
    levels, landmarks = face
    parts: dict[str, np.ndarray] = {}
    for name, part in vars(landmarks).items():
        parts |= {f"{name}_left": part[0], f"{name}_right": part[1]} if isinstance(part, tuple) else {name: part}
    skin = as_levels(retouching_skin(levels.astype(np.float32) / 255, landmarks))
    file = io.BytesIO()
    np.savez(file, levels=levels, skin=skin, **parts)  # type: ignore[arg-type]
    return file.getvalue()
