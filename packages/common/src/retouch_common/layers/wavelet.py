"""The orthonormal Haar wavelet transform in two dimensions (Haar, Math. Ann. 1910; Mallat, PAMI 1989).

One level turns every 2 x 2 block a b / c d of a picture into

    low         (a + b + c + d) / 2      the mean, doubled
    horizontal  (a + b - c - d) / 2      rows differ: horizontal edges
    vertical    (a - b + c - d) / 2      columns differ: vertical edges
    diagonal    (a - b - c + d) / 2

which are cA, cH, cV and cD of PyWavelets' ``dwt2(x, "haar")``, signs included. The transform keeps the sum of squares;
each level doubles the range of the low band. Further levels transform the low band again.

Everything is computed in fp32 (or fp64) also under autocast: in bf16 a round trip would be wrong by 0.01.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F

__all__ = ["Subbands", "haar_dwt", "haar_idwt"]


@dataclass(frozen=True)
class Subbands:
    """A picture in wavelets.

    Attributes:
        low: (N, C, h, w), the low band of the last level.
        high: Of every level, finest first, (N, 3C, h_l, w_l): horizontal bands of all channels, then vertical, then
            diagonal.
        size: Height and width of the picture before it was padded.
    """

    low: torch.Tensor
    high: tuple[torch.Tensor, ...]
    size: tuple[int, int]


def haar_dwt(x: torch.Tensor, levels: int = 1, *, multiple: int | None = None) -> Subbands:
    """Transform pictures of any size.

    Args:
        x: (N, C, H, W), any range.
        levels: How often the low band is transformed.
        multiple: The picture is padded at the bottom and on the right, by reflection, to multiples of this; itself a
            multiple of 2**levels, which is the default.

    Raises:
        ValueError: ``multiple`` is none of 2**levels, or the picture is too small to be reflected.
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
    """The picture whose wavelets these are, (N, C, H, W) of the size before padding.

    Raises:
        ValueError: Sizes or channels of the bands do not fit each other.
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
