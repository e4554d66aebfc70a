"""The generator of pix2pix.

Isola et al., "Image-to-image translation with conditional adversarial networks", CVPR 2017, section 6.1.1.
Its discriminator is :class:`retouch_common.losses.adversarial.PatchDiscriminator`, its training
:class:`mofrr.train.AdversarialTask`.
"""

import torch
from torch import Tensor, nn

L1 = 100.0  # weight of L1 beside the adversarial loss
MAX_DEPTH = 8  # halvings: an image of 256 comes down to one pixel
DROPOUT_LAYERS = 3  # the innermost ones on the way up


class Pix2Pix(nn.Module):
    """U-Net of 4x4 convolutions with stride 2, down to one pixel of an image of 256 and back.

    Paper: "C64-C128-C256-C512-C512-C512-C512-C512", and dropout at test time too. Here: any width, and no dropout at
    test time, so that results repeat.

    Args:
        size: Side of its training images, in pixels, with at least four factors of 2.
        width: Channels of the first layer; they double up to 8 times that. 64 in the paper.

    Raises:
        ValueError: ``size`` has fewer factors of 2.
    """

    def __init__(self, size: int, width: int = 64) -> None:
        super().__init__()
        depth = min(MAX_DEPTH, (size & -size).bit_length() - 1)
        if depth < 4:
            raise ValueError(f"an image of side {size} can be halved only {depth} times; pix2pix needs at least 4")
        channels = [width * min(2**level, 8) for level in range(depth)]
        self.down = nn.ModuleList([nn.Conv2d(3, width, 4, 2, 1)])
        self.up = nn.ModuleList()
        for level in range(1, depth):
            shallow, deep = channels[level - 1], channels[level]
            innermost = level == depth - 1  # a single pixel cannot be normalised
            norm = nn.Identity() if innermost else nn.InstanceNorm2d(deep)
            self.down.append(nn.Sequential(nn.LeakyReLU(0.2), nn.Conv2d(shallow, deep, 4, 2, 1), norm))
            skip = 0 if innermost else deep
            dropout = nn.Dropout(0.5) if not innermost and level >= depth - 1 - DROPOUT_LAYERS else nn.Identity()
            up = nn.ConvTranspose2d(deep + skip, shallow, 4, 2, 1)
            self.up.insert(0, nn.Sequential(nn.ReLU(), up, nn.InstanceNorm2d(shallow), dropout))
        self.last = nn.Sequential(nn.ReLU(), nn.ConvTranspose2d(2 * width, 3, 4, 2, 1), nn.Tanh())

    def forward(self, X: Tensor) -> Tensor:
        """Return translated images (N, 3, S, S) in [-1, 1] of images in [-1, 1]."""
        features = [X]
        for layer in self.down:
            features.append(layer(features[-1]))
        h = features.pop()
        for layer in self.up:
            h = torch.cat([layer(h), features.pop()], dim=1)
        output: Tensor = self.last(h)
        return output.float()
