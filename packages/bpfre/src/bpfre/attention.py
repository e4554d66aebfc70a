"""Section 3.3: the blemish-aware attention module, Eq. 1-3, and its supervision, Eq. 4-5.

Xie, Xue, Xu, Wu, Yu, Wong. "Blemish-aware and Progressive Face Retouching with Limited Paired Data." CVPR 2023.

What counts as a blemish depends on the surrounding skin. For every pixel, the slope 1 + alpha and the offset beta of
a sigmoid are predicted from the image. The sigmoid turns a map of the features into a blemish map M, and weights
h_weight(1 - M) suppress the blemishes in the features.

Shapes: x (N, 3, H, W) in [-1, 1]; f (N, C, h, w) features of one scale; M (N, 1, h, w); W (N, C, h, w).
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST_GATED = 8  # pixels; coarser features are not weighted
SMALLEST_SUPERVISED = 16  # pixels; in coarser maps a blemish is a fraction of a cell


class BlemishAttention(nn.Module):
    """A = {h_param, h_map, h_weight} for one scale: 3 + 2 + 2 = 7 convolutions.

    Args:
        channels: C of the features.
        width: Filters of the hidden layers.
        normalise: Normalise each channel of the features before h_map, so that deviations from the rest of the image
            are on the same scale; not in the paper.
    """

    def __init__(self, channels: int, *, width: int = 32, normalise: bool = False) -> None:
        super().__init__()
        # Paper: the number of convolutions only. Here: dilated ones, which see the surrounding skin at no extra cost.
        self.h_param = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=2, dilation=2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2, 3, padding=4, dilation=4),
        )
        self.normalise = nn.InstanceNorm2d(channels) if normalise else nn.Identity()
        self.h_map = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 1, 3, padding=2, dilation=2),
        )
        self.h_weight = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, channels, 3, padding=1)
        )
        # At the start alpha and beta are close to 0 and W to 1, so that features pass.
        scale_init(self.h_param[-1], 0.1)
        scale_init(self.h_weight[-1], 0.1, bias=1.0)

    def forward(self, x: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """Compute map and weights.

        Args:
            x: Image whose sides are multiples of the features'.
            f: Features of one scale.

        Returns:
            M, (N, 1, h, w) in [0, 1], and W, (N, C, h, w).
        """
        alpha, beta = self.h_param(resize_area(x, f.shape[-2:])).float().chunk(2, dim=1)  # Eq. 1
        M = torch.sigmoid((1 + alpha) * self.h_map(self.normalise(f)).float() + beta)  # Eq. 2
        return M, self.h_weight(1 - M)  # Eq. 3


class AttentionPyramid(nn.Module):
    """A^{E2D} or A^{D2G}: one module per scale of at least ``SMALLEST_GATED`` pixels.

    Args:
        channels: C of the features by their side in pixels.
        width: See :class:`BlemishAttention`.
        normalise: See :class:`BlemishAttention`.
    """

    def __init__(self, channels: dict[int, int], *, width: int, normalise: bool = False) -> None:
        super().__init__()
        self.scales = nn.ModuleDict(
            {
                str(side): BlemishAttention(count, width=width, normalise=normalise)
                for side, count in channels.items()
                if side >= SMALLEST_GATED
            }
        )

    def forward(self, x: Tensor, features: dict[int, Tensor]) -> tuple[dict[int, Tensor], list[Tensor]]:
        """Weight the features of all scales.

        Args:
            x: Image.
            features: f by side.

        Returns:
            W ⊗ f by side, with coarser scales unchanged, and the maps M, finest first.
        """
        weighted, maps = dict(features), []
        for side in sorted(features, reverse=True):
            if str(side) in self.scales:
                x = resize_area(x, features[side].shape[-2:])  # from scale to scale, since a mean of means is the mean
                M, W = self.scales[str(side)](x, features[side])
                weighted[side] = W * features[side]  # Eq. 7 and 8
                maps.append(M)
        return weighted, maps


def scale_init(convolution: nn.Module, factor: float, *, bias: float = 0.0) -> None:
    """Scale the initial weights of a convolution and fill its bias; modified in place."""
    assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
    with torch.no_grad():
        convolution.weight.mul_(factor)
        convolution.bias.fill_(bias)


def resize_area(image: Tensor, size: Sequence[int]) -> Tensor:
    """Downsample (N, C, H, W) to (N, C, h, w) by area averaging, where h divides H and w divides W."""
    factor = image.shape[-1] // size[-1]
    return F.avg_pool2d(image, factor) if factor > 1 else image


def supervised(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return the maps that Eq. 4 and 5 compare, those of at least ``SMALLEST_SUPERVISED`` pixels."""
    return [M for M in maps if M.shape[-1] >= SMALLEST_SUPERVISED]


def merged_map(maps: Sequence[Tensor], size: int) -> Tensor:
    """Return the mean of a module's supervised maps, (N, 1, size, size), for display."""
    upsampled = [F.interpolate(M.float(), (size, size), mode="bilinear") for M in supervised(maps)]
    return torch.stack(upsampled).mean(dim=0)


def true_difference(
    before: Tensor, after: Tensor, *, kind: Literal["contrast", "raw"] = "contrast", floor: float = 4 / 255
) -> Tensor:
    """Return Delta of Eq. 4 and 5: where and how much a retoucher changed the image.

    Paper: |before - after|_1. Here ("raw"): d, with the mean over channels as norm, so that it lies in [0, 1] like M.
    Or ("contrast", as in the group's later code): d is stretched to each image's range and Delta = 2 sigmoid(50 d) - 1,
    which is 0 without a change and close to 1 from a tenth of the largest change on.

    Args:
        before: (N, 3, H, W) in [0, 1].
        after: (N, 3, H, W) in [0, 1].
        kind: "contrast", or "raw" for d itself.
        floor: Smallest range that is stretched, in [0, 1], so that noise is not amplified.

    Returns:
        (N, 1, H, W) in [0, 1].
    """
    d = (before - after).abs().mean(dim=1, keepdim=True).float()
    if kind == "raw":
        return d
    low, high = d.amin(dim=(2, 3), keepdim=True), d.amax(dim=(2, 3), keepdim=True)
    return 2 * torch.sigmoid(50 * (d - low) / (high - low).clamp(min=floor)) - 1
