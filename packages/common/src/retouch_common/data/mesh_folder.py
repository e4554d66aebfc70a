"""Landmarks of whole folders of portraits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np

from retouch_common.data.face_cache import read_levels
from retouch_common.data.portraits import find_portraits
from retouch_common.errors import error_line, printable
from retouch_common.faces.detection import detect_faces
from retouch_common.faces.face import Face
from retouch_common.faces.mesh import LANDMARKS_FILE, read_mesh_file, write_mesh_file
from retouch_common.progress import progress_bar

SAVE_EVERY = 50
LEAST_PROBABILITY = 0.5


def write_landmarks(
    folder: Path, model: Callable[[np.ndarray, Face], tuple[np.ndarray, float]]
) -> list[tuple[Path, str]]:
    """Write `landmarks.npz` in every folder of portraits; return photos without landmarks, each with the reason.

    Photos that have landmarks are skipped. ``model`` returns (468, 2) points and the probability that they lie on a
    face, e.g. a :class:`retouch_common.faces.mesh_model.MeshModel`.

    Raises:
        ValueError: There are no portraits, or a `landmarks.npz` is damaged.
    """
    paths = find_portraits(folder)
    known = {parent: _known(parent) for parent in {path.parent for path in paths}}
    missing = [path for path in paths if path.name not in known[path.parent]]
    failed: list[tuple[Path, str]] = []
    with progress_bar(unit="portraits", disable=not missing) as bar:
        tracked = bar.track(missing, description="Finding landmarks")
        for parent, group in groupby(tracked, key=lambda path: path.parent):
            meshes = known[parent]
            try:
                for number, path in enumerate(group, start=1):
                    try:
                        meshes[path.name] = _landmarks(path, model)
                    except (ValueError, OSError) as error:
                        failed.append((path, str(error_line(error)).removeprefix(f"{printable(str(path))}: ")))
                    if number % SAVE_EVERY == 0:
                        write_mesh_file(parent / LANDMARKS_FILE, meshes)
            finally:  # also after Ctrl-C
                write_mesh_file(parent / LANDMARKS_FILE, meshes)
    return failed


def _known(folder: Path) -> dict[str, np.ndarray]:
    file = folder / LANDMARKS_FILE
    return read_mesh_file(file) if file.is_file() else {}


def _landmarks(path: Path, model: Callable[[np.ndarray, Face], tuple[np.ndarray, float]]) -> np.ndarray:
    levels = read_levels(path)
    faces = detect_faces(levels)
    if not faces:
        raise ValueError("no face was found")
    points, probability = model(levels, faces[0])
    if probability < LEAST_PROBABILITY:
        raise ValueError("it is hardly a face")
    return points
