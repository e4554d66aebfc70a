"""Eq. 1-6; Eq. 7 and 8 are the face parser's.

Images are (N, 3, S, S) in [-1, 1], labels (N, S, S) long; logits and features of the discriminators are lists with an
entry per scale. Losses are scalars.

Paper: sums over pixels (Eq. 1, 2, 5, 7, 8) of unstated size.
Here: means over pixels and channels, halved where the paper halves; sums over the discriminators' scales.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from retouch_common.losses import adversarial
from torch import Tensor

from maskgan.components import masks
from maskgan.config import COMPONENT_NAMES, Adversarial

_OPPONENT = torch.tensor([[2.0, 2.0, 2.0], [6**0.5, -(6**0.5), 0.0], [2**0.5, 2**0.5, -(8**0.5)]]) / 12**0.5
"""Orthonormal: intensity, red against green, yellow against blue."""


def local_loss(
    reconstructions: Mapping[str, Tensor], windows: Mapping[str, Tensor], present: Tensor | None = None
) -> Tensor:
    """Eq. 1: 1/2 |x_i^s - G_local^i(E_local^i(x_i^s))|^2, each component's mean, summed over components.

    Args:
        reconstructions: G_local^i(E_local^i(x_i^s)) by component, (N, 3, h, w).
        windows: x_i^s.
        present: (N, 5) bool; missing components are ignored. None uses all.
    """
    terms = []
    for name, reconstruction in reconstructions.items():
        error = _half_squares(reconstruction, windows[name]).mean(dim=(1, 2, 3))
        terms.append(error.mean() if present is None else _mean(error, present[:, COMPONENT_NAMES.index(name)]))
    return torch.stack(terms).sum()


def global_loss(result: Tensor, source: Tensor) -> Tensor:
    """Eq. 2: 1/2 |G(x^s, m^s, x^t, m^t) - x^s|^2 for x^s = x^t."""
    return _half_squares(result, source).mean()


def region_loss(
    result: Tensor, source: Tensor, labels: Tensor, weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0)
) -> Tensor:
    """Eq. 2 over every component's pixels, weighted and summed; not in the paper, but in the official code.

    An eye covers a thousandth of an image and gets all of a viewer's attention.
    """
    errors = _half_squares(result, source).mean(dim=1)  # (N, S, S)
    terms = [weight * _mean(errors, where) for weight, where in zip(weights, masks(labels).unbind(1), strict=True)]
    return torch.stack(terms).sum()


def appearance_loss(result: Tensor, labels: Tensor, source: Tensor, source_labels: Tensor) -> Tensor:
    """1/2 |.|^2 of every component's mean colour and standard deviation to the source's; not in the paper.

    Only the discriminators tell unpaired data which colours to have; while they are weak, the parser prefers hair in
    colours that nobody has. Computed in intensity and two opponent colours: hues of a face vary much less than its
    light, and their deviations should count.
    """
    (mean, deviation, there), (mean_s, deviation_s, there_s) = _colours(result, labels), _colours(source, source_labels)
    errors = ((mean - mean_s).square() + (deviation - deviation_s).square()).mean(dim=2) / 2  # (N, 5)
    both = there & there_s
    return torch.stack([_mean(errors[:, i], both[:, i]) for i in range(len(COMPONENT_NAMES))]).sum()


def background_loss(result: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """1/2 |G(…) - x^t|^2 over the background of m^t; not in the paper."""
    return _mean(_half_squares(result, target).mean(dim=1), labels == 0)


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor], kind: Adversarial = "bce") -> Tensor:
    """Eq. 3: -log D_i(x^t, m^t) - log(1 - D_i(G(…), m^t)), summed over i, of logits; or "hinge", "lsgan"."""
    terms = [adversarial.discriminator_loss(r, f, kind=kind) for r, f in zip(real, fake, strict=True)]
    return torch.stack(terms).sum()


def sigmoid_loss(fake: Sequence[Tensor], kind: Adversarial = "bce") -> Tensor:
    """Eq. 4, L_sigmoid: -log D_i(G(…), m^t), summed over i, of logits; the printed form does not saturate."""
    return torch.stack([adversarial.generator_loss(logits, kind=kind) for logits in fake]).sum()


def feature_matching_loss(
    fake: Sequence[Tensor], real: Sequence[Tensor], distance: Literal["l2", "l1"] = "l2"
) -> Tensor:
    """Eq. 5, L_FM: 1/2 |f_{D_i}(G(…), m^t) - f_{D_i}(x^t, m^t)|^2, summed over i.

    Args:
        fake: Features of generated images.
        real: Features of x^t, which get no gradient.
        distance: "l2" as printed, or "l1" as in the official code.
    """
    errors = [f.float() - r.detach().float() for f, r in zip(fake, real, strict=True)]
    return torch.stack([(e.square() if distance == "l2" else e.abs()).mean() / 2 for e in errors]).sum()


def r1_penalty(logits: Sequence[Tensor], image: Tensor) -> Tensor:
    """R1 of Mescheder et al. (ICML 2018), mean over images of |d sum_i mean(l_i) / d image|^2 / 2; not in the paper.

    Args:
        logits: Of ``image``.
        image: Real images that require a gradient.
    """
    total = torch.stack([scale.float().mean(dim=(1, 2, 3)).sum() for scale in logits]).sum()
    (gradient,) = torch.autograd.grad(total, image, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean() / 2


def _half_squares(a: Tensor, b: Tensor) -> Tensor:
    return (a.float() - b.float()).square() / 2


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return the mean where a mask is true; 0 if it is true nowhere."""
    chosen = mask.to(values.dtype)
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def _colours(image: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return mean and deviation of every component's colours, (N, 5, 3) each, and whether it has pixels, (N, 5)."""
    image = torch.einsum("oc,nchw->nohw", _OPPONENT.to(image.device), image.float())
    where = masks(labels)[:, :, None].to(image.dtype)  # (N, 5, 1, S, S)
    number = where.sum(dim=(-2, -1)).clamp(min=1)
    mean = (where * image[:, None]).sum(dim=(-2, -1)) / number
    error = where * (image[:, None] - mean[..., None, None])
    deviation = (error.square().sum(dim=(-2, -1)) / number + 1e-6).sqrt()
    return mean, deviation, where.flatten(2).any(dim=2)
