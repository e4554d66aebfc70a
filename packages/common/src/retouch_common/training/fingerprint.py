"""Fingerprint of training data, to refuse resuming a run on other data or writing one among its images."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from retouch_common.files import split_folders
from retouch_common.photo.formats import SUFFIXES


def fingerprint(spec: str | Path) -> str | None:
    """Return the SHA-256 of the names and sizes of all images in ``DIR``, ``KIND:DIR`` or ``KIND:DIR,DIR``.

    Names are relative to their folder, so that moved data has the same fingerprint. None if there are no such folders.
    """
    folders = _folders(spec)
    if not folders:
        return None
    digest = hashlib.sha256()
    for folder in folders:
        digest.update(b"folder\0")
        for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file()):
            digest.update(os.fsencode(path.relative_to(folder).as_posix()) + b"\0%d\0" % path.stat().st_size)
    return digest.hexdigest()


def refuse_output_in_data(out: str | Path, *specs: str | Path) -> None:
    """Refuse to write into a folder of the data, whose images are searched for in subfolders, too.

    Args:
        out: Folder to write.
        specs: Data, as for :func:`fingerprint`.

    Raises:
        ValueError: ``out`` is such a folder or inside one.
    """
    for folder in (folder for spec in specs for folder in _folders(spec)):
        if Path(out).resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"{out}: is inside the data, {folder}, and would become part of it; choose another --out")


def _folders(spec: str | Path) -> list[Path]:
    """Return the folders that a specification names; none if one of them does not exist."""
    text = str(spec)
    folders = [Path(text)] if text and Path(text).is_dir() else split_folders(text.partition(":")[2] or text)
    return folders if all(folder.is_dir() for folder in folders) else []
