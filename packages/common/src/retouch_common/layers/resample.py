"""Up- and downsampling by 2 with StyleGAN2's filter [1, 3, 3, 1] (Karras et al., CVPR 2020).

Memory format and dtype are kept.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def upsample2d(x: Tensor) -> Tensor:
    """Upsample (N, C, H, W) to (N, C, 2H, 2W): zero insertion, then [1, 3, 3, 1] / 4, with replicated edges.

    A new pixel is 3/4 of the nearest old one and 1/4 of the next: bilinear interpolation.
    """
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def downsample2d(x: Tensor) -> Tensor:
    """Filter (N, C, H, W), H and W even, with [1, 3, 3, 1] / 8 and keep every second pixel; zeros beyond the edges."""
    # From arithmetic, so that it is made where it is needed: [1, 3, 3, 1] / 8.
    taps = 0.5 - 0.25 * (torch.arange(4, device=x.device, dtype=x.dtype) - 1.5).abs()
    return _depthwise(x, torch.outer(taps, taps), padding=1, stride=2)


class Blur(nn.Module):
    """Filter with [1, 3, 3, 1] along both axes, with zero padding; each side changes by ``2 * padding - 3``.

    The filter's sum is ``gain``: 1 keeps constants, 4 compensates for inserted zeros.
    """

    kernel: Tensor

    def __init__(self, *, gain: float = 1.0, padding: int) -> None:
        super().__init__()
        self.padding = padding
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", gain * torch.outer(taps, taps), persistent=False)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        """(N, C, H, W) to (N, C, H + 2 padding - 3, W + 2 padding - 3), plus ``bias`` (C,)."""
        return _depthwise(x, self.kernel, padding=self.padding, bias=bias)


def _depthwise(x: Tensor, kernel: Tensor, *, padding: int, stride: int = 1, bias: Tensor | None = None) -> Tensor:
    channels = x.shape[1]
    weight = kernel.to(x.dtype).expand(channels, 1, -1, -1)
    bias = None if bias is None else bias.to(x.dtype)
    return F.conv2d(x, weight, bias, stride=stride, padding=padding, groups=channels)
