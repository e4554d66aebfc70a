"""Versions of installed packages."""

from __future__ import annotations

import functools
from importlib import metadata


@functools.cache
def package_version(name: str) -> str | None:
    """Return the version of an installed package, by the name of its module or distribution; None if it is none."""
    try:
        return metadata.version(name.replace("_", "-"))
    except metadata.PackageNotFoundError:
        return None
