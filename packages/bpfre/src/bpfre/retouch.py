"""Retouching the faces of photographs of any size (:mod:`retouch_common.inference.faces`).

The paper works on aligned faces of 512 pixels; here only what the network changes of them goes back into the
photograph. Blemishes finer than a pixel at S stay in faces that are larger than S. A smaller face is enlarged for the
network, and its difference reduced. Only what lies on the person's skin goes back, unless that is switched off.

Shapes: photographs are (H, W, 3) RGB, uint8 or uint16; faces (S, S, 3) float32 in [0, 1].
"""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from retouch_common.faces.alignment import FaceSquare, read_aligned
from retouch_common.faces.face import Face
from retouch_common.faces.pasting import AlignedLayer
from retouch_common.inference.face_plan import squares_in
from retouch_common.inference.faces import (
    ChangedFace,
    changed_image,
    face_change,
    open_skin_segmenter,
    run_on_faces,
)
from retouch_common.inference.names import ATTENTION_COARSE, ATTENTION_REFINED, MASK, beside
from retouch_common.inference.network import InferenceModel
from retouch_common.inference.photos import PhotoOptions, require_strength
from retouch_common.photo.filters import resize
from retouch_common.photo.pasting import map_rows
from retouch_common.photo.sources import ArraySource, RowSource
from retouch_common.ranges import from_levels

from bpfre.attention import merged_map
from bpfre.model import BPFRe, Stage

if TYPE_CHECKING:
    from retouch_common.inference.face_plan import FacePlan
    from retouch_common.parsing.skin import SkinSegmenter
    from retouch_common.photo.io import Photo


FACES_AT_ONCE = 8  # on an accelerator; a processor works on one, since more only cost memory there


@dataclass(frozen=True)
class RetouchedFace(ChangedFace):
    """What the network makes of one face.

    Attributes:
        attention_coarse: M^{E2D}, (S, S) float32 in [0, 1]; None without the module.
        attention_refined: M^{D2G} likewise; None, too, where only the first stage was asked for.
        skin: The mask of skin that ``change`` is confined to, (S, S) float32 in [0, 1]; None if it is not.
    """

    attention_coarse: np.ndarray | None
    attention_refined: np.ndarray | None
    skin: np.ndarray | None = None


@dataclass(frozen=True)
class Attention:
    """Where the network sees blemishes in a photograph; 0 outside the faces.

    Attributes:
        coarse: M^{E2D}, (H, W) float32 in [0, 1]; None without the module.
        refined: M^{D2G} likewise; None, too, where only the first stage was asked for.
    """

    coarse: np.ndarray | None
    refined: np.ndarray | None


class Retoucher:
    """A network ready to retouch photographs.

    Args:
        model: A BPFRe, or the name, path or hub id of weights.
        device: "auto", "cpu", "cuda" or a torch device.
        precision: Number format of the convolutions: "auto", "fp32", "bf16" or "fp16".
        stage: "refined", or "coarse" for the first stage alone.

    Raises:
        ValueError: Unknown weights, device, precision or stage, or a network without that stage.
    """

    def __init__(
        self,
        model: BPFRe | str | os.PathLike[str] = "small",
        *,
        device: str = "auto",
        precision: str = "auto",
        stage: Stage = "refined",
    ) -> None:
        if stage not in ("coarse", "refined"):
            raise ValueError(f"stage must be coarse or refined, not {stage!r}")
        model = model if isinstance(model, BPFRe) else BPFRe.from_pretrained(model)
        if stage == "coarse" and not model.config.decoder:
            raise ValueError("this network has no decoder (model.decoder=false), and so no coarse stage")
        self.network = InferenceModel(model, device, precision, cast_convolutions=True)
        self.stage: Stage = stage
        self.precision = precision
        self.at_once = 1 if self.network.device.type == "cpu" else FACES_AT_ONCE

    @functools.cached_property
    def skin(self) -> SkinSegmenter:
        """What finds the skin of faces, for ``confine``; loaded at its first use."""
        return open_skin_segmenter(self.network.device, self.precision)

    def __call__(
        self,
        image: np.ndarray,
        *,
        strength: float = 1.0,
        faces: Sequence[Face] | None = None,
        protect: np.ndarray | None = None,
        aligned: bool = False,
        confine: bool = True,
    ) -> np.ndarray:
        """Retouch the faces of one photograph.

        Args:
            image: (H, W, 3) RGB, uint8 or uint16.
            strength: 0 changes nothing, 1 is the network's retouching.
            faces: Where they are; by default where the face detector finds them.
            protect: (H, W), true or 1 where nothing may change; values between, up to 255 for uint8, protect in part.
            aligned: The photograph is a face as the network was trained on: a square, upright, as FFHQ's.
            confine: Change the skin of the faces only: neither eyes, brows, lips and nostrils, nor hair and background.

        Returns:
            An array of the same shape and type.

        Raises:
            DetectorUnavailable: If the face detector is needed and its weights cannot be had.
            ValueError: Another shape or type, a strength outside [0, 1], no face, or one that lies outside.
        """
        found = self.find_blemishes(ArraySource(image), squares_in(image, faces, aligned), confine=confine)
        keep_off = None if protect is None else _protection(protect)
        return changed_image(image, found, strength=strength, protect=keep_off)

    def attention(self, image: np.ndarray, *, faces: Sequence[Face] | None = None, aligned: bool = False) -> Attention:
        """Where the network sees blemishes.

        Args:
            image: See :meth:`__call__`.
            faces: See :meth:`__call__`.
            aligned: See :meth:`__call__`.

        Raises:
            DetectorUnavailable: See :meth:`__call__`.
            ValueError: See :meth:`__call__`.
        """
        source = ArraySource(image)
        found = self.find_blemishes(source, squares_in(image, faces, aligned), confine=False)

        def draw(name: str) -> np.ndarray | None:
            layers = map_layers(found, (name,), source.height, source.width)
            if not layers:
                return None
            levels = np.concatenate(list(map_rows(source.height, source.width, layers)))[..., 0]
            return from_levels(levels)

        return Attention(draw("attention_coarse"), draw("attention_refined"))

    def retouch_file(self, src: str | os.PathLike[str], dst: str | os.PathLike[str], **options: Any) -> FacePlan:
        """Retouch one photograph into a file, with everything the file carries beside its pixels.

        Args:
            src: The photograph: JPEG, PNG, TIFF, WebP or AVIF.
            dst: The output; its ending says the format. It is complete or not there at all.
            **options: strength, face_boxes, aligned, protect, confine, mask_out, attention_out, compare, overwrite: the
                fields of :class:`bpfre.retouch.Options`.

        Returns:
            Which faces were retouched, and why.

        Raises:
            OSError: If a file cannot be opened or written.
            ValueError: If ``src`` is not a photograph or shows no face, ``dst`` cannot hold it or is ``src`` without
                ``overwrite``, or an option does not fit.
        """
        return retouch_file(self, src, dst, Options(**options))

    def find_blemishes(
        self, source: RowSource, squares: Sequence[FaceSquare], *, confine: bool = True
    ) -> list[RetouchedFace]:
        """The first pass: cut every face out and run the network on it.

        Args:
            source: The photograph; its rows are asked for once, from top to bottom.
            squares: Where the faces are.
            confine: Leave of the changes only what lies on skin.

        Returns:
            What the network makes of each, in the order of ``squares``.

        Raises:
            ValueError: If a square lies outside the photograph.
        """

        def retouch(batch: list[tuple[int, np.ndarray]]) -> list[RetouchedFace]:
            results = self._retouch([squares[index] for index, _ in batch], np.stack([face for _, face in batch]))
            if not confine:
                return results
            return [self._confined(result, face) for result, (_, face) in zip(results, batch, strict=True)]

        return run_on_faces(read_aligned(source, squares, self.network.config.size), retouch, batch_size=self.at_once)

    def _retouch(self, squares: Sequence[FaceSquare], faces: np.ndarray) -> list[RetouchedFace]:
        """Run the network on aligned faces, (N, S, S, 3)."""
        image = torch.from_numpy(faces).permute(0, 3, 1, 2)
        output = self.network(image, stage=self.stage)

        def shown(maps: list[torch.Tensor]) -> list[np.ndarray] | list[None]:
            return list(merged_map(maps, faces.shape[1])[:, 0].cpu().numpy()) if maps else [None] * len(squares)

        changes = face_change(output.result, image)
        maps = shown(output.attention_coarse), shown(output.attention_refined)
        return [RetouchedFace(*parts) for parts in zip(squares, changes, *maps, strict=True)]

    def _confined(self, found: RetouchedFace, face: np.ndarray) -> RetouchedFace:
        """Keep the change on the skin of a face, (S, S, 3)."""
        # Paper: the output is the whole picture. Here: only its change of skin.
        skin = resize(self.skin(face, found.square.landmarks), *face.shape[:2])
        return replace(found, change=found.change * skin[..., None], skin=skin)


def map_layers(
    faces: Sequence[RetouchedFace], names: Sequence[str], height: int, width: int, *, within_skin: bool = False
) -> list[AlignedLayer]:
    """Attention maps at their places in a photograph, for :func:`retouch_common.photo.pasting.map_rows`.

    Args:
        faces: From :meth:`Retoucher.find_blemishes`.
        names: "attention_coarse", "attention_refined", or both for the larger value of both.
        height: Height of the photograph in pixels.
        width: Width of the photograph in pixels.
        within_skin: Leave out what lies beside the skin to which the faces' changes are confined.
    """
    layers = []
    for face in faces:
        skin = face.skin if within_skin and face.skin is not None else np.float32(1)
        maps = [M for M in (getattr(face, name) for name in names) if M is not None]
        layers += [AlignedLayer(face.square, (255 * M * skin)[..., None], height, width) for M in maps]
    return layers


def _protection(protect: np.ndarray) -> ArraySource:
    if protect.ndim != 2 or protect.dtype.kind not in "bfu":
        raise ValueError(
            f"protect must be (H, W) of bool, uint8 or float in [0, 1], not {protect.shape} of {protect.dtype}"
        )
    if protect.dtype != np.uint8:
        protect = np.rint(65535 * protect.astype(np.float32).clip(0, 1)).astype(np.uint16)
    return ArraySource(np.repeat(protect[..., None], 3, axis=2))


MAPS = ("attention_coarse", "attention_refined")


@dataclass(frozen=True, kw_only=True)
class Options(PhotoOptions):
    """How to retouch files.

    Attributes:
        strength: 0 changes nothing, 1 is the network's retouching.
        aligned: The photo is a face as the network was trained on, a square picture.
        protect: A picture of the photo's size whose white parts stay as they are (moles, tattoos), or a folder with
            one for every photo, named like it.
        confine: Change the skin of the faces only.
        mask_out: Also write where the network would retouch, NAME.mask.png: the larger of both attention maps, within
            the skin if the change is confined to it.
        attention_out: Also write the attention maps, NAME.attention-coarse.png and NAME.attention-refined.png.
    """

    strength: float = 1.0
    aligned: bool = False
    protect: str | os.PathLike[str] | None = None
    confine: bool = True
    mask_out: bool = False
    attention_out: bool = False

    def __post_init__(self) -> None:
        require_strength(self.strength)

    @property
    def companions(self) -> tuple[str, ...]:
        """The maps."""
        return tuple(_maps(self))

    @property
    def kept(self) -> Sequence[Path]:
        """The pictures of what to protect."""
        return mask_files(self.protect)


def retouch_file(
    retoucher: Retoucher, src: str | os.PathLike[str], dst: str | os.PathLike[str], options: Options
) -> FacePlan:
    """Retouch one photograph into a file, as :meth:`Retoucher.retouch_file` does with :class:`Options`."""
    from retouch_common.inference.face_plan import plan_faces
    from retouch_common.inference.faces import changed_face_rows
    from retouch_common.inference.photos import face_parts, open_photo, write_photo

    if (options.mask_out or options.attention_out) and not retoucher.network.config.attention:
        raise ValueError("this network has no attention modules (model.attention=false), and so no maps to write")
    target = Path(dst)
    photo = open_photo(Path(src), target, options)
    protect = None
    if options.protect is not None:
        protect = mask_picture(Path(options.protect), photo, "what to protect")
    plan = plan_faces(photo, face_boxes=options.face_boxes, aligned=options.aligned)
    faces = retoucher.find_blemishes(photo, plan.squares, confine=options.confine)
    rows = changed_face_rows(photo, faces, strength=options.strength, protect=protect)
    write_photo(photo, target, rows, options, face_parts(photo, plan.squares))
    _write_maps(faces, photo, target, options)
    return plan


def _write_maps(faces: Sequence[RetouchedFace], photo: Photo, target: Path, options: Options) -> None:
    from retouch_common.inference.companions import write_map

    for ending, names in _maps(options).items():
        layers = map_layers(faces, names, photo.height, photo.width, within_skin=ending == MASK)
        if layers:  # the coarse stage has no second map
            write_map(beside(target, ending), photo.height, photo.width, layers)


def _maps(options: Options) -> dict[str, Sequence[str]]:
    """The maps to write beside an output: ending -> which of ``MAPS``."""
    endings: dict[str, Sequence[str]] = {}
    if options.attention_out:
        endings = {ATTENTION_COARSE: MAPS[:1], ATTENTION_REFINED: MAPS[1:]}
    if options.mask_out:
        endings[MASK] = MAPS
    return endings


def mask_files(given: str | os.PathLike[str] | None) -> list[Path]:
    """The files that :func:`mask_picture` may read, none of which an output may replace."""
    if given is None:
        return []
    return sorted(Path(given).iterdir()) if Path(given).is_dir() else [Path(given)]


def mask_picture(given: Path, photo: Photo, meaning: str) -> Photo:
    """The picture that says something about every pixel of a photo.

    Args:
        given: It, or a folder with one for every photo, named like it.
        photo: The photo.
        meaning: What it says: "what to protect".

    Raises:
        OSError: If it cannot be opened.
        ValueError: If the folder has none or several for the photo, or it has another size.
    """
    from retouch_common.photo.io import Photo

    if given.is_dir():
        named = [file for file in sorted(given.iterdir()) if file.is_file() and file.stem == photo.path.stem]
        if len(named) != 1:
            there = f"{len(named)} pictures are" if named else "no picture is"
            raise ValueError(f"{photo.path}: in the folder {given} {there} named like it; one must say {meaning}")
        given = named[0]
    mask = Photo.open(given)
    if (mask.width, mask.height) != (photo.width, photo.height):
        raise ValueError(
            f"{photo.path}: has {photo.width}x{photo.height} pixels and the picture of {meaning}, {given}, "
            f"has {mask.width}x{mask.height}; they must be equal"
        )
    return mask
