"""StyleGAN2's modulated convolution (Karras et al., CVPR 2020, section 2.2).

A style s scales the input channels of the weights w; demodulation restores unit variance of every output channel:

    w'_oik = s_i w_oik,    w''_oik = w'_oik / sqrt(sum_ik w'_oik^2 + eps)                              (Eq. 1 and 3)

Instead of computing the weights w'' of every sample, the input is scaled by s and the output by the root, for which
sum_i s_i^2 (sum_k w_oik^2), a matrix product, is enough; it exports to ONNX. The form as published, one grouped
convolution, is in :mod:`retouch_common.testing.modulation`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retouch_common.layers.equalised import HALVES, EqualLinear, at_least_fp32, full_precision
from retouch_common.layers.resample import Blur

EPS = 1e-8


class ModulatedConv2d(nn.Module):
    """Convolution whose weights are modulated by a style.

    Args:
        in_channels: Input channels.
        out_channels: Output channels.
        kernel: Kernel size, odd.
        style_dim: Dimension of the style code.
        demodulate: Whether to demodulate.
        up: Whether to upsample by 2: a transposed convolution of stride 2, then [1, 3, 3, 1]. Away from the edges this
            equals :func:`~retouch_common.layers.resample.upsample2d`, then a convolution with the mirrored kernel.

    Raises:
        ValueError: If the kernel size is even, or not 3 with ``up``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        style_dim: int,
        *,
        demodulate: bool = True,
        up: bool = False,
    ) -> None:
        super().__init__()
        if kernel % 2 == 0 or (up and kernel != 3):
            raise ValueError(f"the kernel's side must be {'3 to double the sides' if up else 'odd'}, not {kernel}")
        self.demodulate = demodulate
        self.padding = kernel // 2
        self.scale = 1 / math.sqrt(in_channels * kernel**2)
        # In the order that the convolution wants: turning the axes around costs time at every call.
        ends, self.input_axis = ((in_channels, out_channels), 0) if up else ((out_channels, in_channels), 1)
        self.weight = nn.Parameter(torch.randn(*ends, kernel, kernel))
        self.affine = EqualLinear(style_dim, in_channels, bias_init=1.0)
        self.blur = Blur(gain=4.0, padding=1) if up else None

    def forward(self, x: Tensor, style: Tensor, *, gain: float = 1.0, bias: Tensor | None = None) -> Tensor:
        """Convolve x (N, in_channels, H, W) with style (N, style_dim); multiply by ``gain``, add ``bias``."""
        dtype = _conv_dtype(x)
        with full_precision(x):
            s, weight = at_least_fp32(self.affine(style.to(self.affine.weight.dtype))), at_least_fp32(self.weight)
            if dtype in HALVES:
                # Nothing may overflow before the output is scaled back: weights and styles of at most 1.
                weight, s, undone = self._normalised(weight, s)
                scale = 1.0
            else:
                undone, scale = None, self.scale
            if self.demodulate:  # cancels whatever scales weights and styles
                squares = weight.square().sum(dim=(2, 3))
                power = scale**2 * s.square() @ (squares if self.input_axis == 0 else squares.T)
                factor = gain * scale * torch.rsqrt(power + EPS)
            else:
                factor = torch.full_like(s[:, :1], gain * scale) if undone is None else gain * undone
        x, weight = x * s.to(x.dtype)[:, :, None, None], weight.to(dtype)
        if self.blur is None:
            y = F.conv2d(x, weight, padding=self.padding)
        else:
            y = self.blur(F.conv_transpose2d(x, weight, stride=2))
        factor = factor.to(y.dtype)[:, :, None, None]
        if not torch.is_grad_enabled():  # y is nobody else's; new memory takes longer than the arithmetic
            y = y.mul_(factor)
            return y if bias is None else y.add_(bias.to(y.dtype)[:, None, None])
        return y * factor if bias is None else torch.addcmul(bias.to(y.dtype)[:, None, None], y, factor)

    def _normalised(self, weight: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Divide weights and styles by their maximum magnitudes; also return the inverse factor (N, out_channels)."""
        largest_weight = weight.abs().amax(dim=(self.input_axis, 2, 3), keepdim=True).clamp(min=EPS)
        largest_style = s.abs().amax(dim=1, keepdim=True).clamp(min=EPS)
        undone = largest_style * largest_weight.flatten()
        return weight * (self.scale / largest_weight), s / largest_style, undone


def _conv_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which a convolution of x computes."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
