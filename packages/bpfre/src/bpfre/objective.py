"""Eq. 12: which loss terms act on which images, and their weights."""

from typing import Any

import torch
from retouch_common.losses.perceptual import VGG19_LAYERS, PerceptualLoss
from retouch_common.losses.reconstruction import emphasis_weight, psnr_loss
from retouch_common.weights import read_vgg
from torch import Tensor, nn
from torch.nn import functional as F

from bpfre.attention import true_difference
from bpfre.config import LossConfig
from bpfre.losses import blemish_loss, pixel_loss, synthesis_loss
from bpfre.model import BPFReOutput


class Objective(nn.Module):
    """The terms of Eq. 12 that train the U-Net, the generator and the attention modules.

    Args:
        config: Weights and variants of the terms.

    Raises:
        ValueError: If the perceptual weight is not 0 and VGG-19's weights are not available.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config
        self.perceptual: PerceptualLoss | None = None
        if config.perceptual:
            # Paper: "a VGG network pre-trained on ImageNet". Here: five layers of VGG-19, images normalised with
            # ImageNet's moments.
            state = read_vgg("vgg19", config.perceptual_weights or None)
            self.perceptual = PerceptualLoss("vgg19", state_dict=state, layers=VGG19_LAYERS, distance="l1")
        both = ("blemish", "pixel", "psnr", "perceptual")  # of both stages
        self.weights = {f"{term}_{stage}": getattr(config, term) for term in both for stage in ("coarse", "refined")}
        self.weights |= {
            "identity": config.identity * config.pixel,
            "identity_perceptual": config.identity * config.perceptual,
            "adversarial": config.adversarial,
        }

    def forward(self, output: BPFReOutput, raw: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Compute the supervised terms on pairs: Eq. 4, the first half of Eq. 6, Eq. 5 and Eq. 9.

        Args:
            output: Model output for ``raw``.
            raw: Raw images, (N, 3, S, S) in [0, 1].
            target: Retouched images.

        Returns:
            Scalars by name, unweighted.
        """
        options: dict[str, Any] = {"kind": self.config.difference, "floor": self.config.difference_floor}
        difference, distance = true_difference(raw, target, **options), self.config.blemish_distance
        weight = emphasis_weight(difference, self.config.emphasis)
        terms: dict[str, Tensor] = {}
        if output.attention_coarse:
            terms["blemish_coarse"] = blemish_loss(output.attention_coarse, difference, distance=distance)
        if output.coarse is not None:
            terms |= self._consistency("coarse", output.coarse, target, weight)
        if output.refined is not None:
            if output.attention_refined:
                # The target is what stage one has left, not to be trained through. Paper: what it is without D_deco
                # (Table 1) is not stated. Here: |x_raw - x_ret|.
                base = raw if output.coarse is None else output.coarse.detach().clamp(0, 1)
                remaining = true_difference(base, target, **options)
                terms["blemish_refined"] = blemish_loss(output.attention_refined, remaining, distance=distance)
            terms |= self._consistency("refined", output.refined, target, weight)
        return terms

    def identity(self, output: BPFReOutput, retouched: Tensor) -> dict[str, Tensor]:
        """Compute the lambda terms of Eq. 6: the first stage should reproduce retouched images."""
        assert output.coarse is not None
        terms = {"identity": pixel_loss(output.coarse, retouched)}
        if self.perceptual is not None:
            terms["identity_perceptual"] = self.perceptual(output.coarse.clamp(0, 1), retouched)
        return terms

    def adversarial(self, logits: Tensor, output: BPFReOutput) -> dict[str, Tensor]:
        """Compute Eq. 11 on the model outputs for all raw images."""
        M = full_size_map(output, logits.shape[-1])
        # Paper: M has a gradient. Here ("detach_map"): none, since it would drive M to 0 or 1 regardless of the truth.
        M = M.detach() if self.config.detach_map else M
        return {"adversarial": synthesis_loss(logits, M, saturating=self.config.saturating)}

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """Return the weighted sum of the given terms."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

    def _consistency(self, stage: str, output: Tensor, target: Tensor, weight: Tensor) -> dict[str, Tensor]:
        terms = {f"pixel_{stage}": pixel_loss(output, target, weight)}
        if self.config.psnr:
            terms[f"psnr_{stage}"] = psnr_loss(output, target, weight)
        if self.perceptual is not None:
            terms[f"perceptual_{stage}"] = self.perceptual(output.clamp(0, 1), target)
        return terms


def full_size_map(output: BPFReOutput, size: int) -> Tensor:
    """Return the map that weights the discriminator's logits, (N, 1, size, size).

    It is the finest map of the last attention module, or ones without attention modules.
    """
    maps = output.attention_refined or output.attention_coarse
    if not maps:
        return torch.ones(len(output.result), 1, size, size, device=output.result.device)
    M = maps[0].float()
    return M if M.shape[-1] == size else F.interpolate(M, (size, size), mode="bilinear")
