"""Masks that users draw beside a photograph: what to protect, or what is damaged."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyvips

from retouch_common.photo.sources import ArraySource

if TYPE_CHECKING:
    from retouch_common.photo.io import Photo


def mask_files(given: str | os.PathLike[str] | None) -> list[Path]:
    """Return the files that :func:`open_mask` may read."""
    if given is None:
        return []
    return sorted(Path(given).iterdir()) if Path(given).is_dir() else [Path(given)]


def open_mask(given: Path, photo: Photo, meaning: str) -> ArraySource:
    """Open the mask of a photo: white where it selects, grey in part.

    Of an image with transparent pixels, such as a layer of strokes, the opacity is the mask, whatever the colours. A
    mask of the values 0 and 1 selects where it is 1.

    Args:
        given: File of the mask, or folder of masks that are named like the photos.
        photo: Photo.
        meaning: What the mask selects, for error messages.

    Returns:
        The mask as a grey image of the photo's size.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If the folder has no or several masks for the photo, or the mask has another size or is damaged.
    """
    from retouch_common.photo.io import Photo

    if given.is_dir():
        named = [file for file in sorted(given.iterdir()) if file.is_file() and file.stem == photo.path.stem]
        if len(named) != 1:
            there = f"{len(named)} images are" if named else "no image is"
            raise ValueError(f"{photo.path}: in the folder {given} {there} named like it; one must say {meaning}")
        given = named[0]
    mask = Photo.open(given)
    if (mask.width, mask.height) != (photo.width, photo.height):
        raise ValueError(
            f"{photo.path}: has {photo.width}x{photo.height} pixels and the image of {meaning}, {given}, "
            f"has {mask.width}x{mask.height}; they must be equal"
        )
    levels = _opacity(given)
    if levels is None:
        levels = mask.read_rows(0, mask.height).max(axis=2)
    if levels.max() == 1:
        levels = levels * np.asarray(np.iinfo(levels.dtype).max, levels.dtype)
    return ArraySource(np.broadcast_to(levels[..., None], (*levels.shape, 3)))


def _opacity(path: Path) -> np.ndarray | None:
    """Return the opacity (H, W) of an upright image, or None if it is opaque."""
    image = pyvips.Image.new_from_file(os.fsencode(path)).autorot()
    if not image.hasalpha():
        return None
    alpha = image[image.bands - 1].numpy()
    return None if alpha.min() == np.iinfo(alpha.dtype).max else alpha
