"""Layers with an equalised learning rate (Karras et al., "Progressive Growing of GANs", ICLR 2018, section 4.1).

Weights are drawn from N(0, 1) and scaled by 1 / sqrt(fan-in) at run time, so that an optimiser that normalises
gradients moves all layers at the same relative speed. ``lr_mul`` scales a layer's learning rate without changing its
initial output.
"""

import contextlib
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retouch_common.layers.resample import Blur

SLOPE = 0.2  # of the leaky ReLU
GAIN = math.sqrt(2)  # compensates for the power that the leaky ReLU removes
HALVES = (torch.float16, torch.bfloat16)


def leaky_relu(x: Tensor) -> Tensor:
    """Return sqrt(2) times the leaky ReLU of slope 0.2."""
    return GAIN * F.leaky_relu(x, SLOPE)


class EqualLinear(nn.Module):
    """Fully connected layer.

    Args:
        in_features: Input features.
        out_features: Output features.
        bias_init: Initial value of the bias.
        lr_mul: Factor of the learning rate.
        activation: Whether to end with :func:`leaky_relu`.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias_init: float = 0.0,
        lr_mul: float = 1.0,
        activation: bool = False,
    ) -> None:
        super().__init__()
        self.lr_mul, self.activation = lr_mul, activation
        self.scale = lr_mul / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_mul)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_mul))

    def forward(self, x: Tensor) -> Tensor:
        """(..., in_features) to (..., out_features)."""
        y = F.linear(x, self.scale * self.weight, self.lr_mul * self.bias)
        return leaky_relu(y) if self.activation else y


class EqualConv2d(nn.Module):
    """Convolution that keeps the resolution, or with ``down`` filters with [1, 3, 3, 1] and halves it.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel: Kernel size, odd.
        bias: Whether to add a bias.
        activation: Whether to end with :func:`leaky_relu`.
        down: Whether to downsample by 2.

    Raises:
        ValueError: If the kernel size is even.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        *,
        bias: bool = True,
        activation: bool = False,
        down: bool = False,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"the kernel's side must be odd, not {kernel}")
        self.activation = activation
        self.stride, self.padding = (2, 0) if down else (1, kernel // 2)
        self.scale = 1 / math.sqrt(in_channels * kernel**2)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if bias else None
        self.blur = Blur(padding=(kernel + 1) // 2) if down else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H, W), or (N, out_channels, H / 2, W / 2) with ``down``."""
        if self.blur is not None:
            x = self.blur(x)
        y = F.conv2d(x, self.scale * self.weight, self.bias, stride=self.stride, padding=self.padding)
        return leaky_relu(y) if self.activation else y


def full_precision(x: Tensor) -> contextlib.AbstractContextManager[object]:
    """Return a context without autocast on x's device; none where autocast is off, so that exported graphs lack it."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else contextlib.nullcontext()


def at_least_fp32(x: Tensor) -> Tensor:
    """Convert a half-precision tensor to fp32; return any other unchanged."""
    return x.float() if x.dtype in HALVES else x
