"""Retouching of photographs of any size in bounded memory.

The pyramid runs in two passes. The first streams the photograph and keeps level s, of at most ``COARSE_PIXELS`` pixels,
on which the local retouching layer and the coarse levels of the blend pyramid run at once. The second streams the
photograph again and runs levels s - 1 ... 0 tile by tile, each read with a halo wide enough that its result equals that
of the whole photograph.

Shapes: arrays are (H, W, 3) RGB, uint8 or uint16; tensors are (1, 3, H, W) in [0, 1].
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from retouch_common.devices import resolve_device, resolve_precision
from retouch_common.inference.faces import NOISE_LEVEL, gather_rows, open_skin_segmenter, suppress_noise
from retouch_common.inference.limits import limit_uncertain
from retouch_common.inference.masks import mask_files, open_mask
from retouch_common.inference.names import MASK, sibling_path
from retouch_common.inference.network import prepare_for_inference
from retouch_common.inference.photos import PhotoOptions, require_strength
from retouch_common.inference.workers import Work
from retouch_common.photo.sources import ArraySource, RowSource
from retouch_common.ranges import to_levels
from torch import Tensor

from abpn.blend import NeutralBlend
from abpn.blend_pyramid import box_mean, image_pyramid
from abpn.config import PyramidKernel
from abpn.model import ABPN
from abpn.stripes import Window, plan_stripes

if TYPE_CHECKING:
    import pyvips
    from retouch_common.faces.face import Face
    from retouch_common.inference.changes import CropChange
    from retouch_common.inference.regions import Region, RegionPlan
    from retouch_common.parsing.skin import SkinSegmenter
    from retouch_common.photo.io import Photo


COARSE_PIXELS = 2_000_000  # of level s: 24 MB in fp32
STREAM_PIXELS = 2_000_000  # read at a time in the first pass
TILE = 448  # side of a tile, whose 16-channel activations fit into the processor's caches
# Pixels of level s. At the border of a tile b_i pixels of B_i are wrong: b_s = 0 and, by two convolutions and the
# interpolation, b_i = 2 b_{i+1} + 3, less than 3 * 2^s in the end. REDUCE and EXPAND begin with 4: less than 3.5 * 2^s.
HALO = {"box": 3, "burt": 4}
MASK_SIDE = 1024  # no less than the resolution of the network's mask
UNCERTAIN = 7 / 255  # largest mean change of a neighbourhood in which the mask is uncertain
NEIGHBOURHOOD = 13  # side in pixels of the thumbnail


@dataclass(frozen=True, kw_only=True)
class RetouchOptions(PhotoOptions):
    """Options for retouching files.

    Attributes:
        strength: Scale of the change in [0, 1].
        region: "faces", "photo", or "auto", which leaves photos without a face as they are; "faces" refuses them.
        protect: Image of the photo's size, white where nothing may change, or a folder of such images, named like the
            photos; see :func:`retouch_common.inference.masks.open_mask`.
        confine: Change only the skin of faces; no effect where the whole photo is retouched.
        mask_out: Also write where the network retouches, NAME.mask.png.
    """

    strength: float = 1.0
    region: Region = "auto"
    protect: str | os.PathLike[str] | None = None
    confine: bool = True
    mask_out: bool = False

    def __post_init__(self) -> None:
        require_strength(self.strength)

    @property
    def companions(self) -> tuple[str, ...]:
        """Return the suffix of the mask's file, if it is written."""
        return (MASK,) if self.mask_out else ()

    @property
    def kept(self) -> Sequence[Path]:
        """Return the files of ``protect``."""
        return mask_files(self.protect)


class Retoucher:
    """Retouch photographs with ABPN.

    Args:
        model: Network, or name, path or hub id of weights.
        device: "auto", "cpu", "cuda" or a torch device.
        precision: Number format of the convolutions: "auto", "fp32", "bf16" or "fp16". Pyramid and blending are
            always in fp32.
        dead_zone: Suppress changes of up to one 8-bit level, so that unretouched pixels keep their bits, and limit
            broad changes where the mask is uncertain. False gives the paper's R_0.

    Raises:
        ValueError: If weights, device or precision are unknown.
    """

    name = "abpn"  # in recipes

    def __init__(
        self,
        model: ABPN | str | os.PathLike[str] = "small",
        *,
        device: str = "auto",
        precision: str = "auto",
        dead_zone: bool = True,
    ) -> None:
        self.device = resolve_device(device)
        dtype = resolve_precision(precision, self.device)
        model = model if isinstance(model, ABPN) else ABPN.from_pretrained(model)
        self.model = prepare_for_inference(model, self.device, convolutions=dtype)
        self.precision = precision
        self.dead_zone = dead_zone

    @functools.cached_property
    def skin(self) -> SkinSegmenter:
        """Skin segmenter for ``confine``, loaded at first use."""
        return open_skin_segmenter(self.device, self.precision)

    def __call__(self, image: np.ndarray, *, strength: float = 1.0) -> np.ndarray:
        """Retouch a photograph.

        Args:
            image: (H, W, 3) RGB, uint8 or uint16.
            strength: Scale of the change; 0 returns the input.

        Returns:
            An array of the same shape and type.

        Raises:
            ValueError: If shape or type are others, or the strength is outside [0, 1].
        """
        return gather_rows(self.stripes(ArraySource(image), strength=strength), image)

    def retouch_file(self, src: str | os.PathLike[str], dst: str | os.PathLike[str], **options: Any) -> RegionPlan:
        """Retouch a photograph file and keep its profile, metadata, transparency and bit depth.

        Args:
            src: Photograph: JPEG, PNG, TIFF, WebP or AVIF.
            dst: Output file, written atomically; its suffix selects the format.
            **options: Fields of :class:`RetouchOptions`: strength, region, face_boxes, protect, confine, mask_out,
                compare, overwrite.

        Returns:
            The retouched region and the reason for it.

        Raises:
            OSError: If a file cannot be opened or written.
            ValueError: If ``src`` is not a photograph, ``dst`` cannot hold it or exists and ``overwrite`` is not set,
                or an option is invalid.
        """
        from retouch_common.inference.photos import open_photo, write_photo
        from retouch_common.inference.regions import plan_region, retouched_rows
        from retouch_common.photo.sink import atomic_image_output

        opts = RetouchOptions(**options)
        target = Path(dst)
        photo = open_photo(Path(src), target, opts)
        protect = None if opts.protect is None else open_mask(Path(opts.protect), photo, "what to protect")
        plan = plan_region(photo, opts.region, face_boxes=opts.face_boxes)
        # Paper: the whole photograph may change. Here: only the skin of faces, unless ``confine`` is off.
        skin = self.skin if opts.confine and plan.region == "faces" else None
        mask = _mask(self, photo, plan, skin) if opts.mask_out else None
        rows = None
        if not plan.is_empty:
            rows = retouched_rows(photo, plan, self, strength=opts.strength, skin=skin, protect=protect)
        changed = write_photo(photo, target, rows, opts, plan.crops, weights=self.model.weights_sha256)
        if mask is not None:
            with atomic_image_output(sibling_path(target, MASK)) as temporary:
                mask.pngsave(str(temporary))
        return replace(plan, changed=changed)

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights, None if unknown."""
        return self.model.weights_sha256

    def changes(self, photo: Photo, faces: Sequence[Face]) -> list[CropChange]:
        """Return the change of each face, within its skin, for :func:`~retouch_common.inference.recipe.apply_recipe`.

        Raises:
            ValueError: If the photo is damaged, or a face lies outside.
        """
        from retouch_common.inference.changes import crop_changes

        return crop_changes(photo, faces, self, self.skin)

    def blend_layer(self, image: np.ndarray) -> np.ndarray:
        """Return the blend layer B of a photograph at level s, (h, w, 3) float32, unbounded.

        Raises:
            ValueError: If shape or type are others.
        """
        coarse = _Coarse(self.model, ArraySource(image), self.device, limited=self.dead_zone)
        blend: np.ndarray = coarse.blend[0].float().permute(1, 2, 0).cpu().numpy()
        height, width = (-(-side // 2**coarse.level) for side in image.shape[:2])
        return blend[:height, :width]

    def mask(self, image: np.ndarray) -> np.ndarray:
        """Return M at the size of the photograph, (H, W) float32 in [0, 1].

        Raises:
            ValueError: If shape or type are others, or the network has no mask branch.
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
            source: Photograph, read twice from top to bottom, with a small overlap.
            strength: See :meth:`__call__`.

        Yields:
            Consecutive blocks of rows, (n, W, 3) of the source's type.
        """
        require_strength(strength)
        coarse = _Coarse(self.model, source, self.device, limited=self.dead_zone)
        align = 2**coarse.level
        halo = HALO[self.model.config.pyramid] * align if coarse.level else 0
        tile = max(TILE, 16 * halo)  # with small tiles, most of the work would be on wide halos
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
                if len(waiting) > 1:  # one row of tiles ahead, to keep all workers busy
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
        """Run levels s - 1 ... 0 on a tile of ``block`` and write its inner part to ``result``, modified in place."""
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
        blend = self.model.blend
        if self.dead_zone and isinstance(blend, NeutralBlend) and blend.largest_change(B_0[keep]) <= NOISE_LEVEL:
            return  # most tiles of most photographs
        change = blend.change(tile[keep], B_0[keep])
        if self.dead_zone:  # Paper: R_0. Here: unretouched pixels keep their bits.
            change = suppress_noise(change)
        if not change.any():
            return
        largest = np.iinfo(block.dtype).max
        before = torch.from_numpy(result[:, columns.start : stop]).to(self.device, torch.float32)
        change = change[0].permute(1, 2, 0).mul_(strength * largest).round_()
        levels = change.add_(before).clamp_(0, largest)  # integers, exact in fp32
        exact = torch.uint8 if block.dtype == np.uint8 else torch.int32
        result[:, columns.start : stop] = levels.to(exact).cpu().numpy()


def load_retouching(weights: str, *, device: str, precision: str, recipe: Path | None = None, **options: Any) -> Work:
    """Load the network; return what ``abpn-retouch`` does with one photograph.

    ``recipe`` is the file of a recipe of the studio, which replaces most options. Errors are those of
    :class:`Retoucher` and :func:`retouch_common.inference.recipe.recipe_work`.
    """
    retoucher = Retoucher(weights, device=device, precision=precision)
    if recipe is not None:
        from retouch_common.inference.recipe import recipe_work

        return recipe_work(recipe, retoucher, RetouchOptions(**options))
    return Work(lambda job: retoucher.retouch_file(job.source, job.target, **options), retoucher.weights_sha256)


class _Coarse:
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
        images = image_pyramid(self.image, num_levels - self.level, model.config.pyramid)
        R_l, self._mask_logits = model.retouch_thumbnail(images[-1])
        if limited and self._mask_logits is not None:  # Paper: R_l. Here: without broad changes of uncertain places.
            mask = self._enlarged_mask(self._mask_logits, 1)[..., : R_l.shape[-2], : R_l.shape[-1]]
            change = limit_uncertain(R_l.float() - images[-1], mask, limit=UNCERTAIN, side=NEIGHBOURHOOD)
            R_l = images[-1] + change
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
        halo = 0 if kernel == "box" else 3 * scale
        shape = (1, 3, self.padded_height // scale, self.padded_width // scale)
        coarse = torch.empty(shape, device=device, memory_format=torch.channels_last)
        step = max(1, STREAM_PIXELS // self.padded_width)
        for rows in plan_stripes(self.padded_height, step, align=scale, halo=halo):
            read_start = min(rows.read_start, source.height - 1)
            block = source.read_rows(read_start, max(read_start + 1, min(rows.read_stop, source.height)))
            image = _pad(_to_tensor(block, device), rows.read_stop - rows.read_start, self.padded_width)
            reduced = box_mean(image, scale) if kernel == "box" else image_pyramid(image, self.level, kernel)[-1]
            # Copied into place at once: small tensors kept between large temporary ones would fragment the heap.
            kept = reduced[..., rows.inner.start // scale : rows.inner.stop // scale, :]
            coarse[..., rows.start // scale : rows.stop // scale, :] = kept
        return coarse


def _to_tensor(block: np.ndarray, device: torch.device) -> Tensor:
    """Convert (H, W, 3) integers to (1, 3, H, W) in [0, 1], fp32, channels-last."""
    pixels = torch.from_numpy(np.ascontiguousarray(block)[None]).to(device)
    return pixels.to(torch.float32).div_(np.iinfo(block.dtype).max).permute(0, 3, 1, 2)


@contextlib.contextmanager
def _tile_workers(device: torch.device) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of threads that retouch tiles: on a CPU one per core, each computing single-threaded.

    Tiles are small: if each were split over all cores, a quarter of the time would go into synchronisation, and several
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


def _finished(result: np.ndarray, tiles: list[Future[None]]) -> np.ndarray:
    for tile in tiles:
        tile.result()  # re-raises exceptions of the thread
    return result


def _pad(image: Tensor, height: int, width: int) -> Tensor:
    """Pad the bottom and the right to (height, width) by repeating the edge."""
    bottom, right = height - image.shape[-2], width - image.shape[-1]
    if not bottom and not right:
        return image
    return F.pad(image, (0, right, 0, bottom), mode="replicate").contiguous(memory_format=torch.channels_last)


def _mask(retoucher: Retoucher, photo: Photo, plan: RegionPlan, skin: SkinSegmenter | None) -> pyvips.Image:
    """Return the mask at the size of the photograph, evaluated lazily.

    The network predicts it from a thumbnail, so that a reduced view of each region is enough.
    """
    import pyvips
    from retouch_common.inference.regions import face_in_crop
    from retouch_common.photo.pixels import image_from_array
    from retouch_common.photo.sources import ArraySource

    canvas: pyvips.Image = pyvips.Image.black(photo.width, photo.height).copy(interpretation="b-w")
    crops = [(0, 0, photo.width, photo.height)] if plan.region == "photo" else plan.crops
    for index, (x, y, width, height) in enumerate(crops):
        view = photo.thumbnail(MASK_SIDE, (x, y, width, height))
        mask = retoucher.mask(view)
        if skin is not None:
            face = face_in_crop(plan.faces[index], x, y, view.shape[1] / width)
            mask = mask * skin.locate(ArraySource(view), face).weights(0, 0, view.shape[1], view.shape[0])
        levels = to_levels(mask)[..., None]
        image = image_from_array(levels, "b-w")
        image = image.resize(width / image.width, vscale=height / image.height, kernel="linear")
        image = image.gravity("north-west", width, height, extend="copy")
        canvas = canvas.maxpair(image.embed(x, y, photo.width, photo.height))
    return canvas
