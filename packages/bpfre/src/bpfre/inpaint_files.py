"""Inpainting of photograph files with weights trained for it (section 4.7).

Damaged pixels are painted white, as in training; every face is aligned and restored, and only damaged pixels are
replaced. Damage outside the faces stays. Without a mask, the photograph must have white strokes, which the network
finds; its changes are then pasted as in retouching.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from retouch_common.faces.alignment import FaceSquare, read_aligned
from retouch_common.faces.pasting import AlignedLayer
from retouch_common.files import ScratchDirectory, atomic_output, scratch_output
from retouch_common.inference.face_plan import FacePlan, plan_faces
from retouch_common.inference.faces import run_on_faces
from retouch_common.inference.masks import mask_files, open_mask
from retouch_common.inference.names import DAMAGED, sibling_path
from retouch_common.inference.photos import PhotoOptions, edit_record, face_parts, open_photo, write_photo
from retouch_common.photo.io import Photo
from retouch_common.photo.pasting import pasted_rows
from retouch_common.photo.sources import ChangedRows, RowSource, blocks
from retouch_common.weights import require_finite

from bpfre.model import BPFRe
from bpfre.retouch import Retoucher
from bpfre.strokes import brush_strokes, paint_white


@dataclass(frozen=True, kw_only=True)
class InpaintOptions(PhotoOptions):
    """Options for inpainting files.

    Attributes:
        mask: Image of the photo's size, white where it is damaged, or a folder of such images, named like the photos.
        strokes: Seed of random strokes to draw on every face instead.
        aligned: The photo is an aligned face, a square image as in FFHQ.
        damaged_out: Also write the photo with its damage painted white, NAME.damaged.png.
    """

    mask: str | os.PathLike[str] | None = None
    strokes: int | None = None
    aligned: bool = False
    damaged_out: bool = False

    def __post_init__(self) -> None:
        if self.mask is not None and self.strokes is not None:
            raise ValueError("a mask and drawn strokes are mutually exclusive; omit one")
        if self.damaged_out and self.mask is None and self.strokes is None:
            raise ValueError("without a mask or strokes nothing is painted; there is no damaged image to write")

    @property
    def companions(self) -> tuple[str, ...]:
        """Return the ending of the damaged photo's file, if it is written."""
        return (DAMAGED,) if self.damaged_out else ()

    def kept(self, photos: Sequence[Path]) -> Sequence[Path]:
        """Return the files of ``mask``."""
        return mask_files(self.mask, photos)


class StrokeMask:
    """Random strokes on faces, white on black, as rows of an image.

    Args:
        photo: Photo with the faces.
        squares: Locations of the faces.
        seed: Together with the index of a face, it determines the face's strokes.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, photo: RowSource, squares: Sequence[FaceSquare], seed: int) -> None:
        self.height, self.width = photo.height, photo.width
        self._parts = []
        for index, square in enumerate(squares):
            x, y, w, h = square.bounds(self.height, self.width)
            self._parts.append((x, y, brush_strokes(h, w, np.random.default_rng((seed, index))) > 0))

    def read_rows(self, y0: int, y1: int) -> np.ndarray:
        """Return rows y0 to y1, (y1 - y0, W, 3) uint8."""
        rows = np.zeros((y1 - y0, self.width, 3), np.uint8)
        for x, y, painted in self._parts:
            first, last = max(y0, y), min(y1, y + painted.shape[0])
            if first < last:
                rows[first - y0 : last - y0, x : x + painted.shape[1]][painted[first - y : last - y]] = 255
        return rows


class DamagedPhoto:
    """A photo with its damaged pixels painted white.

    Args:
        photo: Photo.
        mask: Image of its size, white where it is damaged.
    """

    def __init__(self, photo: RowSource, mask: RowSource) -> None:
        self.photo, self.mask = photo, mask
        self.height, self.width, self.dtype = photo.height, photo.width, photo.dtype

    def read_rows(self, y0: int, y1: int) -> np.ndarray:
        """Return rows y0 to y1, (y1 - y0, W, 3)."""
        return paint_white(self.photo.read_rows(y0, y1), _damage(self.mask, y0, y1))


class _UndamagedMask:
    """Inverse of a mask of damage: what to protect."""

    dtype = np.dtype(np.uint8)

    def __init__(self, mask: RowSource) -> None:
        self.mask, self.height, self.width = mask, mask.height, mask.width

    def read_rows(self, y0: int, y1: int) -> np.ndarray:
        undamaged = np.where(_damage(self.mask, y0, y1), 0, 255).astype(np.uint8)
        return np.repeat(undamaged[..., None], 3, axis=2)


class _RestoredFace(AlignedLayer):
    """A restored face, pasted as an image instead of a difference, with full weight up to its border."""

    def __init__(self, square: FaceSquare, image: np.ndarray, height: int, width: int) -> None:
        super().__init__(replace(square, feather=0.0), image, height, width)

    def take(self, before: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray]:
        image, weights = super().take(before, first)
        return image - before, weights


def open_inpainter(
    weights: str | os.PathLike[str], *, device: str = "auto", precision: str = "auto", backend: str = "torch"
) -> Retoucher:
    """Load weights for inpainting; arguments as of :class:`bpfre.retouch.Retoucher`.

    Raises:
        ValueError: If weights, device or precision are unknown, the backend is not available, or the weights were not
            trained for inpainting, which would leave strokes white.
    """
    model = BPFRe.from_pretrained(weights)
    if model.metadata.get("task") != "inpainting":
        raise ValueError(
            f"{os.fspath(weights)}: these weights were not trained for inpainting; train some with "
            "bpfre-train --preset inpainting"
        )
    return Retoucher(model, device=device, precision=precision, backend=backend)


def inpaint_file(
    retoucher: Retoucher, src: str | os.PathLike[str], dst: str | os.PathLike[str], options: InpaintOptions
) -> FacePlan:
    """Inpaint the faces in a photograph file.

    Args:
        retoucher: Network from :func:`open_inpainter`.
        src: Photograph: JPEG, PNG, TIFF, WebP or AVIF.
        dst: Output file, written atomically; its suffix selects the format.
        options: Options.

    Returns:
        The inpainted faces and the reason for them.

    Raises:
        OSError: If a file cannot be opened or written.
        ValueError: If ``src`` is not a photograph or shows no face, ``dst`` cannot hold it, an output exists and
            ``overwrite`` is not set, or the mask has another size or touches no face.
    """
    source, target = Path(src), Path(dst)
    photo = open_photo(source, target, options)
    if options.mask is None and options.strokes is None:
        shared = {entry.name: getattr(options, entry.name) for entry in fields(PhotoOptions)}
        return retoucher.retouch_file(source, target, aligned=options.aligned, confine=False, **shared)
    plan = plan_faces(photo, face_boxes=options.face_boxes, aligned=options.aligned)
    mask = _open_damage(photo, plan, options)
    damaged, companion = DamagedPhoto(photo, mask), sibling_path(target, DAMAGED)
    if options.damaged_out:
        photo.check_output(companion)
    with ScratchDirectory("retouch-damaged-") as scratch:
        drawn = Path(scratch) / companion.name
        if options.damaged_out:  # now, since the photo may be replaced by its output
            painted = (damaged.read_rows(*block) for block in blocks(photo.height, photo.width))
            with scratch_output(companion):
                photo.write_stripes(drawn, painted, strip=options.strip)
        rows = inpainted_rows(retoucher, photo, mask, plan.squares)
        parts = face_parts(photo, plan.squares)
        edit = edit_record(options, retoucher.weights_sha256, further=retoucher.settings)
        write_photo(photo, target, rows, options, parts, edit=edit)
        if options.damaged_out:  # after the output, by which --skip-existing knows what is done
            with atomic_output(companion) as temporary:
                shutil.copyfile(drawn, temporary)
    return plan


def _open_damage(photo: Photo, plan: FacePlan, options: InpaintOptions) -> RowSource:
    """Return the mask of damage: the file of ``mask``, or drawn strokes."""
    if options.mask is None:
        return StrokeMask(photo, plan.squares, options.strokes or 0)
    mask = open_mask(Path(options.mask), photo, "what is damaged")
    if not _overlaps(mask, plan.squares):
        raise ValueError(f"{photo.path}: the mask is black over {plan}; there is nothing to inpaint")
    return mask


def inpainted_rows(
    retoucher: Retoucher, photo: RowSource, mask: RowSource, squares: Sequence[FaceSquare]
) -> ChangedRows:
    """Replace the damaged pixels of faces by the network's output.

    Args:
        retoucher: Network from :func:`open_inpainter`.
        photo: Photo, read twice from top to bottom.
        mask: Image of its size, white where it is damaged.
        squares: Locations of the faces.

    Yields:
        Consecutive blocks of rows, (n, W, 3) of the photo's type.

    Returns:
        Whether any pixel was changed.
    """
    levels = float(np.iinfo(photo.dtype).max)

    def restore(batch: list[tuple[int, np.ndarray]]) -> Iterator[_RestoredFace]:
        for index, face in batch:
            output = retoucher.network(torch.from_numpy(face).permute(2, 0, 1)[None], stage=retoucher.stage)
            image = levels * require_finite(output.result[0]).float().cpu().clamp(0, 1).permute(1, 2, 0).numpy()
            yield _RestoredFace(squares[index], image, photo.height, photo.width)

    faces = read_aligned(DamagedPhoto(photo, mask), squares, retoucher.network.config.size)
    return (yield from pasted_rows(photo, run_on_faces(faces, restore), protect=_UndamagedMask(mask)))


def _damage(mask: RowSource, y0: int, y1: int) -> np.ndarray:
    """Return where rows y0 to y1 are damaged, (y1 - y0, W) bool."""
    return mask.read_rows(y0, y1).max(axis=2) > np.iinfo(mask.dtype).max // 2


def _overlaps(mask: RowSource, squares: Sequence[FaceSquare]) -> bool:
    bounds = [square.bounds(mask.height, mask.width) for square in squares]
    for y0, y1 in blocks(mask.height, mask.width):
        damage = _damage(mask, y0, y1)
        if any(damage[max(0, y - y0) : max(0, y + h - y0), x : x + w].any() for x, y, w, h in bounds):
            return True
    return False
