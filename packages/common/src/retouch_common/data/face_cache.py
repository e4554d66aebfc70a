"""The cache of cleaned portraits.

Cleaning a portrait takes about a second, reading a cleaned one nothing: the arrays are memory-mapped. An
entry's name is a digest of the photo, its template and the version of the algorithms, so a change of any of
them makes a new entry.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from retouch_common.data.portraits import mesh_of
from retouch_common.faces.webmorph import read_template
from retouch_common.files import atomic_output, write_atomically
from retouch_common.synthesis.preparation import PreparedFace, prepare_face

__all__ = ["CACHE_VERSION", "default_cache", "entry_key", "load_entry", "open_or_prepare", "portrait_key", "save_entry"]

logger = logging.getLogger(__name__)

CACHE_VERSION = 11
"""Raise it whenever masks, cleaning or the layout of entries change."""


def default_cache() -> Path:
    """The cache folder used when none is named: `$XDG_CACHE_HOME` (else ~/.cache) / retouch-common/faces."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retouch-common" / "faces"


def portrait_key(photo: Path, *about: object, files: Iterable[Path] = (), mesh: np.ndarray | None = None) -> str:
    """Return the name under which something made of a portrait is cached: 24 hexadecimal digits.

    It changes with contents only. Copied, moved or touched portraits keep their entries, and another portrait's
    landmarks in the same ``landmarks.npz`` play no part.

    Args:
        photo: The portrait.
        *about: What else the entry depends on: version of the algorithms, sizes, digests.
        files: What belongs to the portrait, its template or labels.
        mesh: Its own landmarks, see :func:`retouch_common.data.portraits.mesh_of`.

    Raises:
        OSError: A file cannot be read.
    """
    digest = hashlib.sha256("".join(f"{part}\n" for part in about).encode())
    digest.update(photo.read_bytes())
    for file in files:
        digest.update(b"\ntemplate\n" + file.read_bytes())
    if mesh is not None:
        digest.update(b"\nmesh\n" + mesh.tobytes())
    return digest.hexdigest()[:24]


def entry_key(photo: Path) -> str:
    """Return the name of a photo's entry, which changes with the photo and the landmarks beside it."""
    template = photo.with_suffix(".tem")
    if template.is_file():
        return portrait_key(photo, CACHE_VERSION, files=[template])
    return portrait_key(photo, CACHE_VERSION, mesh=mesh_of(photo))


def read_levels(path: Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a photo, upright.

    Raises:
        ValueError: If the file is not a photo that can be read.
    """
    from retouch_common.photo.io import Photo

    levels = Photo.open(path).read()
    return levels if levels.dtype == np.uint8 else (levels >> 8).astype(np.uint8)


def save_entry(folder: Path, key: str, face: PreparedFace | None) -> None:
    """Write an entry; a half-written one never gets its name. `None` records that nothing is usable.

    Raises:
        OSError: If the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if face is not None:
        for name, array in {"image": face.image, "natural": face.natural, "maps": face.maps}.items():
            with atomic_output(folder / f"{key}.{name}.npy") as temporary:
                np.save(temporary, array)
    about = {
        "version": CACHE_VERSION,
        "box": None if face is None else list(face.box),
        "shape": None if face is None else list(face.image.shape),
    }
    write_atomically(folder / f"{key}.json", json.dumps(about).encode())


def load_entry(folder: Path, key: str) -> PreparedFace | None:
    """Open an entry, memory-mapped.

    Returns:
        None where `save_entry` recorded None.

    Raises:
        FileNotFoundError: If there is no entry.
        ValueError: If the entry is damaged.
    """
    about_path = folder / f"{key}.json"
    text = about_path.read_bytes()
    try:
        about = json.loads(text)
        if about["box"] is None:
            return None
        image = np.load(folder / f"{key}.image.npy", mmap_mode="r", allow_pickle=False)
        natural = np.load(folder / f"{key}.natural.npy", mmap_mode="r", allow_pickle=False)
        maps = np.load(folder / f"{key}.maps.npy", mmap_mode="r", allow_pickle=False)
        x, y, width, height = (float(v) for v in about["box"])
        shape = tuple(about["shape"])
    except (ValueError, KeyError, TypeError, OSError, EOFError) as error:
        raise ValueError(f"{about_path}: damaged cache entry ({error})") from error
    rows, columns = shape[:2]
    expected = ((rows, columns, 3), (rows // 2, columns // 2, 4))
    same = (natural.dtype, natural.shape) == (image.dtype, image.shape)
    if not same or (image.dtype, maps.dtype) != (np.uint8, np.uint8) or (image.shape, maps.shape) != expected:
        raise ValueError(f"{about_path}: damaged cache entry (arrays of the wrong kind)")
    return PreparedFace(image, natural, maps, (x, y, width, height))


def open_or_prepare(folder: Path, photo: Path) -> PreparedFace | None:
    """An entry from the cache, made first if it is missing or damaged.

    The face is where a `.tem` template beside the photo says, else where the folder's `landmarks.npz` does, else where
    the detector finds it.

    Returns:
        None if no usable face is in the photo.

    Raises:
        ValueError: If the photo or its landmarks cannot be read.
        OSError: If the cache cannot be written.
    """
    key = entry_key(photo)
    try:
        return load_entry(folder, key)
    except FileNotFoundError:
        pass
    except ValueError as error:
        logger.warning("%s; made again", error)
    template = photo.with_suffix(".tem")
    landmarks = read_template(template) if template.is_file() else mesh_of(photo)
    save_entry(folder, key, prepare_face(read_levels(photo), landmarks))
    return load_entry(folder, key)
