"""Small pictures for the page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from retouch_common.photo.pixels import image_from_array

if TYPE_CHECKING:
    from retouch_common.photo.io import Photo


def png(pixels: np.ndarray, photo: Photo) -> bytes:
    """A PNG file with a photograph's colour profile.

    Args:
        pixels: (H, W, 3) uint8, in the photograph's colours.
        photo: Where they are from.
    """
    image = image_from_array(pixels, "srgb").copy()
    photo.give_profile(image)
    return image.pngsave_buffer(compression=1)  # the page is on the same computer: speed counts, size does not
