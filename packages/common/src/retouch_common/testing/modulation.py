"""StyleGAN2's modulated convolution as published: what tests and benchmarks compare the shipped form with."""

from __future__ import annotations

from functools import partial
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retouch_common.layers.equalised import at_least_fp32, full_precision
from retouch_common.layers.modulation import EPS, ModulatedConv2d

M = TypeVar("M", bound=nn.Module)


def use_grouped(model: M) -> M:
    """Let all modulated convolutions of a model compute the weights of every sample; return it, modified in place."""
    for layer in model.modules():
        if isinstance(layer, ModulatedConv2d):
            layer.forward = partial(grouped, layer)  # type: ignore[method-assign]
    return model


def grouped(
    layer: ModulatedConv2d, x: Tensor, style: Tensor, *, gain: float = 1.0, bias: Tensor | None = None
) -> Tensor:
    """Convolve as ``layer`` does, all samples as one grouped convolution with the weights of each."""
    N, in_channels = x.shape[:2]
    with full_precision(x):
        s = at_least_fp32(layer.affine(style.to(layer.affine.weight.dtype)))
        weight = layer.scale * s.unsqueeze(2 - layer.input_axis)[..., None, None] * at_least_fp32(layer.weight)
        if layer.demodulate:
            power = weight.square().sum(dim=(1 + layer.input_axis, 3, 4), keepdim=True)
            weight = weight * torch.rsqrt(power + EPS)
    weight, x = (gain * weight).to(x.dtype).flatten(0, 1), x.reshape(1, N * in_channels, *x.shape[2:])
    if layer.blur is None:
        y = F.conv2d(x, weight, padding=layer.padding, groups=N)
    else:
        y = F.conv_transpose2d(x, weight, stride=2, groups=N)
    y = y.reshape(N, -1, *y.shape[2:])
    if layer.blur is not None:
        return layer.blur(y, bias)
    return y if bias is None else y.add_(bias.to(y.dtype)[:, None, None])
