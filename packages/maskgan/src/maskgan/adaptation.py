"""Pivotal tuning: adapt the generator to one portrait, so that it reconstructs this face and edits start from it.

Roich, Mokady, Bermano, Cohen-Or. "Pivotal Tuning for Latent-based Editing of Real Images." ACM Transactions on Graphics
42(1), 2022. A pivot is found for the portrait in the space of codes; then the generator's weights are tuned until the
pivot reconstructs the portrait, while a locality regularisation keeps what it generates around the pivot.

    L = L_pt + lambda_R L_R,    L_pt = |x_p - x| + lambda_G |grad x_p - grad x|

Paper: the pivot is optimised first, then fixed. Here: it is E_local's code of the portrait, tuned together with the
weights, which takes seconds instead of minutes.
Paper: L_pt is LPIPS and L2. Here: L1 of images and of their gradients, without another network's weights.
Paper: L_R compares the tuned and the original generator at random codes near the pivot. Here: at random *masks* near
the portrait's, where edits are. The original generator's image is composited into the photo as an edit is
(:func:`maskgan.seams.with_detail`), so that an edit keeps its shape and takes the portrait's look.

Shapes: images (N, 3, S, S) in [-1, 1]; labels (S, S) uint8.
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from retouch_common.parsing.labels import CLASSES
from retouch_common.photo.filters import dilate
from torch import Tensor

from maskgan.model import Codes, MaskGAN

LEARNING_RATE, CODES_RATE = 1e-3, 2e-2
WARMUP, CLIP = 5, 1.0
GRADIENTS, LOCALITY = 1.0, 1.0
"""lambda_G and lambda_R. With L_R in every second step only, a painted fringe can be lost in part."""
SKIN, MOUTH, HAIR = (CLASSES.index(name) for name in ("skin", "mouth", "hair"))
_LIPS = tuple(CLASSES.index(name) for name in ("upper_lip", "mouth", "lower_lip"))
_MOVABLE = (*((CLASSES.index(name),) for name in ("brow_left", "brow_right", "eye_left", "eye_right", "nose")), _LIPS)


@dataclass(frozen=True)
class Sample:
    """A mask and the image to generate from it.

    Attributes:
        labels: (1, S, S) long.
        target: x^t, whose background is used, (1, 3, S, S).
        image: The ground truth, (1, 3, S, S).
    """

    labels: Tensor
    target: Tensor
    image: Tensor


class Adaptation:
    """Iterable that tunes a network to a portrait, a step per item.

    >>> adaptation = Adaptation(network, portrait, near, codes, steps=80)
    >>> for error in adaptation:  # may be stopped after any step
    ...     print(error)
    >>> adaptation.network, adaptation.codes

    Args:
        network: Not modified; a copy is tuned.
        portrait: The face.
        near: Edited masks with the original network's composited images; one of them, in turn, in every step.
        codes: The pivot, of a batch of one.
        steps: Optimiser steps, at least 1.
        dtype: Number format of the convolutions.

    Attributes:
        network: The tuned network.
        codes: The tuned pivot.

    Raises:
        ValueError: ``steps`` is less than 1.
    """

    def __init__(
        self,
        network: MaskGAN,
        portrait: Sample,
        near: list[Sample],
        codes: Codes,
        *,
        steps: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if steps < 1:
            raise ValueError(f"a portrait is adapted in at least one step, not {steps}")
        self.network = copy.deepcopy(network)
        self._values = {name: value.clone().requires_grad_(True) for name, value in codes.values.items()}
        self._present, self._steps, self._dtype = codes.present, steps, dtype
        self._portrait, self._near = portrait, near

    def __len__(self) -> int:
        """Number of steps."""
        return self._steps

    @property
    def codes(self) -> Codes:
        """The pivot after the steps taken."""
        return Codes({name: value.detach() for name, value in self._values.items()}, self._present)

    def __iter__(self) -> Iterator[float]:
        """Take the steps; yield before each the mean absolute error of the portrait's pixels in [0, 1]."""
        tuned = [p for name, p in self.network.named_parameters() if ".encoder." not in name]
        pivot = list(self._values.values())
        for parameter in tuned:
            parameter.requires_grad_(True)
        optimizer = torch.optim.Adam(
            [{"params": tuned, "lr": LEARNING_RATE}, {"params": pivot, "lr": CODES_RATE}], betas=(0.9, 0.99)
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        try:
            for step in range(self._steps):
                error, loss = self._losses([self._portrait, self._near[step % len(self._near)]])
                optimizer.zero_grad()
                loss.backward()
                torch.nn.utils.clip_grad_norm_(tuned, CLIP)
                optimizer.step()
                scheduler.step()
                yield error
        finally:
            self.network.requires_grad_(False)

    def _rate(self, step: int) -> float:
        """Return the factor of the learning rate: warm-up and cosine decay."""
        if step < WARMUP:
            return (step + 1) / WARMUP
        return float(0.5 + 0.5 * np.cos(np.pi * (step - WARMUP) / max(1, self._steps - WARMUP)))

    def _losses(self, samples: list[Sample]) -> tuple[float, Tensor]:
        number = len(samples)
        labels, target, image = (
            torch.cat([getattr(sample, name) for sample in samples]) for name in ("labels", "target", "image")
        )
        codes = Codes(
            {name: value.expand(number, -1) for name, value in self._values.items()},
            self._present.expand(number, -1),
        )
        with torch.autocast(image.device.type, self._dtype, enabled=self._dtype != torch.float32):
            output = self.network.generate(codes, target, labels)
        errors = _errors(output.float(), image)  # (N,)
        pixels = float((output[0].detach().float() - image[0]).abs().mean() / 2)
        return pixels, errors[0] + LOCALITY * errors[1:].sum()


def random_edit(labels: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Return a copy of a mask with parts scaled and moved at random and with more or less hair."""
    edited = labels.copy()
    for part in _MOVABLE:
        if generator.random() < 0.5:
            factors = np.exp(generator.uniform(-0.3, 0.3, 2))
            edited = _moved(edited, part, factors, generator.normal(0, 0.012, 2) * len(labels))
    if generator.random() < 0.7:
        edited = _with_hair(edited, float(generator.uniform(-0.07, 0.07)) * len(labels))
    return edited


def _moved(labels: np.ndarray, part: tuple[int, ...], factors: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Return labels with a part scaled by factors (y, x) and shifted by pixels; skin where it was."""
    where = np.isin(labels, part)
    if not where.any():
        return labels
    rows, columns = np.nonzero(where)
    centre = np.array([rows.mean(), columns.mean()])
    y, x = ((np.arange(len(labels)) - centre[axis] - shift[axis]) / factors[axis] + centre[axis] for axis in (0, 1))
    rows, columns = (np.rint(axis).astype(int).clip(0, len(labels) - 1) for axis in (y, x))
    moved = np.where(where, labels, 0)[np.ix_(rows, columns)]
    return np.where(moved > 0, moved, np.where(where, SKIN, labels)).astype(np.uint8)


def _with_hair(labels: np.ndarray, reach: float) -> np.ndarray:
    """Return labels with hair dilated over skin and background, or eroded to background."""
    hair = dilate((labels == HAIR).astype(np.float32), reach) > 0
    grown = hair & ((labels == SKIN) | (labels == 0))
    lost = (labels == HAIR) & ~hair
    return np.where(grown, HAIR, np.where(lost, 0, labels)).astype(np.uint8)


def _errors(output: Tensor, image: Tensor) -> Tensor:
    """Return the L1 distances of images and of their gradients, (N,)."""
    error = output - image
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    pixels, edges = error.abs().flatten(1).mean(1), (across.abs().flatten(1).mean(1) + down.abs().flatten(1).mean(1))
    return pixels + GRADIENTS * edges
