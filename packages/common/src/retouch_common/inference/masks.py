"""Masks that users draw beside a photograph: what to protect, or what is damaged."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from retouch_common.photo.sources import RowSource, blocks

if TYPE_CHECKING:
    from retouch_common.photo.io import Photo


def mask_files(given: str | os.PathLike[str] | None, photos: Sequence[Path]) -> list[Path]:
    """Return the files that :func:`open_mask` may read for photos.

    Raises:
        ValueError: If one mask of a folder would serve photos of several folders.
    """
    if given is None:
        return []
    if not Path(given).is_dir():
        return [Path(given)]
    folders = {parent: _mask_folder(Path(given), parent) for parent in {photo.parent for photo in photos}}
    files = sorted(file for folder in set(folders.values()) for file in folder.iterdir())
    masks = {(file.parent, file.stem): file for file in files}
    served: dict[tuple[Path, str], Path] = {}
    for photo in photos:
        key = folders[photo.parent], photo.stem
        first = served.setdefault(key, photo)
        if first.parent != photo.parent and key in masks:
            raise ValueError(
                f"{masks[key]}: is named like {first} and {photo}; put masks into folders named like those of the "
                f"photos, such as {Path(given, Path(os.path.abspath(first)).parent.name)}"
            )
    return files


def _mask_folder(given: Path, parent: Path) -> Path:
    """Return the folder of masks for the photos of ``parent``: given/b/c or given/c, where it is there, of a/b/c."""
    parts = Path(os.path.abspath(parent)).parts[1:]
    for start in range(len(parts)):
        folder = given.joinpath(*parts[start:])
        is_photos = os.path.realpath(folder) == os.path.realpath(parent)
        if os.path.isdir(folder) and not is_photos:
            return folder
    return given


def open_mask(given: Path, photo: Photo, meaning: str) -> RowSource:
    """Open the mask of a photo: white where it selects, grey in part.

    Of an image with transparent pixels, such as a layer of strokes, the opacity is the mask, whatever the colours. A
    mask of the values 0 and 1 selects where it is 1.

    Args:
        given: File of the mask, or folder of masks that are named like the photos. Folders in it that are named like
            those of the photos have the masks of these.
        photo: Photo.
        meaning: What the mask selects, for error messages.

    Returns:
        The mask as a grey image of the photo's size, decoded as it is read.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If the folder has no or several masks for the photo, or the mask has another size or is damaged.
    """
    from retouch_common.photo.io import Photo
    from retouch_common.photo.limits import IN_MEMORY_SHARE, LargePhotoError

    if given.is_dir():
        folder = _mask_folder(given, photo.path.parent)
        named = [file for file in sorted(folder.iterdir()) if file.stem == photo.path.stem and file.is_file()]
        if len(named) != 1:
            there = f"{len(named)} images are" if named else "no image is"
            raise ValueError(f"{photo.path}: in the folder {folder} {there} named like it; one must say {meaning}")
        given = named[0]
    sides = f"{photo.path}: has {photo.width}x{photo.height} pixels and the image of {meaning}, {given},"
    try:  # one that is decoded in memory may have as many pixels as the photo, which is within its own limit
        mask = Photo.open(given, max_pixels=IN_MEMORY_SHARE * photo.width * photo.height)
    except LargePhotoError as error:
        raise ValueError(f"{sides} has more; they must be equal") from error
    if (mask.width, mask.height) != (photo.width, photo.height):
        raise ValueError(f"{sides} has {mask.width}x{mask.height}; they must be equal")
    return _Mask(mask)


class _Mask:
    """Levels of a mask, decoded in rows: opacity where it is transparent in part, else the largest colour."""

    def __init__(self, photo: Photo) -> None:
        self._photo = photo
        self.height, self.width, self.dtype = photo.height, photo.width, photo.dtype
        limit = np.iinfo(self.dtype).max
        rows = list(blocks(self.height, self.width))
        self._opacity = photo.has_opacity and any(photo.read_opacity(*block).min() < limit for block in rows)
        self._scale = 1
        if max(self._levels(*block).max() for block in rows) == 1:
            self._scale = limit

    def read_rows(self, y0: int, y1: int) -> np.ndarray:
        """Return rows y0 to y1 (exclusive), (y1 - y0, W, 3) grey."""
        return np.repeat(self._levels(y0, y1)[..., None] * self.dtype.type(self._scale), 3, axis=2)

    def _levels(self, y0: int, y1: int) -> np.ndarray:
        return self._photo.read_opacity(y0, y1) if self._opacity else self._photo.read_rows(y0, y1).max(axis=2)
