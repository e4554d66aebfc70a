"""Traces of interpolation and filtering at a photograph's own resolution, as maps of a face.

Retouching warps or blurs parts of a face, which weakens differences between neighbouring pixels there (Popescu, Farid,
"Exposing Digital Forgeries by Detecting Traces of Resampling", IEEE TSP 2005). Little of that is left once a large face
was downsampled to the network's size. The maps hold the log strength of differences of several orders, directions and
scales in each cell of the face's square; processing of the whole photograph shifts them everywhere alike.

Shapes: maps (C, G, G) float32, C = ``CHANNELS`` and G = ``GRID``; the last map is constant, the square's side in
octaves above ``REFERENCE`` pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.faces.alignment import FaceSquare, read_aligned
from retouch_common.photo.sources import ArraySource, RowSource
from torch import Tensor

GRID = 64
FINE = 2 * GRID  # cells are sampled at twice the resolution and averaged
STRIP = 64  # rows at a time; a multiple of 4, the factor of the coarsest scale
REFERENCE = 256
FLOOR = 0.1  # added before the logarithm, in roots of 8-bit levels
STEP = 32  # maps are quantised to 1/32, to be stored as bytes
OFFSET = 112  # the byte of 0

LUMA = torch.tensor((0.299, 0.587, 0.114))
FINEST, COARSER, COLOURED = 8, 3, 1  # maps of luma at the finest and at each coarser scale, of each colour difference
CHANNELS = FINEST + 2 * COARSER + 2 * COLOURED + 1


def photo_traces(image: np.ndarray, square: FaceSquare | None = None) -> np.ndarray:
    """Return the maps of one face of a photograph in memory.

    Args:
        image: (H, W, 3) RGB, uint8 or uint16.
        square: The face's square; None if the whole photograph is the face.

    Raises:
        ValueError: The image has another shape or type, or the square lies outside it.
    """
    if square is None:
        height, width = image.shape[:2]
        square = FaceSquare((width / 2, height / 2), float(max(height, width)), feather=0.0)
    ((_, _, traces),) = read_faces(ArraySource(image), [square], GRID)
    return traces


def image_traces(images: Tensor) -> Tensor:
    """Return the maps of photographs that are faces as a whole, (N, 3, H, W) in [0, 1], as (N, C, G, G)."""
    levels = (255 * images.float()).round().clamp(0, 255).byte().permute(0, 2, 3, 1).cpu().numpy()
    maps = [photo_traces(np.ascontiguousarray(image)) for image in levels]
    return torch.from_numpy(np.stack(maps)).to(images.device)


def read_faces(
    source: RowSource, squares: Sequence[FaceSquare], size: int
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Read aligned faces and their traces in one pass over a photograph's rows.

    Args:
        source: The photograph.
        squares: The faces' squares.
        size: Side of the aligned faces in pixels.

    Yields:
        (index of the square, face as of :func:`retouch_common.faces.alignment.align`, maps).

    Raises:
        ValueError: A square lies outside the photograph.
    """
    shared = _Tee(source, squares)
    for index, face in read_aligned(shared, squares, size):
        yield index, face, shared.parts[index].maps()


class _Tee:
    """A photograph whose rows also go to the faces' cells when they are read."""

    def __init__(self, source: RowSource, squares: Sequence[FaceSquare]) -> None:
        self._source = source
        self.height, self.width, self.dtype = source.height, source.width, source.dtype
        self.parts = [_Cells(square, source.height, source.width, source.dtype) for square in squares]

    def read_rows(self, y0: int, y1: int) -> np.ndarray:
        rows = self._source.read_rows(y0, y1)
        for part in self.parts:
            part.add(rows, y0)
        return rows


class _Cells:
    """Mean strengths of differences in cells of k x k pixels around a square, computed strip by strip."""

    def __init__(self, square: FaceSquare, height: int, width: int, dtype: np.dtype) -> None:
        self._square = square
        self.x, self.y, self.width, self.height = square.bounds(height, width)
        self._k = k = max(1, round(square.side / FINE))
        self._scale = np.float32(255 / np.iinfo(dtype).max)
        self._rows: list[np.ndarray] = []
        self._strip = max(STRIP // k * k, k) if k < STRIP else k
        self._means: list[Tensor] = []

    def add(self, rows: np.ndarray, top: int) -> None:
        """Add the photograph's rows from ``top`` on."""
        first, last = max(top, self.y), min(top + len(rows), self.y + self.height)
        if first >= last:
            return
        part = rows[first - top : last - top, self.x : self.x + self.width, :3]
        self._rows.append(part.astype(np.float32) * self._scale)
        ended = last == self.y + self.height
        if sum(map(len, self._rows)) < self._strip and not ended:
            return
        strip = np.concatenate(self._rows)
        whole = len(strip) if ended else len(strip) // self._strip * self._strip
        for start in range(0, whole, self._strip):
            self._means.append(_cell_means(strip[start : min(start + self._strip, whole)], self._k))
        self._rows = [strip[whole:]]

    def maps(self) -> np.ndarray:
        """Return the cells sampled on the square's grid, (C, G, G)."""
        cells = torch.cat(self._means, dim=1)[None]
        unit = (np.arange(FINE) + 0.5) / FINE
        x, y = self._square.to_photo(unit[None, :], unit[:, None])
        rows, columns = cells.shape[-2:]
        points = np.stack([(x - self.x) / self._k / columns, (y - self.y) / self._k / rows], axis=-1)
        grid = torch.from_numpy((2 * points - 1).astype(np.float32))[None]
        sampled = F.grid_sample(cells, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
        strength = F.avg_pool2d(sampled, 2)[0]
        maps = torch.log2(strength.clamp_min(0) + FLOOR)
        octave = torch.full((1, GRID, GRID), float(np.log2(self._square.side / REFERENCE)))
        return unpacked(packed(torch.cat([maps, octave]).numpy()))  # as cached samples have them


def packed(maps: np.ndarray) -> np.ndarray:
    """Quantise maps to bytes."""
    return np.rint(STEP * maps + OFFSET).clip(0, 255).astype(np.uint8)


def unpacked(levels: np.ndarray) -> np.ndarray:
    """Return the maps of bytes."""
    return (levels.astype(np.float32) - OFFSET) / STEP


def _cell_means(strip: np.ndarray, k: int) -> Tensor:
    """Return means of the roots of absolute differences, (C - 1, rows / k, columns / k), rounded up."""
    planes = torch.from_numpy(strip).permute(2, 0, 1)
    luma = torch.tensordot(LUMA, planes, 1)
    height, width = luma.shape
    found = _differences(luma)
    for factor in (2, 4):
        padded = F.pad(luma[None], (0, -width % factor, 0, -height % factor), mode="replicate")
        for coarse in _differences(F.avg_pool2d(padded, factor)[0], finest=False):
            enlarged = coarse.repeat_interleave(factor, dim=0).repeat_interleave(factor, dim=1)
            found.append(enlarged[:height, :width])
    for colour in (planes[0] - planes[1], planes[2] - planes[1]):
        found.append(_second_order(colour, *colour.shape))
    roots = torch.stack(found).abs_().sqrt_()
    return F.avg_pool2d(roots[None], k, ceil_mode=True, count_include_pad=False)[0]


def _differences(plane: Tensor, *, finest: bool = True) -> list[Tensor]:
    """Return first-order differences of a plane (h, w) along both axes and the mixed second-order difference.

    At the finest scale also second and third order, and the diagonal. Borders are replicated.
    """
    height, width = plane.shape
    padded = F.pad(plane[None], (0, 3, 0, 3), mode="replicate")[0]
    found = [padded[:, 1:] - padded[:, :-1], padded[1:] - padded[:-1]]
    if finest:
        across, down = found
        second = across[:, 1:] - across[:, :-1], down[1:] - down[:-1]
        third = second[0][:, 1:] - second[0][:, :-1], second[1][1:] - second[1][:-1]
        found += [*second, *third, across[1:] - across[:-1]]
    return [part[:height, :width] for part in found] + [_second_order(plane, height, width)]


def _second_order(plane: Tensor, height: int, width: int) -> Tensor:
    """Return the second difference along rows of that along columns, over 4 (Ker, Böhme, SPIE 2008)."""
    padded = F.pad(plane[None], (0, 2, 0, 2), mode="replicate")[0]
    across = padded[:, 2:] - 2 * padded[:, 1:-1] + padded[:, :-2]
    return ((across[2:] - 2 * across[1:-1] + across[:-2]) / 4)[:height, :width]
