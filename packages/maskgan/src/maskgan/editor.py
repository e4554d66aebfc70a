"""Editing the face of a photograph through its mask: open, parse, render, paste back.

>>> editor = Editor("small")
>>> portrait = editor.open(photo)                      # the largest face, aligned and parsed
>>> labels = portrait.labels.copy()                    # paint in it
>>> edited = editor.render(portrait, labels, portrait.codes)
>>> result = editor.paste(photo, portrait, edited)

Shapes: photographs (H, W, 3) RGB, uint8 or uint16; aligned faces (S, S, 3) float32 in [0, 1]; labels (S, S) uint8 of
:data:`retouch_common.parsing.labels.CLASSES`.
"""

import os
from collections.abc import Iterator, Mapping
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
from retouch_common.photo.sources import ArraySource, RowSource
from retouch_common.ranges import to_signed, to_unit
from torch import Tensor

from maskgan.adaptation import Adaptation, Known, random_edit
from maskgan.config import COMPONENT_NAMES
from maskgan.filling import filled
from maskgan.model import Codes, MaskGAN
from maskgan.neck import neck_matte, recoloured, skin_colour
from maskgan.seams import Repainted, edited_region, with_detail

MASKS = 6  # near the portrait's, of an adaptation


@dataclass(frozen=True)
class Portrait:
    """A face found in a photograph.

    Attributes:
        image: Aligned, (S, S, 3) float32 in [0, 1].
        labels: (S, S) uint8.
        square: Where it is in the photograph.
        photo_size: Height and width of the photograph.
        codes: Appearance of its components, of a batch of one.
        as_it_is: The network's picture of it as it is, (S, S, 3) float32 in [0, 1].
        network: The network that is adapted to it; None: the editor's.
    """

    image: np.ndarray
    labels: np.ndarray
    square: FaceSquare
    photo_size: tuple[int, int]
    codes: Codes
    as_it_is: np.ndarray
    network: MaskGAN | None = None


@dataclass(frozen=True)
class Edited:
    """A face as it was asked for.

    Attributes:
        image: The network's picture, (S, S, 3) float32 in [0, 1].
        finished: The same with the photograph's own detail where the edit is not.
        change: What the photograph changes by, (S, S, 3) float32 in [-1, 1].
        region: Where the edit is, (S, S) float32 in [0, 1].
    """

    image: np.ndarray
    finished: np.ndarray
    change: np.ndarray
    region: np.ndarray


class Editor:
    """A network ready to edit photographs.

    Args:
        model: A MaskGAN, which is not modified, or the name, path or hub id of weights.
        parser: Of the face parser: name, path or hub id; see :class:`retouch_common.parsing.parser.FaceParser`.
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

    def open(
        self, image: np.ndarray, *, face: Face | None = None, aligned: bool = False, labels: np.ndarray | None = None
    ) -> Portrait:
        """Find a face in a photograph and parse it.

        Args:
            image: (H, W, 3) RGB, uint8 or uint16.
            face: Where it is; by default the largest that the detector finds.
            aligned: The photograph is a face as the network was trained on, a square.
            labels: (S, S) of its parts; by default the parser's.

        Raises:
            DetectorUnavailable: The face detector is needed and cannot be had.
            ValueError: Another shape or type, no face, or labels of another size.
        """
        return self.open_source(ArraySource(image), self.find(image, face=face, aligned=aligned), labels=labels)

    def find(self, image: np.ndarray, *, face: Face | None = None, aligned: bool = False) -> FaceSquare:
        """Where the face is; arguments and errors as of :meth:`open`."""
        return squares_in(image, None if face is None else [face], aligned, frame=portrait_square)[0]

    def open_source(self, source: RowSource, square: FaceSquare, *, labels: np.ndarray | None = None) -> Portrait:
        """As :meth:`open`, with rows of a photograph of any size and the place of its face."""
        ((_, image),) = read_aligned(source, [square], self.size)
        labels = self.parser(image) if labels is None else self._checked(labels)
        codes, as_it_is = self._codes_and_picture(image, labels)
        return Portrait(image, labels, square, (source.height, source.width), codes, as_it_is)

    def adaptation(self, portrait: Portrait, *, steps: int, seed: int = 0) -> Adaptation:
        """Prepare to tune the network to a portrait; see :mod:`maskgan.adaptation`.

        Args:
            portrait: As :meth:`open` gives it; nothing of it changes.
            steps: Optimiser steps.
            seed: Of the masks that hold the network to what it draws.

        Raises:
            ValueError: ``steps`` is less than 1.
        """
        generator = np.random.default_rng((seed, 0x9107))
        near = []
        for _ in range(MASKS):
            labels = random_edit(portrait.labels, generator)
            edited = self.render(portrait, labels, portrait.codes)
            behind = self._background(portrait, labels)
            near.append(Known(self._classes(labels), behind, self._on_device(edited.finished)))
        own = self._on_device(portrait.image)
        known = Known(self._classes(portrait.labels), own, own)
        network = portrait.network or self.model
        return Adaptation(network, known, near, portrait.codes, steps=steps, dtype=self.dtype)

    def adapted(self, portrait: Portrait, adaptation: Adaptation) -> Portrait:
        """Return a portrait whose edits the tuned network draws."""
        network, codes = adaptation.network, adaptation.codes
        own = self._on_device(portrait.image)
        as_it_is = self._picture(network, codes, own, portrait.labels)
        return replace(portrait, codes=codes, as_it_is=as_it_is, network=network)

    def blend(self, codes: Codes, parts: Mapping[str, tuple[Codes, float]]) -> Codes:
        """Take the appearance of some components, in part or in full, from other faces.

        Args:
            codes: Of the face.
            parts: By component, another face's codes and how much of them: 0 keeps the own, 1 takes the other's.

        Raises:
            ValueError: An unknown component, a share outside [0, 1], or a component the other face does not have.
        """
        values, present = dict(codes.values), codes.present.clone()
        for name, (other, share) in parts.items():
            if name not in COMPONENT_NAMES:
                raise ValueError(f"no component {name!r}; there are {', '.join(COMPONENT_NAMES)}")
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
        """Draw a face with other labels, other appearance, or both.

        Args:
            portrait: The face.
            labels: (S, S) of classes, as it is to be.
            codes: Appearance of its components.

        Raises:
            ValueError: Labels of another size or with unknown classes.
        """
        labels = self._checked(labels)
        network, target = portrait.network or self.model, self._background(portrait, labels)
        image = self._picture(network, codes, target, labels)
        if codes is not portrait.codes:
            target = self._with_neck(portrait, target, image, labels)
            image = self._picture(network, codes, target, labels)
        region = edited_region(portrait.labels, labels)
        finished = with_detail(portrait.image, portrait.labels, portrait.as_it_is, image, region)
        change = suppress_noise(torch.from_numpy(finished - portrait.image)).numpy()
        return Edited(image, portrait.image + change, change, region)

    def paste(self, image: np.ndarray, portrait: Portrait, edited: Edited) -> np.ndarray:
        """Bring an edited face back into its photograph.

        Args:
            image: The photograph that :meth:`open` was given.
            portrait: The face.
            edited: From :meth:`render`.

        Returns:
            An array of the same shape and type.

        Raises:
            ValueError: Another photograph.
        """
        return gather_rows(self.pasted_rows(ArraySource(image), portrait, edited), image)

    def pasted_rows(self, source: RowSource, portrait: Portrait, edited: Edited) -> Iterator[np.ndarray]:
        """As :meth:`paste`, by blocks of rows from top to bottom."""
        if (source.height, source.width) != portrait.photo_size:
            height, width = portrait.photo_size
            raise ValueError(f"the face is from a photograph of {width}x{height} pixels, this one has "
                             f"{source.width}x{source.height}")  # fmt: skip
        if not edited.change.any():
            yield from pasted_rows(source, [])
            return
        layer = Repainted(portrait.square, edited.finished, edited.change, edited.region, source.height, source.width,
                          int(np.iinfo(source.dtype).max))  # fmt: skip
        yield from pasted_rows(source, [layer])

    def _codes_and_picture(self, image: np.ndarray, labels: np.ndarray) -> tuple[Codes, np.ndarray]:
        picture = self._on_device(image)
        with torch.no_grad(), self._autocast():
            codes = self.model.encode(picture, self._classes(labels))
        return codes, self._picture(self.model, codes, picture, labels)

    def _picture(self, network: MaskGAN, codes: Codes, target: Tensor, labels: np.ndarray) -> np.ndarray:
        with torch.no_grad(), self._autocast():
            drawn = network.generate(codes, target, self._classes(labels))
        return to_unit(drawn[0].float().cpu()).clamp(0, 1).permute(1, 2, 0).contiguous().numpy()

    def _background(self, portrait: Portrait, labels: np.ndarray) -> Tensor:
        """The target picture, with what was behind the person continued where the edit uncovers it."""
        uncovered = (labels == 0) & (portrait.labels != 0)
        picture = self._on_device(portrait.image)
        if not uncovered.any():
            return picture
        behind = torch.from_numpy((portrait.labels == 0)[None, None]).to(picture)
        hole = torch.from_numpy(uncovered[None, None]).to(picture)
        return picture + hole * (filled(picture, behind) - picture)

    def _with_neck(self, portrait: Portrait, target: Tensor, image: np.ndarray, labels: np.ndarray) -> Tensor:
        """The target picture, its neck and ears in the colour that the face's skin has in a drawn picture."""
        own, now = self._classes(portrait.labels), self._classes(labels)
        matte = neck_matte(self._on_device(portrait.image), own)
        before = skin_colour(self._on_device(portrait.as_it_is), own)
        return recoloured(target, matte, before, skin_colour(self._on_device(image), now))

    def _on_device(self, image: np.ndarray) -> Tensor:
        """(1, 3, S, S) in [-1, 1]."""
        picture = torch.from_numpy(image).permute(2, 0, 1)[None].to(self.device)
        return to_signed(picture).contiguous(memory_format=torch.channels_last)

    def _classes(self, labels: np.ndarray) -> Tensor:
        return torch.from_numpy(labels.astype(np.int64))[None].to(self.device)

    def _checked(self, labels: np.ndarray) -> np.ndarray:
        if labels.shape != (self.size, self.size):
            raise ValueError(
                f"the labels have {'x'.join(map(str, labels.shape[::-1]))} pixels, the aligned face has "
                f"{self.size}x{self.size}"
            )
        if labels.min() < 0 or labels.max() >= NUM_CLASSES:
            raise ValueError(f"the labels hold classes up to {labels.max()}; there are 0 to {NUM_CLASSES - 1}")
        return labels.astype(np.uint8)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)
