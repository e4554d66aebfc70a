"""Restoring the faces of photographs of any size (:mod:`retouch_common.inference.faces`).

What comes back is an estimate of what the face looked like, not evidence of it.

Shapes: photographs are (H, W, 3) RGB, uint8 or uint16; faces (S, S, 3) float32 in [0, 1].
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from retouch_common.faces.alignment import FaceSquare
from retouch_common.faces.face import Face
from retouch_common.inference.face_plan import squares_in
from retouch_common.inference.faces import ChangedFace, changed_image, face_change, run_on_faces
from retouch_common.inference.names import REPORT, REPORT_PICTURES, beside
from retouch_common.inference.photos import PhotoOptions, require_strength
from retouch_common.photo.sources import ArraySource, RowSource

from mofrr.config import NUM_DEGREES
from mofrr.inference import InferenceMoFRR
from mofrr.model import MoFRR
from mofrr.traces import read_faces

if TYPE_CHECKING:
    from retouch_common.inference.face_plan import FacePlan


@dataclass(frozen=True)
class RestoredFace(ChangedFace):
    """What the network finds in one face and makes of it.

    Attributes:
        probabilities: Of every operation, from the router.
        degrees: 1 to 5 of the operations that were undone; 0 without degree estimators.
        pictures: What every expert that worked, the shared one and the whole network made, (S, S, 3) in [0, 1].
    """

    probabilities: dict[str, float]
    degrees: dict[str, float]
    pictures: dict[str, np.ndarray]

    def as_json(self) -> dict[str, Any]:
        """Everything but pictures."""
        return {
            "centre": [round(c, 1) for c in self.square.centre],
            "side": round(self.square.side, 1),
            "probabilities": {name: round(value, 4) for name, value in self.probabilities.items()},
            "undone": {name: {"degree": round(value, 2)} for name, value in self.degrees.items()},
        }


class Restorer:
    """A network ready to restore photographs.

    Args:
        model: A MoFRR, or the name, path or hub id of weights.
        device: "auto", "cpu", "cuda" or a torch device.
        precision: Number format of the convolutions: "auto", "fp32", "bf16" or "fp16".
        steps: DDIM steps; None for what the weights were made for.
        seed: Of the noise; the same seed gives the same picture.
        experts: Operations to undo; None asks the router.
        samples: Pictures that every expert samples and averages.

    Raises:
        ValueError: Unknown weights, device, precision or experts, or steps that the schedule does not have.
    """

    def __init__(
        self,
        model: MoFRR | str | os.PathLike[str] = "small",
        *,
        device: str = "auto",
        precision: str = "auto",
        steps: int | None = None,
        seed: int = 0,
        experts: Sequence[str] | None = None,
        samples: int = 1,
    ) -> None:
        model = model if isinstance(model, MoFRR) else MoFRR.from_pretrained(model)
        model.config.columns(experts or ())
        if steps is not None and not 1 <= steps <= model.config.T:
            raise ValueError(f"steps must lie between 1 and {model.config.T}, not at {steps}")
        if samples < 1:
            raise ValueError(f"samples must be at least 1, not {samples}")
        self.network = InferenceMoFRR(model, device, precision)
        self.options: dict[str, Any] = {"seeds": seed, "steps": steps, "experts": experts, "samples": samples}

    def __call__(
        self,
        image: np.ndarray,
        *,
        strength: float = 1.0,
        faces: Sequence[Face] | None = None,
        aligned: bool = False,
    ) -> np.ndarray:
        """Restore the faces of one photograph.

        Args:
            image: (H, W, 3) RGB, uint8 or uint16.
            strength: 0 changes nothing, 1 is the network's estimate.
            faces: Where they are; by default where the face detector finds them.
            aligned: The photograph is a face as the network was trained on: a square, upright, as FFHQ's.

        Returns:
            An array of the same shape and type.

        Raises:
            DetectorUnavailable: If the face detector is needed and its weights cannot be had.
            ValueError: Another shape or type, a strength outside [0, 1], no face, or one that lies outside.
        """
        found = self.restore_faces(ArraySource(image), squares_in(image, faces, aligned))
        return changed_image(image, found, strength=strength)

    def restore_file(self, src: str | os.PathLike[str], dst: str | os.PathLike[str], **options: Any) -> FacePlan:
        """Restore one photograph into a file, with everything the file carries beside its pixels.

        Args:
            src: The photograph: JPEG, PNG, TIFF, WebP or AVIF.
            dst: The output; its ending says the format. It is complete or not there at all.
            **options: The fields of :class:`mofrr.restore.Options`.

        Returns:
            Which faces were restored, and why.

        Raises:
            OSError: If a file cannot be opened or written.
            ValueError: If ``src`` is not a photograph or shows no face, ``dst`` cannot hold it or is ``src`` without
                ``overwrite``, or an option does not fit.
        """
        return restore_file(self, src, dst, Options(**options))

    def restore_faces(self, source: RowSource, squares: Sequence[FaceSquare]) -> list[RestoredFace]:
        """The first pass: cut every face out and run the network on it.

        Args:
            source: The photograph; its rows are asked for once, from top to bottom.
            squares: Where the faces are.

        Returns:
            What the network makes of each, in the order of ``squares``.

        Raises:
            ValueError: If a square lies outside the photograph.
        """
        faces = read_faces(source, squares, self.network.config.size)
        return run_on_faces(faces, lambda batch: [self._restore(squares[i], *parts) for i, *parts in batch])

    def _restore(self, square: FaceSquare, face: np.ndarray, traces: np.ndarray) -> RestoredFace:
        """Run the network on one aligned face, (S, S, 3), and the maps of its photograph."""
        image = torch.from_numpy(face).permute(2, 0, 1)[None]
        output = self.network(image, traces=torch.from_numpy(traces)[None], **self.options)
        active = [name for name, gate in zip(output.operations, output.gates[0].tolist(), strict=True) if gate]
        pictures = {name: output.experts[name] for name in active}
        if output.shared is not None and active:
            pictures["shared"] = output.shared
        pictures["restored"] = output.result

        def numbers(row: torch.Tensor) -> dict[str, float]:
            return dict(zip(output.operations, row.float().tolist(), strict=True))

        return RestoredFace(
            square=square,
            change=face_change(output.result, image)[0],
            probabilities=numbers(output.probabilities[0]),
            degrees={name: NUM_DEGREES * value for name, value in numbers(output.degrees[0]).items() if name in active},
            pictures={name: _channels_last(picture) for name, picture in pictures.items()},
        )


def _channels_last(picture: torch.Tensor) -> np.ndarray:
    return picture[0].float().cpu().permute(1, 2, 0).contiguous().numpy()


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
