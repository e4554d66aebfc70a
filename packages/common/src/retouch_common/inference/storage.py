"""Files by path, or by URL in object storage, which pyarrow's filesystems open.

These take credentials from where the storage's own tools look for them, and options from the URL's query:
``s3://bucket/photos?region=eu-west-1``. ``gs://anonymous@bucket/photos`` is opened without credentials.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from retouch_common.errors import printable
from retouch_common.files import ScratchDirectory

if TYPE_CHECKING:
    from pyarrow.fs import FileSystem

    from retouch_common.inference.batch import Job

OUTPUT_SCHEMES = ("s3", "gs")
TIMEOUT_SECONDS = 10  # without a byte from S3, of which there are three attempts
RETRY_SECONDS = 30  # at Google Cloud Storage, pyarrow's default is 15 minutes; a silent server takes it 2 minutes
ANONYMOUS = "anonymous@"  # before a bucket that is opened without credentials


def is_url(path: str) -> bool:
    """Return whether a path is a URL."""
    return "://" in path


def locate(path: str) -> tuple[FileSystem, str]:
    """Return the filesystem of a path or URL, and the path in it.

    Raises:
        OSError: If the storage cannot be reached; most are reached later.
        ValueError: If there is no such kind of storage.
    """
    from pyarrow.fs import LocalFileSystem

    if not is_url(path):
        return LocalFileSystem(), os.path.abspath(path)
    parts = urlsplit(path)
    filesystem, root = _filesystem(parts.scheme, parts.netloc, parts.query)
    return filesystem, root.rstrip("/") + unquote(parts.path)


@functools.cache
def _filesystem(scheme: str, host: str, query: str) -> tuple[FileSystem, str]:
    from pyarrow.fs import FileSystem

    if scheme in ("gs", "gcs") and "retry_limit_seconds=" not in query:
        query += f"{'&' if query else ''}retry_limit_seconds={RETRY_SECONDS}"
    filesystem, root = FileSystem.from_uri(f"{scheme}://{host or '/'}{'?' if query else ''}{query}")
    if filesystem.type_name == "s3":  # URLs cannot state time limits, and have eleven attempts
        rebuild, (options,) = filesystem.__reduce__()
        timeouts = {"connect_timeout": TIMEOUT_SECONDS, "request_timeout": TIMEOUT_SECONDS}
        filesystem = rebuild({**options, **timeouts})
    return filesystem, root


def unreadable(error: OSError) -> str:
    """Return why a storage does not give a file, in one line."""
    return f"cannot be opened: {' '.join(str(error).split()).partition(' error_info=')[0]}"


def named(place: str, like: str) -> str:
    """Return the path or URL of a place in the filesystem of ``like``."""
    if not is_url(like):
        return place
    parts = urlsplit(like)
    anonymous = ANONYMOUS if parts.netloc.startswith(ANONYMOUS) else ""
    return f"{parts.scheme}://{anonymous}{quote(place)}{'?' if parts.query else ''}{parts.query}"


@contextlib.contextmanager
def local_copy(path: str) -> Iterator[Path]:
    """Yield a file of this machine: the file itself, or a temporary copy of one in object storage.

    Raises:
        OSError: If it cannot be read.
    """
    if not is_url(path):
        yield Path(path)
        return
    with ScratchDirectory("retouch-fetched-") as folder:
        try:
            copy = _fetch(path, Path(folder))
        except OSError as error:
            raise OSError(unreadable(error)) from error
        yield copy


def _fetch(path: str, folder: Path) -> Path:
    """Copy a file from object storage into a folder."""
    filesystem, place = locate(path)
    copy = folder.joinpath(*(part for part in place.split("/") if part.strip(".")))  # masks follow folders' names
    copy.parent.mkdir(parents=True, exist_ok=True)
    with filesystem.open_input_stream(place) as source, open(copy, "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
    if (modified := filesystem.get_file_info(place).mtime_ns) is not None:
        os.utime(copy, ns=(modified, modified))
    return copy


@dataclass(frozen=True)
class OutputFolder:
    """A folder of outputs, on this machine or in object storage.

    Attributes:
        path: Absolute path of the folder; of a URL what stands for it, Path("s3:/bucket/out") for ``s3://bucket/out``.
        url: URL of the folder; None on this machine.
    """

    path: Path
    url: str | None = None

    def name(self, output: Path) -> str:
        """Return path or URL of an output, which is planned below ``path``."""
        return named(output.as_posix().partition(":/")[2], self.url) if self.url else str(output)

    def stored(self) -> frozenset[str]:
        """Return the URLs of all files in a folder in object storage."""
        from pyarrow.fs import FileSelector

        assert self.url is not None
        filesystem, place = locate(self.url)
        files = filesystem.get_file_info(FileSelector(place, recursive=True, allow_not_found=True))
        return frozenset(named(info.path, self.url) for info in files)

    @contextlib.contextmanager
    def local_outputs(self, job: Job) -> Iterator[Job]:
        """Yield a job whose outputs are files on this machine; without an exception, they are then stored."""
        if self.url is None:
            yield job
            return
        from pyarrow.fs import LocalFileSystem, copy_files

        with ScratchDirectory("retouch-outputs-") as folder:
            local = {output: Path(folder) / output.name for output in job.outputs}
            target, *companions = local.values()
            yield replace(job, target=target, companions=tuple(companions))
            for output, file in reversed(local.items()):  # the target at last
                filesystem, place = locate(self.name(output))
                if file.exists():
                    copy_files(str(file), place, source_filesystem=LocalFileSystem(), destination_filesystem=filesystem)


def output_folder(given: Path) -> OutputFolder:
    """Return the folder by its path, or by a URL that was made a path, which drops a slash.

    Raises:
        ValueError: If outputs cannot be written there.
    """
    scheme, slash, rest = str(given).partition(":/")
    if scheme in OUTPUT_SCHEMES and slash and rest:
        url = f"{scheme}://{rest}"
        return OutputFolder(storage_path(url), url)
    if (slash and len(scheme) > 1) or (given.exists() and not given.is_dir()):
        raise ValueError(f"--out {given}: must be a folder on this machine, or one at s3:// or gs://")
    if os.path.abspath(given).encode(errors="ignore") != os.fsencode(os.path.abspath(given)):
        raise ValueError(
            f"--out {printable(str(given))}: its name is not UTF-8, which a results table needs; rename it"
        )
    return OutputFolder(Path(os.path.abspath(given)))  # the same from another working folder


def storage_path(url: str) -> Path:
    """Return the path that stands for a URL in :class:`OutputFolder`."""
    parts = urlsplit(url)
    return Path(f"{parts.scheme}:/{parts.netloc.removeprefix(ANONYMOUS)}{unquote(parts.path)}")


def path_of(name: str) -> Path:
    """Return a path, or the one that stands for a URL."""
    return storage_path(name) if is_url(name) else Path(name)
