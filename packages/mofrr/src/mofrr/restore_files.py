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

from retouch_common.inference.names import REPORT, REPORT_PICTURES, beside
from retouch_common.inference.photos import PhotoOptions, require_strength

if TYPE_CHECKING:
    from retouch_common.inference.face_plan import FacePlan

    from mofrr.restore import RestoredFace, Restorer

CAUTION = "An estimate by a network of what the face looked like before retouching; not evidence."


@dataclass(frozen=True, kw_only=True)
class Options(PhotoOptions):
    """How to restore files.

    Attributes:
        strength: 0 changes nothing, 1 is the network's estimate.
        aligned: The photo is a face as the network was trained on, a square picture.
        report: Also write what was found, NAME.report.json, and what every expert made, NAME.report.png.
    """

    strength: float = 1.0
    aligned: bool = False
    report: bool = False

    def __post_init__(self) -> None:
        require_strength(self.strength)

    @property
    def companions(self) -> tuple[str, ...]:
        """The report."""
        return (REPORT, REPORT_PICTURES) if self.report else ()


def restore_file(
    restorer: Restorer, src: str | os.PathLike[str], dst: str | os.PathLike[str], options: Options
) -> FacePlan:
    """Restore one photograph into a file, as :meth:`Restorer.restore_file` does with :class:`Options`."""
    from retouch_common.inference.face_plan import plan_faces
    from retouch_common.inference.faces import changed_face_rows
    from retouch_common.inference.photos import face_parts, open_photo, write_photo

    source, target = Path(src), Path(dst)
    photo = open_photo(source, target, options)
    plan = plan_faces(photo, face_boxes=options.face_boxes, aligned=options.aligned)
    faces = restorer.restore_faces(photo, plan.squares)
    rows = changed_face_rows(photo, faces, strength=options.strength)
    write_photo(photo, target, rows, options, face_parts(photo, plan.squares))
    if options.report:
        _write_report(restorer, faces, source, target)
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
