"""Section 3.4, stage two: the StyleGAN2 generator G, fed with the decoder's weighted features (Eq. 8).

Each resolution has two styled convolutions. The features W^{D2G} ⊗ f_deco of that resolution are concatenated before
the second one and before ToRGB, each time with a learned gain. The mapping network turns the encoder's latent code into
the style of all layers.

Paper: StyleGAN2's generator grows from a learned constant. Here: as in GPEN, whose arrangement Eq. 8 describes, the
features of the coarsest resolution are concatenated, too.

Shapes: latent code (N, style_dim); f by resolution r: (N, C_r, r, r).
"""

import torch
import torch.nn.functional as F
from retouch_common.layers.resample import upsample2d
from retouch_common.layers.stylegan2 import MappingNetwork, StyledConv, ToRGB
from torch import Tensor, nn


class Generator(nn.Module):
    """G.

    Args:
        channels: C_r by resolution, finest first.
        patch: Pixels folded into channels, patch x patch.
        style_dim: Length of the latent code and of the style.
        mapping_layers: Layers of the mapping network.
        residual: The output is a change of an image, which starts small.
    """

    def __init__(
        self, channels: dict[int, int], *, patch: int, style_dim: int, mapping_layers: int, residual: bool
    ) -> None:
        super().__init__()
        self.resolutions = tuple(reversed(channels))
        self.mapping = MappingNetwork(style_dim, style_dim, num_layers=mapping_layers)
        in_channels = channels[4]
        self.constant = nn.Parameter(torch.randn(1, in_channels, 4, 4))
        self.stages = nn.ModuleDict()
        for r in self.resolutions:
            folded = patch if r == max(channels) else 1
            self.stages[str(r)] = _Stage(in_channels, channels[r], r, style_dim, folded, residual)
            in_channels = 2 * channels[r]

    def forward(self, latent: Tensor, features: dict[int, Tensor]) -> Tensor:
        """Generate an image or a change of one, (N, 3, S, S) in [-1, 1], unclamped (Eq. 8).

        Args:
            latent: E(x_raw).
            features: W^{D2G} ⊗ f_deco by resolution.
        """
        style = self.mapping(latent)
        x = self.constant.expand(latent.shape[0], -1, -1, -1)  # len() would be a constant in an exported graph
        rgb: Tensor | None = None
        for r in self.resolutions:
            x, rgb = self.stages[str(r)](x, rgb, features[r], style)
        assert rgb is not None
        return rgb


class _Stage(nn.Module):
    def __init__(
        self, in_channels: int, channels: int, resolution: int, style_dim: int, patch: int, residual: bool
    ) -> None:
        super().__init__()
        self.patch = patch
        self.first = StyledConv(in_channels, channels, style_dim, up=resolution > 4, size=resolution)
        self.second = StyledConv(2 * channels, channels, style_dim, size=resolution)
        self.to_rgb = ToRGB(2 * channels, style_dim, out_channels=3 * patch**2)
        if residual:
            self.to_rgb.conv.weight.data.mul_(0.1)
        # GPEN: 0, since its generator was pretrained. Here: 1, since the generator is trained from scratch.
        self.gains = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor, rgb: Tensor | None, f: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
        x = self.first(x, style)
        x = self.second(torch.cat([x, self.gains[0] * f], dim=1), style)
        x = torch.cat([x, self.gains[1] * f], dim=1)
        image = F.pixel_shuffle(self.to_rgb(x, style), self.patch)
        if rgb is not None:
            for _ in range(self.patch.bit_length()):  # to this resolution, and on to the unfolded pixels
                rgb = upsample2d(rgb)
            image = image + rgb
        return x, image
