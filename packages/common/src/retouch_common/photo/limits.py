"""Limits of the photographs that are opened."""

import os

MIN_SIDE = 16
"""Smallest side in pixels."""

MAX_PIXELS = 500_000_000
"""Default of the largest number of pixels; a small file can claim any size."""

IN_MEMORY_SHARE = 3
"""What is decoded in memory is limited to a third, since the largest sensors have 151 million pixels: WebP, AVIF, HEIC,
JPEG XL, raw, progressive JPEG, interlaced PNG."""


class LargePhotoError(ValueError):
    """A photo has more pixels than a limit."""


def refuse_large(path: str | os.PathLike[str], name: str, width: int, height: int, limit: int | None) -> None:
    """Refuse a photo of a format's name that has more pixels than a limit.

    Raises:
        LargePhotoError: If it has.
    """
    if limit is not None and width * height > limit:
        raise LargePhotoError(
            f"{path}: has {width}x{height} pixels, more than the {limit / 1e6:g} million allowed for {name}; reduce it"
        )
