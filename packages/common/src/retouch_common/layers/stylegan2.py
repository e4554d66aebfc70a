"""StyleGAN2's blocks in plain PyTorch: no compiled operators, fp16 and bf16 safe, exportable to ONNX.

Karras, Laine, Aittala, Hellsten, Lehtinen, Aila. "Analyzing and Improving the Image Quality of StyleGAN." CVPR 2020.
"""

import itertools
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retouch_common.layers.equalised import GAIN, SLOPE, EqualConv2d, EqualLinear, at_least_fp32, full_precision
from retouch_common.layers.modulation import ModulatedConv2d
from retouch_common.layers.resample import downsample2d

EPS = 1e-8
GROUP = 4  # samples over which minibatch_stddev measures, as in the paper's code


class MappingNetwork(nn.Module):
    """Map latent codes to style codes: normalisation, then fully connected layers, in fp32 also under autocast."""

    def __init__(self, in_dim: int, style_dim: int, num_layers: int = 8, lr_mul: float = 0.01) -> None:
        super().__init__()
        widths = [in_dim] + [style_dim] * num_layers
        self.layers = nn.Sequential(
            *(EqualLinear(a, b, lr_mul=lr_mul, activation=True) for a, b in itertools.pairwise(widths))
        )

    def forward(self, z: Tensor) -> Tensor:
        """(N, in_dim) to (N, style_dim)."""
        with full_precision(z):
            first = self.layers[0]
            assert isinstance(first, EqualLinear)
            return self.layers(pixel_norm(z).to(first.weight.dtype))


class NoiseInjection(nn.Module):
    """Add noise of size x size pixels, the same for all channels, times a learnt strength that starts at 0.

    In training it is random for every sample; in evaluation mode it is fixed: drawn from the seed, not saved with the
    weights.
    """

    fixed: Tensor

    def __init__(self, size: int, *, seed: int | list[int] = 0) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))
        # RandomState, since its numbers are promised to stay the same in all versions.
        drawn = np.random.RandomState(seed).standard_normal((1, 1, size, size)).astype(np.float32)
        self.register_buffer("fixed", torch.from_numpy(drawn), persistent=False)

    def forward(self, x: Tensor, *, gain: float = 1.0) -> Tensor:
        """Add noise times ``gain`` to x (N, C, size, size). Modified in place."""
        noise = self.fixed
        if self.training:
            noise = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=self.strength.dtype)
        return x.add_((gain * self.strength * noise).to(x.dtype))


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and :func:`leaky_relu`.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        style_dim: Dimension of the style code.
        size: Height and width of the output.
        up: Whether to upsample by 2.
    """

    def __init__(self, in_channels: int, out_channels: int, style_dim: int, *, size: int, up: bool = False) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 3, style_dim, up=up)
        # Layers of one size differ in channels or in up, and so in their noise.
        self.noise = NoiseInjection(size, seed=[in_channels, out_channels, size, int(up)])
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Convolve x (N, in_channels, H, W) with style (N, style_dim)."""
        # The activation's gain goes into what precedes it: a leaky ReLU commutes with positive factors.
        y = self.conv(x, style, gain=GAIN, bias=GAIN * self.bias)
        return F.leaky_relu(self.noise(y, gain=GAIN), SLOPE, inplace=True)


class ToRGB(nn.Module):
    """1x1 modulated convolution without demodulation, and a bias: features to an image."""

    def __init__(self, in_channels: int, style_dim: int, *, out_channels: int = 3) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Return the image (N, out_channels, H, W) of features x (N, in_channels, H, W) and style (N, style_dim)."""
        return self.conv(x, style, bias=self.bias)


class ResBlockDown(nn.Module):
    """Residual block of the discriminator that downsamples by 2; the sum of both branches is scaled by sqrt(1/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            EqualConv2d(in_channels, in_channels, 3, activation=True),
            EqualConv2d(in_channels, out_channels, 3, activation=True, down=True),
        )
        self.shortcut = EqualConv2d(in_channels, out_channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W), H and W even, to (N, out_channels, H / 2, W / 2)."""
        return math.sqrt(0.5) * (self.body(x) + self.shortcut(downsample2d(x)))


def pixel_norm(x: Tensor) -> Tensor:
    """Divide (N, C) or (N, C, H, W) by the root mean square over the channels, in fp32 at least."""
    x = at_least_fp32(x)
    return x * torch.rsqrt(x.square().mean(dim=1, keepdim=True) + EPS)


def minibatch_stddev(x: Tensor) -> Tensor:
    """Append the standard deviation over groups of samples, so that a discriminator notices a lack of variety.

    Sample n of x (N, C, H, W) belongs to group n mod N / G, where G is the largest divisor of N up to 4. The new
    channel is constant over the pixels, and 0 in groups of one.
    """
    N, C = x.shape[:2]
    G = next(g for g in range(min(GROUP, N), 0, -1) if N % g == 0)
    y = at_least_fp32(x).reshape(G, N // G, 1, C, *x.shape[2:])
    # eps keeps the root's gradient finite; taken off again, so that equal samples give 0.
    deviation = torch.sqrt(y.var(dim=0, correction=0) + EPS) - math.sqrt(EPS)
    maps = deviation.mean(dim=(2, 3, 4)).repeat(G, 1)[:, :, None, None].to(x.dtype)
    # Padded and added, not concatenated, which would lose the memory format.
    return F.pad(x, (0, 0, 0, 0, 0, 1)) + F.pad(maps, (0, 0, 0, 0, C, 0))
