"""Retouching photograph files: what ``abpn-retouch`` and ``Retoucher.retouch_file`` do.

The file's part (formats, metadata, faces, blending, before and after) is :mod:`retouch_common.photo`; this module
runs ABPN in it and draws the network's mask.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retouch_common.inference.names import MASK, beside
from retouch_common.inference.photos import PhotoOptions, require_strength
from retouch_common.ranges import to_levels

if TYPE_CHECKING:
    import pyvips
    from retouch_common.inference.regions import Region, RegionPlan
    from retouch_common.parsing.skin import SkinSegmenter
    from retouch_common.photo.io import Photo

    from abpn.retouch import Retoucher

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
