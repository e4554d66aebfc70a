"""Section 3.1, local embedding: five auto-encoders {E_local^i, G_local^i} and the features for G_m.

"With five auto-encoder networks, we can conveniently change any one of facial components." A component's window is
encoded to a short code. One decoder reconstructs the component's image from it (Eq. 1); another one, which the paper's
text omits and the official code has, decodes the features that are placed in the target's mask.

Shapes: windows (N, 3, h, w) in [-1, 1]; codes (N, D); features (N, F, h / 4, w / 4).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgan.components import COMPONENTS, Component
from maskgan.config import ModelConfig, Norm, Upsampling
from maskgan.layers import ToImage, convolution, downsample, num_downsamplings, res_blocks, upsample

FACE = Component("face", "face", tuple(name for part in COMPONENTS for name in part.classes), 256, 256, (128, 128))
"""The whole face, which section 4.1's setting 1 encodes at once."""
HIDDEN = 1024  # units between an encoder's last map and a vector code, as in the official code


@dataclass(frozen=True)
class Layout:
    """Sizes and kinds of layers of a component's networks.

    Attributes:
        code: D, length of the code.
        bottom: Height and width of the encoder's last map, whatever S.
        is_map: The code is that map with few channels; otherwise a vector.
        num_down: Downsampling layers of the encoder, from the folded window to ``bottom``.
        num_up: Upsampling layers of the feature decoder, from ``bottom`` to a quarter of the window's size.
        widths: Channels after every downsampling layer, the last one of the last map.
        features: F, channels of the features.
        fold: Side of the pixel blocks folded into channels.
        num_blocks: Residual blocks after every down- or upsampling layer.
        norm: Normalisation.
        upsampling: Kind of the upsampling layers.
    """

    code: int
    bottom: tuple[int, int]
    is_map: bool
    num_down: int
    num_up: int
    widths: tuple[int, ...]
    features: int
    fold: int
    num_blocks: int
    norm: Norm
    upsampling: Upsampling

    @classmethod
    def of(cls, component: Component, config: ModelConfig) -> "Layout":
        """Return the layout of a component's networks in a model."""
        bottom = component.bottom or (config.code_grid or 2,) * 2
        num_down = num_downsamplings(component.size(config.size)[0] // config.fold, bottom[0])
        return cls(
            code=config.code[COMPONENTS.index(component) if component in COMPONENTS else -1],
            bottom=bottom,
            is_map=bool(config.code_grid),
            num_down=num_down,
            num_up=num_downsamplings(component.feature_size(config.size)[0], bottom[0]),
            widths=tuple(min(config.width * 2**level, config.max_width) for level in range(max(1, num_down))),
            features=config.features,
            fold=config.fold,
            num_blocks=config.local_blocks,
            norm=config.norm,
            upsampling=config.upsampling,
        )

    @property
    def cells(self) -> int:
        """Positions of the last map."""
        return self.bottom[0] * self.bottom[1]

    def up(self, in_channels: int, out_channels: int) -> list[nn.Module]:
        """Return an upsampling layer and its residual blocks."""
        blocks = res_blocks(out_channels, self.num_blocks, self.norm)
        return [upsample(in_channels, out_channels, self.norm, self.upsampling), *blocks]


class Encoder(nn.Module):
    """E_local^i: a window to a code or, with ``variational``, to mean and log-variance of one."""

    def __init__(self, layout: Layout, *, variational: bool = False) -> None:
        super().__init__()
        self.fold = layout.fold
        layers: list[nn.Module] = []
        channels = 3 * layout.fold**2
        if not layout.num_down:
            layers.append(convolution(channels, layout.widths[0], 3, layout.norm))
        for width in layout.widths[: layout.num_down]:
            layers += [downsample(channels, width, layout.norm), *res_blocks(width, layout.num_blocks, layout.norm)]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.mean = self._head(layout)
        self.log_variance = self._head(layout) if variational else None

    @staticmethod
    def _head(layout: Layout) -> nn.Module:
        channels = layout.widths[-1]
        if layout.is_map:
            # Paper: a vector, as far as Fig. 2 shows.
            # Here: the last map with fewer channels; without fully connected layers fewer faces suffice for training.
            return nn.Sequential(nn.Conv2d(channels, layout.code // layout.cells, 1), nn.Flatten())
        return nn.Sequential(
            nn.Flatten(), nn.Linear(channels * layout.cells, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, layout.code)
        )

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, 3, h, w) to the code (N, D) and its log-variance, None unless variational."""
        x = self.layers(F.pixel_unshuffle(window, self.fold))
        return self.mean(x).float(), None if self.log_variance is None else self.log_variance(x).float()


class CodeMap(nn.Module):
    """First layer of every decoder: a code (N, D) to a map (N, C, h, w) of the encoder's last resolution."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.bottom, self.is_map = layout.bottom, layout.is_map
        channels = layout.widths[-1]
        self.layer: nn.Module
        if self.is_map:
            self.layer = convolution(layout.code // layout.cells, channels, 3, layout.norm)
        else:
            self.layer = nn.Sequential(nn.Linear(layout.code, channels * layout.cells), nn.ReLU())

    def forward(self, code: Tensor) -> Tensor:
        """(N, D) to (N, C, h, w)."""
        if self.is_map:
            return self.layer(code.unflatten(1, (-1, *self.bottom)))
        return self.layer(code).unflatten(1, (-1, *self.bottom))


class ImageDecoder(nn.Module):
    """G_local^i: a code to the component's image."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        layers: list[nn.Module] = [CodeMap(layout)]
        channels = layout.widths[-1]
        for width in [*reversed(layout.widths[:-1]), layout.widths[0]][: layout.num_down]:
            layers += layout.up(channels, width)
            channels = width
        self.layers = nn.Sequential(*layers, ToImage(channels, 5, layout.fold))

    def forward(self, code: Tensor) -> Tensor:
        """(N, D) to (N, 3, h, w) in [-1, 1]."""
        return self.layers(code)


class FeatureDecoder(nn.Module):
    """A code to the component's features for G_m."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        layers: list[nn.Module] = [CodeMap(layout)]
        channels = layout.widths[-1]
        if not layout.num_up:
            layers.append(convolution(channels, layout.features, 3, layout.norm))
        for level in range(layout.num_up):
            mirrored = layout.widths[max(0, len(layout.widths) - 2 - level)]
            width = layout.features if level == layout.num_up - 1 else max(mirrored, layout.features)
            layers += layout.up(channels, width)
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, code: Tensor) -> Tensor:
        """(N, D) to (N, F, h / 4, w / 4)."""
        return self.layers(code)


class ImageHead(nn.Module):
    """Two layers from a component's features to its image.

    Paper: G_local^i decodes the image from the code.
    Here, in the small presets: Eq. 1 reaches the features that the output is made of, at a fraction of the cost.
    """

    def __init__(self, features: int, norm: Norm) -> None:
        super().__init__()
        self.layers = nn.Sequential(convolution(features, features, 3, norm), ToImage(features, 3, 4))

    def forward(self, features: Tensor) -> Tensor:
        """(N, F, h / 4, w / 4) to (N, 3, h, w) in [-1, 1]."""
        return self.layers(features)


class AutoEncoder(nn.Module):
    """Encoder, feature decoder and image decoder of a component.

    Args:
        component: The component.
        config: Configuration of the model that it is part of.
    """

    def __init__(self, component: Component, config: ModelConfig) -> None:
        super().__init__()
        layout = Layout.of(component, config)
        self.code = layout.code
        self.encoder = Encoder(layout, variational=config.variational)
        self.feature_decoder = FeatureDecoder(layout)
        self.from_features = config.picture_decoder == "features"
        self.picture_decoder: nn.Module | None = None
        if component is not FACE:  # setting 1 has no loss that would train one
            head = ImageHead(config.features, config.norm) if self.from_features else ImageDecoder(layout)
            self.picture_decoder = head

    def decode_image(self, code: Tensor, features: Tensor) -> Tensor | None:
        """Return the component's image from its code or, as configured, its features; None without a decoder."""
        if self.picture_decoder is None:
            return None
        return self.picture_decoder(features if self.from_features else code)


def sample_code(mean: Tensor, log_variance: Tensor, generator: torch.Generator | None) -> Tensor:
    """Sample codes (N, D) from a normal distribution."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device if generator is None else generator.device)
    return mean + noise.to(mean.device) * (log_variance / 2).exp()
