"""Limits of the photographs that are opened."""

MIN_SIDE = 16
"""Smallest side in pixels."""

MAX_PIXELS = 500_000_000
"""Default of the largest number of pixels; a small file can claim any size."""

IN_MEMORY_SHARE = 5
"""WebP and AVIF, which are decoded in memory, are limited to a fifth."""
