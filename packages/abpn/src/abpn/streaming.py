"""The network on photographs that need not fit into memory.

The pyramid runs in two passes. The first streams the photograph and keeps level s, of at most ``COARSE_PIXELS`` pixels,
on which the local retouching layer and the coarse levels of the blend pyramid run at once. The second streams the
photograph again and runs levels s - 1 ... 0 tile by tile. Tiles start at multiples of 2^s, and are read with enough
pixels around them, the halo, that their results equal those of the whole photograph.

Shapes: arrays are (H, W, 3) RGB, uint8 or uint16; tensors are (1, 3, H, W) in [0, 1].
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.inference.faces import NOISE_LEVEL, suppress_noise
from retouch_common.inference.limits import limit_uncertain
from retouch_common.photo.sources import ChangedRows, RowSource
from retouch_common.weights import require_finite
from torch import Tensor

from abpn.blend import NeutralBlend
from abpn.blend_pyramid import box_mean, image_pyramid
from abpn.config import PyramidKernel
from abpn.model import ABPN

COARSE_PIXELS = 2_000_000  # of level s: 24 MB in fp32
STREAM_PIXELS = 500_000  # read at a time in the first pass
TILE = 512  # side of a tile: smaller ones cost more calls and halos, larger ones leave the processor's caches
UNCERTAIN = 7 / 255  # largest mean change of a neighbourhood in which the mask is uncertain
NEIGHBOURHOOD = 13  # side in pixels of the thumbnail
CERTAIN = (0.8, 0.95)  # means of the mask between which the limit is lifted


@dataclass(frozen=True)
class Window:
    """Pixels [read_start, read_stop) to read, of which [start, stop) are written."""

    read_start: int
    read_stop: int
    start: int
    stop: int

    @property
    def inner(self) -> slice:
        """Return the written part relative to ``read_start``: ``block[window.inner]`` drops the halo."""
        return slice(self.start - self.read_start, self.stop - self.read_start)

    def around(self, level: int) -> slice:
        """Return the pixels of a pyramid level, relative to ``read_start``, from which the written part follows."""
        scale, origin = 2**level, self.read_start
        margin = halo(level) * scale
        start, stop = max(origin, self.start - margin), min(self.read_stop, self.stop + margin)
        return slice((start - origin) // scale, (stop - origin) // scale)


def halo(level: int) -> int:
    """Return how many pixels of a level beside a tile must be right for the tile to be right at level 0.

    Expanding B_{i+1} makes up to 4 pixels of B_i wrong at the border of a tile: 2 by the two convolutions, and 1 by
    interpolation or 2 by REDUCE and EXPAND. So B_0 without a halo needs 2 pixels of B_1, and these need 4 of B_2.
    Even numbers keep widths multiples of ``blend_pyramid.PIXELS``.
    """
    return min(2 * level, 4)


def plan_stripes(length: int, step: int, *, align: int = 1, halo: int = 0) -> list[Window]:
    """Cover an axis with windows that write each pixel once, in increasing order.

    Args:
        length: Length of the axis in pixels.
        step: Pixels written per window, rounded up to a multiple of ``align``.
        align: Divides every window's ``start`` and ``read_start``.
        halo: Pixels read on both sides of a window, except beyond the ends of the axis; rounded up to a multiple of
            ``align``.
    """
    step = -(-step // align) * align
    halo = -(-halo // align) * align
    return [
        Window(max(0, start - halo), min(length, start + step + halo), start, min(length, start + step))
        for start in range(0, length, step)
    ]


class CoarseLevel:
    """First pass: level s of the photograph and of its blend layer.

    Args:
        model: Network.
        source: Photograph.
        device: Of the computation.
        limited: Limit broad changes where the mask is uncertain.

    Attributes:
        level: s.
        image: I_s, (1, 3, padded_height / 2^s, padded_width / 2^s).
        blend: B_s, of the same shape.
        padded_height: Height of the photograph, padded to a multiple of 2^l.
        padded_width: Width of the photograph, padded likewise.
    """

    @torch.inference_mode()
    def __init__(self, model: ABPN, source: RowSource, device: torch.device, *, limited: bool = False) -> None:
        num_levels = model.num_levels(source.height, source.width)
        step = 2**num_levels
        self.padded_height = -(-source.height // step) * step
        self.padded_width = -(-source.width // step) * step
        self.level = 0
        while self.level < num_levels and self.padded_height * self.padded_width > COARSE_PIXELS * 4**self.level:
            self.level += 1
        self.image = self._reduce(source, model.config.pyramid, device)
        images = image_pyramid(self.image, num_levels - self.level, model.config.pyramid, mean=box_mean)
        R_l, self._mask_logits = model.retouch_thumbnail(images[-1])
        require_finite(R_l)
        if limited and self._mask_logits is not None:  # Paper: R_l. Here: without broad changes of uncertain places.
            mask = self._enlarged_mask(self._mask_logits, 1)[..., : R_l.shape[-2], : R_l.shape[-1]]
            change = R_l.float() - images[-1]
            R_l = images[-1] + limit_uncertain(change, mask, limit=UNCERTAIN, side=NEIGHBOURHOOD, certain=CERTAIN)
        B_l = model.blend.reverse(images[-1], R_l)
        self.blend = model.blend_pyramid(B_l, images)[0]
        self._thumbnail_scale = step

    @property
    def mask(self) -> Tensor | None:
        """M at the padded size of the photograph, (padded_height, padded_width), or None."""
        if self._mask_logits is None:
            return None
        return self._enlarged_mask(self._mask_logits, self._thumbnail_scale)[0, 0]

    @staticmethod
    def _enlarged_mask(logits: Tensor, scale: int) -> Tensor:
        """Return M at ``scale`` times the thumbnail's size, (1, 1, h, w), padded as the thumbnail was."""
        return F.interpolate(torch.sigmoid(logits.float()), scale_factor=4.0 * scale, mode="bilinear")

    def _reduce(self, source: RowSource, kernel: PyramidKernel, device: torch.device) -> Tensor:
        """Stream the photograph and return level s."""
        scale = 2**self.level
        margin = 0 if kernel == "box" else 3 * scale
        shape = (1, 3, self.padded_height // scale, self.padded_width // scale)
        coarse = torch.empty(shape, device=device, memory_format=torch.channels_last)
        step = max(1, STREAM_PIXELS // self.padded_width)
        waiting: deque[Future[None]] = deque()
        with _single_threaded_workers(device) as workers:  # reduce while the next rows are decoded
            for rows in plan_stripes(self.padded_height, step, align=scale, halo=margin):
                read_start = min(rows.read_start, source.height - 1)
                block = source.read_rows(read_start, max(read_start + 1, min(rows.read_stop, source.height)))
                waiting.append(workers.submit(self._reduce_block, block, rows, kernel, coarse))
                if len(waiting) > 1:
                    waiting.popleft().result()
            for block_done in waiting:
                block_done.result()
        return coarse

    @torch.inference_mode()
    def _reduce_block(self, block: np.ndarray, rows: Window, kernel: PyramidKernel, coarse: Tensor) -> None:
        """Write level s of a block of rows to ``coarse``, modified in place."""
        scale = 2**self.level
        image = _pad(_to_tensor(block, coarse.device), rows.read_stop - rows.read_start, self.padded_width)
        reduced = box_mean(image, scale) if kernel == "box" else image_pyramid(image, self.level, kernel)[-1]
        # Copied into place at once: small tensors kept between large temporary ones would fragment the heap.
        kept = reduced[..., rows.inner.start // scale : rows.inner.stop // scale, :]
        coarse[..., rows.start // scale : rows.stop // scale, :] = kept


class FineLevels:
    """Second pass: levels s - 1 ... 0, tile by tile, and the change that follows from B_0.

    Args:
        model: Network.
        coarse: Result of the first pass.
        device: Of the computation.
        strength: Scale of the change; 0 returns the photograph.
        postprocess: Suppress changes of up to one 8-bit level.
    """

    def __init__(
        self, model: ABPN, coarse: CoarseLevel, device: torch.device, *, strength: float, postprocess: bool
    ) -> None:
        self._model, self._coarse, self._device = model, coarse, device
        self._strength, self._postprocess = strength, postprocess
        self._negligible: float | None = None
        if postprocess and isinstance(model.blend, NeutralBlend):
            self._negligible = model.blend.negligible(NOISE_LEVEL)

    def stripes(self, source: RowSource) -> ChangedRows:
        """Yield consecutive blocks of retouched rows, (n, W, 3) of the source's type."""
        changed = False
        coarse, align = self._coarse, 2**self._coarse.level
        margin = halo(coarse.level) * align
        tile = max(TILE, 8 * margin)  # with small tiles, most of the work would be on wide halos
        columns = plan_stripes(coarse.padded_width, tile, align=align, halo=margin)
        waiting: deque[tuple[np.ndarray, list[Future[bool]]]] = deque()
        with _single_threaded_workers(self._device) as workers:
            for rows in plan_stripes(coarse.padded_height, tile, align=align, halo=margin):
                if rows.start >= source.height:
                    break
                block = source.read_rows(rows.read_start, min(rows.read_stop, source.height))
                result = block[rows.inner].copy()
                tiles = [workers.submit(self._retouch_tile, w, rows, block, result) for w in columns if self._strength]
                waiting.append((result, tiles))
                if len(waiting) > 1:  # one row of tiles ahead, to keep all workers busy
                    result, tiles = waiting.popleft()
                    changed |= _any(tiles)
                    yield result
            while waiting:
                result, tiles = waiting.popleft()
                changed |= _any(tiles)
                yield result
        return changed

    @torch.inference_mode()
    def _retouch_tile(self, columns: Window, rows: Window, block: np.ndarray, result: np.ndarray) -> bool:
        """Retouch a tile of ``block`` and write its inner part to ``result``; return as :func:`_add_change`."""
        stop = min(columns.stop, block.shape[1])
        if columns.start >= stop:
            return False
        tile = _to_tensor(block[:, columns.read_start : columns.read_stop], self._device)
        tile = _pad(tile, rows.read_stop - rows.read_start, columns.read_stop - columns.read_start)
        height, width = len(result), stop - columns.start  # without padding
        image = tile[..., rows.around(0), columns.around(0)][..., :height, :width]
        B_0 = self._blend_layer(tile, columns, rows)[..., :height, :width]
        if self._negligible is not None and float(B_0.abs().max()) <= self._negligible:
            return False  # as in most tiles of most photographs
        change = self._model.blend.change(image, B_0)
        if self._postprocess:  # Paper: R_0. Here: unretouched pixels keep their bits.
            change = suppress_noise(change)
        return _add_change(result[:, columns.start : stop], change, self._strength)

    def _blend_layer(self, tile: Tensor, columns: Window, rows: Window) -> Tensor:
        """Return B_0 of a tile without its halo."""
        coarse, pyramid = self._coarse, self._model.blend_pyramid
        images = image_pyramid(tile, coarse.level, pyramid.kernel, mean=box_mean)
        scale = 2**coarse.level
        at_s = (
            ...,
            slice(rows.read_start // scale, rows.read_stop // scale),
            slice(columns.read_start // scale, columns.read_stop // scale),
        )
        images[-1], B = coarse.image[at_s], coarse.blend[at_s]
        for level in reversed(range(coarse.level)):
            y, x = rows.around(level + 1), columns.around(level + 1)
            fine = images[level][..., 2 * y.start : 2 * y.stop, 2 * x.start : 2 * x.stop]
            B = pyramid.expand(B, fine, images[level + 1][..., y, x])
            inner_y, inner_x = rows.around(level), columns.around(level)
            B = B[
                ...,
                inner_y.start - 2 * y.start : inner_y.stop - 2 * y.start,
                inner_x.start - 2 * x.start : inner_x.stop - 2 * x.start,
            ]
        return B


def _add_change(pixels: np.ndarray, change: Tensor, strength: float) -> bool:
    """Add a change (1, 3, H, W) to pixels (H, W, 3), in place; return whether any is another then."""
    largest = np.iinfo(pixels.dtype).max
    before = torch.from_numpy(pixels).to(change.device, torch.float32)
    change = change[0].permute(1, 2, 0).mul_(strength * largest).round_()
    result = change.add_(before).clamp_(0, largest)  # integers, exact in fp32
    pixels[:] = result.cpu().numpy()
    return not torch.equal(result, before)


def _to_tensor(block: np.ndarray, device: torch.device) -> Tensor:
    """Convert (H, W, 3) integers to (1, 3, H, W) in [0, 1], fp32, channels-last."""
    pixels = torch.from_numpy(np.ascontiguousarray(block)[None]).to(device)
    return pixels.to(torch.float32).div_(np.iinfo(block.dtype).max).permute(0, 3, 1, 2)


def _pad(image: Tensor, height: int, width: int) -> Tensor:
    """Pad the bottom and the right to (height, width) by repeating the edge."""
    bottom, right = height - image.shape[-2], width - image.shape[-1]
    if not bottom and not right:
        return image
    return F.pad(image, (0, right, 0, bottom), mode="replicate").contiguous(memory_format=torch.channels_last)


@contextlib.contextmanager
def _single_threaded_workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of threads for stripes or tiles: on a CPU one per core, each computing single-threaded.

    They are small: if each were split over all cores, a quarter of the time would go into synchronisation, and several
    times more if another program takes a core.
    """
    if device.type != "cpu":
        with ThreadPoolExecutor(1) as workers:
            yield workers
        return
    number = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(number, initializer=torch.set_num_threads, initargs=(1,)) as workers:
            yield workers
    finally:
        torch.set_num_threads(number)  # part of this setting is global


def _any(tiles: list[Future[bool]]) -> bool:
    """Wait for tiles; return whether any was changed."""
    return any([tile.result() for tile in tiles])  # re-raises exceptions of the threads
