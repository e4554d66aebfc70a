"""Files of open photos, shared by the tools of the studio."""

from __future__ import annotations

import secrets
import weakref
from pathlib import Path


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
