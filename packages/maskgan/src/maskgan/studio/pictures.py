"""Small pictures for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from retouch_common.photo.pixels import image_from_array

if TYPE_CHECKING:
    from retouch_common.photo.io import Photo


def levels(picture: np.ndarray) -> np.ndarray:
    """(H, W, 3) float32 in [0, 1], cut where it leaves that, as uint8."""
    return np.rint(picture * 255).clip(0, 255).astype(np.uint8)


def png(pixels: np.ndarray, photo: Photo) -> bytes:
    """A PNG file with a photograph's colour profile.

    Args:
        pixels: (H, W, 3) uint8, in the photograph's colours.
        photo: Where they are from.
    """
    image = image_from_array(pixels, "srgb").copy()
    photo.give_profile(image)
    return image.pngsave_buffer(compression=1)  # the page is on the same computer: speed counts, size does not
