"""Section 3.4, stage two: the StyleGAN2 generator G, fed with the decoder's weighted features (Eq. 8).

At every resolution two styled convolutions; before the second, and before the picture is read off, the features
W^{D2G} ⊗ f_deco of that resolution are concatenated, each with a gain of its own. The style code comes from the
encoder's latent code through the mapping network and is given to every layer.

Paper: StyleGAN2's generator grows from a learnt constant. Here, after GPEN, whose arrangement Eq. 8 describes, the
features of the coarsest resolution take part from the start.

Shapes: latent code (N, style_dim); f by resolution r: (N, C_r, r, r).
"""

import torch
import torch.nn.functional as F
from retouch_common.layers.stylegan2 import MappingNetwork, StyledConv, ToRGB, upsample2d
from torch import Tensor, nn

from bpfre.config import ModelConfig


class Generator(nn.Module):
    """G.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.resolutions = tuple(reversed(config.resolutions))
        self.mapping = MappingNetwork(config.style_dim, config.style_dim, num_layers=config.mapping_layers)
        self.constant = nn.Parameter(torch.randn(1, config.channels(4), 4, 4))
        self.stages = nn.ModuleDict()
        channels_in = config.channels(4)
        for r in self.resolutions:
            self.stages[str(r)] = _Stage(channels_in, r, config)
            channels_in = 2 * config.channels(r)

    def forward(self, latent: Tensor, features: dict[int, Tensor]) -> Tensor:
        """Eq. 8.

        Args:
            latent: E(x_raw).
            features: W^{D2G} ⊗ f_deco by resolution.

        Returns:
            (N, 3, S, S) in [-1, 1], unclamped: a picture, or a change of one.
        """
        style = self.mapping(latent)
        x = self.constant.expand(latent.shape[0], -1, -1, -1)  # len() would fix the number in an exported graph
        rgb: Tensor | None = None
        for r in self.resolutions:
            x, rgb = self.stages[str(r)](x, rgb, features[r], style)
        assert rgb is not None
        return rgb


class _Stage(nn.Module):
    """One resolution: two styled convolutions and ToRGB, the features concatenated before the last two of them."""

    def __init__(self, channels_in: int, resolution: int, config: ModelConfig) -> None:
        super().__init__()
        channels, style_dim = config.channels(resolution), config.style_dim
        self.patch = config.patch if resolution == config.finest else 1
        self.first = StyledConv(channels_in, channels, style_dim, up=resolution > 4, size=resolution)
        self.second = StyledConv(2 * channels, channels, style_dim, size=resolution)
        self.to_rgb = ToRGB(2 * channels, style_dim, out_channels=3 * self.patch**2)
        if config.residual == "add":  # begin close to the picture itself
            self.to_rgb.conv.weight.data.mul_(0.1)
        # Paper's source (GPEN): 0, since its generator was trained before. Here: 1, since all starts from scratch.
        self.gains = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor, rgb: Tensor | None, f: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x, style)
        x = self.second(torch.cat([x, self.gains[0] * f], dim=1), style)
        x = torch.cat([x, self.gains[1] * f], dim=1)
        picture = F.pixel_shuffle(self.to_rgb(x, style), self.patch)
        if rgb is not None:
            for _ in range(self.patch.bit_length()):  # up to this resolution, and on to the unfolded pixels
                rgb = upsample2d(rgb)
            picture = picture + rgb
        return x, picture
