"""P_F: the U-Net for face parsing.

Gu, Bao, Yang, Chen, Wen, Yuan. "Mask-Guided Portrait Editing with Conditional GANs." CVPR 2019, section 3.2: the face
parsing network has "a U-Net network structure" (Ronneberger et al., MICCAI 2015), is trained by the cross entropy of
every pixel (Eq. 7), and is frozen while it supervises generated faces.

The preset "paper" has the shape of pix2pix's generator (Isola et al., CVPR 2017), which the paper builds on: strided
4x4 convolutions down, transposed ones up, skip connections. The others add residual blocks at every resolution, which
give sharper boundaries at the same number of parameters.

Shapes: x (N, 3, H, W) in [0, 1] of any size; features (N, C_k, H / 2^k, W / 2^k); logits (N, 11, H, W).
"""

from importlib import resources

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retouch_common.parsing.config import PRESETS, ParsingConfig
from retouch_common.parsing.labels import NUM_CLASSES
from retouch_common.pretrained import Pretrained
from retouch_common.ranges import to_signed

BUNDLED = resources.files("retouch_common.parsing") / "weights"  # folder of the bundled weights


class ParsingUNet(Pretrained):
    """U-Net of the face parser.

    Args:
        config: Architecture; that of the preset "small" by default.
    """

    presets, bundled = PRESETS, BUNDLED
    tags = ("face-parsing", "image-segmentation")

    def __init__(self, config: ParsingConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or PRESETS["small"].model
        widths = config.channels
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for k, width in enumerate(widths):
            before = widths[k - 1] if k else 3
            # pix2pix normalises neither the first nor the innermost features of the encoder
            normed = config.blocks > 0 or 0 < k < len(widths) - 1
            self.downs.append(_Down(before, width, first=k == 0, normed=normed, blocks=config.blocks))
        for k in reversed(range(len(widths))):
            beside = widths[k] if k < len(widths) - 1 else 0
            below = widths[k] + beside
            if k == 0:
                self.ups.append(nn.ConvTranspose2d(below, NUM_CLASSES, 4, 2, 1))
            else:
                dropout = config.dropout if k >= len(widths) - 3 else 0.0
                self.ups.append(_Up(below, widths[k - 1], dropout=dropout, blocks=config.blocks))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (N, 11, H, W) of (N, 3, H, W) images in [0, 1]."""
        height, width = x.shape[-2:]
        kept = self.encode(x)
        x = kept.pop()
        for up in self.ups[:-1]:
            x = torch.cat([up(x), kept.pop()], dim=1)
        # Paper: log P_F in Eq. 7; the authors' code puts tanh and softmax before a loss that has a softmax of its own.
        # Here: logits.
        return self.ups[-1](x)[..., :height, :width]

    def encode(self, x: Tensor) -> list[Tensor]:
        """Return the encoder's features of (N, 3, H, W) images in [0, 1], finest first."""
        height, width = x.shape[-2:]
        multiple = self.config.multiple
        x = F.pad(to_signed(x), (0, -width % multiple, 0, -height % multiple), mode="replicate")
        features: list[Tensor] = []
        for down in self.downs:
            x = down(x)
            features.append(x)
        return features


class _Residual(nn.Module):
    """x + BN(conv(ReLU(x)))."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.conv(F.relu(x)))


class _Down(nn.Module):
    """(N, C, H, W) to (N, C', H / 2, W / 2)."""

    def __init__(self, before: int, width: int, *, first: bool, normed: bool, blocks: int) -> None:
        super().__init__()
        self.first = first
        self.conv = nn.Conv2d(before, width, 4, 2, 1, bias=not normed)
        self.norm = nn.BatchNorm2d(width) if normed else nn.Identity()
        self.blocks = nn.Sequential(*(_Residual(width) for _ in range(blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(self.norm(self.conv(x if self.first else F.leaky_relu(x, 0.2))))


class _Up(nn.Module):
    """(N, C, H, W) to (N, C', 2 H, 2 W)."""

    def __init__(self, below: int, width: int, *, dropout: float, blocks: int) -> None:
        super().__init__()
        self.conv = nn.ConvTranspose2d(below, width, 4, 2, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.blocks = nn.Sequential(*(_Residual(width) for _ in range(blocks)))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.blocks(self.norm(self.conv(F.relu(x)))))
