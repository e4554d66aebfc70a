"""Files of photos, shared by the tools of the studio, and the photos that a tool keeps open."""

from __future__ import annotations

import secrets
import threading
import weakref
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

DECODING = threading.Lock()
"""Held while a photo is opened: some formats are decoded in memory, in one tool at a time."""


class _Opened(Protocol):
    @property
    def id(self) -> str: ...


P = TypeVar("P", bound=_Opened)


class UnknownPhoto(LookupError):
    """A photo is not open, or no longer."""


class StoredFile:
    """A photo's file and its user-visible name; with ``ours`` it is deleted with the last reference."""

    def __init__(self, path: Path, name: str, *, ours: bool) -> None:
        self.path, self.name, self.ours = path, name, ours
        self.id = secrets.token_urlsafe(9)
        self._delete = weakref.finalize(self, path.unlink, missing_ok=True) if ours else None

    @property
    def plain_name(self) -> str:
        """Its name without folders."""
        return Path(self.name).name

    def discard(self) -> None:
        """Delete it now if it is ours."""
        if self._delete is not None:
            self._delete()


class Files:
    """Files by id, as long as a tool keeps them open: so that one tool can open what another shows."""

    def __init__(self) -> None:
        self._files: weakref.WeakValueDictionary[str, StoredFile] = weakref.WeakValueDictionary()

    def add(self, file: StoredFile) -> StoredFile:
        """Register a file; return it."""
        self._files[file.id] = file
        return file

    def __getitem__(self, id: str) -> StoredFile:
        """Return a file.

        Raises:
            UnknownPhoto: If it is no longer open.
        """
        file = self._files.get(id)
        if file is None:
            raise UnknownPhoto("the photo is no longer open; open it again")
        return file


class OpenPhotos(Generic[P]):
    """Photos that a tool keeps open, by id, of which the least recently used is closed.

    Args:
        limit: Number of photos.
    """

    def __init__(self, limit: int) -> None:
        self._limit, self._lock = limit, threading.Lock()
        self._photos: OrderedDict[str, P] = OrderedDict()

    def add(self, opened: P) -> P:
        """Keep a photo, a dataclass, under a new id; return it with that."""
        opened = cast(P, replace(cast(Any, opened), id=secrets.token_urlsafe(9)))
        with self._lock:
            self._photos[opened.id] = opened
            while len(self._photos) > self._limit:
                self._photos.popitem(last=False)
        return opened

    def __getitem__(self, id: str) -> P:
        """Return an open photo.

        Raises:
            UnknownPhoto: If it is not open.
        """
        with self._lock:
            if id not in self._photos:
                raise UnknownPhoto(f"a photo is no longer open, the studio keeps {self._limit}; open it again")
            self._photos.move_to_end(id)
            return self._photos[id]
