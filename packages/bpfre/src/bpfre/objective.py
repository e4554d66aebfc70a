"""Eq. 12: which terms act on which pictures, and their weights."""

from typing import Any

import torch
from retouch_common.losses.perceptual import PerceptualLoss
from retouch_common.weights import read_vgg
from torch import Tensor, nn
from torch.nn import functional as F

from bpfre.attention import true_difference
from bpfre.config import LossConfig
from bpfre.losses import blemish_loss, emphasis_weight, pixel_loss, psnr_loss, synthesis_loss
from bpfre.model import BPFReOutput

VGG_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")


class Objective(nn.Module):
    """The terms of Eq. 12 that train the U-Net, the generator and the attention modules.

    Args:
        config: Weights and forms.

    Raises:
        ValueError: The perceptual terms have a weight, and VGG-19's weights are not there.
    """

    def __init__(self, config: LossConfig) -> None:
        super().__init__()
        self.config = config
        self.perceptual: PerceptualLoss | None = None
        if config.perceptual:
            self.perceptual = PerceptualLoss(
                "vgg19",
                state_dict=read_vgg("vgg19", config.perceptual_weights or None),
                layers=VGG_LAYERS,
                distance="l1",
                normalise=config.perceptual_normalise,
            )
        self.weights = {
            "blemish_coarse": config.blemish,
            "blemish_refined": config.blemish,
            "pixel_coarse": config.pixel,
            "pixel_refined": config.pixel,
            "psnr_coarse": config.psnr,
            "psnr_refined": config.psnr,
            "perceptual_coarse": config.perceptual,
            "perceptual_refined": config.perceptual,
            "identity": config.identity * config.pixel,
            "identity_perceptual": config.identity * config.perceptual,
            "adversarial": config.adversarial,
        }

    def forward(self, output: BPFReOutput, raw: Tensor, target: Tensor) -> dict[str, Tensor]:
        """The supervised terms on pairs: Eq. 4 and the first half of Eq. 6, Eq. 5 and Eq. 9.

        Args:
            output: The network's, for ``raw``.
            raw: (N, 3, S, S) in [0, 1].
            target: The retouched pictures.

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
                # x~ is the truth's other side here, not something to be learnt; without stage one it is x_raw.
                base = raw if output.coarse is None else output.coarse.detach().clamp(0, 1)
                left = true_difference(base, target, **options)
                terms["blemish_refined"] = blemish_loss(output.attention_refined, left, distance=distance)
            terms |= self._consistency("refined", output.refined, target, weight)
        return terms

    def identity(self, output: BPFReOutput, retouched: Tensor) -> dict[str, Tensor]:
        """The lambda terms of Eq. 6: any retouched picture comes out of the first stage as it went in."""
        assert output.coarse is not None
        terms = {"identity": pixel_loss(output.coarse, retouched)}
        if self.perceptual is not None:
            terms["identity_perceptual"] = self.perceptual(output.coarse.clamp(0, 1), retouched)
        return terms

    def adversarial(self, logits: Tensor, output: BPFReOutput) -> dict[str, Tensor]:
        """Eq. 11 on the results for all raw pictures."""
        M = full_size_map(output, logits.shape[-1])
        return {"adversarial": synthesis_loss(logits, M, saturating=self.config.saturating)}

    def total(self, terms: dict[str, Tensor]) -> Tensor:
        """The weighted sum of the terms that are there."""
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()

    def _consistency(self, stage: str, output: Tensor, target: Tensor, weight: Tensor | None) -> dict[str, Tensor]:
        terms = {f"pixel_{stage}": pixel_loss(output, target, weight)}
        if self.config.psnr:
            terms[f"psnr_{stage}"] = psnr_loss(output, target, weight, floor=self.config.psnr_floor)
        if self.perceptual is not None:
            terms[f"perceptual_{stage}"] = self.perceptual(output.clamp(0, 1), target)
        return terms


def full_size_map(output: BPFReOutput, size: int) -> Tensor:
    """The map that weighs the discriminator's answers: the last module's finest, (N, 1, size, size), detached.

    Without attention modules every pixel counts.
    """
    maps = output.attention_refined or output.attention_coarse
    if not maps:
        return torch.ones(len(output.result), 1, size, size, device=output.result.device)
    M = maps[0].detach().float()
    return M if M.shape[-1] == size else F.interpolate(M, (size, size), mode="bilinear")
