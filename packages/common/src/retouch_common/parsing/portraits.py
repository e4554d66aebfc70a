"""Labelled portraits, prepared for training once and cached as memory-mapped arrays."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from retouch_common.data.face_cache import default_cache, portrait_key, read_levels
from retouch_common.data.portraits import mesh_of
from retouch_common.errors import joined
from retouch_common.faces.alignment import PORTRAIT_EYES, FaceSquare, align, fit_portrait
from retouch_common.faces.geometry import geometry_from_mesh
from retouch_common.faces.landmarks import landmarks_from_template, portrait_square_of
from retouch_common.faces.mesh import LANDMARKS_FILE, landmarks_from_mesh
from retouch_common.faces.skin import plain_background, skin_maps
from retouch_common.faces.webmorph import read_template
from retouch_common.files import write_atomically
from retouch_common.parsing.labels import CLASSES, read_labels, resized
from retouch_common.parsing.meshes import certain_background, teacher_labels, with_mesh_parts, with_open_surroundings
from retouch_common.parsing.parser import FaceParser
from retouch_common.parsing.templates import NotPlain, parse_portrait, reduced
from retouch_common.photo.filters import gaussian_blur, resize
from retouch_common.progress import progress_bar
from retouch_common.ranges import from_levels, to_levels

logger = logging.getLogger(__name__)

VERSION = 3  # of the cached arrays; raise it when labels, mattes or squares change
STORED = 96 / PORTRAIT_EYES  # side in pixels of a cached face's square: 96 pixels between the eyes
TEACHING = 2  # version of the labels by a teacher
REACH = 1.2  # half side of the cached part of a photo with a mesh, in sides of the face's square
TEACHER_SCALES, FRAME = (0.85, 1.2), 1.5
"""A teacher sees a face at these scales, mirrored too, with this much of the aligned square around it."""
HAIR = CLASSES.index("hair")


@dataclass(frozen=True)
class LabelledPortrait:
    """A photo around a face.

    Attributes:
        planes: (H, W, 6) uint8: RGB, labels, matte of the background, where the tone of skin can be changed.
        square: The face in its pixels.
    """

    planes: np.ndarray
    square: FaceSquare


def prepare_portraits(pairs: Sequence[tuple[Path, Path]], *, teacher: str = "") -> list[Path]:
    """Prepare portraits, or find them in the cache.

    Args:
        pairs: Photos, each with its `.tem` template, its label image, or the `landmarks.npz` that has its mesh.
        teacher: Weights of a parser that labels what a mesh leaves open, where it is confident; empty leaves it open.

    Returns:
        Files for :func:`load_portrait`; portraits before a background that is not plain are left out with a warning.

    Raises:
        ValueError: A photo, template or label image cannot be read, or the two differ in size.
        OSError: The cache cannot be written.
    """
    folder = default_cache().with_name("parsing")
    folder.mkdir(parents=True, exist_ok=True)
    entries = {photo: folder / f"{_key(photo, truth)}.npy" for photo, truth in pairs}
    missing = [(photo, truth) for photo, truth in pairs if not entries[photo].is_file()]
    with progress_bar(unit="portraits", disable=not missing) as bar:
        for photo, truth in bar.track(missing, description="Preparing portraits"):
            _keep(entries[photo], _prepared(photo, truth))
    unusable = [photo for photo, _ in pairs if not entries[photo].stat().st_size]
    if unusable:
        named = joined((path.name for path in unusable[:5]), ", ")
        logger.warning("%d portraits are skipped, their backgrounds are not plain: %s", len(unusable), named)
    if teacher:
        meshed = [photo for photo, truth in pairs if truth.name == LANDMARKS_FILE]
        entries |= _taught_entries(meshed, entries, FaceParser(teacher, "cpu"))
    return [entries[photo] for photo, _ in pairs if entries[photo].stat().st_size]


def load_portrait(entry: Path) -> LabelledPortrait:
    """Open a file of :func:`prepare_portraits`, memory-mapped; ValueError if it is damaged."""
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
    """Return the square of the face in labels (H, W) uint8; None if an eye or the mouth is missing.

    The mouth's point is between its corners, as in :func:`~retouch_common.faces.landmarks.portrait_square_of`, and not
    the middle of the lips, which is lower.
    """
    eyes, corners = [], []
    for names in (("eye_left",), ("eye_right",), ("upper_lip", "mouth", "lower_lip")):
        rows, columns = np.nonzero(np.isin(labels, [CLASSES.index(name) for name in names]))
        if not len(rows):
            return None
        if names[1:]:
            corners = [[end + 0.5, rows[columns == end].mean() + 0.5] for end in (columns.min(), columns.max())]
        else:
            eyes.append([(columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2])
    try:
        return fit_portrait(np.array(eyes), np.mean(corners, axis=0))
    except ValueError:
        return None


def _keep(entry: Path, portrait: LabelledPortrait | None) -> None:
    if portrait is None:
        write_atomically(entry, b"")
        return
    square = portrait.square
    about = {"centre": square.centre, "side": square.side, "angle": square.angle}
    write_atomically(entry.with_suffix(".json"), json.dumps(about).encode())
    file = io.BytesIO()
    np.save(file, portrait.planes)
    write_atomically(entry, file.getvalue())


def _prepared(photo: Path, truth: Path) -> LabelledPortrait | None:
    if truth.suffix == ".tem":
        return _from_template(photo, truth)
    return _from_mesh(photo) if truth.name == LANDMARKS_FILE else _from_labels(photo, truth)


def _from_mesh(photo: Path) -> LabelledPortrait:
    points, levels = required_mesh(photo), read_levels(photo)
    square = portrait_square_of(landmarks_from_mesh(points))
    scale = min(1.0, STORED / square.side)
    rows, columns = (max(1, round(n * scale)) for n in levels.shape[:2])
    image = resize(from_levels(levels), rows, columns, antialias=True).clip(0, 1)
    points = ((points + 0.5) * scale - 0.5).astype(np.float32)
    square = _scaled(square, scale)
    geometry = geometry_from_mesh(points, rows, columns)
    background = certain_background(image, points, plain_background(image, geometry))
    skin = skin_maps(image, geometry)
    labels = with_open_surroundings(points, background, skin.skin > 0.8)
    planes = _stack(image, labels, to_levels(background), to_levels(skin.tone))
    (x, y), reach = square.centre, REACH * square.side
    left, top = max(0, round(x - reach)), max(0, round(y - reach))
    part = planes[top : max(top + 1, round(y + reach)), left : max(left + 1, round(x + reach))]
    return LabelledPortrait(part, FaceSquare((x - left, y - top), square.side, square.angle))


def required_mesh(photo: Path) -> np.ndarray:
    """Return the mesh (468, 2) of a photo; ValueError if its folder's `landmarks.npz` has none."""
    points = mesh_of(photo)
    if points is None:
        raise ValueError(f"{photo}: has no mesh in the {LANDMARKS_FILE} of its folder")
    return points


def _taught_entries(photos: Sequence[Path], entries: Mapping[Path, Path], teacher: FaceParser) -> dict[Path, Path]:
    digest = hashlib.sha256(f"{TEACHING}\n".encode())
    for tensor in teacher.model.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    suffix = f"-{digest.hexdigest()[:12]}.npy"
    taught = {photo: entries[photo].with_name(entries[photo].stem + suffix) for photo in photos}
    missing = [photo for photo, entry in taught.items() if not entry.is_file()]
    with progress_bar(unit="portraits", disable=not missing) as bar:
        for photo in bar.track(missing, description="Labelling what meshes leave open"):
            portrait, points = load_portrait(entries[photo]), required_mesh(photo)
            shares = portrait_square_of(landmarks_from_mesh(points)).from_photo(*(points.T + 0.5))
            points = (np.stack(portrait.square.to_photo(*shares), axis=1) - 0.5).astype(np.float32)
            planes = np.array(portrait.planes)
            image = planes[..., :3] / np.float32(255)
            planes[..., 3] = teacher_labels(image, planes[..., 3], points, _seen_by(teacher, portrait))
            _keep(taught[photo], LabelledPortrait(planes, portrait.square))
    return taught


def _seen_by(teacher: FaceParser, portrait: LabelledPortrait) -> np.ndarray:
    """Return (3, H, W) probabilities of background, hair and anything else, averaged over scales and mirroring."""
    height, width = portrait.planes.shape[:2]
    levels, square = np.ascontiguousarray(portrait.planes[..., :3]), portrait.square
    y, x = np.mgrid[:height, :width] + 0.5
    total, seen = np.zeros((3, height, width), np.float32), np.zeros((height, width), np.float32)
    for scale in TEACHER_SCALES:
        frame = FaceSquare(square.centre, square.side * FRAME * scale, square.angle)
        face = align(levels, frame, round(FRAME * teacher.size))
        mirrored = teacher.probabilities(np.ascontiguousarray(face[:, ::-1]))[..., ::-1]
        background, hair = (teacher.probabilities(face)[[0, HAIR]] + mirrored[[0, HAIR]]) / 2
        three = np.stack([background, hair, 1 - background - hair])
        u, v = frame.from_photo(x, y)
        inside = (u > 0) & (v > 0) & (u < 1) & (v < 1)
        places = torch.from_numpy((2 * np.stack([u, v], -1) - 1).astype(np.float32))[None]
        total += inside * F.grid_sample(torch.from_numpy(three)[None], places, align_corners=False)[0].numpy()
        seen += inside
    return total / np.maximum(seen, 1)


def _from_template(photo: Path, file: Path) -> LabelledPortrait | None:
    template, levels = read_template(file), read_levels(photo)
    try:
        square = portrait_square_of(landmarks_from_template(template))
        scale = min(1.0, STORED / square.side)
        image, small = reduced(levels, template, scale)
        labels, background, tone = parse_portrait(image, small)
    except NotPlain:
        return None
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    points = mesh_of(photo)
    if points is not None:
        labels = with_mesh_parts(labels, ((points + 0.5) * scale - 0.5).astype(np.float32))
    planes = _stack(image, labels, to_levels(background), to_levels(tone))
    return LabelledPortrait(planes, _scaled(square, scale))


def _from_labels(photo: Path, file: Path) -> LabelledPortrait:
    levels, labels = read_levels(photo), read_labels(file)
    if labels.shape != levels.shape[:2]:
        sizes = [f"{array.shape[1]}x{array.shape[0]}" for array in (labels, levels)]
        raise ValueError(f"{file}: labels of {sizes[0]} pixels for an image of {sizes[1]}; they must agree")
    height, width = labels.shape
    square = labels_square(labels)
    if square is None:  # without eyes or mouth the middle of the image stands for the face
        square = FaceSquare((width / 2, height / 2), min(height, width))
    scale = min(1.0, STORED / square.side)
    rows, columns = (max(1, round(n * scale)) for n in (height, width))
    image = resize(from_levels(levels), rows, columns, antialias=True)
    labels = resized(labels, rows, columns)
    tone = gaussian_blur(((labels > 0) & (labels < HAIR)).astype(np.float32), 4.0)
    # Ears, neck and clothes are labelled as background: without a matte it stays as it is.
    return LabelledPortrait(_stack(image, labels, np.zeros_like(labels), to_levels(tone)), _scaled(square, scale))


def _stack(image: np.ndarray, labels: np.ndarray, background: np.ndarray, tone: np.ndarray) -> np.ndarray:
    return np.concatenate([to_levels(image), np.stack([labels, background, tone], axis=-1)], axis=-1)


def _scaled(square: FaceSquare, scale: float) -> FaceSquare:
    return FaceSquare((square.centre[0] * scale, square.centre[1] * scale), square.side * scale, square.angle)


def _key(photo: Path, truth: Path) -> str:
    meshed = truth.suffix == ".tem" or truth.name == LANDMARKS_FILE
    files = [] if truth.name == LANDMARKS_FILE else [truth]
    return portrait_key(photo, VERSION, STORED, files=files, mesh=mesh_of(photo) if meshed else None)
