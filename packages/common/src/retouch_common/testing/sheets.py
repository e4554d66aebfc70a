"""Sheets of the results on all held-out people, for inspection; they never enter the repository."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from retouch_common.testing.anywhere import Draw, MeshPortrait, Retouch, face_window
from retouch_common.training.sheets import save_sheet

ROWS = 5  # on a sheet
SIDE = 448  # of the largest image in pixels
MARGIN = 0.7  # face widths around the face
CHANGED = 2  # levels


def write_sheets(folder: Path, name: str, rows: Iterable[Mapping[str, np.ndarray]]) -> Iterator[Path]:
    """Write rows of images (H, W, 3) uint8 by title on as many PNG files as they need; yield each file once written."""
    folder.mkdir(parents=True, exist_ok=True)
    waiting, number = iter(rows), 1
    while page := list(islice(waiting, ROWS)):
        path = folder / f"{name}_{number:02d}.png"
        save_sheet(path, [{title: _tensor(picture) for title, picture in row.items()} for row in page], max_side=SIDE)
        yield path
        number += 1


def retouched_rows(portraits: Sequence[MeshPortrait], retouch: Retouch, draw: Draw) -> Iterator[dict[str, np.ndarray]]:
    """Yield a row per portrait: the photograph and a copy with blemishes, each with its result and its changes."""
    for seed, portrait in enumerate(portraits):
        window = face_window(portrait, MARGIN)
        row: dict[str, np.ndarray] = {}
        for title, given in (("photograph", portrait.levels), ("drawn", draw(portrait, seed))):
            result = retouch(given)
            before, after = given[window], (given if result is None else result)[window]
            row |= {title: before, f"{title}, result": after, f"{title}, changes": changes_over(before, after)}
        yield row


def changes_over(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return a faint grey copy of an image with the pixels that change by more than 2 levels in red, uint8."""
    grey = 128 + 0.4 * (before.mean(axis=-1, keepdims=True) - 128)
    picture = np.repeat(grey, 3, axis=2)
    picture[np.abs(after.astype(np.int16) - before).max(axis=-1) > CHANGED] = (230, 20, 20)
    return np.rint(picture).astype(np.uint8)


def _tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1).float() / 255
