"""StyleGAN2's modulated convolution in two equivalent forms (Karras et al., CVPR 2020, section 2.2).

A style s scales the input channels of the weights w; demodulation restores unit variance of every output channel:

    w'_oik = s_i w_oik,    w''_oik = w'_oik / sqrt(sum_ik w'_oik^2 + eps)                              (Eq. 1 and 3)

"grouped" computes the weights w'' of every sample and convolves all samples as one grouped convolution. "scaled" scales
the input by s and the output by the root instead, for which sum_i s_i^2 (sum_k w_oik^2), a matrix product, is enough;
it exports to ONNX. Which form is faster depends on layer, batch and machine.
"""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retouch_common.layers.equalised import HALVES, EqualLinear, at_least_fp32, full_precision
from retouch_common.layers.resample import Blur

Form = Literal["scaled", "grouped"]
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
        form: "scaled" or "grouped"; the result is the same.

    Raises:
        ValueError: If the kernel size is even, or not 3 with ``up``, or the form is unknown.
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
        form: Form = "scaled",
    ) -> None:
        super().__init__()
        if kernel % 2 == 0 or (up and kernel != 3):
            raise ValueError(f"the kernel's side must be {'3 to double the sides' if up else 'odd'}, not {kernel}")
        self.demodulate = demodulate
        self.padding = kernel // 2
        self.form: Form = _checked(form)
        self.scale = 1 / math.sqrt(in_channels * kernel**2)
        # In the order that the convolution wants: turning the axes around costs time at every call.
        ends, self.input_axis = ((in_channels, out_channels), 0) if up else ((out_channels, in_channels), 1)
        self.weight = nn.Parameter(torch.randn(*ends, kernel, kernel))
        self.affine = EqualLinear(style_dim, in_channels, bias_init=1.0)
        self.blur = Blur(gain=4.0, padding=1) if up else None

    def forward(self, x: Tensor, style: Tensor, *, gain: float = 1.0, bias: Tensor | None = None) -> Tensor:
        """Convolve x (N, in_channels, H, W) with style (N, style_dim); multiply by ``gain``, add ``bias``."""
        with full_precision(x):
            s = at_least_fp32(self.affine(style.to(self.affine.weight.dtype)))
        return (self._scaled if self.form == "scaled" else self._grouped)(x, s, gain, bias)

    def _scaled(self, x: Tensor, s: Tensor, gain: float, bias: Tensor | None) -> Tensor:
        dtype = _conv_dtype(x)
        weight = at_least_fp32(self.weight)
        with full_precision(x):
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
        y = self._convolve(x * s.to(x.dtype)[:, :, None, None], weight.to(dtype), groups=1)
        if self.blur is not None:
            y = self.blur(y)
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

    def _grouped(self, x: Tensor, s: Tensor, gain: float, bias: Tensor | None) -> Tensor:
        N, in_channels = x.shape[:2]
        with full_precision(x):
            modulating = s.unsqueeze(2 - self.input_axis)[..., None, None]
            weight = self.scale * modulating * at_least_fp32(self.weight)
            if self.demodulate:
                power = weight.square().sum(dim=(1 + self.input_axis, 3, 4), keepdim=True)
                weight = weight * torch.rsqrt(power + EPS)
            weight = (gain * weight).to(_conv_dtype(x)).flatten(0, 1)
        if N > 1:
            x = x.reshape(1, N * in_channels, *x.shape[2:])
        y = self._convolve(x, weight, groups=N)
        if N > 1:
            y = y.reshape(N, -1, *y.shape[2:])
        if self.blur is not None:
            return self.blur(y, bias)
        return y if bias is None else y.add_(bias.to(y.dtype)[:, None, None])

    def _convolve(self, x: Tensor, weight: Tensor, *, groups: int) -> Tensor:
        if self.blur is None:
            return F.conv2d(x, weight, padding=self.padding, groups=groups)
        return F.conv_transpose2d(x, weight, stride=2, groups=groups)


def use_form(model: nn.Module, form: Form) -> None:
    """Set the form, "scaled" or "grouped", of all modulated convolutions of a model.

    Raises:
        ValueError: If the form is unknown.
    """
    for layer in model.modules():
        if isinstance(layer, ModulatedConv2d):
            layer.form = _checked(form)


def _checked(form: Form) -> Form:
    if form not in get_args(Form):
        raise ValueError(f"no form {form!r} of a modulated convolution; there are {', '.join(get_args(Form))}")
    return form


def _conv_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype in which a convolution of x computes."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
