"""ResNet-MAM, the paper's router: a ResNet whose four stages are grouped into tokens for a transformer.

Ying, Liu, Li, Xu, Qian, Zhang. "RetouchingFFHQ: A Large-scale Dataset for Fine-grained Face Retouching Detection." ACM
MM 2023. Retouching shows at every granularity, so tokens of all stages take part. Grouping follows Xu et al.,
"GroupViT", CVPR 2022: learnt group tokens attend to the pixels, then each pixel is assigned to one group.

Shapes: x (N, 3, H, W), normalised; tokens (N, 4 * GROUPS, WIDTH).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import Bottleneck

from mofrr.denoiser import sinusoids

STEM = 32  # channels of the stem; the stages have 4, 8, 16 and 32 times as many
BLOCKS = (3, 4, 6, 3)
GROUPS = 256  # tokens of a stage
WIDTH = 1024  # token width
HEADS = 8  # attention heads of the grouping


class ResNetMAM(nn.Module):
    """The backbone."""

    positions: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, STEM, 7, stride=2, padding=3, bias=False),
            nn.BatchNorm2d(STEM),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        )
        self.stages, self.calibrations, self.groupings = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        channels = STEM
        for number, blocks in enumerate(BLOCKS):
            planes = STEM * 2**number
            self.stages.append(_stage(channels, planes, blocks, stride=2 if number else 1))
            channels = planes * Bottleneck.expansion
            self.calibrations.append(Bottleneck(channels, planes))
            self.groupings.append(Grouping(channels))
        self.stage_embedding = nn.Parameter(0.02 * torch.randn(len(BLOCKS), 1, WIDTH))
        self.register_buffer("positions", sinusoids(torch.arange(len(BLOCKS) * GROUPS), WIDTH), persistent=False)
        layer = nn.TransformerEncoderLayer(
            WIDTH, 16, 4 * WIDTH, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.attention = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of all stages."""
        x = self.stem(x)
        tokens = []
        for number, stage in enumerate(self.stages):
            x = stage(x)
            grouped = self.groupings[number](self.calibrations[number](x))
            tokens.append(grouped + self.stage_embedding[number])
        return self.attention(torch.cat(tokens, dim=1) + self.positions)


class Grouping(nn.Module):
    """GroupViT's grouping block, from (N, C, h, w) to GROUPS tokens of WIDTH.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.groups = nn.Parameter(0.02 * torch.randn(1, GROUPS, channels))
        self.norm = nn.LayerNorm(channels)
        self.attention = nn.MultiheadAttention(channels, HEADS, batch_first=True)
        self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.project = nn.Sequential(nn.LayerNorm(channels), nn.Linear(channels, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of a stage."""
        pixels = self.norm(x.flatten(2).transpose(1, 2))
        groups = self.groups.expand(len(x), -1, -1)
        groups = groups + self.attention(groups, pixels, pixels, need_weights=False)[0]
        logits = self.query(groups) @ self.key(pixels).transpose(1, 2) / pixels.shape[-1] ** 0.5
        member = assignment(logits, training=self.training)  # (N, GROUPS, pixels)
        mean = member @ pixels / (member.sum(dim=-1, keepdim=True) + 1)
        return self.project(groups + mean)


def assignment(logits: Tensor, *, training: bool) -> Tensor:
    """Assign each pixel to one group, one-hot over groups, (N, G, P).

    In training by straight-through Gumbel-softmax, otherwise by the maximum.
    """
    if training:
        return F.gumbel_softmax(logits.float(), hard=True, dim=1).to(logits)
    return torch.zeros_like(logits).scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)


def _stage(channels: int, planes: int, blocks: int, *, stride: int) -> nn.Sequential:
    """Return torchvision's bottlenecks, the first with a projection shortcut."""
    wide = planes * Bottleneck.expansion
    shortcut = nn.Sequential(nn.Conv2d(channels, wide, 1, stride=stride, bias=False), nn.BatchNorm2d(wide))
    first = Bottleneck(channels, planes, stride=stride, downsample=shortcut)
    return nn.Sequential(first, *(Bottleneck(wide, planes) for _ in range(blocks - 1)))
