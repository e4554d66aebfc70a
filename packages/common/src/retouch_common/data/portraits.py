"""Folders of portraits: photos, people, splits and landmarks."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from retouch_common.faces.mesh import LANDMARKS_FILE, read_mesh_file
from retouch_common.files import split_folders
from retouch_common.photo.formats import SUFFIXES

HELD_OUT_EVERY = {"headshots": 4, "community": 4}
"""In these sets every fourth person is held out, in all others every tenth."""

DEV_FIRST, DEV_EVERY = 6, 12
"""Of the people who are not held out, those at positions 6, 18, 30, … of each set are for validation."""


def find_portraits(folders: str | Path) -> list[Path]:
    """Return all photos in one or several folders (joined by commas) and their subfolders, sorted within each folder.

    Raises:
        ValueError: A folder does not exist or holds no photo.
    """
    paths: dict[Path, None] = {}  # a set that keeps the order
    for folder in split_folders(folders):
        if not folder.is_dir():
            raise ValueError(f"{folder}: not a folder of portraits")
        images = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        found = sorted(path for path in images if not path.name.startswith("."))  # macOS writes ._001.jpg
        if not found:
            raise ValueError(f"{folder}: no portraits in it (looked for {', '.join(sorted(SUFFIXES))})")
        paths |= dict.fromkeys(found)
    if not paths:
        raise ValueError("no folder of portraits was given")
    return list(paths)


def person_of(path: Path) -> tuple[str, str]:
    """Return the person in a photo as (set, id).

    The set is the name of the folder up to the first underscore, the id the file's name without suffix:
    `london_neutral/001.jpg` and `london_smiling/001.jpg` are one person, `canada/001.jpg` is another. Photos of one
    person under several ids of a set may end up in different splits.
    """
    return path.parent.name.split("_")[0], path.stem


def split_portraits(paths: Sequence[Path], split: str) -> list[Path]:
    """Split photos by person.

    "val" takes, within each set, the ids whose sorted position is a multiple of 10 (of 4 in the sets of
    `HELD_OUT_EVERY`). Of the others "dev" takes every twelfth, to validate on during training, and "train" the rest.
    "all" takes everything. Where there are too few people, "dev" is the same as "val".

    Raises:
        ValueError: Unknown split.
    """
    if split not in ("train", "dev", "val", "all"):
        raise ValueError(f"split is {split!r}; it must be 'train', 'dev', 'val' or 'all'")
    if split == "all":
        return list(paths)
    held_out, dev = set[tuple[str, str]](), set[tuple[str, str]]()
    for group, members in itertools.groupby(sorted(set(map(person_of, paths))), key=lambda person: person[0]):
        everyone = list(members)
        held_out.update(everyone[:: HELD_OUT_EVERY.get(group, 10)])
        dev.update([person for person in everyone if person not in held_out][DEV_FIRST::DEV_EVERY])
    people = {"val": held_out, "dev": dev or held_out, "train": held_out | dev}[split]
    return [path for path in paths if (person_of(path) in people) == (split != "train")]


def mesh_of(path: Path) -> np.ndarray | None:
    """Return the mesh (468, 2) of a photo from the `landmarks.npz` in its folder; None if it is not there.

    Raises:
        ValueError: That file is damaged.
    """
    file = path.parent / LANDMARKS_FILE
    try:
        modified = file.stat().st_mtime_ns
    except FileNotFoundError:
        return None
    return _meshes(file, modified).get(path.name)


@functools.lru_cache(maxsize=32)
def _meshes(file: Path, modified: int) -> dict[str, np.ndarray]:
    return read_mesh_file(file)
