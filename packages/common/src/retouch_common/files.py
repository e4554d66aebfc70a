"""Files that are complete or not there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file beside its place, then rename it: whatever happens, the old file or the new one is there, whole.

    Args:
        path: File to write; replaced if there.
        data: Its content.

    Raises:
        OSError: The file cannot be written.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def refuse_existing(paths: Iterable[str | os.PathLike[str]], *, overwrite: bool = False) -> None:
    """Refuse to replace files; called before the work whose results they will hold.

    Args:
        paths: Files that will be written.
        overwrite: Whether they may be replaced, which then is not refused.

    Raises:
        ValueError: One is there already.
    """
    for path in paths:
        if os.path.lexists(path) and not overwrite:
            raise ValueError(f"{os.fspath(path)}: is there already; choose another --out, or --overwrite replaces it")


def refuse_foreign(folder: str | os.PathLike[str]) -> None:
    """Refuse to begin something in a folder that holds other files; hidden ones do not count.

    Raises:
        ValueError: It does.
    """
    folder = Path(folder)
    if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
        raise ValueError(f"{folder}: holds other files already; choose a new folder")
