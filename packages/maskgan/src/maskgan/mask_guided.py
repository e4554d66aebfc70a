"""Section 3.1, mask-guided generation: E_m reads the target's mask, G_m makes the foreground.

"We concatenate all 3D and mask feature tensors to produce a fused feature tensor. Finally, we feed the fused feature
tensor to the network G_m and produce the foreground face."

Shapes: masks (N, 11, S, S); features (N, C, S / 4, S / 4); the foreground (N, C, S / fold, S / fold).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from retouch_common.parsing.labels import NUM_CLASSES
from torch import Tensor, nn

from maskgan.components import FEATURE_STRIDE
from maskgan.config import COMPONENT_NAMES, ModelConfig
from maskgan.layers import blocks, convolution, doubling, halving, halvings, outer_kernel


def _mask_widths(config: ModelConfig) -> list[int]:
    """Channels of E_m's features, finest first."""
    scales = halvings(FEATURE_STRIDE, config.fold)
    return [max(4, config.generator_width >> (scales - level)) for level in range(scales + 1)]


class MaskEncoder(nn.Module):
    """E_m: the target's mask to features.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.fold = config.fold
        widths = _mask_widths(config)
        stem = convolution(NUM_CLASSES * config.fold**2, widths[0], outer_kernel(config.fold), config.norm)
        down = [halving(finer, coarser, config, kernel=3) for finer, coarser in pairwise(widths)]
        self.layers = nn.ModuleList([stem, *down])

    def forward(self, mask: Tensor) -> list[Tensor]:
        """(N, 11, S, S) of zeros and ones to features, finest first, the last at S / 4."""
        features = [F.pixel_unshuffle(mask, self.fold)]
        for layer in self.layers:
            features.append(layer(features[-1]))
        return features[1:]


class MaskGuidedGenerator(nn.Module):
    """G_m: the placed features of all components and the mask's to the foreground's features.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, mask_widths = config.generator_width, _mask_widths(config)
        sources = len(COMPONENT_NAMES) if config.embedding == "local" else 1
        self.fuse = convolution(width + sources * config.features, width, 1, config.norm)
        self.blocks = nn.Sequential(*blocks(width, config.generator_blocks, config.norm))
        up: list[nn.Module] = []
        skips: list[nn.Module] = []
        channels = width
        for level in reversed(range(len(mask_widths) - 1)):
            outputs = mask_widths[level] if level else config.foreground_width
            up.append(doubling(channels, outputs, config))
            if config.mask_skips:
                skips.append(nn.Conv2d(mask_widths[level], outputs, 1))
            channels = outputs
        self.up, self.skips = nn.ModuleList(up), nn.ModuleList(skips)
        self.final = None if up else convolution(channels, config.foreground_width, 3, config.norm)

    def forward(self, placed: list[Tensor], mask_features: list[Tensor]) -> Tensor:
        """Placed features, each (N, F, S / 4, S / 4), and E_m's to (N, C, S / fold, S / fold)."""
        x = self.blocks(self.fuse(torch.cat([mask_features[-1], *placed], dim=1)))
        for number, layer in enumerate(self.up):
            x = layer(x)
            if len(self.skips):
                x = x + self.skips[number](mask_features[-2 - number])
        return x if self.final is None else self.final(x)
