"""Retouching photographs of any size, in memory that does not grow with them.

The pyramid is run in two passes. The first streams the photograph once and keeps a reduced copy, level s, of at
most ``COARSE_PIXELS`` pixels; the local retouching layer and the coarse levels of the blend pyramid run on that copy
as a whole. The second streams the photograph again and runs the fine levels s - 1 ... 0 tile by tile. A tile is read
with a halo wide enough that its result equals the same pixels of the whole photograph.

Shapes: arrays are (H, W, 3) RGB, uint8 or uint16; tensors are (1, 3, H, W) in [0, 1].
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.devices import resolve_device, resolve_precision
from retouch_common.inference.faces import gather_rows, open_skin_segmenter, suppress_noise
from retouch_common.inference.names import MASK, beside
from retouch_common.inference.network import prepare_for_inference
from retouch_common.inference.photos import PhotoOptions, require_strength
from retouch_common.photo.sources import ArraySource, RowSource
from retouch_common.ranges import to_levels
from torch import Tensor

from abpn.blend_pyramid import box_mean, image_pyramid
from abpn.config import PyramidKernel
from abpn.model import ABPN
from abpn.stripes import Window, plan_stripes

if TYPE_CHECKING:
    import pyvips
    from retouch_common.inference.regions import Region, RegionPlan
    from retouch_common.parsing.skin import SkinSegmenter
    from retouch_common.photo.io import Photo


COARSE_PIXELS = 2_000_000  # the reduced copy's size: 24 MB in fp32
STREAM_PIXELS = 2_000_000  # what the first pass reads at a time
TILE = 448  # side of a tile: its 16-channel activations stay near the processor's caches
HALO = {
    "box": 3,
    "burt": 6,
}  # pixels of level s; two convolutions and an interpolation a level, and the kernel


class Retoucher:
    """A network ready to retouch photographs.

    Args:
        model: An ABPN, or the name, path or hub id of weights.
        device: "auto", "cpu", "cuda" or a torch device.
        precision: Number format of the convolutions: "auto", "fp32", "bf16" or "fp16". Pyramid and blending are
            always fp32.

    Raises:
        ValueError: Unknown weights, device or precision.
    """

    def __init__(
        self, model: ABPN | str | os.PathLike[str] = "small", *, device: str = "auto", precision: str = "auto"
    ) -> None:
        self.device = resolve_device(device)
        dtype = resolve_precision(precision, self.device)
        model = model if isinstance(model, ABPN) else ABPN.from_pretrained(model)
        self.model = prepare_for_inference(model, self.device, convolutions=dtype)
        self.precision = precision

    @functools.cached_property
    def skin(self) -> SkinSegmenter:
        """What finds the skin of faces, for ``confine``; loaded at its first use."""
        return open_skin_segmenter(self.device, self.precision)

    def __call__(self, image: np.ndarray, *, strength: float = 1.0) -> np.ndarray:
        """Retouch one photograph.

        Args:
            image: (H, W, 3) RGB, uint8 or uint16.
            strength: 0 changes nothing, 1 is the network's retouching.

        Returns:
            An array of the same shape and type.

        Raises:
            ValueError: Another shape or type, or a strength outside [0, 1].
        """
        return gather_rows(self.stripes(ArraySource(image), strength=strength), image)

    def retouch_file(self, src: str | os.PathLike[str], dst: str | os.PathLike[str], **options: Any) -> RegionPlan:
        """Retouch one photograph into a file, with everything the file carries beside its pixels.

        Args:
            src: The photograph: JPEG, PNG, TIFF, WebP or AVIF.
            dst: The output; its ending says the format. It is complete or not there at all.
            **options: strength, region, face_boxes, confine, mask_out, compare, overwrite: the fields of
                :class:`abpn.retouch.Options`.

        Returns:
            Which part was retouched, and why.

        Raises:
            OSError: If a file cannot be opened or written.
            ValueError: If ``src`` is not a photograph, ``dst`` cannot hold it or is ``src`` without
                ``overwrite``, or an option does not fit.
        """
        return retouch_file(self, src, dst, Options(**options))

    def mask(self, image: np.ndarray) -> np.ndarray:
        """Where the network would retouch: M enlarged to the photograph, (H, W) float32 in [0, 1].

        Raises:
            ValueError: Another shape or type, or a network without a mask branch.
        """
        source = ArraySource(image)
        coarse = _Coarse(self.model, source, self.device)
        if coarse.mask is None:
            raise ValueError("this network has no mask branch (model.mask_branch=false)")
        return coarse.mask[: source.height, : source.width].cpu().numpy()

    @torch.inference_mode()
    def stripes(self, source: RowSource, *, strength: float = 1.0) -> Iterator[np.ndarray]:
        """Retouch a photograph that need not fit into memory.

        Args:
            source: The photograph; its rows are asked for from top to bottom, twice, with a small overlap.
            strength: See :meth:`__call__`.

        Yields:
            Blocks of finished rows, (n, W, 3) of the source's type, from top to bottom.
        """
        require_strength(strength)
        coarse = _Coarse(self.model, source, self.device)
        align = 2**coarse.level
        halo = HALO[self.model.config.pyramid] * align if coarse.level else 0
        tile = max(TILE, 16 * halo)  # wide halos want larger tiles, or most of the work is done twice
        columns = plan_stripes(coarse.padded_width, tile, align=align, halo=halo)
        waiting: deque[tuple[np.ndarray, list[Future[None]]]] = deque()
        with _tile_workers(self.device) as workers:
            for rows in plan_stripes(coarse.padded_height, tile, align=align, halo=halo):
                if rows.start >= source.height:
                    break
                block = source.read_rows(rows.read_start, min(rows.read_stop, source.height))
                inner = slice(rows.inner.start, min(rows.inner.stop, len(block)))
                result = block[inner].copy()
                tasks = (coarse, block, rows, inner, result, strength)
                tiles = [workers.submit(self._retouch_tile, window, *tasks) for window in columns if strength]
                waiting.append((result, tiles))
                if len(waiting) > 1:  # one row ahead, so that no worker waits at the end of a row
                    yield _finished(*waiting.popleft())
            while waiting:
                yield _finished(*waiting.popleft())

    @torch.inference_mode()
    def _retouch_tile(
        self,
        columns: Window,
        coarse: _Coarse,
        block: np.ndarray,
        rows: Window,
        inner: slice,
        result: np.ndarray,
        strength: float,
    ) -> None:
        """Run levels s - 1 ... 0 on one tile of ``block`` and write its inner part to ``result``."""
        stop = min(columns.stop, block.shape[1])
        if columns.start >= stop:
            return
        tile = _to_tensor(block[:, columns.read_start : columns.read_stop], self.device)
        tile = _pad(tile, rows.read_stop - rows.read_start, columns.read_stop - columns.read_start)
        images = image_pyramid(tile, coarse.level, self.model.config.pyramid, mean=box_mean)
        scale = 2**coarse.level
        at_s = slice(rows.read_start // scale, rows.read_stop // scale)
        across_s = slice(columns.read_start // scale, columns.read_stop // scale)
        images[-1] = coarse.image[..., at_s, across_s]
        B_0 = self.model.blend_pyramid(coarse.blend[..., at_s, across_s], images)[0]
        keep = (..., inner, slice(columns.inner.start, columns.inner.start + stop - columns.start))
        change = self.model.blend.change(tile[keep], B_0[keep])
        change = suppress_noise(change)
        if not change.any():
            return
        largest = np.iinfo(block.dtype).max
        before = torch.from_numpy(result[:, columns.start : stop]).to(self.device, torch.float32)
        change = change[0].permute(1, 2, 0).mul_(strength * largest).round_()
        levels = change.add_(before).clamp_(0, largest)  # integers, exact in fp32
        exact = torch.uint8 if block.dtype == np.uint8 else torch.int32
        result[:, columns.start : stop] = levels.to(exact).cpu().numpy()


class _Coarse:
    """The first pass: level s of the photograph and of its blend layer.

    Attributes:
        level: s.
        image: I_s, (1, 3, H / 2^s, W / 2^s), H and W padded to multiples of 2^l.
        blend: B_s, the same shape.
        mask: M enlarged to the photograph, (H, W), or None; computed when asked for.
        padded_height: Height padded to a multiple of 2^l, pixels of the photograph.
        padded_width: Width likewise.
    """

    @torch.inference_mode()
    def __init__(self, model: ABPN, source: RowSource, device: torch.device) -> None:
        num_levels = model.num_levels(source.height, source.width)
        step = 2**num_levels
        self.padded_height = -(-source.height // step) * step
        self.padded_width = -(-source.width // step) * step
        self.level = 0
        while self.level < num_levels and self.padded_height * self.padded_width > COARSE_PIXELS * 4**self.level:
            self.level += 1
        self.image = self._reduce(source, model.config.pyramid, device)
        images = image_pyramid(self.image, num_levels - self.level, model.config.pyramid)
        R_l, self._mask_logits = model.retouch_thumbnail(images[-1])
        B_l = model.blend.reverse(images[-1], R_l)
        self.blend = model.blend_pyramid(B_l, images)[0]
        self._thumbnail_scale = step

    @property
    def mask(self) -> Tensor | None:
        if self._mask_logits is None:
            return None
        scale = 4 * self._thumbnail_scale
        mask = torch.sigmoid(self._mask_logits.float())
        return F.interpolate(mask, scale_factor=float(scale), mode="bilinear")[0, 0]

    def _reduce(self, source: RowSource, kernel: PyramidKernel, device: torch.device) -> Tensor:
        """Stream the photograph and keep level s."""
        scale = 2**self.level
        halo = 0 if kernel == "box" else 3 * scale
        shape = (1, 3, self.padded_height // scale, self.padded_width // scale)
        coarse = torch.empty(shape, device=device, memory_format=torch.channels_last)
        step = max(1, STREAM_PIXELS // self.padded_width)
        for rows in plan_stripes(self.padded_height, step, align=scale, halo=halo):
            read_start = min(rows.read_start, source.height - 1)
            block = source.read_rows(read_start, max(read_start + 1, min(rows.read_stop, source.height)))
            image = _pad(_to_tensor(block, device), rows.read_stop - rows.read_start, self.padded_width)
            reduced = box_mean(image, scale) if kernel == "box" else image_pyramid(image, self.level, kernel)[-1]
            # Copied into place at once: small tensors kept between large ones that go would split the heap.
            kept = reduced[..., rows.inner.start // scale : rows.inner.stop // scale, :]
            coarse[..., rows.start // scale : rows.stop // scale, :] = kept
        return coarse


def _to_tensor(block: np.ndarray, device: torch.device) -> Tensor:
    """(H, W, 3) integers to (1, 3, H, W) in [0, 1], fp32, channels-last without a copy."""
    pixels = torch.from_numpy(np.ascontiguousarray(block)[None]).to(device)
    return pixels.to(torch.float32).div_(np.iinfo(block.dtype).max).permute(0, 3, 1, 2)


@contextlib.contextmanager
def _tile_workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Threads that retouch tiles: on a CPU one for each core, each computing alone.

    Tiles are small. Split over the cores one by one they spend a quarter of the time in the threads' waiting for each
    other, and several times more where another program takes a core.
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
        torch.set_num_threads(number)  # part of this setting belongs to the process, not to the thread


def _finished(result: np.ndarray, tiles: list[Future[None]]) -> np.ndarray:
    for tile in tiles:
        tile.result()  # raises what the tile raised
    return result


def _pad(image: Tensor, height: int, width: int) -> Tensor:
    """Repeat the bottom and right edges up to (height, width)."""
    bottom, right = height - image.shape[-2], width - image.shape[-1]
    if not bottom and not right:
        return image
    return F.pad(image, (0, right, 0, bottom), mode="replicate").contiguous(memory_format=torch.channels_last)


MASK_SIDE = 1024  # the network's mask is coarser than this in any case


@dataclass(frozen=True, kw_only=True)
class Options(PhotoOptions):
    """How to retouch files.

    Attributes:
        strength: 0 changes nothing, 1 is the network's retouching.
        region: "faces", "photo" or "auto".
        confine: Where faces are retouched, change their skin only.
        mask_out: Also write the network's mask, NAME.mask.png.
    """

    strength: float = 1.0
    region: Region = "auto"
    confine: bool = True
    mask_out: bool = False

    def __post_init__(self) -> None:
        require_strength(self.strength)

    @property
    def companions(self) -> tuple[str, ...]:
        """The mask."""
        return (MASK,) if self.mask_out else ()


def retouch_file(
    retoucher: Retoucher, src: str | os.PathLike[str], dst: str | os.PathLike[str], options: Options
) -> RegionPlan:
    """Retouch one photograph into a file, as :meth:`Retoucher.retouch_file` does with :class:`Options`."""
    from retouch_common.inference.photos import open_photo, write_photo
    from retouch_common.inference.regions import plan_region, retouched_rows
    from retouch_common.photo.sink import written

    target = Path(dst)
    photo = open_photo(Path(src), target, options)
    plan = plan_region(photo, options.region, face_boxes=options.face_boxes)
    # Paper: the whole photograph may change. Here: of faces, only the skin.
    skin = retoucher.skin if options.confine and plan.region == "faces" else None
    mask = _mask(retoucher, photo, plan, skin) if options.mask_out else None
    rows = retouched_rows(photo, plan, retoucher, strength=options.strength, skin=skin)
    write_photo(photo, target, rows, options, plan.crops)
    if mask is not None:
        with written(beside(target, MASK)) as temporary:
            mask.pngsave(str(temporary))
    return plan


def _mask(retoucher: Retoucher, photo: Photo, plan: RegionPlan, skin: SkinSegmenter | None) -> pyvips.Image:
    """Where the network would retouch, as grey levels at the photo's size; computed when it is written.

    The network finds its mask in a thumbnail, so that a reduced view of each part gives the same one.
    """
    import pyvips
    from retouch_common.inference.regions import moved_face
    from retouch_common.photo.pixels import image_from_array
    from retouch_common.photo.sources import ArraySource

    canvas: pyvips.Image = pyvips.Image.black(photo.width, photo.height).copy(interpretation="b-w")
    for index, (x, y, width, height) in enumerate(plan.crops or [(0, 0, photo.width, photo.height)]):
        view = photo.thumbnail(MASK_SIDE, (x, y, width, height))
        mask = retoucher.mask(view)
        if skin is not None:
            face = moved_face(plan.faces[index], x, y, view.shape[1] / width)
            mask = mask * skin.locate(ArraySource(view), face).weights(0, 0, view.shape[1], view.shape[0])
        levels = to_levels(mask)[..., None]
        image = image_from_array(levels, "b-w")
        image = image.resize(width / image.width, vscale=height / image.height, kernel="linear")
        image = image.gravity("north-west", width, height, extend="copy")
        canvas = canvas.maxpair(image.embed(x, y, photo.width, photo.height))
    return canvas
