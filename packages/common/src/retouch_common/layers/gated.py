"""Gated convolution (Yu et al., "Free-Form Image Inpainting with Gated Convolution", ICCV 2019, section 3.1).

Gating = W_g * I,  Features = W_f * I,  O = phi(Features) . sigmoid(Gating)
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gate(features: Tensor, logits: Tensor, skip: Tensor | None = None) -> Tensor:
    """Return ``features * g``, or ``features * g + skip * (1 - g)``, with ``g = sigmoid(logits)``; all (N, C, H, W)."""
    g = torch.sigmoid(logits)
    return features * g if skip is None else features * g + skip * (1 - g)


def gated_conv2d(
    x: Tensor,
    weight: Tensor,
    gate_weight: Tensor,
    bias: Tensor | None = None,
    gate_bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    activation: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Convolve with gates.

    Args:
        x: (N, C_in, H, W).
        weight: (C_out, C_in, k, k) of the features.
        gate_weight: (C_out, C_in, k, k) of the gates.
        bias: (C_out,) of the features.
        gate_bias: (C_out,) of the gates.
        stride: Of both convolutions.
        padding: Zeros added on every side, in pixels.
        dilation: Distance of the kernels' elements, in pixels.
        activation: phi; None for the identity.

    Returns:
        (N, C_out, H', W').
    """
    features = F.conv2d(x, weight, bias, stride, padding, dilation)
    logits = F.conv2d(x, gate_weight, gate_bias, stride, padding, dilation)
    return gate(features if activation is None else activation(features), logits)


class GatedConv2d(nn.Module):
    """Gated convolution; the gates always have a bias.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel_size: Size of both kernels.
        stride: Stride of both convolutions.
        padding: Zero padding on every side.
        dilation: Dilation of both kernels.
        bias: Whether the features have a bias.
        activation: phi; None for the identity.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        bias: bool = True,
        activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation, bias=bias)
        self.gate = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, dilation)
        self.activation = activation or nn.Identity()
        self.stride, self.padding, self.dilation = stride, padding, dilation

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        return gated_conv2d(
            x,
            self.conv.weight,
            self.gate.weight,
            self.conv.bias,
            self.gate.bias,
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            activation=self.activation,
        )
