"""Section 3.4, stage one: the encoder E and the decoder D_deco, a U-Net of two blocks per resolution.

The paper takes "the architecture of [37]" (pSp) with 16 and 16 blocks. pSp has no such size; two of its squeeze-and-
excitation bottlenecks at each of the eight resolutions 512 ... 4 make 16, and so does pSp's number of styles at 512.

Shapes: x (N, 3, S, S) in [-1, 1]; f_E and f_deco by resolution r: (N, C_r, r, r); the latent code (N, style_dim).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpfre.attention import scale_start
from bpfre.config import Activation, ModelConfig, Norm

SQUEEZE = 16  # channels over hidden units of squeeze-and-excitation


class Bottleneck(nn.Module):
    """norm - 3x3 - activation - 3x3 - norm - squeeze-and-excitation, and a shortcut.

    Args:
        channels_in: Channels of the input.
        channels: Channels of the output.
        stride: 2 halves the side.
        norm: "group", "batch" or "none".
        activation: "prelu" or "leaky".
    """

    def __init__(
        self, channels_in: int, channels: int, *, stride: int = 1, norm: Norm, activation: Activation = "prelu"
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _norm(channels_in, norm),
            nn.Conv2d(channels_in, channels, 3, padding=1, bias=norm == "none"),
            nn.PReLU(channels) if activation == "prelu" else nn.LeakyReLU(0.2),
            nn.Conv2d(channels, channels, 3, stride=stride, padding=1, bias=norm == "none"),
            _norm(channels, norm),
        )
        hidden = max(4, channels // SQUEEZE)
        # pSp: ReLU between the two. Here leaky, so that none of the few hidden units can die.
        self.excite = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.LeakyReLU(0.2), nn.Conv2d(hidden, channels, 1))
        if norm == "none":  # keep the branch small beside the shortcut at the start, as a normalisation would
            scale_start(self.body[3], 0.5)
        self.shortcut: nn.Module
        if channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride=stride, bias=False))
            self.shortcut.append(_norm(channels, norm))
        else:
            self.shortcut = nn.MaxPool2d(1, stride) if stride > 1 else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels_in, r, r) to (N, channels, r / stride, r / stride)."""
        y = self.body(x)
        y = y * torch.sigmoid(self.excite(y.mean(dim=(2, 3), keepdim=True)))
        return self.shortcut(x) + y


class Encoder(nn.Module):
    """E: two blocks at every resolution, S / patch ... 4, and the latent code.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch = config.patch
        first = config.channels(config.finest)
        self.stem = nn.Sequential(nn.Conv2d(3 * config.patch**2, first, 3, padding=1), nn.PReLU(first))
        self.stages = nn.ModuleDict()
        channels_in = first
        for r in config.resolutions:
            channels = config.channels(r)
            stride = 1 if r == config.finest else 2
            self.stages[str(r)] = nn.Sequential(
                Bottleneck(channels_in, channels, stride=stride, norm=config.norm, activation=config.activation),
                Bottleneck(channels, channels, norm=config.norm, activation=config.activation),
            )
            channels_in = channels
        self.latent = nn.Linear(channels_in * 16, config.style_dim) if config.generator else None

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """F_E of all scales by resolution, finest first."""
        features = {}
        f = self.stem(F.pixel_unshuffle(x, self.patch))
        for r, stage in self.stages.items():
            f = features[int(r)] = stage(f)
        return features

    def code(self, features: dict[int, Tensor]) -> Tensor:
        """E(x), the latent code (N, style_dim), from the features of all scales."""
        assert self.latent is not None
        return self.latent(features[4].flatten(1))


class Decoder(nn.Module):
    """D_deco: two blocks at every resolution, 4 ... S / patch, each joined by the encoder's weighted features.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.stages = nn.ModuleDict()
        channels_in = 0
        for r in reversed(config.resolutions):
            channels = config.channels(r)
            self.stages[str(r)] = nn.Sequential(
                Bottleneck(channels_in + channels, channels, norm=config.norm, activation=config.activation),
                Bottleneck(channels, channels, norm=config.norm, activation=config.activation),
            )
            channels_in = channels
        self.to_rgb = nn.Conv2d(channels_in, 3 * config.patch**2, 3, padding=1)
        if config.residual == "add":  # begin close to the picture itself
            scale_start(self.to_rgb, 0.1)

    def forward(self, weighted: dict[int, Tensor]) -> tuple[Tensor, dict[int, Tensor]]:
        """Decode W ⊗ f_E.

        Returns:
            (N, 3, S, S) in [-1, 1], unclamped: a picture, or a change of one; and f_deco by resolution, finest first.
        """
        features: dict[int, Tensor] = {}
        f: Tensor | None = None
        for r, stage in self.stages.items():
            skip = weighted[int(r)]
            joined = skip if f is None else torch.cat([enlarge(f), skip], dim=1)
            f = features[int(r)] = stage(joined)
        rgb = F.pixel_shuffle(self.to_rgb(f), self.patch)
        return rgb, dict(reversed(features.items()))


def enlarge(image: Tensor) -> Tensor:
    """Double both sides, bilinearly."""
    return F.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=False)


def _norm(channels: int, norm: Norm) -> nn.Module:
    if norm == "group":
        groups = next(g for g in (32, 16, 8, 4, 2, 1) if channels % g == 0 and channels >= 2 * g)
        return nn.GroupNorm(groups, channels)
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()
