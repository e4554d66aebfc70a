"""Portraits with labels, made ready for training once and kept on disk as arrays that are mapped into memory."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from retouch_common.cli import progress_bar
from retouch_common.data.face_cache import default_cache, read_levels
from retouch_common.data.webmorph import read_template
from retouch_common.files import write_atomically
from retouch_common.parsing.labels import CLASSES, read_labels, resized
from retouch_common.parsing.templates import NotPlain, parse_portrait, reduced
from retouch_common.photo.alignment import PORTRAIT_EYES, FaceSquare, fit_portrait
from retouch_common.synthesis.face_template import landmarks_from_template, portrait_square_of
from retouch_common.synthesis.filters import gaussian_blur, resize

__all__ = ["STORED", "LabelledPortrait", "labels_square", "load_portrait", "prepare_portraits"]

logger = logging.getLogger(__name__)

VERSION = 1  # of what is kept; raise it when labels or mattes are found in another way
STORED = 96 / PORTRAIT_EYES
"""Side of a face's square in pixels of what is kept: 96 pixels between the eyes."""


@dataclass(frozen=True)
class LabelledPortrait:
    """A whole picture around a face.

    Attributes:
        planes: (H, W, 6) uint8: RGB, labels, matte of the background, where the tone of skin can be changed.
        square: Where the face is, in its pixels.
    """

    planes: np.ndarray
    square: FaceSquare


def prepare_portraits(pairs: Sequence[tuple[Path, Path]]) -> list[Path]:
    """Make portraits ready, or find what was kept of them before.

    Args:
        pairs: Pictures, each with its `.tem` template or its label picture.

    Returns:
        Files for :func:`load_portrait`; portraits before a background that is not plain are left out, with a warning.

    Raises:
        ValueError: A picture, template or label picture cannot be read, or the two differ in size.
        OSError: Nothing can be kept in the cache folder.
    """
    folder = default_cache().with_name("parsing")
    folder.mkdir(parents=True, exist_ok=True)
    entries = {picture: folder / f"{_key(picture, truth)}.npy" for picture, truth in pairs}
    missing = [(picture, truth) for picture, truth in pairs if not entries[picture].is_file()]
    with progress_bar(unit="portraits", disable=not missing) as bar:
        for picture, truth in bar.track(missing, description="Preparing portraits"):
            entry = entries[picture]
            portrait = _from_template(picture, truth) if truth.suffix == ".tem" else _from_labels(picture, truth)
            if portrait is None:
                write_atomically(entry, b"")
                continue
            square = portrait.square
            about = {"centre": square.centre, "side": square.side, "angle": square.angle}
            write_atomically(entry.with_suffix(".json"), json.dumps(about).encode())
            file = io.BytesIO()
            np.save(file, portrait.planes)
            write_atomically(entry, file.getvalue())
    unusable = [picture for picture, _ in pairs if not entries[picture].stat().st_size]
    if unusable:
        named = ", ".join(path.name for path in unusable[:5])
        logger.warning("%d portraits are left out, their backgrounds are not plain: %s", len(unusable), named)
    return [entries[picture] for picture, _ in pairs if entries[picture].stat().st_size]


def load_portrait(entry: Path) -> LabelledPortrait:
    """Open what :func:`prepare_portraits` kept, mapped into memory.

    Raises:
        ValueError: The file is damaged.
    """
    try:
        about = json.loads(entry.with_suffix(".json").read_bytes())
        square = FaceSquare(tuple(about["centre"]), about["side"], about["angle"])
        planes = np.load(entry, mmap_mode="r", allow_pickle=False)
        if planes.ndim != 3 or planes.shape[2] != 6 or planes.dtype != np.uint8:
            raise ValueError(f"holds an array {planes.dtype} {planes.shape}")
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
        raise ValueError(f"{entry}: damaged ({error}); remove it, and it is made again") from error
    return LabelledPortrait(planes, square)


def labels_square(labels: np.ndarray) -> FaceSquare | None:
    """Where the face of a label picture is; None if an eye or the mouth is missing.

    Args:
        labels: (H, W) uint8.
    """
    centres = []
    for names in (("eye_left",), ("eye_right",), ("upper_lip", "mouth", "lower_lip")):
        rows, columns = np.nonzero(np.isin(labels, [CLASSES.index(name) for name in names]))
        if not len(rows):
            return None
        centres.append([(columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2])
    try:
        return fit_portrait(np.array(centres[:2]), np.array(centres[2]))
    except ValueError:
        return None


def _from_template(picture: Path, file: Path) -> LabelledPortrait | None:
    template, levels = read_template(file), read_levels(picture)
    try:
        square = portrait_square_of(landmarks_from_template(template))
        scale = min(1.0, STORED / square.side)
        image, small = reduced(levels, template, scale)
        parsed = parse_portrait(image, small)
    except NotPlain:
        return None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    layers = [_levels(parsed.background), _levels(parsed.tone)]
    return LabelledPortrait(_stack(image, parsed.labels, *layers), _scaled(square, scale))


def _from_labels(picture: Path, file: Path) -> LabelledPortrait:
    levels, labels = read_levels(picture), read_labels(file)
    if labels.shape != levels.shape[:2]:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (labels, levels)]
        raise ValueError(f"{file}: labels of {sizes[0]} pixels for a picture of {sizes[1]}; they must agree")
    height, width = labels.shape
    square = labels_square(labels)
    if square is None:  # no eyes or no mouth: the middle of the picture stands for the face
        square = FaceSquare((width / 2, height / 2), min(height, width))
    scale = min(1.0, STORED / square.side)
    rows, columns = (max(1, round(n * scale)) for n in (height, width))
    image = resize(levels.astype(np.float32) / np.float32(255), rows, columns, antialias=True)
    labels = resized(labels, rows, columns)
    tone = gaussian_blur(((labels > 0) & (labels < CLASSES.index("hair"))).astype(np.float32), 4.0)
    # Ears, neck and clothes have the background's label: without a matte it stays as it is.
    return LabelledPortrait(_stack(image, labels, np.zeros_like(labels), _levels(tone)), _scaled(square, scale))


def _stack(image: np.ndarray, labels: np.ndarray, background: np.ndarray, tone: np.ndarray) -> np.ndarray:
    return np.concatenate([_levels(image), np.stack([labels, background, tone], axis=-1)], axis=-1)


def _levels(values: np.ndarray) -> np.ndarray:
    return np.rint(255 * values.clip(0, 1)).astype(np.uint8)


def _scaled(square: FaceSquare, scale: float) -> FaceSquare:
    return FaceSquare((square.centre[0] * scale, square.centre[1] * scale), square.side * scale, square.angle)


def _key(picture: Path, truth: Path) -> str:
    """Changes whenever the picture or its labels do; contents are not read, sets may be large."""
    parts: list[object] = [VERSION, STORED]
    for file in (picture, truth):
        about = file.stat()
        parts += [file.resolve(), about.st_size, about.st_mtime_ns]
    return hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()[:24]
