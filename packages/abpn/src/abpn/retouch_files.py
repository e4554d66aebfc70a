"""Retouching photograph files: what ``abpn-retouch`` and ``Retoucher.retouch_file`` do.

The file's part (formats, metadata, faces, blending) is :mod:`retouch_common.photo`; this module runs ABPN in
it and draws the optional pictures beside an output: the network's mask, and before and after side by side.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from retouch_common.cli import TRACEBACK_VARIABLE, error_line, progress_bar

if TYPE_CHECKING:
    import pyvips
    from retouch_common.photo.batch import Job
    from retouch_common.photo.io import Photo
    from retouch_common.photo.regions import Box, Crop, Region, RegionPlan

    from abpn.retouch import Retoucher

MASK_SIDE = 1024  # the network's mask is coarser than this in any case
COMPARE_SIDE = 1024
COMPARED_FACES = 4


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to retouch files.

    Attributes:
        strength: 0 changes nothing, 1 is the network's retouching.
        region: "faces", "photo" or "auto".
        face_boxes: (x, y, w, h) in pixels of the upright photo, instead of the face detector.
        mask_out: Also write the network's mask, NAME.mask.png.
        compare: Also write before and after side by side, NAME.compare.jpg.
        overwrite: Whether the output may be the input.
    """

    strength: float = 1.0
    region: Region = "auto"
    face_boxes: Sequence[Box] = ()
    mask_out: bool = False
    compare: bool = False
    overwrite: bool = False


def retouch_file(
    retoucher: Retoucher, src: str | os.PathLike[str], dst: str | os.PathLike[str], options: Options
) -> RegionPlan:
    """Retouch one photograph into a file.

    Args:
        retoucher: The network.
        src: The photograph: JPEG, PNG, TIFF, WebP or AVIF.
        dst: The output; its ending says the format. It is complete or not there at all.
        options: How.

    Returns:
        Which part was retouched, and why.

    Raises:
        OSError: If a file cannot be opened or written.
        ValueError: If ``src`` is not a photograph, ``dst`` cannot hold it or is ``src`` without
            ``overwrite``, or an option does not fit.
    """
    from retouch_common.photo.batch import Job, check_target
    from retouch_common.photo.io import Photo
    from retouch_common.photo.regions import plan_region, retouched_rows
    from retouch_common.photo.sink import written

    source, target = Path(src), Path(dst)
    if not 0 <= options.strength <= 1:
        raise ValueError(f"strength must lie between 0 and 1, not {options.strength}")
    check_target(Job(source, target), [source], overwrite=options.overwrite)
    photo = Photo.open(source)
    photo.check_output(target)
    plan = plan_region(photo, options.region, face_boxes=options.face_boxes)
    views = _views(photo, plan)
    before = [photo.thumbnail(COMPARE_SIDE, view) for view in views] if options.compare else []
    mask = _mask(retoucher, photo, plan) if options.mask_out else None
    photo.write_stripes(target, retouched_rows(photo, plan, retoucher, strength=options.strength))
    if mask is not None:
        with written(_beside(target, ".mask.png")) as temporary:
            mask.pngsave(str(temporary))
    if options.compare:
        result = Photo.open(target)
        after = [result.thumbnail(COMPARE_SIDE, view) for view in views]
        _write_comparison(photo, before, after, _beside(target, ".compare.jpg"))
    return plan


def retouch_files(
    retoucher: Retoucher,
    jobs: Sequence[Job],
    options: Options,
    *,
    report: Callable[[str], None],
) -> list[str]:
    """Retouch many photographs; a broken one does not stop the others.

    Args:
        retoucher: The network.
        jobs: Inputs and outputs.
        options: How.
        report: Called with one line for each photo that was retouched.

    Returns:
        One line for each photo that was not, naming it and the reason.
    """
    from retouch_common.photo.batch import check_target

    failures = []
    sources = [job.source for job in jobs]
    with progress_bar(disable=len(jobs) < 2) as bar:
        for job in bar.track(jobs, description="Retouching"):
            try:
                check_target(job, sources, overwrite=options.overwrite)
                job.target.parent.mkdir(parents=True, exist_ok=True)
                plan = retouch_file(retoucher, job.source, job.target, options)
            except Exception as error:
                line = error_line(error)
                if os.environ.get(TRACEBACK_VARIABLE) == "1":
                    raise
                line = line or f"unexpected {type(error).__name__}: {' '.join(str(error).split())}"
                failures.append(line if str(job.source) in line else f"{job.source}: {line}")
            else:
                report(f"{job.source} -> {job.target}: {plan}")
    return failures


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(target.stem + ending)


def _views(photo: Photo, plan: RegionPlan) -> list[Crop]:
    """What a comparison shows: the largest faces, or the whole photo."""
    return list(plan.crops[:COMPARED_FACES]) or [(0, 0, photo.width, photo.height)]


def _mask(retoucher: Retoucher, photo: Photo, plan: RegionPlan) -> pyvips.Image:
    """Where the network would retouch, as grey levels at the photo's size; computed when it is written.

    The network finds its mask in a thumbnail, so that a reduced view of each part gives the same one.
    """
    import pyvips
    from retouch_common.photo.pixels import image_from_array

    canvas: pyvips.Image = pyvips.Image.black(photo.width, photo.height).copy(interpretation="b-w")
    for x, y, width, height in plan.crops or [(0, 0, photo.width, photo.height)]:
        mask = retoucher.mask(photo.thumbnail(MASK_SIDE, (x, y, width, height)))
        levels = np.rint(mask * 255).astype(np.uint8)[..., None]
        image = image_from_array(levels, "b-w")
        image = image.resize(width / image.width, vscale=height / image.height, kernel="linear")
        image = image.gravity("north-west", width, height, extend="copy")
        canvas = canvas.maxpair(image.embed(x, y, photo.width, photo.height))
    return canvas


def _write_comparison(photo: Photo, before: list[np.ndarray], after: list[np.ndarray], path: Path) -> None:
    """Write rows of two pictures, before and after, with a white line between them."""
    from retouch_common.photo.pixels import image_from_array
    from retouch_common.photo.sink import written

    width = max(view.shape[1] for view in before)
    rows = []
    for pair in zip(before, after, strict=True):
        row = np.full((pair[0].shape[0] + 8, 2 * width + 8, 3), 255, np.uint8)
        for left, view in zip((0, width + 8), pair, strict=True):
            row[: view.shape[0], left : left + view.shape[1]] = view
        rows.append(row)
    image = image_from_array(np.concatenate(rows)[:-8], "srgb")
    photo.give_profile(image)
    with written(path) as temporary:
        image.jpegsave(str(temporary), Q=92, subsample_mode="off")
