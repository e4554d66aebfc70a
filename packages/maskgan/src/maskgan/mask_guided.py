"""Section 3.1, mask-guided generation: E_m encodes the target's mask, G_m generates the foreground.

"We concatenate all 3D and mask feature tensors to produce a fused feature tensor. Finally, we feed the fused feature
tensor to the network G_m and produce the foreground face."

Shapes: masks (N, 11, S, S); features (N, C, S / 4, S / 4); the foreground (N, C, S / fold, S / fold).
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from retouch_common.parsing.labels import NUM_CLASSES
from torch import Tensor, nn

from maskgan.components import FEATURE_STRIDE
from maskgan.config import Norm, Upsampling
from maskgan.layers import convolution, downsample, num_downsamplings, outer_kernel, res_blocks, upsample


def mask_widths(width: int, fold: int) -> list[int]:
    """Return the channels of E_m's features, finest first; ``width`` is the coarsest's."""
    scales = num_downsamplings(FEATURE_STRIDE, fold)
    return [max(4, width >> (scales - level)) for level in range(scales + 1)]


class MaskEncoder(nn.Module):
    """E_m: the target's mask to features.

    Args:
        widths: Channels of the features, finest first.
        fold: Side of the pixel blocks folded into channels.
        norm: Normalisation.
    """

    def __init__(self, widths: Sequence[int], fold: int, norm: Norm) -> None:
        super().__init__()
        self.fold = fold
        stem = convolution(NUM_CLASSES * fold**2, widths[0], outer_kernel(fold), norm)
        down = [downsample(finer, coarser, norm, kernel_size=3) for finer, coarser in pairwise(widths)]
        self.layers = nn.ModuleList([stem, *down])

    def forward(self, mask: Tensor) -> list[Tensor]:
        """(N, 11, S, S), one-hot, to features, finest first, the last at S / 4."""
        features = [F.pixel_unshuffle(mask, self.fold)]
        for layer in self.layers:
            features.append(layer(features[-1]))
        return features[1:]


class MaskGuidedGenerator(nn.Module):
    """G_m: the placed features of all components and the mask's features to the foreground's features.

    Args:
        placed_channels: Channels of all placed features together.
        widths: Channels of E_m's features, finest first.
        out_channels: Channels of the foreground's features.
        num_blocks: Residual blocks.
        norm: Normalisation.
        upsampling: Kind of the upsampling layers.
        skips: Add E_m's finer features to those of the same resolution.
    """

    def __init__(
        self,
        placed_channels: int,
        widths: Sequence[int],
        out_channels: int,
        *,
        num_blocks: int,
        norm: Norm,
        upsampling: Upsampling,
        skips: bool,
    ) -> None:
        super().__init__()
        width = widths[-1]
        self.fuse = convolution(width + placed_channels, width, 1, norm)
        self.blocks = nn.Sequential(*res_blocks(width, num_blocks, norm))
        self.up, self.skips = nn.ModuleList(), nn.ModuleList()
        channels = width
        for level in reversed(range(len(widths) - 1)):
            outputs = widths[level] if level else out_channels
            self.up.append(upsample(channels, outputs, norm, upsampling))
            if skips:
                self.skips.append(nn.Conv2d(widths[level], outputs, 1))
            channels = outputs
        self.final = None if len(self.up) else convolution(channels, out_channels, 3, norm)

    def forward(self, placed: list[Tensor], mask_features: list[Tensor]) -> Tensor:
        """Placed features, each (N, F, S / 4, S / 4), and E_m's to (N, C, S / fold, S / fold)."""
        x = self.blocks(self.fuse(torch.cat([mask_features[-1], *placed], dim=1)))
        for number, layer in enumerate(self.up):
            x = layer(x)
            if len(self.skips):
                x = x + self.skips[number](mask_features[-2 - number])
        return x if self.final is None else self.final(x)
