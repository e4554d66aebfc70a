"""Restoring photograph files: what ``mofrr-restore`` and ``Restorer.restore_file`` do.

The file's part (formats, metadata, faces, alignment, pasting) is :mod:`retouch_common.photo`; this module runs MoFRR in
it and writes the optional files beside an output: what was found, and before and after side by side.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from retouch_common.inference.names import COMPARISON, REPORT, REPORT_PICTURES, beside

if TYPE_CHECKING:
    from retouch_common.inference.face_plan import FacePlan
    from retouch_common.inference.regions import Box

    from mofrr.restore import RestoredFace, Restorer

CAUTION = "An estimate by a network of what the face looked like before retouching; not evidence."


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to restore files.

    Attributes:
        strength: 0 changes nothing, 1 is the network's estimate.
        face_boxes: (x, y, w, h) in pixels of the upright photo, instead of the face detector.
        aligned: The photo is a face as the network was trained on, a square picture.
        report: Also write what was found, NAME.report.json, and what every expert made, NAME.report.png.
        compare: Also write before and after side by side, NAME.compare.jpg.
        overwrite: Whether files that are there may be replaced, the input included where it is the output.
    """

    strength: float = 1.0
    face_boxes: Sequence[Box] = ()
    aligned: bool = False
    report: bool = False
    compare: bool = False
    overwrite: bool = False

    @property
    def endings(self) -> tuple[str, ...]:
        """Of the files that are written beside the output."""
        return (*((REPORT, REPORT_PICTURES) if self.report else ()), *((COMPARISON,) if self.compare else ()))


def restore_file(
    restorer: Restorer, src: str | os.PathLike[str], dst: str | os.PathLike[str], options: Options
) -> FacePlan:
    """Restore one photograph into a file.

    Args:
        restorer: The network.
        src: The photograph: JPEG, PNG, TIFF, WebP or AVIF.
        dst: The output; its ending says the format. It is complete or not there at all.
        options: How.

    Returns:
        Which faces were restored, and why.

    Raises:
        OSError: If a file cannot be opened or written.
        ValueError: If ``src`` is not a photograph or shows no face, ``dst`` cannot hold it, an output is there
            already and ``overwrite`` is not given, or an option does not fit.
    """
    from retouch_common.inference.batch import plan_job, refuse_collisions
    from retouch_common.inference.companions import Comparison
    from retouch_common.inference.face_plan import plan_faces
    from retouch_common.photo.io import Photo

    from mofrr.restore import restored_rows

    source, target = Path(src), Path(dst)
    if not 0 <= options.strength <= 1:
        raise ValueError(f"strength must lie between 0 and 1, not {options.strength}")
    refuse_collisions(plan_job(source, target, options.endings), overwrite=options.overwrite)
    photo = Photo.open(source)
    photo.check_output(target)
    plan = plan_faces(photo, face_boxes=options.face_boxes, aligned=options.aligned)
    parts = [square.bounds(photo.height, photo.width) for square in plan.squares]
    comparison = Comparison(photo, parts) if options.compare else None
    faces = restorer.restore_faces(photo, plan.squares)
    photo.write_stripes(target, restored_rows(photo, faces, strength=options.strength))
    if options.report:
        _write_report(restorer, faces, source, target)
    if comparison is not None:
        comparison.write(Photo.open(target), beside(target, COMPARISON))
    return plan


def _write_report(restorer: Restorer, faces: Sequence[RestoredFace], source: Path, target: Path) -> None:
    import torch
    from retouch_common.files import write_atomically
    from retouch_common.training.sheets import save_sheet

    config, experts = restorer.network.config, restorer.options["experts"]
    report = {
        "caution": CAUTION,
        "photo": source.name,
        "threshold": config.threshold,
        "steps": restorer.options["steps"] or config.steps,
        "seed": restorer.options["seeds"],
        "samples": restorer.options["samples"],
        "experts": "auto" if experts is None else list(experts),
        "faces": [face.as_json() for face in faces],
    }
    write_atomically(beside(target, REPORT), (json.dumps(report, indent=2) + "\n").encode())
    rows = []
    for face in faces:
        restored = face.pictures["restored"]
        pictures = {"as given": (restored - face.change).clip(0, 1), **face.pictures}
        rows.append({name: torch.from_numpy(view).permute(2, 0, 1) for name, view in pictures.items()})
    save_sheet(beside(target, REPORT_PICTURES), rows)
