"""Lists of photographs: a folder, a glob, or a text or Parquet file, on this machine or in object storage.

for entry in read_manifest("s3://bucket/photos?region=eu-west-1", out):
    with local_copy(entry.path) as file: ...
"""

from __future__ import annotations

import os
import posixpath
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from retouch_common.files import refuse_special
from retouch_common.inference.batch import REPORTED_SUFFIXES
from retouch_common.inference.names import COMPANION_ENDINGS
from retouch_common.inference.storage import is_url, local_copy, locate, named, storage_path, unreadable
from retouch_common.photo.formats import SUFFIXES

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem

LISTS = (".txt", ".parquet")
COLUMN = "path"  # of a list in Parquet
_MAX_NAME, _MAX_PATH = 255, 4096  # of file systems
_CHUNK = 1000  # files that are looked up at once
_PATIENCE = 60  # seconds of failed look-ups, after which no further file of a storage is looked up
_WILDCARD = re.compile(r"[*?[]")
_GLOB = re.compile(r"\*\*/|\*\*|\*|\?|\[[^]]+\]|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Entry:
    """A photograph of a list.

    Attributes:
        path: Absolute path, or URL.
        relative: Path of its output below the output folder.
        size: Size in bytes; None if there is no such file.
        modified: Time of the last modification, in ns since 1970; None if the storage does not know it.
        reason: Why its storage could not be asked for it, in one line; None if it could.
    """

    path: str
    relative: str
    size: int | None
    modified: int | None
    reason: str | None = None


def read_manifest(name: str, out: Path, *, recursive: bool = False) -> list[Entry]:
    """List photographs.

    Args:
        name: Path or URL of a folder, a glob (``**`` for folders within folders, too), or a list: a text file with a
            path or URL per line, or a Parquet file with the column "path". Relative paths of a list start at its own
            folder.
        out: Output folder, as :attr:`OutputFolder.path`; where it lies within the folder or that of the glob, its
            photographs are not listed.
        recursive: Whether to search folders within a folder.

    Returns:
        Photographs without repetition, those of a folder or glob sorted by path. Outputs keep the tree below the
        folder, below the part of the glob before its first wildcard, or the paths of the list.

    Raises:
        OSError: If the storage cannot be read.
        ValueError: If ``name`` is none of these, lists nothing, or pyarrow is missing.
    """
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ValueError('--manifest needs pyarrow: pip install "retouch-common[many]"') from None
    if name.encode(errors="ignore") != os.fsencode(name):
        raise ValueError(f"{name.encode(errors='backslashreplace').decode()}: its name is not UTF-8; rename it")
    if Path(urlsplit(name).path if is_url(name) else name).suffix.lower() in LISTS:
        if recursive:
            raise ValueError(f"{name}: is a list; --recursive is for folders, leave it out")
        entries = _listed(name)
    else:
        entries = _found(name, out, recursive)
    unique = {entry.path: entry for entry in entries}
    if not unique:
        raise ValueError(f"{name}: lists no photo")
    return list(unique.values())


def _entry(info: FileInfo, path: str, relative: str) -> Entry:
    from pyarrow.fs import FileType

    found = info.type == FileType.File
    return Entry(path, relative, info.size if found else None, info.mtime_ns if found else None)


def _found(name: str, out: Path, recursive: bool) -> list[Entry]:
    """List the photographs of a folder or glob."""
    from pyarrow.fs import FileSelector, FileType

    filesystem, place = locate(name)
    kind = filesystem.get_file_info(place).type
    if kind == FileType.File:
        raise ValueError(f"{name}: is neither a folder nor a list ({' or '.join(LISTS)}); give a photo as INPUT")
    pattern = None
    if kind == FileType.NotFound:
        if not _WILDCARD.search(place):
            raise ValueError(f"{name}: no such folder, glob or list")
        if recursive:
            raise ValueError(f"{name}: is a glob; --recursive is for folders, write ** instead")
        try:
            pattern = re.compile("".join(_translated(token) for token in _GLOB.findall(place)))
        except re.error as error:
            raise ValueError(f"{name}: the glob cannot be understood: {error}") from None
        fixed = place[: _WILDCARD.search(place).start()]  # type: ignore[union-attr]
        deeper = "/" in place[len(fixed) :] or "**" in place
        place = posixpath.dirname(fixed)
    else:
        deeper = recursive
    try:
        found = [(info, info.path) for info in filesystem.get_file_info(FileSelector(place, recursive=deeper))]
    except UnicodeDecodeError as error:
        which = os.fsdecode(error.object).encode(errors="backslashreplace").decode()
        raise ValueError(
            f"{name}: the name {which} is not UTF-8; rename it, or list the photos in a text file"
        ) from None
    base, output = (_comparable(path) for path in (named(place, name), out))
    is_around = base.is_relative_to(output)  # then all photographs lie below it
    entries = []
    for info, inside in found:
        relative = posixpath.relpath(inside, place)
        if info.type != FileType.File or not _is_photo(relative) or (pattern and not pattern.fullmatch(inside)):
            continue
        path = named(inside, name)
        if not is_around and _comparable(path).is_relative_to(output):
            continue
        entries.append(_entry(info, path, relative))
    return sorted(entries, key=lambda entry: entry.path)


def _comparable(path: str | Path) -> Path:
    """Return a path that two names of a place on this machine share, or the path that stands for a URL."""
    if isinstance(path, str):
        return storage_path(path) if is_url(path) else Path(os.path.realpath(path))
    stands_for_url = path.parts[0].endswith(":") and not path.is_absolute()
    return path if stands_for_url else Path(os.path.realpath(path))


def _translated(token: str) -> str:
    """Translate a token of a glob to a regular expression."""
    known = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    if token in known:
        return known[token]
    return token.replace("[!", "[^") if len(token) > 1 else re.escape(token)


def _is_photo(relative: str) -> bool:
    hidden = any(part.startswith(".") for part in relative.split("/"))
    named = relative.lower().endswith((*SUFFIXES, *REPORTED_SUFFIXES))
    return named and not hidden and not relative.lower().endswith(COMPANION_ENDINGS)


def _listed(name: str) -> list[Entry]:
    """Return the photographs of a text or Parquet file."""
    _, place = locate(name)
    with local_copy(name) as file:
        refuse_special(file)
        lines = _column(file, name) if place.lower().endswith(".parquet") else _lines(file, name)
    folder = posixpath.dirname(place) if is_url(name) else os.path.dirname(place)
    for line in lines:
        _refuse_impossible(line, name)
    unreachable = _unreachable(lines, name)
    paths: list[tuple[str, str]] = []
    for line in lines:
        if is_url(line):
            inside = storage_path(line).as_posix().partition(":/")[2] if _key(line) in unreachable else locate(line)[1]
            relative = posixpath.normpath("/" + inside.lstrip("/")).lstrip("/")  # ".." ends at the root
            paths.append((line, relative))
            continue
        whole = os.path.normpath(os.path.join(folder, line))
        relative = os.path.normpath(line)
        if os.path.isabs(relative) or relative.split(os.sep)[0] == os.pardir:
            relative = os.path.relpath(whole, os.path.splitdrive(whole)[0] + os.sep)
        paths.append((named(whole, name), relative))
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    return [entry for chunk in chunks for entry in _looked_up(chunk, unreachable)]


def _refuse_impossible(line: str, name: str) -> None:
    """Refuse a line of a list that cannot be a path, which would stop the look-up without saying where it stands."""
    reason = None
    if "\0" in line:
        reason = "holds a NUL character"
    elif max(len(os.fsencode(part)) for part in line.split("/")) > _MAX_NAME or len(line) > _MAX_PATH:
        reason = "is too long"
    if reason:
        raise _impossible(line, name, reason)


def _impossible(line: str, name: str, reason: str) -> ValueError:
    return ValueError(f"{name}: {line[:200]!r} {reason}; correct or remove the line")


def _key(path: str) -> tuple[str, str, str] | None:
    """Return what the URLs of a storage have in common; None for a path."""
    parts = urlsplit(path)
    return (parts.scheme, parts.netloc, parts.query) if is_url(path) else None


def _unreachable(lines: Sequence[str], name: str) -> dict[tuple[str, str, str] | None, str]:
    """Return why storages of a list cannot be reached, by their keys; refuse lines of an unknown storage."""
    unreachable = {}
    for key, line in {_key(line): line for line in lines if is_url(line)}.items():
        try:
            locate(line)
        except ValueError as error:
            raise _impossible(line, name, f"cannot be opened: {error}") from None
        except OSError as error:
            unreachable[key] = unreadable(error)
    return unreachable


def _looked_up(
    paths: Sequence[tuple[str, str]], unreachable: dict[tuple[str, str, str] | None, str]
) -> Iterator[Entry]:
    """Look up size and time of files, those of a storage at once; one that takes too long becomes unreachable."""
    groups: dict[tuple[str, str, str] | None, list[tuple[str, str]]] = {}
    for path, relative in paths:
        groups.setdefault(_key(path), []).append((path, relative))
    found: dict[str, Entry] = {}
    for key, group in groups.items():
        if key not in unreachable:
            entries, reason = _looked_up_in(locate(group[0][0])[0], group)
            found.update((entry.path, entry) for entry in entries)
            if reason is not None:
                unreachable[key] = reason
        for path, relative in group:
            found.setdefault(path, Entry(path, relative, None, None, unreachable.get(key)))
    yield from (found[path] for path, _ in paths)


def _looked_up_in(filesystem: FileSystem, group: Sequence[tuple[str, str]]) -> tuple[list[Entry], str | None]:
    """Look up files of a storage, together or, if that fails, one by one.

    Returns:
        The files, and None; or the first of them, and why the others are not looked up.
    """
    places = [locate(path)[1] for path, _ in group]
    try:
        infos = filesystem.get_file_info(places)
    except OSError:
        pass
    else:
        return [_entry(info, *names) for info, names in zip(infos, group, strict=True)], None
    entries: list[Entry] = []
    failing = 0.0
    for (path, relative), place in zip(group, places, strict=True):
        began = time.monotonic()
        try:
            entries.append(_entry(filesystem.get_file_info(place), path, relative))
        except OSError as error:
            entries.append(Entry(path, relative, None, None, unreadable(error)))
            failing += time.monotonic() - began
        if failing > _PATIENCE:
            return entries, entries[-1].reason
    return entries, None


def _lines(file: Path, name: str) -> list[str]:
    try:
        return [line for line in file.read_text("utf-8-sig").split("\n") if line.strip()]  # names may hold U+2028
    except UnicodeDecodeError:
        raise ValueError(f"{name}: is not text in UTF-8; write a path per line") from None


def _column(file: Path, name: str) -> list[str]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.ParquetFile(file)
        if COLUMN not in table.schema_arrow.names:
            raise ValueError(f'{name}: has no column "{COLUMN}", only {", ".join(table.schema_arrow.names)}')
        values = table.read(columns=[COLUMN]).column(0).to_pylist()
    except pa.ArrowInvalid as error:
        raise ValueError(f"{name}: cannot be read as Parquet ({str(error).splitlines()[0]})") from None
    if not all(isinstance(value, str) for value in values):
        raise ValueError(f'{name}: the column "{COLUMN}" holds values that are not text')
    return values
