"""Section 3.4: D_disc, which says for every pixel whether a picture is retouched.

The paper: "StyleGAN2 architecture" and "pixel-wise real-fake identification". Here StyleGAN2's residual discriminator
is the encoder of a U-Net, whose decoder brings its answer back to full resolution.

Shapes: pictures (N, 3, S, S) in [0, 1]; logits (N, 1, S, S), large where a picture looks retouched.
"""

import torch
import torch.nn.functional as F
from retouch_common.layers.stylegan2 import EqualConv2d, ResBlockDown, minibatch_stddev, upsample2d
from retouch_common.ranges import to_signed
from torch import Tensor, nn

from bpfre.config import ModelConfig


class Discriminator(nn.Module):
    """D_disc.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch = config.patch
        resolutions = config.resolutions
        channels = {r: config.discriminator_channels(r) for r in resolutions}
        self.stem = EqualConv2d(3 * config.patch**2, channels[resolutions[0]], 1, activation=True)
        self.down = nn.ModuleDict({str(r): ResBlockDown(channels[r], channels[r // 2]) for r in resolutions if r > 4})
        self.bottom = EqualConv2d(channels[4] + 1, channels[4], 3, activation=True)
        self.up = nn.ModuleDict(
            {
                str(r): EqualConv2d(channels[r // 2] + channels[r], channels[r], 3, activation=True)
                for r in reversed(resolutions)
                if r > 4
            }
        )
        self.logits = EqualConv2d(channels[resolutions[0]], config.patch**2, 1)

    def forward(self, image: Tensor) -> Tensor:
        """(N, 3, S, S) in [0, 1] to logits (N, 1, S, S)."""
        x = self.stem(F.pixel_unshuffle(to_signed(image), self.patch))
        skips = []
        for stage in self.down.values():
            skips.append(x)
            x = stage(x)
        x = self.bottom(minibatch_stddev(x))
        for stage in self.up.values():
            x = stage(torch.cat([upsample2d(x), skips.pop()], dim=1))
        return F.pixel_shuffle(self.logits(x), self.patch)
