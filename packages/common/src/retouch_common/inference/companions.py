"""Companions of a retouched photo: maps of the network, comparisons of before and after, and the change alone."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyvips

from retouch_common.photo.pixels import image_from_array
from retouch_common.photo.sink import atomic_image_output, stream_rows

if TYPE_CHECKING:
    from retouch_common.faces.pasting import AlignedLayer
    from retouch_common.photo.io import Photo

COMPARE_SIDE = 1024
COMPARED_PARTS = 4


class Comparison:
    """Before and after, side by side: of the first few parts (x, y, w, h) in pixels, or of the whole photo."""

    def __init__(self, photo: Photo, parts: Sequence[tuple[int, int, int, int]]) -> None:
        self._parts = list(parts[:COMPARED_PARTS]) or [(0, 0, photo.width, photo.height)]
        self._before = [photo.thumbnail(COMPARE_SIDE, part) for part in self._parts]

    def write(self, result: Photo, path: Path) -> None:
        """Write one row of two images per part, as JPEG.

        Raises:
            OSError: If it cannot be written.
            ValueError: If the retouched photo cannot be read.
        """
        after = [result.thumbnail(COMPARE_SIDE, part) for part in self._parts]
        width = max(view.shape[1] for view in (*self._before, *after))  # formats differ in how they reduce, by a pixel
        rows = []
        for pair in zip(self._before, after, strict=True):
            row = np.full((max(view.shape[0] for view in pair) + 8, 2 * width + 8, 3), 255, np.uint8)
            for left, view in zip((0, width + 8), pair, strict=True):
                row[: view.shape[0], left : left + view.shape[1]] = view
            rows.append(row)
        image = image_from_array(np.concatenate(rows)[:-8], "srgb")
        with atomic_image_output(path) as temporary:
            image.jpegsave(os.fsencode(temporary), Q=92, subsample_mode="off")


def write_map(path: Path, height: int, width: int, layers: Sequence[AlignedLayer]) -> None:
    """Write maps of aligned faces, see :func:`retouch_common.photo.pasting.map_rows`, as one grey PNG.

    Raises:
        OSError: If it cannot be written.
    """
    from retouch_common.photo.pasting import map_rows

    rows = map_rows(height, width, layers)
    with atomic_image_output(path) as temporary:
        stream_rows(
            rows,
            width,
            height,
            1,
            np.dtype(np.uint8),
            lambda image: image.copy(interpretation="b-w").pngsave(os.fsencode(temporary)),
        )


def write_change(photo: Photo, rows: Iterable[np.ndarray], path: Path) -> None:
    """Write the change of a photo alone as a 16-bit sRGB TIFF, to be blended over it in other programs.

    A pixel is (1 + after - before) / 2 in [0, 1]: grey where nothing changes. Over the photo in sRGB, with the blend
    mode Linear Light, it gives the changed photo.

    Args:
        photo: Photo as it was; not the object that ``rows`` read.
        rows: The changed photo: consecutive blocks (n, width, 3) of the photo's dtype.
        path: Output.

    Raises:
        OSError: If it cannot be written.
        ValueError: If the photo is damaged.
    """
    limit = np.iinfo(photo.dtype).max

    def layer() -> Iterator[np.ndarray]:
        y = 0
        for after in rows:
            change = after.astype(np.float64) - photo.read_rows(y, y + len(after))
            y += len(after)
            yield np.rint(65535 * (0.5 + change / (2 * limit))).astype(np.uint16)

    def save(image: pyvips.Image) -> None:
        image = image.copy(interpretation="rgb16")
        image.tiffsave(os.fsencode(temporary), compression="deflate", predictor="horizontal", profile="srgb")

    with atomic_image_output(path) as temporary:
        stream_rows(layer(), photo.width, photo.height, 3, np.dtype(np.uint16), save)
