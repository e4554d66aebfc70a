"""StyleGAN2's blocks in plain PyTorch: no compiled operators, fp16 and bf16 safe, exportable to ONNX.

Karras, Laine, Aittala, Hellsten, Lehtinen, Aila. "Analyzing and Improving the Image Quality of StyleGAN." CVPR 2020.
"""

import itertools
import math
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retouch_common.layers.equalised import (
    GAIN,
    SLOPE,
    EqualConv2d,
    EqualLinear,
    at_least_fp32,
    full_precision,
    leaky_relu,
)
from retouch_common.layers.modulation import Form, ModulatedConv2d, use_form
from retouch_common.layers.resample import Blur, downsample2d, upsample2d

__all__ = [
    "Blur",
    "EqualConv2d",
    "EqualLinear",
    "Form",
    "MappingNetwork",
    "ModulatedConv2d",
    "Noise",
    "NoiseInjection",
    "ResBlockDown",
    "StyledConv",
    "ToRGB",
    "downsample2d",
    "leaky_relu",
    "minibatch_stddev",
    "pixel_norm",
    "upsample2d",
    "use_form",
]

Noise = Literal["fixed", "random", "none"]
EPS = 1e-8


class MappingNetwork(nn.Module):
    """Map latent codes to style codes: normalisation, then fully connected layers, in fp32 also under autocast.

    Args:
        in_dim: Dimension of the latent code.
        style_dim: Dimension of the style code and of the hidden layers.
        num_layers: Number of layers.
        lr_mul: Factor of their learning rate.
    """

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
    """Add noise, the same for all channels, times a learnt strength that starts at 0.

    Args:
        size: Height and width of the feature maps.
        seed: Seed of the fixed noise, which is not saved with the weights.
    """

    fixed: Tensor

    def __init__(self, size: int, *, seed: int | list[int] = 0) -> None:
        super().__init__()
        self.strength = nn.Parameter(torch.zeros(()))
        # RandomState, since its numbers are promised to stay the same in all versions.
        drawn = np.random.RandomState(seed).standard_normal((1, 1, size, size)).astype(np.float32)
        self.register_buffer("fixed", torch.from_numpy(drawn), persistent=False)

    def forward(self, x: Tensor, *, noise: Noise | None = None, gain: float = 1.0) -> Tensor:
        """Return x (N, C, size, size) plus noise times ``gain``.

        Args:
            x: Feature maps.
            noise: "fixed" noise, the same for all samples, "random" noise for every sample, or "none"; None means
                random in training and fixed in evaluation mode.
            gain: Factor of the noise.

        Raises:
            ValueError: If the fixed noise has another size.
        """
        picture = self.picture(x, noise=noise, gain=gain)
        return x if picture is None else x + picture

    def picture(self, x: Tensor, *, noise: Noise | None, gain: float) -> Tensor | None:
        """Return what :meth:`forward` adds to x, (1 or N, 1, size, size), or None without noise."""
        noise = noise or ("random" if self.training else "fixed")
        if noise == "none":
            return None
        if noise == "random":
            drawn = torch.randn(len(x), 1, *x.shape[2:], device=x.device, dtype=self.strength.dtype)
        elif x.shape[2:] != self.fixed.shape[2:]:
            size = self.fixed.shape[-1]
            raise ValueError(f"the fixed noise is {size}x{size} pixels, the features {x.shape[-1]}x{x.shape[-2]}")
        else:
            drawn = self.fixed
        return (gain * self.strength * drawn).to(x.dtype)


class StyledConv(nn.Module):
    """Modulated convolution, noise, bias and :func:`leaky_relu`.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        style_dim: Dimension of the style code.
        kernel: Kernel size, odd.
        up: Whether to upsample by 2.
        form: See :class:`ModulatedConv2d`.
        noise: Whether to inject noise.
        size: Height and width of the output, needed for noise.

    Raises:
        ValueError: If noise is to be injected and the size is not given; see also :class:`ModulatedConv2d`.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        style_dim: int,
        *,
        kernel: int = 3,
        up: bool = False,
        form: Form = "scaled",
        noise: bool = True,
        size: int | None = None,
    ) -> None:
        super().__init__()
        if noise and size is None:
            raise ValueError("noise needs the size of the features")
        self.conv = ModulatedConv2d(in_channels, out_channels, kernel, style_dim, up=up, form=form)
        # Layers of one size differ in channels or in up, and so in their noise.
        seed = [in_channels, out_channels, size or 0, int(up)]
        self.noise = NoiseInjection(size, seed=seed) if noise and size is not None else None
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, style: Tensor, *, noise: Noise | None = None) -> Tensor:
        """Convolve x (N, in_channels, H, W) with style (N, style_dim); noise as in :meth:`NoiseInjection.forward`.

        Returns:
            (N, out_channels, H, W), or (N, out_channels, 2H, 2W) with ``up``.
        """
        # The activation's gain goes into what precedes it: a leaky ReLU commutes with positive factors.
        y = self.conv(x, style, gain=GAIN, bias=GAIN * self.bias)
        if self.noise is not None:
            picture = self.noise.picture(y, noise=noise, gain=GAIN)
            y = y if picture is None else y.add_(picture)  # in place: new memory takes longer than the arithmetic
        return F.leaky_relu(y, SLOPE, inplace=True)


class ToRGB(nn.Module):
    """1x1 modulated convolution without demodulation, and a bias: features to an image.

    Args:
        in_channels: Input channels.
        style_dim: Dimension of the style code.
        out_channels: Channels of the image.
        form: See :class:`ModulatedConv2d`.
    """

    def __init__(self, in_channels: int, style_dim: int, *, out_channels: int = 3, form: Form = "scaled") -> None:
        super().__init__()
        self.conv = ModulatedConv2d(in_channels, out_channels, 1, style_dim, demodulate=False, form=form)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, style: Tensor, skip: Tensor | None = None) -> Tensor:
        """Return the image (N, out_channels, H, W) of features x (N, in_channels, H, W) and style (N, style_dim).

        The image of the resolution below, ``skip`` (N, out_channels, H / 2, W / 2), is upsampled and added.
        """
        rgb = self.conv(x, style, bias=self.bias)
        return rgb if skip is None else rgb + upsample2d(skip)


class ResBlockDown(nn.Module):
    """Residual block of the discriminator that downsamples by 2; the sum of both branches is scaled by sqrt(1/2).

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
    """

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


def minibatch_stddev(x: Tensor, group: int = 4, channels: int = 1) -> Tensor:
    """Append the standard deviation over groups of samples, so that a discriminator notices a lack of variety.

    Args:
        x: (N, C, H, W). Sample n belongs to group n mod N / G, where G is the largest divisor of N up to ``group``.
        group: Maximum group size.
        channels: Number of maps to append, each the mean over C / channels channels.

    Returns:
        (N, C + channels, H, W); the new maps are constant over the pixels, and 0 in groups of one.

    Raises:
        ValueError: If C is not a multiple of ``channels``.
    """
    N, C = x.shape[:2]
    if C % channels:
        raise ValueError(f"{C} channels cannot be divided among {channels} maps")
    G = next(g for g in range(min(group, N), 0, -1) if N % g == 0)
    y = at_least_fp32(x).reshape(G, N // G, channels, C // channels, *x.shape[2:])
    # eps keeps the root's gradient finite; taken off again, so that equal samples give 0.
    deviation = torch.sqrt(y.var(dim=0, correction=0) + EPS) - math.sqrt(EPS)
    maps = deviation.mean(dim=(2, 3, 4)).repeat(G, 1)[:, :, None, None].to(x.dtype)
    # Padded and added, not concatenated, which would lose the memory format.
    return F.pad(x, (0, 0, 0, 0, 0, channels)) + F.pad(maps, (0, 0, 0, 0, C, 0))
