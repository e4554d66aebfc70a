"""Portraits made ready for drawing: cleaned, with masks, kept in a cache folder.

Cleaning a portrait takes about a second, reading a cleaned one nothing: the arrays are memory-mapped. An
entry's name is a digest of the photo, its template and the version of the algorithms, so a change of any of
them makes a new entry.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from retouch_common.data.webmorph import Template, read_template
from retouch_common.synthesis.cleaning import clean_skin
from retouch_common.synthesis.filters import resize
from retouch_common.synthesis.geometry import FaceGeometry, geometry_from_landmarks, geometry_from_template
from retouch_common.synthesis.skin import WORKING_UNIT, enlarge, plain_background, skin_maps

__all__ = [
    "CACHE_VERSION",
    "PreparedFace",
    "default_cache",
    "entry_key",
    "load_entry",
    "prepare",
    "save_entry",
]

CACHE_VERSION = 3
"""Raise it whenever masks, cleaning or the layout of entries change."""

MAX_FACE_WIDTH = 1000.0
"""Portraits with wider faces are reduced to this."""


@dataclass(frozen=True)
class PreparedFace:
    """A portrait ready for drawing.

    Attributes:
        image: (H, W, 3) uint8, natural blemishes taken out.
        maps: (H, W, 4) uint8: skin, certainly not skin, plain background, tone (see `SkinMaps`).
        box: The face as x, y, width, height in pixels.
    """

    image: np.ndarray
    maps: np.ndarray
    box: tuple[float, float, float, float]


def default_cache() -> Path:
    """The cache folder used when none is named: `$XDG_CACHE_HOME` (else ~/.cache) / retouch-common/faces."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retouch-common" / "faces"


def entry_key(photo: Path, template: Path | None) -> str:
    """Name of a photo's entry: 24 hexadecimal digits."""
    digest = hashlib.sha256(f"{CACHE_VERSION}\n".encode())
    digest.update(photo.read_bytes())
    if template is not None:
        digest.update(b"\ntemplate\n" + template.read_bytes())
    return digest.hexdigest()[:24]


def read_photo(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB, upright.

    Raises:
        ValueError: If the file is not a picture.
    """
    import pyvips

    try:
        image = pyvips.Image.new_from_file(str(path)).autorot().colourspace("srgb")
        if image.hasalpha():
            image = image.flatten()
        return np.ascontiguousarray(image.cast("uchar").numpy()[..., :3])
    except pyvips.Error as error:
        raise ValueError(
            f"{path}: cannot be read as a photo ({str(error).strip().splitlines()[-1]})"
        ) from error


def detect_geometry(image: np.ndarray) -> tuple[float, object] | None:
    """Find the largest face.

    Args:
        image: (H, W, 3) uint8.

    Returns:
        Landmarks (5, 2) and box (x, y, w, h) as one pair, or None without a face.
    """
    import torch
    from kornia.contrib import FaceDetector

    factor = min(1.0, 640.0 / max(image.shape[:2]))
    height, width = (round(n * factor) for n in image.shape[:2])
    small = resize(image.astype(np.float32), height, width, antialias=True)
    with torch.inference_mode():
        found = FaceDetector()(torch.from_numpy(small).permute(2, 0, 1)[None])[0].numpy()
    if len(found) == 0:
        return None
    best = found[int(np.argmax((found[:, 2] - found[:, 0]) * found[:, 14]))] / factor
    x0, y0, x1, y1 = (float(v) for v in best[:4])
    return best[4:14].reshape(5, 2), (x0, y0, x1 - x0, y1 - y0)


def prepare(photo: Path, template: Path | None) -> PreparedFace | None:
    """Clean one portrait and make its masks.

    Args:
        photo: The picture.
        template: Its `.tem` file, or None to look for the face.

    Returns:
        None if no face is found or no skin can be told from the rest.

    Raises:
        ValueError: If photo or template cannot be read.
    """
    levels = read_photo(photo)
    height, width = levels.shape[:2]
    points = read_template(template) if template is not None else None
    found = None
    if points is None:
        found = detect_geometry(levels)
        if found is None:
            return None
        unit = float(np.hypot(*(found[0][0] - found[0][1])))
    else:
        unit = points.pupil_distance

    def geometry(scale: float, rows: int, columns: int) -> FaceGeometry:
        if points is not None:
            moved = (points.points + 0.5) * scale - 0.5
            return geometry_from_template(Template(moved, points.polylines, points.closed), rows, columns)
        assert found is not None
        box = tuple(v * scale for v in found[1])
        return geometry_from_landmarks((found[0] + 0.5) * scale - 0.5, box, rows, columns)

    image = levels.astype(np.float32) / 255.0
    limit = min(1.0, MAX_FACE_WIDTH / (unit / 0.45))
    if limit < 1.0:
        height, width, unit = round(height * limit), round(width * limit), unit * limit
        image = resize(image, height, width, antialias=True)
    reduction = min(1.0, WORKING_UNIT / unit)
    rows, columns = round(height * reduction), round(width * reduction)
    small = resize(image, rows, columns, antialias=True)
    regions = geometry(limit * reduction, rows, columns)
    maps = skin_maps(small, regions)
    if maps.skin.sum() < 0.05 * regions.box[2] * regions.box[3]:
        return None
    background = plain_background(small, regions)
    full = enlarge(maps, height, width)
    ys, xs = np.nonzero(full.cleanable > 0)
    if len(ys):
        part = (slice(ys.min(), ys.max() + 1), slice(xs.min(), xs.max() + 1))
        image[part] = clean_skin(
            np.ascontiguousarray(image[part]), np.ascontiguousarray(full.cleanable[part]), unit
        )
    stack = [full.skin, full.other, resize(background, height, width), full.tone]
    box = tuple(float(v / reduction) for v in regions.box)
    return PreparedFace(_to_levels(image), _to_levels(np.stack(stack, -1)), box)


def _to_levels(image: np.ndarray) -> np.ndarray:
    return np.clip(image * 255.0 + 0.5, 0, 255).astype(np.uint8)


def save_entry(folder: Path, key: str, face: PreparedFace | None) -> None:
    """Write an entry; a half-written one never gets its name. `None` records that nothing is usable."""
    folder.mkdir(parents=True, exist_ok=True)
    if face is not None:
        _replace(folder / f"{key}.image.npy", lambda file: np.save(file, face.image))
        _replace(folder / f"{key}.maps.npy", lambda file: np.save(file, face.maps))
    about = {"version": CACHE_VERSION, "box": asdict(face)["box"] if face is not None else None}
    _replace(folder / f"{key}.json", lambda file: file.write(json.dumps(about).encode()))


def _replace(path: Path, write: object) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name, suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)  # type: ignore[operator]
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def load_entry(folder: Path, key: str) -> PreparedFace | None:
    """Open an entry, memory-mapped.

    Returns:
        None where `save_entry` recorded None.

    Raises:
        FileNotFoundError: If there is no entry.
        ValueError: If the entry is damaged.
    """
    about_path = folder / f"{key}.json"
    try:
        about = json.loads(about_path.read_text())
        if about["box"] is None:
            return None
        image = np.load(folder / f"{key}.image.npy", mmap_mode="r", allow_pickle=False)
        maps = np.load(folder / f"{key}.maps.npy", mmap_mode="r", allow_pickle=False)
        box = tuple(float(v) for v in about["box"])
    except FileNotFoundError:
        raise
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
        raise ValueError(f"{about_path}: damaged cache entry ({error})") from error
    if (
        (image.dtype, maps.dtype) != (np.uint8, np.uint8)
        or (*image.shape[:2], 4) != maps.shape
        or len(box) != 4
    ):
        raise ValueError(f"{about_path}: damaged cache entry (arrays of the wrong kind)")
    return PreparedFace(image, maps, box)


def open_or_prepare(folder: Path, photo: Path, template: Path | None) -> PreparedFace | None:
    """An entry from the cache, made first if it is missing or damaged."""
    key = entry_key(photo, template)
    try:
        return load_entry(folder, key)
    except FileNotFoundError:
        pass
    except ValueError as error:
        warnings.warn(f"{error}; made again", stacklevel=2)
    save_entry(folder, key, prepare(photo, template))
    return load_entry(folder, key)
