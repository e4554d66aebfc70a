"""Layers of the generator's networks.

``paper`` and ``official`` use convolutions of 4 x 4 with stride 2, batch normalisation and ReLU. Group and instance
normalisation are for small batches; nearest neighbours and a convolution avoid checkerboards.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgan.config import Norm, Upsampling

_GROUP = 8  # channels in a group


def normalisation(norm: Norm, channels: int) -> nn.Module:
    """Return a normalisation layer for (N, channels, h, w)."""
    if norm == "batch":
        return nn.BatchNorm2d(channels)
    if norm == "group":
        return nn.GroupNorm(channels // _GROUP if channels % _GROUP == 0 else 1, channels)
    if norm == "instance":
        return nn.InstanceNorm2d(channels, affine=True)
    return nn.Identity()


def convolution(
    in_channels: int, out_channels: int, kernel_size: int, norm: Norm, *, stride: int = 1, padding: int | None = None
) -> nn.Sequential:
    """Return convolution, normalisation and ReLU; by default the resolution stays."""
    padding = kernel_size // 2 if padding is None else padding
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
    return nn.Sequential(conv, normalisation(norm, out_channels), nn.ReLU())


def downsample(in_channels: int, out_channels: int, norm: Norm, *, kernel_size: int = 4) -> nn.Sequential:
    """Return a :func:`convolution` of stride 2, which halves the resolution."""
    return convolution(in_channels, out_channels, kernel_size, norm, stride=2, padding=1)


def upsample(in_channels: int, out_channels: int, norm: Norm, mode: Upsampling) -> nn.Sequential:
    """Return layers that double the resolution, normalisation and ReLU."""
    layers: list[nn.Module] = []
    if mode == "transposed":
        layers.append(nn.ConvTranspose2d(in_channels, out_channels, 4, stride=2, padding=1))
    else:
        layers += [nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(in_channels, out_channels, 3, padding=1)]
    return nn.Sequential(*layers, normalisation(norm, out_channels), nn.ReLU())


class ResBlock(nn.Module):
    """x + conv(ReLU(conv(x))) with convolutions of 3 x 3, each followed by a normalisation."""

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


def res_blocks(channels: int, num_blocks: int, norm: Norm) -> list[nn.Module]:
    """Return ``num_blocks`` residual blocks."""
    return [ResBlock(channels, norm) for _ in range(num_blocks)]


class ToImage(nn.Module):
    """Convolution to RGB in [-1, 1]; unfolding and tanh stay in fp32 under autocast, since bf16 has 8 bits.

    Args:
        in_channels: Channels of the input.
        kernel_size: Side of the kernel.
        fold: Side of the pixel blocks that the convolution's channels hold.
    """

    def __init__(self, in_channels: int, kernel_size: int, fold: int) -> None:
        super().__init__()
        self.fold = fold
        self.last = nn.Conv2d(in_channels, 3 * fold**2, kernel_size, padding=kernel_size // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, 3, fold h, fold w)."""
        return torch.tanh(F.pixel_shuffle(self.last(x).float(), self.fold))


def outer_kernel(fold: int) -> int:
    """Return the kernel size of the first and last layers: 7, or as many pixels where they are folded."""
    return 7 if fold == 1 else 3


def initialise(module: nn.Module, norm: Norm) -> None:
    """Initialise weights. Modified in place.

    Paper: not stated.
    Here: with batch normalisation as in the official code, weights from N(0, 0.02), scales from N(1, 0.02), biases 0;
    without normalisation Kaiming's, which preserves the signal's variance, and residual blocks near the identity;
    otherwise torch's defaults.
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
        if isinstance(layer, ResBlock | ToImage):
            last = layer.layers[3] if isinstance(layer, ResBlock) else layer.last
            assert isinstance(last, nn.Conv2d)
            with torch.no_grad():
                last.weight.mul_(0.1)


def num_downsamplings(size: int, smallest: int) -> int:
    """Return how often ``size`` is halved to reach ``smallest``.

    Raises:
        ValueError: ``size`` is not ``smallest`` times a power of two.
    """
    number = round(math.log2(size / smallest))
    if smallest * 2**number != size:
        raise ValueError(f"{size} pixels cannot be halved down to {smallest}")
    return number
