"""Retouching of the faces in photographs of any size (:mod:`retouch_common.inference.faces`).

The paper retouches aligned faces. Here the network's change of each aligned face is resized to the face
and added to the photograph, limited to skin unless ``confine`` is off. Faces larger than S keep their fine detail, and
blemishes finer than a pixel at S.

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
from retouch_common.faces.alignment import FaceSquare, face_square, read_aligned
from retouch_common.faces.face import Face
from retouch_common.faces.pasting import AlignedLayer
from retouch_common.inference.face_plan import plan_faces, squares_in
from retouch_common.inference.faces import (
    ChangedFace,
    changed_face_rows,
    changed_image,
    face_change,
    open_skin_segmenter,
    run_on_faces,
)
from retouch_common.inference.limits import limit_uncertain
from retouch_common.inference.masks import open_mask
from retouch_common.inference.names import ATTENTION_COARSE, ATTENTION_REFINED, MASK, sibling_path
from retouch_common.inference.photos import RetouchingOptions, edit_record, face_parts, open_photo, write_photo
from retouch_common.inference.workers import Work
from retouch_common.photo.filters import resize
from retouch_common.photo.pasting import map_rows
from retouch_common.photo.sources import ArraySource, RowSource
from retouch_common.ranges import from_levels

from bpfre.attention import merged_map
from bpfre.inference import InferenceBPFRe
from bpfre.model import BPFRe, Stage

if TYPE_CHECKING:
    from retouch_common.inference.face_plan import FacePlan
    from retouch_common.parsing.skin import SkinSegmenter
    from retouch_common.photo.io import Photo


BATCH_SIZE = 8  # on an accelerator; on a CPU, batches cost memory and save no time
MAPS = ("attention_coarse", "attention_refined")
UNCERTAIN = 5.5 / 255  # largest mean change of a neighbourhood in which M^{E2D} is uncertain
NEIGHBOURHOOD = 1 / 30  # its side in sides of the aligned face
CERTAIN = (0.35, 0.5)  # means of M^{E2D} between which the limit is lifted


@dataclass(frozen=True, kw_only=True)
class RetouchOptions(RetouchingOptions):
    """Options for retouching files.

    ``confine`` also limits broad changes where the network is not sure of a blemish. The mask is the larger of both
    attention maps, within the skin if the change is confined to it.

    Attributes:
        aligned: The photo is an aligned face, a square image as in FFHQ.
        attention_out: Also write the attention maps, NAME.attention-coarse.png and NAME.attention-refined.png.
        stage: Stage of the retoucher; the coarse one has no second map.
    """

    aligned: bool = False
    attention_out: bool = False
    stage: Stage = "refined"

    @property
    def companions(self) -> tuple[str, ...]:
        """Return the endings of the maps' files."""
        return tuple(self.maps)

    @property
    def maps(self) -> dict[str, Sequence[str]]:
        """Return which of ``MAPS`` to write, by ending of the file."""
        endings: dict[str, Sequence[str]] = {}
        if self.attention_out:
            endings = {ATTENTION_COARSE: MAPS[:1]}
            if self.stage == "refined":
                endings[ATTENTION_REFINED] = MAPS[1:]
        if self.mask_out:
            endings[MASK] = MAPS
        return endings


@dataclass(frozen=True)
class RetouchedFace(ChangedFace):
    """Retouched face.

    Attributes:
        attention_coarse: M^{E2D}, (S, S) float32 in [0, 1]; None without the module.
        attention_refined: M^{D2G}, likewise; also None if only the first stage was run.
    """

    attention_coarse: np.ndarray | None
    attention_refined: np.ndarray | None


@dataclass(frozen=True)
class Attention:
    """Blemish maps of a photograph, 0 outside the faces.

    Attributes:
        coarse: M^{E2D}, (H, W) float32 in [0, 1]; None without the module.
        refined: M^{D2G}, likewise; also None if only the first stage was run.
    """

    coarse: np.ndarray | None
    refined: np.ndarray | None


class Retoucher:
    """Retouch the faces in photographs with BPFRe.

    Args:
        model: Network, or name, path or hub id of weights.
        device: "auto", "cpu", "cuda" or a torch device.
        precision: Number format of the convolutions: "auto", "fp32", "bf16" or "fp16".
        stage: "refined", or "coarse" to stop after the first stage.
        backend: "torch", or "openvino" on the CPU (extra ``openvino``): two thirds of the time of a face, after
            half a second to load. Results differ by up to one 8-bit level.

    Raises:
        ValueError: If weights, device, precision, stage or backend are unknown, the network lacks that stage, or the
            backend is not available.
    """

    name = "bpfre"  # in recipes

    def __init__(
        self,
        model: BPFRe | str | os.PathLike[str] = "small",
        *,
        device: str = "auto",
        precision: str = "auto",
        stage: Stage = "refined",
        backend: str = "torch",
    ) -> None:
        if stage not in ("coarse", "refined"):
            raise ValueError(f"stage must be coarse or refined, not {stage!r}")
        model = model if isinstance(model, BPFRe) else BPFRe.from_pretrained(model)
        if stage == "coarse" and not model.config.decoder:
            raise ValueError("this network has no decoder (model.decoder=false), and so no coarse stage")
        self.network = InferenceBPFRe(model, device, precision, backend=backend)
        self.stage: Stage = stage
        self.precision = precision
        self.batch_size = 1 if self.network.device.type == "cpu" else BATCH_SIZE

    @functools.cached_property
    def skin(self) -> SkinSegmenter:
        """Skin segmenter for ``confine``, loaded at first use."""
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
        """Retouch the faces in a photograph.

        Args:
            image: (H, W, 3) RGB, uint8 or uint16.
            strength: Scale of the change; 0 returns the input.
            faces: Faces to retouch; detected if None.
            protect: (H, W) matte of what to keep: bool, uint8, uint16 or float in [0, 1]; one of integers whose
                largest value is 1 is a mask of zeros and ones.
            aligned: The photograph is an aligned face, a square image as in FFHQ.
            confine: Change only skin: neither eyes, brows, lips and nostrils, nor hair and background; and limit broad
                changes where the network is not sure of a blemish.

        Returns:
            An array of the same shape and type.

        Raises:
            DetectorUnavailable: If the face detector is needed and its weights are not available.
            ValueError: If shape or type are others, the strength is outside [0, 1], no face is found, or one lies
                outside the photograph.
        """
        found = self.retouch_faces(ArraySource(image), squares_in(image, faces, aligned), confine=confine)
        keep_off = None if protect is None else _protection(protect)
        return changed_image(image, found, strength=strength, protect=keep_off)

    def attention(self, image: np.ndarray, *, faces: Sequence[Face] | None = None, aligned: bool = False) -> Attention:
        """Return the blemish maps of a photograph; arguments and errors as of :meth:`__call__`."""
        source = ArraySource(image)
        found = self.retouch_faces(source, squares_in(image, faces, aligned), confine=False)

        def draw(name: str) -> np.ndarray | None:
            layers = map_layers(found, (name,), source.height, source.width)
            if not layers:
                return None
            return from_levels(np.concatenate(list(map_rows(source.height, source.width, layers)))[..., 0])

        return Attention(*map(draw, MAPS))

    def retouch_file(self, src: str | os.PathLike[str], dst: str | os.PathLike[str], **options: Any) -> FacePlan:
        """Retouch a photograph file and keep its profile, metadata, transparency and bit depth.

        Args:
            src: Photograph: JPEG, PNG, TIFF, WebP or AVIF.
            dst: Output file, written atomically; its suffix selects the format.
            **options: Fields of :class:`RetouchOptions` but ``stage``.

        Returns:
            The retouched faces and the reason for them.

        Raises:
            OSError: If a file cannot be opened or written.
            ValueError: If ``src`` is not a photograph or shows no face, ``dst`` cannot hold it or exists and
                ``overwrite`` is not set, or an option is invalid.
        """
        from retouch_common.inference.companions import write_map

        opts = RetouchOptions(**options, stage=self.stage)
        if (opts.mask_out or opts.attention_out) and not self.network.config.attention:
            raise ValueError("this network has no attention modules (model.attention=false), and so no maps to write")
        target = Path(dst)
        photo = open_photo(Path(src), target, opts)
        protect = None if opts.protect is None else open_mask(Path(opts.protect), photo, "what to protect")
        plan = plan_faces(photo, face_boxes=opts.face_boxes, aligned=opts.aligned)
        faces = self.retouch_faces(photo, plan.squares, confine=opts.confine)
        rows = changed_face_rows(photo, faces, strength=opts.strength, protect=protect)
        parts = face_parts(photo, plan.squares)
        edit = edit_record(opts, self.weights_sha256, further=self.settings)
        changed = write_photo(photo, target, rows, opts, parts, edit=edit)
        for ending, names in opts.maps.items():
            layers = map_layers(faces, names, photo.height, photo.width, within_skin=ending == MASK)
            write_map(sibling_path(target, ending), photo.height, photo.width, layers)
        return replace(plan, changed=changed)

    @property
    def settings(self) -> dict[str, str]:
        """How the network is run, where it is not as by default, for the history of photographs."""
        stage = {"stage": self.stage} if self.stage != "refined" else {}
        return stage | ({"backend": self.network.backend} if self.network.backend != "torch" else {})

    @property
    def weights_sha256(self) -> str | None:
        """SHA-256 of the weights, None if unknown."""
        return self.network.model.weights_sha256

    def changes(self, photo: Photo, faces: Sequence[Face]) -> list[AlignedLayer]:
        """Return the change of each face, within its skin, for a recipe.

        Raises:
            ValueError: If the photo is damaged, or a face lies outside.
        """
        squares = [face_square(face, photo.height, photo.width) for face in faces]
        levels = np.float32(np.iinfo(photo.dtype).max)
        return [
            AlignedLayer(found.square, found.change * levels, photo.height, photo.width, found.skin)
            for found in self.retouch_faces(photo, squares)
        ]

    def retouch_faces(
        self, source: RowSource, squares: Sequence[FaceSquare], *, confine: bool = True
    ) -> list[RetouchedFace]:
        """Run the network on every face; the first pass over a photograph.

        Args:
            source: Photograph, read once from top to bottom.
            squares: Locations of the faces.
            confine: See :meth:`__call__`.

        Returns:
            The retouched faces, in the order of ``squares``.

        Raises:
            ValueError: If a square lies outside the photograph.
        """

        def retouch(batch: list[tuple[int, np.ndarray]]) -> list[RetouchedFace]:
            results = self._retouch([squares[index] for index, _ in batch], np.stack([face for _, face in batch]))
            if not confine:
                return results
            return [self._confine(result, face) for result, (_, face) in zip(results, batch, strict=True)]

        return run_on_faces(
            read_aligned(source, squares, self.network.config.size), retouch, batch_size=self.batch_size
        )

    def _retouch(self, squares: Sequence[FaceSquare], faces: np.ndarray) -> list[RetouchedFace]:
        """Run the network on aligned faces, (N, S, S, 3)."""
        image = torch.from_numpy(faces).permute(0, 3, 1, 2)
        output = self.network(image, stage=self.stage)

        def merged(maps: list[torch.Tensor]) -> list[np.ndarray] | list[None]:
            return list(merged_map(maps, faces.shape[1])[:, 0].cpu().numpy()) if maps else [None] * len(squares)

        changes = face_change(output.result, image)
        maps = merged(output.attention_coarse), merged(output.attention_refined)
        return [RetouchedFace(*parts) for parts in zip(squares, changes, *maps, strict=True)]

    def _confine(self, found: RetouchedFace, face: np.ndarray) -> RetouchedFace:
        """Confine the change to the skin of a face, (S, S, 3), and limit broad changes where M^{E2D} is uncertain."""
        # Paper: the output replaces the whole image. Here: only skin changes, and shadows are not taken for blemishes.
        change = found.change
        if found.attention_coarse is not None:
            change = _limited(change, found.attention_coarse)
        skin = resize(self.skin(face, found.square.landmarks), *face.shape[:2])
        return replace(found, change=change * skin[..., None], skin=skin)


def _limited(change: np.ndarray, attention: np.ndarray) -> np.ndarray:
    """Limit broad changes (S, S, 3) where the map (S, S) is uncertain."""
    side = round(NEIGHBOURHOOD * len(change)) // 2 * 2 + 1
    image, mask = torch.from_numpy(change).permute(2, 0, 1)[None], torch.from_numpy(attention)[None, None]
    result = limit_uncertain(image, mask, limit=UNCERTAIN, side=side, certain=CERTAIN)
    return result[0].permute(1, 2, 0).numpy()


def map_layers(
    faces: Sequence[RetouchedFace], names: Sequence[str], height: int, width: int, *, within_skin: bool = False
) -> list[AlignedLayer]:
    """Place attention maps in a photograph, for :func:`retouch_common.photo.pasting.map_rows`.

    Args:
        faces: From :meth:`Retoucher.retouch_faces`.
        names: Which of ``MAPS``; of both, the larger value counts.
        height: Height of the photograph in pixels.
        width: Width of the photograph in pixels.
        within_skin: Mask the maps with the skin to which changes are confined.
    """
    layers = []
    for face in faces:
        skin = face.skin if within_skin and face.skin is not None else np.float32(1)
        maps = [M for M in (getattr(face, name) for name in names) if M is not None]
        layers += [AlignedLayer(face.square, (255 * M * skin)[..., None], height, width) for M in maps]
    return layers


def _protection(protect: np.ndarray) -> ArraySource:
    levels = protect.dtype in (np.uint8, np.uint16)
    if protect.ndim != 2 or not (levels or protect.dtype.kind in "bf"):
        raise ValueError(
            f"protect must be (H, W) of bool, uint8, uint16 or float in [0, 1], not {protect.shape} of {protect.dtype}"
        )
    if levels and protect.max(initial=0) == 1:  # as of a mask's file
        protect = protect * np.iinfo(protect.dtype).max
    elif not levels:
        protect = np.rint(65535 * protect.astype(np.float32).clip(0, 1)).astype(np.uint16)
    return ArraySource(np.repeat(protect[..., None], 3, axis=2))


def load_retouching(
    weights: str,
    *,
    device: str,
    precision: str,
    stage: Stage,
    backend: str = "torch",
    recipe: Path | None = None,
    **options: Any,
) -> Work:
    """Load the network; return what ``bpfre-retouch`` does with one photograph.

    ``recipe`` is the file of a recipe of the studio, which replaces most options. Errors are those of
    :class:`Retoucher` and :func:`retouch_common.inference.recipe_retouching.recipe_work`.
    """
    retoucher = Retoucher(weights, device=device, precision=precision, stage=stage, backend=backend)
    if recipe is not None:
        from retouch_common.inference.recipe_retouching import recipe_work

        return recipe_work(recipe, retoucher, RetouchOptions(**options))
    return Work(lambda job: retoucher.retouch_file(job.source, job.target, **options), retoucher.weights_sha256)
