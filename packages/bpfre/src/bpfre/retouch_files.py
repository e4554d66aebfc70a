"""Retouching photograph files: what ``bpfre-retouch`` and ``Retoucher.retouch_file`` do.

The file's part (formats, metadata, faces, alignment, pasting) is :mod:`retouch_common.photo`; this module runs BPFRe in
it and writes the optional pictures beside an output: the maps, and before and after side by side.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retouch_common.inference.names import ATTENTION_COARSE, ATTENTION_REFINED, MASK, beside
from retouch_common.inference.photos import PhotoOptions, require_strength

if TYPE_CHECKING:
    from retouch_common.inference.face_plan import FacePlan
    from retouch_common.photo.io import Photo

    from bpfre.retouch import RetouchedFace, Retoucher

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

    from bpfre.retouch import map_layers

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
