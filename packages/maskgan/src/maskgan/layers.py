"""The layers that all networks of the framework are made of.

``official`` and ``paper`` have convolutions of 4 x 4 with stride 2, batch normalisation and ReLU; the other kinds are
for small batches (group, instance) and against checkerboards (nearest neighbours and a convolution).
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgan.config import ModelConfig, Norm

_GROUP = 8  # channels in a group


def normalisation(kind: Norm, channels: int) -> nn.Module:
    """Normalisation of a feature map."""
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    if kind == "group":
        return nn.GroupNorm(channels // _GROUP if channels % _GROUP == 0 else 1, channels)
    if kind == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.Identity()


def convolution(inputs: int, outputs: int, kernel: int, norm: Norm) -> nn.Sequential:
    """Convolution with stride 1, normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2), normalisation(norm, outputs), nn.ReLU()
    )


def halving(inputs: int, outputs: int, config: ModelConfig, *, kernel: Literal[3, 4] = 4) -> nn.Sequential:
    """Convolution with stride 2, normalisation, ReLU: half the resolution."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride=2, padding=1), normalisation(config.norm, outputs), nn.ReLU()
    )


def doubling(inputs: int, outputs: int, config: ModelConfig) -> nn.Sequential:
    """Twice the resolution by a transposed convolution, or by neighbours and a convolution; normalisation, ReLU."""
    layers: list[nn.Module] = []
    if config.upsampling == "transposed":
        layers.append(nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1))
    else:
        layers += [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(inputs, outputs, 3, padding=1)]
    return nn.Sequential(*layers, normalisation(config.norm, outputs), nn.ReLU())


class ResBlock(nn.Module):
    """x + conv(ReLU(conv(x))), each convolution of 3 x 3 with a normalisation.

    Args:
        channels: In and out.
        norm: The normalisation.
    """

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            normalisation(norm, channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
            normalisation(norm, channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to the same."""
        return x + self.layers(x)


def blocks(channels: int, number: int, norm: Norm) -> list[nn.Module]:
    """Residual blocks."""
    return [ResBlock(channels, norm) for _ in range(number)]


class ToPicture(nn.Module):
    """Convolution to RGB in [-1, 1]; unfolding and tanh in fp32 also under autocast: bf16 has 8 bits.

    Args:
        inputs: Channels.
        kernel: Of the convolution.
        fold: Side of the blocks of pixels in its channels.
    """

    def __init__(self, inputs: int, kernel: int, fold: int) -> None:
        super().__init__()
        self.fold = fold
        self.last = nn.Conv2d(inputs, 3 * fold**2, kernel, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, 3, fold h, fold w)."""
        return torch.tanh(F.pixel_shuffle(self.last(x).float(), self.fold))


def outer_kernel(fold: int) -> int:
    """Kernel of the first and last layers: 7, and about as many pixels where pixels are folded."""
    return {1: 7, 2: 3, 4: 3}[fold]


def initialise(module: nn.Module, norm: Norm) -> None:
    """Initial weights.

    Paper: says nothing.
    Here: with batch normalisation the official code's, weights from N(0, 0.02), scales from N(1, 0.02), biases 0;
    without any normalisation Kaiming's, so that signals keep their size, and residual blocks that change little; with
    the others torch's own.

    Args:
        module: Is changed.
        norm: Its normalisation.
    """
    if norm not in ("batch", "none"):
        return
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            if norm == "batch":
                nn.init.normal_(layer.weight, 0.0, 0.02)
            else:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
    for layer in module.modules() if norm == "none" else ():
        if isinstance(layer, ResBlock | ToPicture):
            last = layer.layers[3] if isinstance(layer, ResBlock) else layer.last
            assert isinstance(last, nn.Conv2d)
            with torch.no_grad():
                last.weight.mul_(0.1)


def halvings(side: int, bottom: int) -> int:
    """How often a side is halved to reach another.

    Raises:
        ValueError: It is not a multiple by a power of two.
    """
    number = round(math.log2(side / bottom))
    if bottom * 2**number != side:
        raise ValueError(f"{side} pixels cannot be halved down to {bottom}")
    return number
