"""Restoration of the faces in photographs of any size (:mod:`retouch_common.inference.faces`).

The result is an estimate of what the face looked like, not evidence of it.

Shapes: photographs are (H, W, 3) RGB, uint8 or uint16; faces (S, S, 3) float32 in [0, 1].
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from retouch_common.faces.alignment import FaceSquare
from retouch_common.faces.face import Face
from retouch_common.files import sha256
from retouch_common.inference.face_plan import plan_faces, squares_in
from retouch_common.inference.faces import ChangedFace, changed_face_rows, changed_image, face_change, run_on_faces
from retouch_common.inference.names import REPORT, REPORT_IMAGES, sibling_path
from retouch_common.inference.photos import (
    PhotoOptions,
    edit_record,
    face_parts,
    open_photo,
    require_strength,
    write_photo,
)
from retouch_common.inference.workers import Work
from retouch_common.photo.sources import ArraySource, RowSource

from mofrr.config import NUM_DEGREES
from mofrr.inference import InferenceMoFRR
from mofrr.model import MoFRR
from mofrr.router import THRESHOLD
from mofrr.traces import read_faces

if TYPE_CHECKING:
    from retouch_common.inference.face_plan import FacePlan

CAUTION = "An estimate by a network of what the face looked like before retouching; not evidence."


@dataclass(frozen=True)
class RestoredFace(ChangedFace):
    """Output of the network for one face.

    Attributes:
        probabilities: Of every operation, from the router.
        degrees: Of the operations that were undone, from 1 to 5; 0 without degree estimators.
        images: Of every active expert, the shared expert and the whole network, (S, S, 3) in [0, 1].
    """

    probabilities: dict[str, float]
    degrees: dict[str, float]
    images: dict[str, np.ndarray]

    def as_json(self) -> dict[str, Any]:
        """Return everything but images."""
        return {
            "centre": [round(c, 1) for c in self.square.centre],
            "side": round(self.square.side, 1),
            "probabilities": {name: round(value, 4) for name, value in self.probabilities.items()},
            "undone": {name: {"degree": round(value, 2)} for name, value in self.degrees.items()},
        }


@dataclass(frozen=True, kw_only=True)
class RestoreOptions(PhotoOptions):
    """Options of :meth:`Restorer.restore_file`.

    Attributes:
        strength: 0 returns the input, 1 the network's estimate.
        aligned: The photo is a face aligned as in FFHQ, a square image.
        report: Also write what was found, NAME.report.json, and every expert's image, NAME.report.png.
    """

    strength: float = 1.0
    aligned: bool = False
    report: bool = False

    def __post_init__(self) -> None:
        require_strength(self.strength)

    @property
    def companions(self) -> tuple[str, ...]:
        """Endings of the report."""
        return (REPORT, REPORT_IMAGES) if self.report else ()


class Restorer:
    """Restores photographs.

    Args:
        model: A MoFRR, or the name, path or hub id of weights.
        device: "auto", "cpu", "cuda" or a torch device.
        precision: Number format of the convolutions: "auto", "fp32", "bf16" or "fp16".
        steps: DDIM steps; None for the weights' own.
        seed: Seed of the noise.
        experts: Operations to undo; None asks the router.
        samples: Number of samples that each expert averages.

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
        given = isinstance(model, MoFRR)
        model = model if isinstance(model, MoFRR) else MoFRR.from_pretrained(model)
        model.config.columns(experts or ())
        if steps is not None and not 1 <= steps <= model.config.T:
            raise ValueError(f"steps must lie between 1 and {model.config.T}, not at {steps}")
        if samples < 1:
            raise ValueError(f"samples must be at least 1, not {samples}")
        self.network = InferenceMoFRR(model, device, precision, copied=given)
        self.options: dict[str, Any] = {"seeds": seed, "steps": steps, "experts": experts, "samples": samples}

    def __call__(
        self,
        image: np.ndarray,
        *,
        strength: float = 1.0,
        faces: Sequence[Face] | None = None,
        aligned: bool = False,
    ) -> np.ndarray:
        """Restore the faces of a photograph.

        Args:
            image: (H, W, 3) RGB, uint8 or uint16.
            strength: 0 returns the input, 1 the network's estimate.
            faces: The faces; None runs the face detector.
            aligned: The photograph is a face aligned as in FFHQ, a square image.

        Returns:
            An array of the same shape and type.

        Raises:
            DetectorUnavailable: The face detector is needed and its weights are not available.
            ValueError: Another shape or type, a strength outside [0, 1], no face, or one outside the image.
        """
        found = self.restore_faces(ArraySource(image), squares_in(image, faces, aligned))
        return changed_image(image, found, strength=strength)

    def restore_file(self, src: str | os.PathLike[str], dst: str | os.PathLike[str], **options: Any) -> FacePlan:
        """Restore a photograph into a file with the same metadata.

        Args:
            src: The photograph: JPEG, PNG, TIFF, WebP or AVIF.
            dst: The output, written atomically; its suffix is the format.
            **options: Fields of :class:`RestoreOptions`.

        Returns:
            Which faces were restored, why, and what was undone.

        Raises:
            OSError: A file cannot be opened or written.
            ValueError: ``src`` is not a photograph or shows no face, ``dst`` cannot hold it or is ``src`` without
                ``overwrite``, or an option is invalid.
        """
        source, target, chosen = Path(src), Path(dst), RestoreOptions(**options)
        photo = open_photo(source, target, chosen)
        plan = plan_faces(photo, face_boxes=chosen.face_boxes, aligned=chosen.aligned)
        faces = self.restore_faces(photo, plan.squares)
        rows = changed_face_rows(photo, faces, strength=chosen.strength)
        parts = face_parts(photo, plan.squares)
        given = _description_of(source) if chosen.report else {}  # before the photo may be replaced
        edit = edit_record(chosen, self.network.model.weights_sha256, further=self.settings)
        changed = write_photo(photo, target, rows, chosen, parts, edit=edit)
        if chosen.report:
            self._write_report(faces, given, target)
        undone = dict.fromkeys(name for face in faces for name in face.degrees)
        outcome = f"undone: {', '.join(undone)}" if undone else "no retouching found"
        return replace(plan, changed=changed, outcome=outcome)

    @property
    def settings(self) -> dict[str, int | str]:
        """How the network is run, for the history of photographs."""
        steps, experts = self.options["steps"] or self.network.config.steps, self.options["experts"]
        return {
            "seed": self.options["seeds"],
            "steps": steps,
            "samples": self.options["samples"],
            "experts": "auto" if experts is None else ",".join(experts),
        }

    def restore_faces(self, source: RowSource, squares: Sequence[FaceSquare]) -> list[RestoredFace]:
        """Run the network on every face.

        Args:
            source: The photograph; its rows are read once, from top to bottom.
            squares: The faces' squares.

        Returns:
            A result for each square, in their order.

        Raises:
            ValueError: A square lies outside the photograph.
        """
        faces = read_faces(source, squares, self.network.config.size)
        return run_on_faces(faces, lambda batch: [self._restore(squares[i], *parts) for i, *parts in batch])

    def _restore(self, square: FaceSquare, face: np.ndarray, traces: np.ndarray) -> RestoredFace:
        """Run the network on an aligned face, (S, S, 3), and the maps of its photograph."""
        image = torch.from_numpy(face).permute(2, 0, 1)[None]
        output = self.network(image, traces=torch.from_numpy(traces)[None], **self.options)
        active = [name for name, gate in zip(output.operations, output.gates[0].tolist(), strict=True) if gate]
        images = {name: output.experts[name] for name in active}
        if output.shared is not None and output.active[0]:
            images["shared"] = output.shared
        images["restored"] = output.result

        def by_name(row: torch.Tensor) -> dict[str, float]:
            return dict(zip(output.operations, row.float().tolist(), strict=True))

        return RestoredFace(
            square=square,
            change=face_change(output.result, image)[0],
            probabilities=by_name(output.probabilities[0]),
            degrees={name: NUM_DEGREES * value for name, value in by_name(output.degrees[0]).items() if name in active},
            images={name: view[0].float().cpu().permute(1, 2, 0).contiguous().numpy() for name, view in images.items()},
        )

    def _write_report(self, faces: Sequence[RestoredFace], given: Mapping[str, Any], target: Path) -> None:
        from retouch_common.files import write_atomically
        from retouch_common.training.sheets import save_sheet

        experts = self.options["experts"]
        report = {
            "caution": CAUTION,
            **given,
            "program": f"mofrr {metadata.version('mofrr')}",
            "weights_sha256": self.network.model.weights_sha256,
            "threshold": THRESHOLD,
            "steps": self.options["steps"] or self.network.config.steps,
            "seed": self.options["seeds"],
            "samples": self.options["samples"],
            "experts": "auto" if experts is None else list(experts),
            "faces": [face.as_json() for face in faces],
        }
        write_atomically(sibling_path(target, REPORT), (json.dumps(report, indent=2) + "\n").encode())
        rows = []
        for face in faces:
            views = {"as given": (face.images["restored"] - face.change).clip(0, 1), **face.images}
            rows.append({name: torch.from_numpy(view).permute(2, 0, 1) for name, view in views.items()})
        save_sheet(sibling_path(target, REPORT_IMAGES), rows)


def _description_of(photo: Path) -> dict[str, Any]:
    """Return what the report says of a photo's file, with what its content credentials claim."""
    from retouch_common.photo.content_credentials import INSTALL, read_credentials

    try:
        credentials = read_credentials(photo)
    except ImportError:
        credentials = {"not read": INSTALL}
    return {"photo": photo.name, "photo_sha256": sha256(photo), "content_credentials": credentials}


def load_restoring(
    weights: str,
    *,
    device: str,
    precision: str,
    steps: int | None,
    seed: int,
    experts: Sequence[str] | None,
    samples: int,
    **options: Any,
) -> Work:
    """Load the network; return what ``mofrr-restore`` does with one photograph. Errors as of :class:`Restorer`."""
    restorer = Restorer(
        weights, device=device, precision=precision, steps=steps, seed=seed, experts=experts, samples=samples
    )
    checksum = restorer.network.model.weights_sha256
    return Work(lambda job: restorer.restore_file(job.source, job.target, **options), checksum)
