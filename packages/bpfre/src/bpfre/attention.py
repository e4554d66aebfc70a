"""Section 3.3: the blemish-aware attention module, Eq. 1-3, and the maps it is supervised with, Eq. 4-5.

Xie, Xue, Xu, Wu, Yu, Wong. "Blemish-aware and Progressive Face Retouching with Limited Paired Data." CVPR 2023.

What a blemish is depends on the skin around it: two numbers for every pixel, alpha and beta, are read from the picture
and set the sigmoid that turns a map of the features into a map M of blemishes. The features are then weighted by what
h_weight makes of 1 - M, so that blemishes do not pass.

Shapes: x (N, 3, H, W) in [-1, 1]; f (N, C, h, w) features of one scale; M (N, 1, h, w); W (N, C, h, w).
"""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST_GATED = 8  # pixels: coarser features pass as they are
SMALLEST_SUPERVISED = 16  # pixels: in coarser maps a blemish is a fraction of a cell


class BlemishAttention(nn.Module):
    """A = {h_param, h_map, h_weight} for one scale: 3 + 2 + 2 = 7 convolutions.

    Args:
        channels: C of the features.
        width: Filters of the hidden layers.
        normalise: Give every channel of the features mean 0 and variance 1 before h_map, so that what stands out from
            its picture is as large in every channel; the paper does not say.
        parameters: alpha and beta for every "pixel", or for every pixel and "channel".
        weight_activation: Of h_weight's last layer, "linear" or "sigmoid".
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 32,
        normalise: bool = False,
        parameters: Literal["pixel", "channel"] = "pixel",
        weight_activation: Literal["linear", "sigmoid"] = "linear",
    ) -> None:
        super().__init__()
        mapped = 1 if parameters == "pixel" else channels
        self.sigmoid_weight = weight_activation == "sigmoid"
        # The paper gives the number of convolutions only. Dilated ones see the surrounding skin at no extra cost.
        self.h_param = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, width, 3, padding=2, dilation=2),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * mapped, 3, padding=4, dilation=4),
        )
        self.normalise = nn.InstanceNorm2d(channels) if normalise else nn.Identity()
        self.h_map = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, mapped, 3, padding=2, dilation=2),
        )
        self.h_weight = nn.Sequential(
            nn.Conv2d(1, width, 3, padding=1), nn.LeakyReLU(0.2), nn.Conv2d(width, channels, 3, padding=1)
        )
        # At the start alpha = 1, beta = 0 and W is nearly 1, so that features pass.
        scale_start(self.h_param[-1], 0.1)
        scale_start(self.h_weight[-1], 0.1, bias=4.0 if self.sigmoid_weight else 1.0)

    def forward(self, x: Tensor, f: Tensor) -> tuple[Tensor, Tensor]:
        """Map and weight features.

        Args:
            x: The picture, any size of the features' aspect.
            f: Features of one scale.

        Returns:
            M, (N, 1, h, w) in [0, 1], and W, (N, C, h, w).
        """
        reduced = resize_area(x, f.shape[-2:])
        alpha, beta = self.h_param(reduced).float().chunk(2, dim=1)  # Eq. 1
        M = torch.sigmoid((1 + alpha) * self.h_map(self.normalise(f)).float() + beta)  # Eq. 2
        M = M.mean(dim=1, keepdim=True)
        W = self.h_weight(1 - M)  # Eq. 3
        return M, torch.sigmoid(W) if self.sigmoid_weight else W


class AttentionPyramid(nn.Module):
    """One module per scale: A^{E2D} or A^{D2G}.

    Args:
        channels: C of the features by their side in pixels.
        width: See :class:`BlemishAttention`.
        normalise: See :class:`BlemishAttention`.
        parameters: See :class:`BlemishAttention`.
        weight_activation: See :class:`BlemishAttention`.
    """

    def __init__(
        self,
        channels: dict[int, int],
        *,
        width: int,
        normalise: bool = False,
        parameters: Literal["pixel", "channel"],
        weight_activation: Literal["linear", "sigmoid"],
    ) -> None:
        super().__init__()
        self.scales = nn.ModuleDict(
            {
                str(side): BlemishAttention(
                    count,
                    width=width,
                    normalise=normalise,
                    parameters=parameters,
                    weight_activation=weight_activation,
                )
                for side, count in channels.items()
                if side >= SMALLEST_GATED
            }
        )

    def forward(self, x: Tensor, features: dict[int, Tensor]) -> tuple[dict[int, Tensor], list[Tensor]]:
        """Weight the features of all scales.

        Args:
            x: The picture.
            features: f by its side in pixels.

        Returns:
            W ⊗ f by side, scales below ``SMALLEST_GATED`` as they were, and the maps M, finest first.
        """
        weighted, maps = dict(features), []
        for side in sorted(features, reverse=True):
            if str(side) in self.scales:
                x = resize_area(x, features[side].shape[-2:])  # from scale to scale: a mean of means is the mean
                M, W = self.scales[str(side)](x, features[side])
                weighted[side] = W * features[side]  # Eq. 7 and 8
                maps.append(M)
        return weighted, maps


def scale_start(convolution: nn.Module, factor: float, *, bias: float = 0.0) -> None:
    """Multiply the first weights of a convolution, and set its first bias."""
    assert isinstance(convolution, nn.Conv2d) and convolution.bias is not None
    with torch.no_grad():
        convolution.weight.mul_(factor)
        convolution.bias.fill_(bias)


def resize_area(image: Tensor, size: Sequence[int]) -> Tensor:
    """Mean over the pixels of each cell; (N, C, H, W) to (N, C, h, w), where h divides H and w divides W."""
    factor = image.shape[-1] // size[-1]
    return F.avg_pool2d(image, factor) if factor > 1 else image


def supervised(maps: Sequence[Tensor]) -> list[Tensor]:
    """The maps that Eq. 4 and 5 compare: those of at least ``SMALLEST_SUPERVISED`` pixels."""
    return [M for M in maps if M.shape[-1] >= SMALLEST_SUPERVISED]


def merged_map(maps: Sequence[Tensor], size: int) -> Tensor:
    """One map of a module for people to look at: the mean of its supervised scales, (N, 1, size, size)."""
    enlarged = [F.interpolate(M.float(), (size, size), mode="bilinear") for M in supervised(maps)]
    return torch.stack(enlarged).mean(dim=0)


def true_difference(
    before: Tensor, after: Tensor, *, kind: Literal["contrast", "raw"] = "contrast", floor: float = 4 / 255
) -> Tensor:
    """Delta of Eq. 4 and 5: where a retoucher changed the picture, and how much.

    Paper: |before - after|. Here ("contrast", after the group's later code): d is the mean over channels, stretched
    over each image's own range (at least ``floor``, so that noise stays noise), and Delta = 2 sigmoid(50 d) - 1, which
    is 0 where nothing changes and close to 1 from a tenth of the largest change on.

    Args:
        before: (N, 3, H, W) in [0, 1].
        after: The same.
        kind: "contrast", or "raw" for d itself.
        floor: Least range, in [0, 1].

    Returns:
        (N, 1, H, W) in [0, 1].
    """
    d = (before - after).abs().mean(dim=1, keepdim=True).float()
    if kind == "raw":
        return d
    low, high = d.amin(dim=(2, 3), keepdim=True), d.amax(dim=(2, 3), keepdim=True)
    return 2 * torch.sigmoid(50 * (d - low) / (high - low).clamp(min=floor)) - 1
