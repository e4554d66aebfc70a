"""The terms of Eq. 4-6 and 9-11 as functions, but for those of VGG.

Shapes: images (N, 3, S, S) in [0, 1]; maps M of one module, a list of (N, 1, s, s) in [0, 1], finest first; logits of
the discriminator (N, 1, S, S), large for retouched pixels. sp is softplus, -log sigma(l) = sp(-l).

Deviations: the cross-entropy of M is an addition. Means are taken over pixels. The generator's loss is non-saturating
by default, and M has no gradient in it, since Eq. 11 drives it to 1 (saturating) or 0 (non-saturating) regardless of
the truth; the preset ``paper`` has both as printed. Eq. 12 lists the discriminator among what minimises, a misprint.
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from bpfre.attention import resize_area, supervised


def blemish_loss(
    maps: Sequence[Tensor], difference: Tensor, *, distance: Literal["l1", "cross_entropy"] = "l1"
) -> Tensor:
    """L_blem of Eq. 4 and 5: |M - Delta|, mean over pixels and scales.

    Args:
        maps: M of one module.
        difference: Delta, (N, 1, S, S), from :func:`bpfre.attention.true_difference`.
        distance: "l1" as in the paper, or "cross_entropy": -Delta log M - (1 - Delta) log(1 - M).
    """
    between = F.l1_loss if distance == "l1" else F.binary_cross_entropy
    terms = [between(M.float(), resize_area(difference, M.shape[-2:])) for M in supervised(maps)]
    return torch.stack(terms).mean()


def pixel_loss(output: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """The L1 terms of Eq. 6 and 9, mean over pixels and channels.

    Args:
        output: Output of a stage.
        target: Retouched images.
        weight: (N, 1, S, S) with mean 1; None for uniform weights, as in the paper.
    """
    error = (output.float() - target).abs()
    return error.mean() if weight is None else (weight * error).mean()


def discriminator_loss(logits_raw: Tensor, logits_refined: Tensor, logits_retouched: Tensor, M: Tensor) -> Tensor:
    """L_adv^disc of Eq. 10, negated to be minimised: E[M sp(l_raw)] + E[M sp(l_refined)] + E[sp(-l_ret)].

    It trains D_disc alone (Eq. 12), so that M has no gradient.

    Args:
        logits_raw: Of raw images.
        logits_refined: Of the model's outputs for them.
        logits_retouched: Of retouched images.
        M: Blemish maps of the raw images, of the logits' size.
    """
    M = M.detach()
    return (
        (M * F.softplus(logits_raw.float())).mean()
        + (M * F.softplus(logits_refined.float())).mean()
        + F.softplus(-logits_retouched.float()).mean()
    )


def synthesis_loss(logits_refined: Tensor, M: Tensor, *, saturating: bool = False) -> Tensor:
    """L_adv^synt of Eq. 11: E[M sp(-l)], or as printed ("saturating") E[M log(1 - sigma(l))] = -E[M sp(l)].

    Args:
        logits_refined: Of model outputs.
        M: Blemish maps of the model's inputs, of the logits' size. A gradient reaches them unless they are detached.
        saturating: Use the printed form, whose gradient vanishes where the discriminator is confident.
    """
    logits = logits_refined.float()
    return (M * (-F.softplus(logits) if saturating else F.softplus(-logits))).mean()


def r1_penalty(logits: Tensor, image: Tensor) -> Tensor:
    """R1 of Mescheder et al. (ICML 2018) on pixel-mean logits: mean over images of |d mean(l) / d (2 image - 1)|^2 / 2.

    Args:
        logits: Of ``image``.
        image: (N, 3, S, S) in [0, 1] that requires a gradient; StyleGAN2's gamma is for images in [-1, 1].
    """
    (gradient,) = torch.autograd.grad(logits.float().mean(dim=(1, 2, 3)).sum(), image, create_graph=True)
    return (gradient.float() / 2).square().sum(dim=(1, 2, 3)).mean() / 2
