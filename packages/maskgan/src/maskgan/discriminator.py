"""Section 3.2: the discriminators D_1 and D_2, "an identity network structure but operate at different image scales".

Each is a PatchGAN that sees a picture together with the target's mask, 11 + 3 channels; the second one sees both
averaged to half the side.

Shapes: pictures (N, 3, S, S) in [-1, 1]; masks (N, 11, S, S) of zeros and ones; logits (N, 1, h, w), large where a
patch looks real.
"""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from retouch_common.losses.adversarial import PatchDiscriminator
from retouch_common.parsing.labels import NUM_CLASSES
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from maskgan.components import enlarged, one_hot
from maskgan.config import ModelConfig

Situation = Literal["paired", "unpaired"]


@dataclass(frozen=True)
class Judgement:
    """What the discriminators say of pictures, one entry per scale, the finest first.

    Attributes:
        logits: (N, 1, h, w).
        features: f_{D_i}, the last hidden layer's, (N, C, h, w).
    """

    logits: list[Tensor]
    features: list[Tensor]


class MultiScaleDiscriminator(nn.Module):
    """D_1, D_2, …: the same structure at several scales.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.enlarge = config.enlarge
        self.scales = nn.ModuleList([_patches(config) for _ in range(config.discriminator_scales)])

    def forward(self, image: Tensor, labels: Tensor) -> Judgement:
        """Judge pictures under their masks.

        Args:
            image: (N, 3, S, S) in [-1, 1].
            labels: m^t, (N, S, S) long.
        """
        mask = one_hot(enlarged(labels, self.enlarge), image.dtype)
        x = torch.cat([image, mask], dim=1)
        logits, features = [], []
        for number, scale in enumerate(self.scales):
            assert isinstance(scale, PatchDiscriminator)
            if number:
                x = F.avg_pool2d(x, 2)
            # Paper: f_{D_i} is "the last output layer", which would be the logits.
            # Here: the layer before, as in the official code; of logits real and generated ones must differ.
            features.append(scale.layers[:-1](x))
            logits.append(scale.layers[-1](features[-1]))
        return Judgement(logits, features)


class Discriminators(nn.Module):
    """One discriminator for all data as in the paper, or one for each situation as in the official code.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.paired = MultiScaleDiscriminator(config)
        self.unpaired = MultiScaleDiscriminator(config) if config.discriminators == 2 else None

    def forward(self, image: Tensor, labels: Tensor, situation: Situation) -> Judgement:
        """Judge pictures by the discriminator of a situation; see :class:`MultiScaleDiscriminator`."""
        if situation == "unpaired" and self.unpaired is not None:
            return self.unpaired(image, labels)
        return self.paired(image, labels)


def _patches(config: ModelConfig) -> PatchDiscriminator:
    norm = config.discriminator_norm
    patches = PatchDiscriminator(
        NUM_CLASSES + 3,
        width=config.discriminator_width,
        num_layers=config.discriminator_layers,
        norm="none" if norm == "spectral" else norm,
    )
    if norm == "spectral":
        for layer in patches.layers:
            if isinstance(layer, nn.Conv2d):
                spectral_norm(layer)
    return patches
