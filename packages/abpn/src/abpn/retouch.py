"""Retouching of arrays and photograph files of any size in bounded memory (:mod:`abpn.streaming`)."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from retouch_common.devices import resolve_device, resolve_precision
from retouch_common.inference.faces import gather_rows, open_skin_segmenter
from retouch_common.inference.masks import open_mask
from retouch_common.inference.names import MASK, sibling_path
from retouch_common.inference.network import prepare_for_inference
from retouch_common.inference.photos import RetouchingOptions, open_photo, require_strength, write_photo
from retouch_common.inference.workers import Work
from retouch_common.photo.sources import ArraySource, ChangedRows, RowSource
from retouch_common.ranges import to_levels

from abpn.model import ABPN
from abpn.streaming import CoarseLevel, FineLevels

if TYPE_CHECKING:
    import pyvips
    from retouch_common.faces.face import Face
    from retouch_common.inference.changes import CropChange
    from retouch_common.inference.regions import Region, RegionPlan
    from retouch_common.parsing.skin import SkinSegmenter
    from retouch_common.photo.io import Photo


@dataclass(frozen=True, kw_only=True)
class RetouchOptions(RetouchingOptions):
    """Options for retouching files; ``confine`` has no effect where the whole photo is retouched.

    Attributes:
        region: "faces", "photo", or "auto", which leaves photos without a face as they are; "faces" refuses them.
    """

    region: Region = "auto"


class Retoucher:
    """Retouch photographs with ABPN.

    Args:
        model: Network, or name, path or hub id of weights.
        device: "auto", "cpu", "cuda" or a torch device.
        precision: Number format of the convolutions: "auto", "fp32", "bf16" or "fp16". Pyramid and blending are
            always in fp32.
        postprocess: Suppress changes of up to one 8-bit level, so that unretouched pixels keep their bits, and limit
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
        postprocess: bool = True,
    ) -> None:
        self.device = resolve_device(device)
        dtype = resolve_precision(precision, self.device)
        model = model if isinstance(model, ABPN) else ABPN.from_pretrained(model)
        self.model = prepare_for_inference(model, self.device, convolutions=dtype)
        self.precision = precision
        self.postprocess = postprocess

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
            **options: Fields of :class:`RetouchOptions`.

        Returns:
            The retouched region and the reason for it.

        Raises:
            OSError: If a file cannot be opened or written.
            ValueError: If ``src`` is not a photograph, ``dst`` cannot hold it or exists and ``overwrite`` is not set,
                or an option is invalid.
        """
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
        changed = write_photo(photo, target, rows, opts, plan.crops, weights=self.weights_sha256)
        if mask is not None:
            with atomic_image_output(sibling_path(target, MASK)) as temporary:
                mask.pngsave(os.fsencode(temporary))
        return replace(plan, changed=changed)

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights, None if unknown."""
        return self.model.weights_sha256

    def changes(self, photo: Photo, faces: Sequence[Face]) -> list[CropChange]:
        """Return the change of each face, within its skin, for a recipe.

        Raises:
            ValueError: If the photo is damaged, or a face lies outside.
        """
        from retouch_common.inference.changes import crop_changes

        return crop_changes(photo, faces, self, self.skin)

    def photo_change(self, photo: Photo) -> CropChange:
        """Return the change of the whole photo, for a recipe.

        Raises:
            ValueError: If the photo is damaged.
        """
        from retouch_common.inference.changes import photo_change

        return photo_change(photo, self)

    def blend_layer(self, image: np.ndarray) -> np.ndarray:
        """Return the blend layer B of a photograph at level s, (h, w, 3) float32, unbounded.

        Raises:
            ValueError: If shape or type are others.
        """
        coarse = CoarseLevel(self.model, ArraySource(image), self.device, limited=self.postprocess)
        blend: np.ndarray = coarse.blend[0].float().permute(1, 2, 0).cpu().numpy()
        height, width = (-(-side // 2**coarse.level) for side in image.shape[:2])
        return blend[:height, :width]

    def mask(self, image: np.ndarray) -> np.ndarray:
        """Return M at the size of the photograph, (H, W) float32 in [0, 1].

        Raises:
            ValueError: If shape or type are others, or the network has no mask branch.
        """
        source = ArraySource(image)
        coarse = CoarseLevel(self.model, source, self.device)
        if coarse.mask is None:
            raise ValueError("this network has no mask branch (model.mask_branch=false)")
        return coarse.mask[: source.height, : source.width].cpu().numpy()

    @torch.inference_mode()
    def stripes(self, source: RowSource, *, strength: float = 1.0) -> ChangedRows:
        """Retouch a photograph that need not fit into memory.

        Args:
            source: Photograph, read twice from top to bottom, with a small overlap.
            strength: See :meth:`__call__`.

        Yields:
            Consecutive blocks of rows, (n, W, 3) of the source's type.

        Returns:
            Whether any pixel was changed.
        """
        require_strength(strength)
        coarse = CoarseLevel(self.model, source, self.device, limited=self.postprocess)
        fine = FineLevels(self.model, coarse, self.device, strength=strength, postprocess=self.postprocess)
        return (yield from fine.stripes(source))


def _mask(retoucher: Retoucher, photo: Photo, plan: RegionPlan, skin: SkinSegmenter | None) -> pyvips.Image:
    """Return the mask at the size of the photograph, evaluated lazily.

    The network predicts it from a thumbnail, so that a reduced view of each region is enough.
    """
    import pyvips
    from retouch_common.inference.regions import face_in_crop
    from retouch_common.photo.pixels import image_from_array

    canvas: pyvips.Image = pyvips.Image.black(photo.width, photo.height).copy(interpretation="b-w")
    crops = [(0, 0, photo.width, photo.height)] if plan.region == "photo" else plan.crops
    for index, (x, y, width, height) in enumerate(crops):
        # Twice as large as the thumbnail that retouching this region takes, from which M is predicted, too.
        levels = retoucher.model.num_levels(height, width)
        view = photo.thumbnail(round(2 * max(width, height) / 2**levels), (x, y, width, height))
        mask = retoucher.mask(view)
        if skin is not None:
            face = face_in_crop(plan.faces[index], x, y, view.shape[1] / width)
            mask = mask * skin.locate(ArraySource(view), face).weights(0, 0, view.shape[1], view.shape[0])
        image = image_from_array(to_levels(mask)[..., None], "b-w")
        image = image.resize(width / image.width, vscale=height / image.height, kernel="linear")
        image = image.gravity("north-west", width, height, extend="copy")
        canvas = canvas.maxpair(image.embed(x, y, photo.width, photo.height))
    return canvas


def load_retouching(weights: str, *, device: str, precision: str, recipe: Path | None = None, **options: Any) -> Work:
    """Load the network; return what ``abpn-retouch`` does with one photograph.

    ``recipe`` is the file of a recipe of the studio, which replaces most options. Errors are those of
    :class:`Retoucher` and :func:`retouch_common.inference.recipe_retouching.recipe_work`.
    """
    retoucher = Retoucher(weights, device=device, precision=precision)
    if recipe is not None:
        from retouch_common.inference.recipe_retouching import recipe_work

        return recipe_work(recipe, retoucher, RetouchOptions(**options))
    return Work(lambda job: retoucher.retouch_file(job.source, job.target, **options), retoucher.weights_sha256)
