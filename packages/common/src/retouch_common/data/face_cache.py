"""The cache of cleaned portraits.

Cleaning a portrait takes about a second; cached arrays are memory-mapped. The name of an entry is a digest of the
photo, its landmarks and the version of the algorithms.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from retouch_common.data.portraits import mesh_of
from retouch_common.faces.detection import available_detector
from retouch_common.faces.webmorph import Template, read_template
from retouch_common.files import atomic_output, cache_folder, write_atomically
from retouch_common.synthesis.preparation import PreparedFace, prepare_face

logger = logging.getLogger(__name__)

CACHE_VERSION = 12  # raise it whenever masks, cleaning or the layout of entries change
ARRAYS = ("image", "natural", "maps")


def default_cache() -> Path:
    """The cache folder used when none is named; see :func:`retouch_common.files.cache_folder`."""
    return cache_folder("faces")


def portrait_key(photo: Path, *about: object, files: Iterable[Path] = (), mesh: np.ndarray | None = None) -> str:
    """Return the name under which something made of a portrait is cached: 24 hexadecimal digits.

    It depends on the photo, on ``files`` that belong to it, on its ``mesh``, and on ``about``, e.g. versions and sizes.
    Without files and mesh it depends on the detector, too: what a fallback found is not kept once YuNet is available.
    """
    files = list(files)
    digest = hashlib.sha256("".join(f"{part}\n" for part in about).encode())
    digest.update(photo.read_bytes())
    for file in files:
        digest.update(b"\ntemplate\n" + file.read_bytes())
    if mesh is not None:
        digest.update(b"\nmesh\n" + mesh.tobytes())
    elif not files and (detector := available_detector()[0]) != "YuNet":
        digest.update(f"\ndetector\n{detector}".encode())
    return digest.hexdigest()[:24]


def entry_key(photo: Path) -> str:
    """Return the name of a photo's entry."""
    template = photo.with_suffix(".tem")
    if template.is_file():
        return portrait_key(photo, CACHE_VERSION, files=[template])
    return portrait_key(photo, CACHE_VERSION, mesh=mesh_of(photo))


def read_levels(path: Path) -> np.ndarray:
    """Return a photo as (H, W, 3) uint8 RGB, upright.

    Raises:
        ValueError: The file is not a readable photo.
    """
    from retouch_common.photo.io import Photo

    levels = Photo.open(path).read()
    return levels if levels.dtype == np.uint8 else (levels >> 8).astype(np.uint8)


def save_entry(folder: Path, key: str, face: PreparedFace | None) -> None:
    """Write an entry. ``None`` records that the portrait is unusable."""
    folder.mkdir(parents=True, exist_ok=True)
    about: dict[str, Any] = {"version": CACHE_VERSION, "box": None, "shape": None}
    if face is not None:
        for name in ARRAYS:
            with atomic_output(folder / f"{key}.{name}.npy") as temporary:
                np.save(temporary, getattr(face, name))
        about |= {"box": list(face.box), "shape": list(face.image.shape)}
    write_atomically(folder / f"{key}.json", json.dumps(about).encode())


@dataclass(frozen=True)
class CachedFace(PreparedFace):
    """An entry, memory-mapped.

    It is pickled as its place in the cache, or every worker process would hold a copy of all portraits.
    """

    folder: Path
    key: str

    def __reduce__(self) -> tuple[Any, ...]:
        return load_entry, (self.folder, self.key)


def load_entry(folder: Path, key: str) -> CachedFace | None:
    """Open an entry, memory-mapped; None where :func:`save_entry` recorded None.

    Raises:
        FileNotFoundError: There is no entry.
        ValueError: The entry is damaged.
    """
    about_path = folder / f"{key}.json"
    text = about_path.read_bytes()
    try:
        about = json.loads(text)
        if about["box"] is None:
            return None
        arrays = (np.load(folder / f"{key}.{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS)
        image, natural, maps = arrays
        x, y, width, height = (float(v) for v in about["box"])
        shape = tuple(about["shape"])
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
        raise ValueError(f"{about_path}: damaged cache entry ({error})") from error
    rows, columns = shape[:2]
    expected = ((rows, columns, 3), (rows // 2, columns // 2, 4))
    same = (natural.dtype, natural.shape) == (image.dtype, image.shape)
    if not same or (image.dtype, maps.dtype) != (np.uint8, np.uint8) or (image.shape, maps.shape) != expected:
        raise ValueError(f"{about_path}: damaged cache entry (arrays of the wrong kind)")
    return CachedFace(image, natural, maps, (x, y, width, height), folder, key)


def open_or_prepare(folder: Path, photo: Path) -> PreparedFace | None:
    """Return a portrait from the cache, prepared first if it is missing or damaged; None without a usable face.

    The face is located by a `.tem` template beside the photo, by the folder's `landmarks.npz`, or by the detector.

    Raises:
        ValueError: The photo or its landmarks cannot be read.
    """
    key = entry_key(photo)
    try:
        return load_entry(folder, key)
    except FileNotFoundError:
        pass
    except ValueError as error:
        logger.warning("%s; made again", error)
    save_entry(folder, key, prepare_face(read_levels(photo), landmarks_of(photo)))
    return load_entry(folder, key)


def landmarks_of(photo: Path) -> Template | np.ndarray | None:
    """Return the landmarks beside a portrait: a `.tem` template, else the mesh of `landmarks.npz`, else None."""
    template = photo.with_suffix(".tem")
    return read_template(template) if template.is_file() else mesh_of(photo)
