"""Reduction of stored pixels to what a format holds: 16 bits to 8, transparency flattened onto white."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from retouch_common.photo.pixels import Layout


@dataclass(frozen=True, kw_only=True)
class Reduction:
    """What pixels lose.

    Attributes:
        depth: Whether 16 bits are rounded to 8.
        opacity: Whether grey or RGB is laid on white by its opacity, which is left out.
    """

    depth: bool = False
    opacity: bool = False

    def __bool__(self) -> bool:
        return self.depth or self.opacity

    def __str__(self) -> str:
        parts = ["16 bits rounded to 8"] * self.depth + ["transparency flattened onto white"] * self.opacity
        return ", ".join(parts)

    def layout(self, layout: Layout) -> Layout:
        """Return the layout of reduced pixels."""
        return replace(
            layout,
            dtype=np.dtype(np.uint8) if self.depth else layout.dtype,
            bands=layout.colour_bands if self.opacity else layout.bands,
        )

    def apply(self, stored: np.ndarray) -> np.ndarray:
        """Reduce stored pixels (H, W, bands), uint8 or uint16, the opacity last; values are rounded to the nearest."""
        if self.opacity:
            limit = np.iinfo(stored.dtype).max
            alpha = stored[..., -1:].astype(np.uint32)
            blended = stored[..., :-1] * alpha + limit * (limit - alpha)  # below 2**32
            stored = ((blended + limit // 2) // limit).astype(stored.dtype)
        if self.depth:
            stored = ((stored.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return stored
