"""Gated convolution (Yu et al., "Free-Form Image Inpainting with Gated Convolution", ICCV 2019, section 3.1).

Gating = W_g * I,  Features = W_f * I,  O = phi(Features) . sigmoid(Gating)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def gate(features: Tensor, logits: Tensor, skip: Tensor | None = None) -> Tensor:
    """Return ``features * g``, or ``features * g + skip * (1 - g)``, with ``g = sigmoid(logits)``; all (N, C, H, W)."""
    g = torch.sigmoid(logits)
    return features * g if skip is None else features * g + skip * (1 - g)


class GatedConv2d(nn.Module):
    """Gated convolution; arguments as of ``torch.nn.Conv2d``. The gates always have a bias.

    Args:
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

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) to (N, out_channels, H', W')."""
        features, logits = self.convolve(x)
        return gate(self.activation(features), logits)

    def convolve(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features before the activation and the gates' logits, both (N, out_channels, H', W').

        One convolution computes both, a third faster on a CPU where ``out_channels`` does not fill its vectors. The
        halves are copied, as what follows is slow on slices.
        """
        assert self.gate.bias is not None
        bias = torch.zeros_like(self.gate.bias) if self.conv.bias is None else self.conv.bias
        weight, bias = torch.cat([self.conv.weight, self.gate.weight]), torch.cat([bias, self.gate.bias])
        both = F.conv2d(x, weight, bias, self.conv.stride, self.conv.padding, self.conv.dilation)
        features, logits = both.chunk(2, dim=1)
        return features.clone(), logits.clone()
