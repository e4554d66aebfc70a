"""Eq. 1-6: every term of the paper as a function of its own; Eq. 7 and 8 are the face parser's.

Pictures are (N, 3, S, S) in [-1, 1], labels (N, S, S) long; logits and features of the discriminators are lists with
an entry per scale.

Paper: sums over pixels (Eq. 1, 2, 5, 7, 8), and no size of the sums is given.
Here: means over pixels and channels, halved where the paper halves; sums over the scales of the discriminators.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from retouch_common.losses import adversarial
from torch import Tensor

from maskgan.components import masks
from maskgan.config import COMPONENT_NAMES, Adversarial

Distance = Literal["l2", "l1"]

_OPPONENT = torch.tensor([[2.0, 2.0, 2.0], [6**0.5, -(6**0.5), 0.0], [2**0.5, 2**0.5, -(8**0.5)]]) / 12**0.5
"""Orthonormal: intensity, red against green, yellow against blue."""


def local_loss(
    reconstructions: Mapping[str, Tensor], windows: Mapping[str, Tensor], present: Tensor | None = None
) -> Tensor:
    """Eq. 1: 1/2 |x_i^s - G_local^i(E_local^i(x_i^s))|^2, each component's mean, summed over components.

    Args:
        reconstructions: G_local^i(E_local^i(x_i^s)) by component, (N, 3, h, w).
        windows: x_i^s.
        present: (N, 5) bool; components that are not there do not count. None counts all.
    """
    terms = []
    for name, picture in reconstructions.items():
        error = (picture.float() - windows[name]).square().mean(dim=(1, 2, 3)) / 2
        terms.append(error.mean() if present is None else _mean(error, present[:, COMPONENT_NAMES.index(name)]))
    return torch.stack(terms).sum()


def global_loss(result: Tensor, source: Tensor, distance: Distance = "l2") -> Tensor:
    """Eq. 2: 1/2 |G(x^s, m^s, x^t, m^t) - x^s|^2 for x^s = x^t, or 1/2 |.| with "l1"."""
    return _distances(result, source, distance).mean()


def region_loss(
    result: Tensor,
    source: Tensor,
    labels: Tensor,
    distance: Distance = "l2",
    weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0),
) -> Tensor:
    """Eq. 2 of every component's pixels alone, summed over components; not in the paper, but in the official code.

    An eye has a thousandth of a picture's pixels and all of a face's attention.

    Args:
        result: The generated picture.
        source: x^s = x^t.
        labels: m^t.
        distance: As for :func:`global_loss`.
        weights: Of the components.
    """
    errors = _distances(result, source, distance).mean(dim=1)  # (N, S, S)
    terms = [weight * _mean(errors, where) for weight, where in zip(weights, masks(labels).unbind(1), strict=True)]
    return torch.stack(terms).sum()


def appearance_loss(result: Tensor, labels: Tensor, source: Tensor, source_labels: Tensor) -> Tensor:
    """1/2 |.|^2 of every component's mean colour and of its colours' deviation; not in the paper.

    Nothing in Eq. 9 says which colours unpaired data should have but the discriminators; where these are weak, the
    parser alone decides, and it likes hair in colours that nobody has. Measured in intensity and two opponent colours:
    a face's hues vary much less than its light, and a deviation of hue is to count as one.

    Args:
        result: The generated picture.
        labels: m^t.
        source: x^s, whose appearance it should have.
        source_labels: m^s.
    """
    (mean, deviation, there), (mean_s, deviation_s, there_s) = _colours(result, labels), _colours(source, source_labels)
    errors = ((mean - mean_s).square() + (deviation - deviation_s).square()).mean(dim=2) / 2  # (N, 5)
    both = there & there_s
    return torch.stack([_mean(errors[:, i], both[:, i]) for i in range(len(COMPONENT_NAMES))]).sum()


def background_loss(result: Tensor, labels: Tensor, target: Tensor) -> Tensor:
    """1/2 |.|^2 of what is background in m^t, which x^t shows, whoever's face is drawn; not in the paper.

    Args:
        result: The generated picture.
        labels: m^t.
        target: x^t.
    """
    return _mean(_distances(result, target, "l2").mean(dim=1), labels == 0)


def discriminator_loss(real: Sequence[Tensor], fake: Sequence[Tensor], kind: Adversarial = "bce") -> Tensor:
    """Eq. 3: -log D_i(x^t, m^t) - log(1 - D_i(G(…), m^t)), summed over i.

    Args:
        real: Logits of x^t.
        fake: Logits of generated pictures.
        kind: "bce" as printed; "hinge" or "lsgan".
    """
    terms = [adversarial.discriminator_loss(r, f, kind=kind) for r, f in zip(real, fake, strict=True)]
    return torch.stack(terms).sum()


def sigmoid_loss(fake: Sequence[Tensor], kind: Adversarial = "bce") -> Tensor:
    """Eq. 4, L_sigmoid: -log D_i(G(…), m^t), summed over i; the form that does not saturate is the printed one."""
    return torch.stack([adversarial.generator_loss(logits, kind=kind) for logits in fake]).sum()


def feature_matching_loss(fake: Sequence[Tensor], real: Sequence[Tensor], distance: Distance = "l2") -> Tensor:
    """Eq. 5, L_FM: 1/2 |f_{D_i}(G(…), m^t) - f_{D_i}(x^t, m^t)|^2, summed over i.

    Args:
        fake: Features of generated pictures.
        real: Features of x^t, which get no gradient.
        distance: "l2" as printed, or "l1" as in the official code.
    """
    return torch.stack([_distances(f, r.detach(), distance).mean() for f, r in zip(fake, real, strict=True)]).sum()


def kl_loss(statistics: Mapping[str, tuple[Tensor, Tensor]]) -> Tensor:
    """Divergence of the codes from the standard normal distribution, mean over their numbers, summed over components.

    Not in the paper; the official code computes it and leaves it out of its sum.

    Args:
        statistics: Mean and logarithmic variance by component, (N, D) each.
    """
    terms = [(m.square() + v.exp() - 1 - v).mean() / 2 for m, v in statistics.values()]
    return torch.stack(terms).sum()


def r1_penalty(logits: Sequence[Tensor], image: Tensor) -> Tensor:
    """R1 of Mescheder et al. (ICML 2018), mean over images of |d sum_i mean(l_i) / d image|^2 / 2; not in the paper.

    Args:
        logits: Of ``image``.
        image: Real pictures that require a gradient.
    """
    judged = torch.stack([scale.float().mean(dim=(1, 2, 3)).sum() for scale in logits]).sum()
    (gradient,) = torch.autograd.grad(judged, image, create_graph=True)
    return gradient.float().square().sum(dim=(1, 2, 3)).mean() / 2


def _distances(a: Tensor, b: Tensor, distance: Distance) -> Tensor:
    difference = a.float() - b.float()
    return (difference.square() if distance == "l2" else difference.abs()) / 2


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean where a mask is true; 0 where it is nowhere."""
    chosen = where.to(values.dtype)
    return (values * chosen).sum() / chosen.sum().clamp(min=1)


def _colours(picture: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean colour and deviation of every component's pixels, (N, 5, 3) each, and whether it has pixels, (N, 5)."""
    picture = torch.einsum("oc,nchw->nohw", _OPPONENT.to(picture.device), picture.float())
    where = masks(labels)[:, :, None].to(picture.dtype)  # (N, 5, 1, S, S)
    number = where.sum(dim=(-2, -1)).clamp(min=1)
    mean = (where * picture[:, None]).sum(dim=(-2, -1)) / number
    error = where * (picture[:, None] - mean[..., None, None])
    deviation = (error.square().sum(dim=(-2, -1)) / number + 1e-6).sqrt()
    return mean, deviation, where.flatten(2).any(dim=2)
