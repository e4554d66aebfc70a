"""Atomic outputs, temporary directories, locks, checks before a folder or file is written, and checksums.

Temporary files and directories are locked by their process, so that another can tell and delete those of a process that
was killed. Without POSIX locks (Windows, some network file systems) nothing is locked and nothing is deleted.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_TEMPORARY = ".retouch-writing-"
_MARK = ".retouch-scratch"  # a file in every scratch directory: a folder of the user may have a name like one
_RANDOM = r"[a-z0-9_]{8}"  # what tempfile puts into a name
_GRACE = 60.0  # seconds between the creation of a temporary file and its lock, at most

DISK_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
"""Numbers of the OSErrors of writing where there is no space: a full disk, a used quota, a file at its limit."""


@contextlib.contextmanager
def atomic_output(path: str | os.PathLike[str], *, suffix: str | None = None) -> Iterator[Path]:
    """Yield a temporary file beside an output, by default of its suffix, and rename it to the output on success.

    The output is complete or unchanged, whatever happens, a power failure included; its permissions are kept. Temporary
    files in its folder that killed processes left are deleted.

    Raises:
        OSError: If the folder does not exist or is not writable, or the output is a folder.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path}: cannot be written: is a folder")
    try:
        descriptor, name = tempfile.mkstemp(
            prefix=_TEMPORARY, suffix=path.suffix if suffix is None else suffix, dir=path.parent
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise type(error)(f"{path}: cannot be written: {reason}") from error
    temporary = Path(name)
    with contextlib.ExitStack() as closed:
        closed.callback(temporary.unlink, missing_ok=True)
        if _lock(descriptor):
            closed.callback(os.close, descriptor)
        else:
            os.close(descriptor)
        _delete_leftovers(str(path.parent), _TEMPORARY)
        yield temporary
        flush(temporary)
        temporary.chmod(path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask())
        os.replace(temporary, path)
        with contextlib.suppress(OSError):  # some folders can be written and not read; the output is in its place
            flush(path.parent)


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file as :func:`atomic_output` does.

    Raises:
        OSError: If the file cannot be written.
    """
    with atomic_output(path, suffix=".partial") as temporary:  # no reader of a folder takes it for an image
        temporary.write_bytes(data)


def cache_folder(name: str) -> Path:
    """Return the folder of a cache: `$XDG_CACHE_HOME` (else ~/.cache) / retouch-common / ``name``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "retouch-common" / name


def split_folders(folders: str | os.PathLike[str]) -> list[Path]:
    """Split folders joined by commas. Names may have commas too: the longest that exists is taken."""
    parts, names = os.fspath(folders).split(","), []
    while parts:
        length = next((n for n in range(len(parts), 0, -1) if os.path.isdir(",".join(parts[:n]))), 1)
        names.append(",".join(parts[:length]))
        parts = parts[length:]
    return [Path(name) for name in names if name]


class ScratchDirectory(tempfile.TemporaryDirectory):
    """Temporary directory that is deleted with its process, or by a later one if the process is killed.

    Args:
        prefix: Start of its name; directories of this class and prefix that killed processes left are deleted.
    """

    def __init__(self, prefix: str) -> None:
        super().__init__(prefix=prefix)
        Path(self.name, _MARK).touch()
        if fcntl is not None:
            descriptor = os.open(self.name, os.O_RDONLY)
            weakref.finalize(self, os.close, descriptor)
            _lock(descriptor)
        _delete_leftovers(os.path.dirname(self.name), prefix)


@contextlib.contextmanager
def scratch_output(name: str | os.PathLike[str]) -> Iterator[None]:
    """Let what is written in the temporary folder fail with a message that names the folder if its disk is full.

    Args:
        name: The photo or other file that is written there.

    Raises:
        OSError: If the disk is full.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise OSError(
            f"{os.fspath(name)}: does not fit into the temporary folder {tempfile.gettempdir()}: the disk is full; "
            "set TMPDIR to a folder on another disk"
        ) from error


@contextlib.contextmanager
def exclusive(path: str | os.PathLike[str], holder: str) -> Iterator[None]:
    """Lock a file, which is created, against other processes.

    Raises:
        ValueError: If another process has locked it; ``holder`` is the subject of the message.
    """
    with open(path, "ab") as file:
        if _lock(file.fileno()) is False:
            raise ValueError(f"{holder} is in use by another process; wait until it ends, or stop it")
        yield


def _lock(descriptor: int) -> bool | None:
    """Lock an open file until it is closed; False if another process has locked it, None without locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return False if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else None
    return True


@functools.lru_cache(maxsize=1024)
def _delete_leftovers(folder: str, prefix: str) -> None:
    """Delete temporary files and directories of this user whose process has ended; once per process and folder."""
    if fcntl is None:
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in [entry for entry in entries if re.match(re.escape(prefix) + _RANDOM + r"(\.|$)", entry.name)]:
            with contextlib.suppress(OSError):
                is_folder = entry.is_dir(follow_symlinks=False)
                if is_folder == (prefix == _TEMPORARY):  # files beside outputs, folders elsewhere
                    continue
                status = entry.stat(follow_symlinks=False)
                if status.st_uid == os.getuid() and time.time() - status.st_mtime > _GRACE:
                    _delete_unlocked(entry)


def _delete_unlocked(entry: os.DirEntry[str]) -> None:
    descriptor = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        if _lock(descriptor):
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
            elif os.path.isfile(os.path.join(entry.path, _MARK)):
                shutil.rmtree(entry.path)
    finally:
        os.close(descriptor)


def refuse_existing(paths: Iterable[str | os.PathLike[str]], *, overwrite: bool = False) -> None:
    """Refuse to replace existing files unless ``overwrite`` is set; called before the work starts.

    Raises:
        ValueError: If a file exists.
    """
    for path in paths:
        if os.path.lexists(path) and not overwrite:
            raise ValueError(f"{os.fspath(path)}: already exists; choose another --out, or --overwrite replaces it")


def refuse_special(path: str | os.PathLike[str]) -> None:
    """Refuse to read what is neither a regular file nor a folder: opening a named pipe blocks for ever.

    Raises:
        ValueError: If it is such a file.
    """
    path = Path(path)
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path}: is not a regular file")


def refuse_other_settings(record: str | os.PathLike[str], settings: Mapping[str, Any]) -> None:
    """Refuse to resume with other settings than those in ``record``, JSON, or to start in a folder with other files.

    Hidden files do not count.

    Raises:
        ValueError: If settings differ; the message names them. Or if the folder of ``record`` holds other files.
    """
    record = Path(record)
    folder = record.parent
    if not record.is_file():
        if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise ValueError(f"{folder}: is not empty; choose a new folder")
        return
    begun = json.loads(record.read_text(encoding="utf-8"))
    other = [name for name, value in settings.items() if begun.get(name) != value]
    if other:
        raise ValueError(
            f"{record}: was begun with other {', '.join(other)}; choose another folder, or repeat the command that "
            "started it"
        )


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is not a regular file.
    """
    refuse_special(path)
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(path: str | os.PathLike[str], expected: str) -> None:
    """Verify the SHA-256 of a file.

    Raises:
        ValueError: If it differs: the file is damaged or another one.
    """
    found = sha256(path)
    if found != expected.lower():
        raise ValueError(
            f"{os.fspath(path)}: the file is damaged or not the expected one "
            f"(SHA-256 {found[:12]}…, expected {expected[:12]}…); get it again"
        )


def flush(path: Path) -> None:
    """Flush a file, or a folder's names, to the disk, so that they survive a power failure."""
    if path.is_dir() and os.name == "nt":
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
