"""Image sheets: the outputs of a network for a few samples, side by side in one PNG."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    import numpy as np


def save_sheet(path: str | Path, rows: Sequence[Mapping[str, torch.Tensor]], *, max_side: int = 384) -> None:
    """Write a grid of images as PNG, atomically: a row for each sample, a column with a title for each name.

    Args:
        path: The file.
        rows: (3, h, w) or (1, h, w) tensors by name, clamped to [0, 1] and resized to the row's first image.
        max_side: Larger images are reduced to this many pixels.

    Raises:
        ValueError: No rows, or a tensor of another shape.
        OSError: It cannot be written.
    """
    import pyvips

    from retouch_common.photo.sink import atomic_image_output

    with atomic_image_output(path) as temporary:
        pyvips.Image.new_from_array(draw_sheet(rows, max_side=max_side)).pngsave(os.fsencode(temporary))


def draw_sheet(rows: Sequence[Mapping[str, torch.Tensor]], *, max_side: int = 384) -> np.ndarray:
    """Return the image that :func:`save_sheet` writes, (H, W, 3) uint8."""
    import numpy as np

    names = list(dict.fromkeys(name for row in rows for name in row))
    if not names:
        raise ValueError("an image sheet needs at least one row with one image")
    gap, title = 4, 22  # pixels
    cells = [_cells(row, max_side) for row in rows]
    heights = [max(cell.shape[0] for cell in row.values()) if row else 0 for row in cells]
    widths = [max(row[name].shape[1] for row in cells if name in row) for name in names]
    sheet = np.full((title + sum(heights) + gap * len(rows), sum(widths) + gap * (len(names) - 1), 3), 255, np.uint8)
    left = 0
    for name, width in zip(names, widths, strict=True):
        ink = 255 - _text(name, width)
        sheet[4 : 4 + ink.shape[0], left : left + ink.shape[1]] = ink[..., None]
        top = title
        for row, height in zip(cells, heights, strict=True):
            if name in row:
                h, w = row[name].shape[:2]
                sheet[top : top + h, left : left + w] = row[name]
            top += height + gap
        left += width + gap
    return sheet


def _cells(row: Mapping[str, torch.Tensor], max_side: int) -> dict[str, np.ndarray]:
    from torch.nn.functional import interpolate

    cells: dict[str, Any] = {}
    size: tuple[int, int] | None = None
    for name, image in row.items():
        if image.ndim != 3 or image.shape[0] not in (1, 3):
            raise ValueError(f"image '{name}' has shape {tuple(image.shape)}, not (3, h, w) or (1, h, w)")
        image = image.detach().float().cpu().clamp(0, 1).nan_to_num()
        h, w = image.shape[1:]
        if size is None:
            scale = min(1.0, max_side / max(h, w))
            size = (max(1, round(h * scale)), max(1, round(w * scale)))
        if (h, w) != size:
            smaller = h > size[0] or w > size[1]
            how: dict[str, Any] = {"mode": "bilinear", "antialias": True} if smaller else {"mode": "nearest-exact"}
            image = interpolate(image[None], size=size, **how)[0]
        cells[name] = image.expand(3, -1, -1).mul(255).round().byte().permute(1, 2, 0).numpy()
    return cells


def _text(text: str, width: int) -> np.ndarray:
    """Return the coverage (h, w) uint8 of one line of text, at most 16 by ``width`` pixels."""
    import pyvips

    escaped = text.replace("&", "&amp;").replace("<", "&lt;")  # Pango reads markup
    return pyvips.Image.text(escaped or " ", font="sans 10", dpi=96).numpy()[:16, :width]
