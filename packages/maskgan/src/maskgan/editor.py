"""Edit the face of a photo through its mask: open, parse, render, paste back.

>>> editor = Editor("small")
>>> portrait = editor.open(photo)                      # the largest face, aligned and parsed
>>> labels = portrait.labels.copy()                    # paint in it
>>> edited = editor.render(portrait, labels, portrait.codes)
>>> result = editor.paste(photo, portrait, edited)

Shapes: photos (H, W, 3) RGB, uint8 or uint16; aligned faces (S, S, 3) float32 in [0, 1]; labels (S, S) uint8 of
:data:`retouch_common.parsing.labels.CLASSES`.
"""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from retouch_common.devices import resolve_device, resolve_precision
from retouch_common.faces.alignment import FaceSquare, portrait_square, read_aligned
from retouch_common.faces.face import Face
from retouch_common.inference.face_plan import squares_in
from retouch_common.inference.faces import gather_rows, suppress_noise
from retouch_common.inference.network import prepare_for_inference
from retouch_common.parsing.labels import NUM_CLASSES
from retouch_common.parsing.parser import FaceParser
from retouch_common.photo.pasting import pasted_rows
from retouch_common.photo.sources import ArraySource, ChangedRows, RowSource
from retouch_common.ranges import to_signed, to_unit
from retouch_common.weights import require_finite
from torch import Tensor

from maskgan.adaptation import Adaptation, Sample, random_edit
from maskgan.config import COMPONENT_NAMES
from maskgan.filling import filled
from maskgan.model import Codes, MaskGAN
from maskgan.neck import neck_matte, recoloured, skin_colour
from maskgan.seams import Repainted, edited_region, hair_matte, with_detail

NEAR_MASKS = 6  # masks of the locality regularisation of an adaptation


@dataclass(frozen=True)
class Portrait:
    """A face found in a photo.

    Attributes:
        image: Aligned face, (S, S, 3) float32 in [0, 1].
        labels: (S, S) uint8.
        square: Its position in the photo.
        photo_size: Height and width of the photo.
        codes: Appearance of its components, of a batch of one.
        as_it_is: The network's reconstruction, (S, S, 3) float32 in [0, 1].
        network: The network adapted to it; None: the editor's.
    """

    image: np.ndarray
    labels: np.ndarray
    square: FaceSquare
    photo_size: tuple[int, int]
    codes: Codes
    as_it_is: np.ndarray
    network: MaskGAN | None = None

    @functools.cached_property
    def matte(self) -> np.ndarray:
        """Matte of its hair, (S, S) float32 in [0, 1], which is the same for all edits."""
        return hair_matte(self.image, self.labels)


@dataclass(frozen=True)
class Edited:
    """An edited face.

    Attributes:
        image: The network's output, (S, S, 3) float32 in [0, 1].
        finished: The same with the photo's own detail outside the edit.
        change: Difference of ``finished`` from the photo, (S, S, 3) float32 in [-1, 1].
        region: Soft mask of the edit, (S, S) float32 in [0, 1].
    """

    image: np.ndarray
    finished: np.ndarray
    change: np.ndarray
    region: np.ndarray


class Editor:
    """A network ready to edit photos.

    Args:
        model: A MaskGAN, which is not modified, or the name, path or hub id of weights.
        parser: Weights of the face parser: name, path or hub id; see :class:`retouch_common.parsing.parser.FaceParser`.
        device: "auto", "cpu" or "cuda".
        precision: Number format of the convolutions: "auto", "fp32", "bf16" or "fp16".

    Attributes:
        size: S, side of the aligned faces in pixels.

    Raises:
        ValueError: Unknown weights, device or precision.
    """

    def __init__(
        self,
        model: MaskGAN | str | os.PathLike[str] = "small",
        *,
        parser: str | os.PathLike[str] = "small",
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        model = model if isinstance(model, MaskGAN) else MaskGAN.from_pretrained(model)
        self.device = resolve_device(device)
        self.dtype = resolve_precision(precision, self.device)
        self.model = prepare_for_inference(model, self.device)
        self.parser = FaceParser(parser, device=device)
        self.size = model.config.size
        self._decoded: tuple[MaskGAN, Codes, dict[str, Tensor]] | None = None  # the last

    def open(
        self, image: np.ndarray, *, face: Face | None = None, aligned: bool = False, labels: np.ndarray | None = None
    ) -> Portrait:
        """Find a face in a photo and parse it.

        Args:
            image: (H, W, 3) RGB, uint8 or uint16.
            face: The face; by default the largest that the detector finds.
            aligned: The photo is an aligned face, a square, as in training.
            labels: (S, S) labels of its parts; by default the parser's.

        Raises:
            DetectorUnavailable: The face detector is needed but not available.
            ValueError: Another shape or type, no face, or labels of another size or type, or with unknown classes.
        """
        return self.open_source(ArraySource(image), self.find(image, face=face, aligned=aligned), labels=labels)

    def find(self, image: np.ndarray, *, face: Face | None = None, aligned: bool = False) -> FaceSquare:
        """Return the face's position; arguments and errors as for :meth:`open`."""
        return squares_in(image, None if face is None else [face], aligned, frame=portrait_square)[0]

    def open_source(self, source: RowSource, square: FaceSquare, *, labels: np.ndarray | None = None) -> Portrait:
        """Open a face at a given position of a photo of any size; see :meth:`open`."""
        ((_, image),) = read_aligned(source, [square], self.size)
        labels = self.parser(image) if labels is None else self._checked(labels)
        own = self._on_device(image)
        with torch.no_grad(), self._autocast():
            codes = self.model.encode(own, self._labels_tensor(labels))
        as_it_is = self._generate(self.model, codes, own, labels)
        return Portrait(image, labels, square, (source.height, source.width), codes, as_it_is)

    def adaptation(self, portrait: Portrait, *, steps: int, seed: int = 0) -> Adaptation:
        """Prepare to tune a copy of the network to a portrait; see :mod:`maskgan.adaptation`.

        ``seed`` is the random seed of the regularisation's masks.

        Raises:
            ValueError: ``steps`` is less than 1.
        """
        generator = np.random.default_rng((seed, 0x9107))
        near = []
        for _ in range(NEAR_MASKS):
            labels = random_edit(portrait.labels, generator)
            edited = self.render(portrait, labels, portrait.codes)
            target = self._background(portrait, labels)
            near.append(Sample(self._labels_tensor(labels), target, self._on_device(edited.finished)))
        own = self._on_device(portrait.image)
        sample = Sample(self._labels_tensor(portrait.labels), own, own)
        network = portrait.network or self.model
        return Adaptation(network, sample, near, portrait.codes, steps=steps, dtype=self.dtype)

    def adapted(self, portrait: Portrait, adaptation: Adaptation) -> Portrait:
        """Return the portrait with the tuned network for its edits."""
        network, codes = adaptation.network, adaptation.codes
        own = self._on_device(portrait.image)
        as_it_is = self._generate(network, codes, own, portrait.labels)
        return replace(portrait, codes=codes, as_it_is=as_it_is, network=network)

    def blend(self, codes: Codes, parts: Mapping[str, tuple[Codes, float]]) -> Codes:
        """Interpolate ``codes`` towards other faces' codes, given by component with a weight from 0 to 1.

        Raises:
            ValueError: An unknown component, a weight outside [0, 1], or a component that the other face lacks.
        """
        values, present = dict(codes.values), codes.present.clone()
        for name, (other, share) in parts.items():
            if name not in COMPONENT_NAMES:
                raise ValueError(f"unknown component {name!r}; choose from {', '.join(COMPONENT_NAMES)}")
            if name not in values:
                raise ValueError("these weights know no single components (model.embedding=global)")
            if not 0 <= share <= 1:
                raise ValueError(f"the share of {name} must lie between 0 and 1, not {share}")
            if share and not other.shows(name):
                raise ValueError(f"the other face shows no {name.replace('_', ' ')}, so there is no appearance to take")
            # A face without the component has nothing to keep.
            share = 1.0 if share and not codes.shows(name) else share
            values[name] = torch.lerp(values[name], other.values[name], share)
            present[:, COMPONENT_NAMES.index(name)] |= share > 0
        return Codes(values, present)

    def render(self, portrait: Portrait, labels: np.ndarray, codes: Codes) -> Edited:
        """Render a face with other labels (S, S), other appearance, or both.

        Raises:
            ValueError: Labels of another size or type, or with unknown classes.
        """
        labels = self._checked(labels)
        network, target = portrait.network or self.model, self._background(portrait, labels)
        image = self._generate(network, codes, target, labels)
        if codes is not portrait.codes:
            target = self._with_neck(portrait, target, image, labels)
            image = self._generate(network, codes, target, labels)
        region = edited_region(portrait.labels, labels)
        finished = with_detail(portrait.image, portrait.labels, portrait.as_it_is, image, region, matte=portrait.matte)
        change = suppress_noise(torch.from_numpy(finished - portrait.image)).numpy()
        return Edited(image, portrait.image + change, change, region)

    def paste(self, image: np.ndarray, portrait: Portrait, edited: Edited) -> np.ndarray:
        """Return the photo that :meth:`open` was given with the edited face pasted in.

        Raises:
            ValueError: A photo of another size.
        """
        return gather_rows(self.pasted_rows(ArraySource(image), portrait, edited), image)

    def pasted_rows(self, source: RowSource, portrait: Portrait, edited: Edited) -> ChangedRows:
        """Like :meth:`paste`, in blocks of rows from top to bottom."""
        if (source.height, source.width) != portrait.photo_size:
            height, width = portrait.photo_size
            raise ValueError(f"the face is from a photo of {width}x{height} pixels, this one has "
                             f"{source.width}x{source.height}")  # fmt: skip
        if not edited.change.any():
            return pasted_rows(source, [])
        layer = Repainted(portrait.square, edited.finished, edited.change, edited.region, source.height, source.width,
                          int(np.iinfo(source.dtype).max))  # fmt: skip
        return pasted_rows(source, [layer])

    def _generate(self, network: MaskGAN, codes: Codes, target: Tensor, labels: np.ndarray) -> np.ndarray:
        """Return the network's output, (S, S, 3) in [0, 1]."""
        with torch.no_grad(), self._autocast():
            output = network.generate_from(self._features(network, codes), target, self._labels_tensor(labels))
        return to_unit(require_finite(output[0]).float().cpu()).clamp(0, 1).permute(1, 2, 0).contiguous().numpy()

    def _features(self, network: MaskGAN, codes: Codes) -> dict[str, Tensor]:
        """Decode the codes of a face, once for all strokes of an edit."""
        decoded = self._decoded
        if decoded is None or decoded[0] is not network or decoded[1] is not codes:
            self._decoded = decoded = network, codes, network.decode(codes, 1)  # at once: photos run in threads
        return decoded[2]

    def _background(self, portrait: Portrait, labels: np.ndarray) -> Tensor:
        """Return the target with its background continued where the edit uncovers it."""
        uncovered = (labels == 0) & (portrait.labels != 0)
        image = self._on_device(portrait.image)
        if not uncovered.any():
            return image
        behind = torch.from_numpy((portrait.labels == 0)[None, None]).to(image)
        hole = torch.from_numpy(uncovered[None, None]).to(image)
        return image + hole * (filled(image, behind) - image)

    def _with_neck(self, portrait: Portrait, target: Tensor, image: np.ndarray, labels: np.ndarray) -> Tensor:
        """Return the target with neck and ears in the colour of the skin in a generated image."""
        own, now = self._labels_tensor(portrait.labels), self._labels_tensor(labels)
        matte = neck_matte(self._on_device(portrait.image), own)
        before = skin_colour(self._on_device(portrait.as_it_is), own)
        return recoloured(target, matte, before, skin_colour(self._on_device(image), now))

    def _on_device(self, image: np.ndarray) -> Tensor:
        """Return an image (S, S, 3) in [0, 1] as (1, 3, S, S) in [-1, 1]."""
        batch = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device)
        return to_signed(batch).contiguous(memory_format=torch.channels_last)

    def _labels_tensor(self, labels: np.ndarray) -> Tensor:
        return torch.from_numpy(labels.astype(np.int64))[None].to(self.device)

    def _checked(self, labels: np.ndarray) -> np.ndarray:
        if labels.shape != (self.size, self.size):
            size = "x".join(map(str, labels.shape[::-1]))
            raise ValueError(f"the labels have {size} pixels, the aligned face has {self.size}x{self.size}")
        if labels.dtype.kind not in "iu":
            raise ValueError(f"the labels are {labels.dtype}, not integers; resize labels without interpolation")
        low, high = labels.min(), labels.max()
        if low < 0 or high >= NUM_CLASSES:
            raise ValueError(f"the labels hold classes {low} to {high}; they must be 0 to {NUM_CLASSES - 1}")
        return labels.astype(np.uint8)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
