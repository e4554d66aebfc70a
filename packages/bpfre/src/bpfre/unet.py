"""Section 3.4, stage one: the encoder E and the decoder D_deco, a U-Net with two blocks per resolution.

The paper uses "the architecture of [37]" (pSp) with 16 + 16 blocks, a size that pSp does not have. Two of its
squeeze-and-excitation bottlenecks at each of the eight resolutions 512 ... 4 make 16, as many as pSp's styles at 512.

Shapes: x (N, 3, S, S) in [-1, 1]; f_E and f_deco by resolution r: (N, C_r, r, r); the latent code (N, style_dim).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfre.attention import scale_init
from bpfre.config import Activation, Norm

SQUEEZE = 16  # ratio of channels to hidden units of squeeze-and-excitation


class Bottleneck(nn.Module):
    """norm - 3x3 - activation - 3x3 - norm - squeeze-and-excitation, and a shortcut.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Of the second convolution and the shortcut.
        norm: "group", "batch" or "none".
        activation: "prelu" or "leaky".
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, norm: Norm, activation: Activation = "prelu"
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _norm(in_channels, norm),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=norm == "none"),
            nn.PReLU(out_channels) if activation == "prelu" else nn.LeakyReLU(0.2),
            nn.Conv2d(out_channels, out_channels, 3, stride=stride, padding=1, bias=norm == "none"),
            _norm(out_channels, norm),
        )
        hidden = max(4, out_channels // SQUEEZE)
        # pSp: ReLU. Here: leaky, so that none of the few hidden units can die.
        self.excite = nn.Sequential(
            nn.Conv2d(out_channels, hidden, 1), nn.LeakyReLU(0.2), nn.Conv2d(hidden, out_channels, 1)
        )
        if norm == "none":  # a branch as small beside the shortcut as normalisation would make it
            scale_init(self.body[3], 0.5)
        self.shortcut: nn.Module
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False))
            self.shortcut.append(_norm(out_channels, norm))
        else:
            self.shortcut = nn.MaxPool2d(1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, in_channels, r, r) to (N, out_channels, r / stride, r / stride)."""
        y = self.body(x)
        y = y * torch.sigmoid(self.excite(y.mean(dim=(2, 3), keepdim=True)))
        return self.shortcut(x) + y


class Encoder(nn.Module):
    """E: two blocks at every resolution S / patch ... 4, and the latent code.

    Args:
        channels: C_r by resolution, finest first.
        patch: Pixels folded into channels, patch x patch.
        style_dim: Length of the latent code; None without one.
        norm: Of the blocks.
        activation: Of the blocks.
    """

    def __init__(
        self, channels: dict[int, int], *, patch: int, style_dim: int | None, norm: Norm, activation: Activation
    ) -> None:
        super().__init__()
        self.patch = patch
        in_channels = next(iter(channels.values()))
        self.stem = nn.Sequential(nn.Conv2d(3 * patch**2, in_channels, 3, padding=1), nn.PReLU(in_channels))
        self.stages = nn.ModuleDict()
        for r, out_channels in channels.items():
            stride = 2 if self.stages else 1
            self.stages[str(r)] = nn.Sequential(
                Bottleneck(in_channels, out_channels, stride=stride, norm=norm, activation=activation),
                Bottleneck(out_channels, out_channels, norm=norm, activation=activation),
            )
            in_channels = out_channels
        self.latent = None if style_dim is None else nn.Linear(in_channels * 16, style_dim)

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return f_E by resolution, finest first."""
        features = {}
        f = self.stem(F.pixel_unshuffle(x, self.patch))
        for r, stage in self.stages.items():
            f = features[int(r)] = stage(f)
        return features

    def code(self, features: dict[int, Tensor]) -> Tensor:
        """Return the latent code E(x), (N, style_dim), given f_E."""
        assert self.latent is not None
        return self.latent(features[4].flatten(1))


class Decoder(nn.Module):
    """D_deco: two blocks at every resolution 4 ... S / patch, with the encoder's weighted features as skip connections.

    Args:
        channels: C_r by resolution, finest first.
        patch: Pixels folded into channels, patch x patch.
        norm: Of the blocks.
        activation: Of the blocks.
        residual: The output is a change of the input image, which starts small.
    """

    def __init__(
        self, channels: dict[int, int], *, patch: int, norm: Norm, activation: Activation, residual: bool
    ) -> None:
        super().__init__()
        self.patch = patch
        self.stages = nn.ModuleDict()
        in_channels = 0
        for r, out_channels in reversed(channels.items()):
            self.stages[str(r)] = nn.Sequential(
                Bottleneck(in_channels + out_channels, out_channels, norm=norm, activation=activation),
                Bottleneck(out_channels, out_channels, norm=norm, activation=activation),
            )
            in_channels = out_channels
        self.to_rgb = nn.Conv2d(in_channels, 3 * patch**2, 3, padding=1)
        if residual:
            scale_init(self.to_rgb, 0.1)

    def forward(self, weighted: dict[int, Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
        """Decode W ⊗ f_E.

        Returns:
            An image or a change of one, (N, 3, S, S) in [-1, 1], unclamped; and f_deco by resolution, finest first.
        """
        features: dict[int, Tensor] = {}
        f: Tensor | None = None
        for r, stage in self.stages.items():
            skip = weighted[int(r)]
            f = features[int(r)] = stage(skip if f is None else torch.cat([upsample(f), skip], dim=1))
        rgb = F.pixel_shuffle(self.to_rgb(f), self.patch)
        return rgb, dict(reversed(features.items()))


def upsample(image: Tensor) -> Tensor:
    """Upsample bilinearly by a factor of 2."""
    return F.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=False)


def _norm(channels: int, norm: Norm) -> nn.Module:
    if norm == "group":
        groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0 and channels >= 2 * g)
        return nn.GroupNorm(groups, channels)
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()
