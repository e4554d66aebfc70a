"""Section 3.4: D_disc, which predicts for every pixel whether it is retouched.

Paper: "StyleGAN2 architecture" and "pixel-wise real-fake identification". Here: a U-Net whose encoder is StyleGAN2's
residual discriminator.

Shapes: images (N, 3, S, S) in [0, 1]; logits (N, 1, S, S), large for retouched pixels.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from retouch_common.layers.equalised import EqualConv2d
from retouch_common.layers.resample import upsample2d
from retouch_common.layers.stylegan2 import ResBlockDown, minibatch_stddev
from retouch_common.ranges import to_signed
from torch import Tensor, nn


class Discriminator(nn.Module):
    """D_disc.

    Args:
        channels: By resolution, finest first.
        patch: Pixels folded into channels, patch x patch.
    """

    def __init__(self, channels: dict[int, int], *, patch: int) -> None:
        super().__init__()
        self.patch = patch
        finest, *_, last = channels
        self.stem = EqualConv2d(3 * patch**2, channels[finest], 1, activation=True)
        self.down = nn.ModuleDict({str(r): ResBlockDown(channels[r], channels[r // 2]) for r in channels if r > last})
        self.bottom = EqualConv2d(channels[last] + 1, channels[last], 3, activation=True)
        self.up = nn.ModuleDict(
            {
                str(r): EqualConv2d(channels[r // 2] + channels[r], channels[r], 3, activation=True)
                for r in reversed(channels)
                if r > last
            }
        )
        self.logits = EqualConv2d(channels[finest], patch**2, 1)

    def forward(self, image: Tensor, parts: Sequence[int] | None = None) -> Tensor:
        """Return logits (N, 1, S, S).

        Args:
            image: (N, 3, S, S) in [0, 1].
            parts: Numbers of raw, output and retouched images in the batch; standard deviations are measured within a
                part, as if each went through the network alone.
        """
        x = self.stem(F.pixel_unshuffle(to_signed(image), self.patch))
        skips = []
        for stage in self.down.values():
            skips.append(x)
            x = stage(x)
        x = self.bottom(torch.cat([minibatch_stddev(part) for part in x.split(list(parts or [len(x)]))]))
        for stage in self.up.values():
            x = stage(torch.cat([upsample2d(x), skips.pop()], dim=1))
        return F.pixel_shuffle(self.logits(x), self.patch)
