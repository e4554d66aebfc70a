"""Files of photos, shared by the tools of the studio, and the cache of photos that a tool keeps open."""

from __future__ import annotations

import os
import secrets
import threading
import weakref
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, cast

from retouch_common.photo.formats import SUFFIXES, format_of_name
from retouch_common.photo.raw_files import RAW_SUFFIXES

if TYPE_CHECKING:
    from retouch_common.photo.io import Photo

PHOTO_SUFFIXES = (*SUFFIXES, ".heic", ".heif", ".jxl", *RAW_SUFFIXES)
"""Suffixes of photos that can be opened, some with an extra; their content decides."""

DECODE_LOCK = threading.Lock()
"""Held while a file is decoded or encoded, which takes the memory of a whole photo in some formats.

Only one photo at a time may do so. It is acquired before the locks of a session, never while one is held: whoever waits
for another photo's export then keeps nobody from what is decoded already. Networks run without it where they can.
"""


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


P = TypeVar("P", bound=_HasId)


class UnknownPhotoError(LookupError):
    """A photo is not open, or no longer open."""


class StoredFile:
    """A photo's file and the name that users see; if ``owned``, the file is deleted with the last reference."""

    def __init__(self, path: Path, name: str, *, owned: bool) -> None:
        self.path, self.name, self.owned = path, name, owned
        self.id = secrets.token_urlsafe(9)
        self._delete = weakref.finalize(self, path.unlink, missing_ok=True) if owned else None

    @property
    def basename(self) -> str:
        """Name without folders."""
        return Path(self.name).name

    def discard(self) -> None:
        """Delete the file now if it is owned."""
        if self._delete is not None:
            self._delete()


def displayed(path: Path) -> str:
    """Return a path as text for pages, which cannot show the bytes of names that are not UTF-8."""
    return os.fsencode(path).decode(errors="replace")


def default_suffix(photo: Photo) -> str:
    """Return the suffix of a photo's exports, as of the commands: TIFF's for formats that are only read."""
    return photo.format.suffixes[0] if photo.format.extra is None else ".tif"


def describe_photo(photo: Photo, file: StoredFile) -> dict[str, Any]:
    """Return the description of an open photo for pages; ``format`` is that of its exports by default."""
    return {
        "file": file.id,
        "name": file.basename,
        "width": photo.width,
        "height": photo.height,
        "format": default_suffix(photo)[1:],
        "bits": 8 * photo.dtype.itemsize,
        "opacity": photo.has_opacity,
    }


def export_paths(
    photo: Photo, file: StoredFile, folder: Path, suffix: str | None, ending: str, *, convert: bool = False
) -> tuple[Path, str]:
    """Return a new path in ``folder`` for an export of a photo, and the name ``STEM.ending.suffix`` for its download.

    Args:
        photo: The photo.
        file: Its file.
        folder: Directory of temporary exports.
        suffix: Suffix of the format; None for :func:`default_suffix`.
        ending: What was done, for the name.
        convert: Whether the pixels may be converted, see :meth:`Photo.write_stripes`.

    Raises:
        ValueError: If the format cannot hold the photo.
    """
    original = Path(file.basename)
    if suffix is None:
        suffix = original.suffix if format_of_name(original) is photo.format else default_suffix(photo)
    photo.check_output(Path(f"{original.stem}{suffix}"), convert=convert)
    return folder / f"{secrets.token_hex(8)}{suffix}", f"{original.stem}.{ending}{suffix}"


class FileRegistry:
    """Weak references to open files by id, so that one tool can open a photo of another."""

    def __init__(self) -> None:
        self._files: weakref.WeakValueDictionary[str, StoredFile] = weakref.WeakValueDictionary()

    def add(self, file: StoredFile) -> StoredFile:
        """Register a file; return it."""
        self._files[file.id] = file
        return file

    def __getitem__(self, id: str) -> StoredFile:
        """Return a file.

        Raises:
            UnknownPhotoError: If it is no longer open.
        """
        file = self._files.get(id)
        if file is None:
            raise UnknownPhotoError("the photo is no longer open; open it again")
        return file


class PhotoCache(Generic[P]):
    """Least recently used cache of a tool's open photos by id.

    Args:
        limit: Largest number of photos.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._photos: OrderedDict[str, P] = OrderedDict()

    def add(self, opened: P) -> P:
        """Add a photo, a dataclass with a field ``id``; return a copy with a new id."""
        opened = cast(P, replace(cast(Any, opened), id=secrets.token_urlsafe(9)))
        with self._lock:
            self._photos[opened.id] = opened
            while len(self._photos) > self._limit:
                self._photos.popitem(last=False)
        return opened

    def __getitem__(self, id: str) -> P:
        """Return an open photo.

        Raises:
            UnknownPhotoError: If it is not open.
        """
        with self._lock:
            if id not in self._photos:
                raise UnknownPhotoError(f"a photo is no longer open, the studio keeps {self._limit}; open it again")
            self._photos.move_to_end(id)
            return self._photos[id]
