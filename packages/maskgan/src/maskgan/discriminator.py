"""Section 3.2: the discriminators D_1 and D_2, "an identity network structure but operate at different image scales".

Each is a PatchGAN on an image together with the target's mask, 3 + 11 channels; the second one takes both averaged to
half the side.

Shapes: images (N, 3, S, S) in [-1, 1]; masks (N, 11, S, S), one-hot; logits (N, 1, h, w), large where a patch looks
real.
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
from maskgan.config import DiscriminatorNorm, ModelConfig

SCALES = 2  # D_1 and D_2

Situation = Literal["paired", "unpaired"]


@dataclass(frozen=True)
class DiscriminatorOutput:
    """Output of the discriminators, an entry per scale, the finest first.

    Attributes:
        logits: (N, 1, h, w).
        features: f_{D_i}, of the last hidden layer, (N, C, h, w).
    """

    logits: list[Tensor]
    features: list[Tensor]


class MultiScaleDiscriminator(nn.Module):
    """D_1 and D_2: the same structure at two scales.

    Args:
        width: Channels of the first layer.
        num_layers: Strided layers.
        norm: Normalisation; "spectral" normalises weights.
        enlarge: Factor by which eyes and mouth are enlarged in the labels.
    """

    def __init__(self, width: int, num_layers: int, norm: DiscriminatorNorm, enlarge: float) -> None:
        super().__init__()
        self.enlarge = enlarge
        self.scales = nn.ModuleList()
        for _ in range(SCALES):
            patches = PatchDiscriminator(
                NUM_CLASSES + 3, width=width, num_layers=num_layers, norm="none" if norm == "spectral" else norm
            )
            if norm == "spectral":
                for layer in patches.layers:
                    if isinstance(layer, nn.Conv2d):
                        spectral_norm(layer)
            self.scales.append(patches)

    def forward(self, image: Tensor, labels: Tensor) -> DiscriminatorOutput:
        """Classify patches of images (N, 3, S, S) in [-1, 1] under their labels m^t (N, S, S)."""
        x = torch.cat([image, one_hot(enlarged(labels, self.enlarge), image.dtype)], dim=1)
        logits, features = [], []
        for number, scale in enumerate(self.scales):
            assert isinstance(scale, PatchDiscriminator)
            if number:
                x = F.avg_pool2d(x, 2)
            # Paper: f_{D_i} is "the last output layer", which would be the logits.
            # Here: the layer before, as in the official code; logits of real and fake images must differ.
            features.append(scale.layers[:-1](x))
            logits.append(scale.layers[-1](features[-1]))
        return DiscriminatorOutput(logits, features)


class Discriminators(nn.Module):
    """One discriminator for all data as in the paper, or one for each situation as in the official code.

    Args:
        config: Configuration of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        arguments = (config.discriminator_width, config.discriminator_layers, config.discriminator_norm, config.enlarge)
        self.paired = MultiScaleDiscriminator(*arguments)
        self.unpaired = MultiScaleDiscriminator(*arguments) if config.discriminators == 2 else None

    def forward(self, image: Tensor, labels: Tensor, situation: Situation) -> DiscriminatorOutput:
        """Apply the discriminator of a situation; see :class:`MultiScaleDiscriminator`."""
        if situation == "unpaired" and self.unpaired is not None:
            return self.unpaired(image, labels)
        return self.paired(image, labels)
