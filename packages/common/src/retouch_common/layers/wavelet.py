"""Orthonormal two-dimensional Haar wavelet transform (Haar, Math. Ann. 1910; Mallat, PAMI 1989).

One level turns every 2 x 2 block a b / c d into

    low         (a + b + c + d) / 2      twice the mean
    horizontal  (a + b - c - d) / 2      horizontal edges
    vertical    (a - b + c - d) / 2      vertical edges
    diagonal    (a - b - c + d) / 2

which are cA, cH, cV and cD of PyWavelets' ``dwt2(x, "haar")``, signs included. Further levels transform the low band,
whose range doubles with each. Everything is computed in fp32 (or fp64), also under autocast: the round trip in bf16
has an error of 0.01.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Subbands:
    """Wavelet subbands of images.

    Attributes:
        low: (N, C, h, w), low band of the last level.
        high: (N, 3C, h_l, w_l) of every level, finest first: horizontal bands of all channels, then vertical, then
            diagonal.
        size: Height and width of the image before padding.
    """

    low: torch.Tensor
    high: tuple[torch.Tensor, ...]
    size: tuple[int, int]


def haar_dwt(x: torch.Tensor, levels: int = 1, *, multiple: int | None = None) -> Subbands:
    """Transform images (N, C, H, W) of any size and range.

    They are padded at the bottom and right by reflection to multiples of ``multiple``, itself a multiple of 2**levels,
    which is the default.

    Raises:
        ValueError: If ``multiple`` is not a multiple of 2**levels, or the image is too small for reflection padding.
    """
    step = 2**levels
    multiple = step if multiple is None else multiple
    if levels < 1 or multiple % step:
        raise ValueError(f"{levels} levels need sides that are multiples of {step}, not of {multiple}")
    height, width = x.shape[-2:]
    below, right = -height % multiple, -width % multiple
    if below >= height or right >= width:
        raise ValueError(f"{width}x{height} pixels are too few for sides that are multiples of {multiple}")
    low = x.double() if x.dtype == torch.float64 else x.float()
    if below or right:
        low = F.pad(low, (0, right, 0, below), mode="reflect")
    high = []
    for _ in range(levels):
        a, b = low[..., 0::2, 0::2], low[..., 0::2, 1::2]
        c, d = low[..., 1::2, 0::2], low[..., 1::2, 1::2]
        low = (a + b + c + d) / 2
        high.append(torch.cat([a + b - c - d, a - b + c - d, a - b - c + d], dim=1) / 2)
    return Subbands(low, tuple(high), (height, width))


def haar_idwt(subbands: Subbands) -> torch.Tensor:
    """Reconstruct the images (N, C, H, W), of the size before padding.

    Raises:
        ValueError: If the shapes of the bands do not match.
    """
    low = subbands.low
    for high in reversed(subbands.high):
        count, channels, height, width = low.shape
        if high.shape != (count, 3 * channels, height, width):
            raise ValueError(f"bands of shape {tuple(high.shape)} do not fit a low band of shape {tuple(low.shape)}")
        low = low.double() if low.dtype == torch.float64 else low.float()
        horizontal, vertical, diagonal = high.to(low.dtype).chunk(3, dim=1)
        a = low + horizontal + vertical + diagonal
        b = low + horizontal - vertical - diagonal
        c = low - horizontal + vertical - diagonal
        d = low - horizontal - vertical + diagonal
        # pixel_shuffle wants the four pixels of a block as neighbouring channels.
        blocks = torch.stack([a, b, c, d], dim=2).flatten(1, 2)
        low = F.pixel_shuffle(blocks, 2) / 2
    height, width = subbands.size
    return low[..., :height, :width]
