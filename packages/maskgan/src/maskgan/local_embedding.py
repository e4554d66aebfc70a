"""Section 3.1, local embedding: five auto-encoders {E_local^i, G_local^i} and what G_m gets from them.

"With five auto-encoder networks, we can conveniently change any one of facial components." A component's window is
encoded to a short code. From that code one decoder makes the component's picture again (Eq. 1), and another, which the
paper's text leaves out and the official code has, the feature tensor that is placed into the target's mask.

Shapes: windows (N, 3, h, w) in [-1, 1]; codes (N, D); features (N, F, h / 4, w / 4).
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskgan.components import COMPONENTS, Component
from maskgan.config import ModelConfig
from maskgan.layers import ToPicture, blocks, convolution, doubling, halving, halvings

FACE = Component("face", "face", tuple(name for part in COMPONENTS for name in part.classes), 256, 256, (128, 128))
"""What section 4.1's setting 1 encodes as a whole."""


class Shape:
    """Sizes of a component's networks.

    Attributes:
        code: D, length of its code.
        bottom: Height and width of the encoder's last map, whatever S.
        halvings: Of the encoder, from the folded window to that.
        doublings: Of the feature decoder, from that to a quarter of the window's size.
        widths: Channels after every halving, the last one of the last map.
    """

    def __init__(self, component: Component, config: ModelConfig) -> None:
        height, _ = component.size(config.size)
        self.bottom = component.bottom or (config.code_grid or 2,) * 2
        self.code = config.code[COMPONENTS.index(component) if component in COMPONENTS else -1]
        self.halvings = halvings(height // config.fold, self.bottom[0])
        self.doublings = halvings(component.feature_size(config.size)[0], self.bottom[0])
        self.widths = [min(config.width * 2**level, config.max_width) for level in range(max(1, self.halvings))]

    @property
    def cells(self) -> int:
        """Places of the last map."""
        return self.bottom[0] * self.bottom[1]


class Encoder(nn.Module):
    """E_local^i: a window to a code, the mean of a normal distribution with a variational auto-encoder.

    Args:
        component: Which.
        config: Of the model.
    """

    def __init__(self, component: Component, config: ModelConfig) -> None:
        super().__init__()
        shape = Shape(component, config)
        self.fold = config.fold
        layers: list[nn.Module] = []
        channels = 3 * config.fold**2
        if not shape.halvings:
            layers.append(convolution(channels, shape.widths[0], 3, config.norm))
        for width in shape.widths[: shape.halvings]:
            layers += [halving(channels, width, config), *blocks(width, config.local_blocks, config.norm)]
            channels = width
        self.layers = nn.Sequential(*layers)
        self.mean = self._head(shape, config)
        self.log_variance = self._head(shape, config) if config.variational else None

    @staticmethod
    def _head(shape: Shape, config: ModelConfig) -> nn.Module:
        channels = shape.widths[-1]
        if config.code_grid:
            # Paper: a vector, as far as Fig. 2 shows.
            # Here: the last map itself, squeezed; without fully connected layers it needs fewer faces to learn from.
            return nn.Sequential(nn.Conv2d(channels, shape.code // shape.cells, 1), nn.Flatten())
        return nn.Sequential(
            nn.Flatten(),
            nn.Linear(channels * shape.cells, config.hidden),
            nn.ReLU(),
            nn.Linear(config.hidden, shape.code),
        )

    def forward(self, window: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, 3, h, w) to the code (N, D), and its logarithmic variance if it has one."""
        x = self.layers(F.pixel_unshuffle(window, self.fold))
        return self.mean(x).float(), None if self.log_variance is None else self.log_variance(x).float()


class CodeMap(nn.Module):
    """A code as a feature map of the encoder's last resolution, where every decoder starts.

    Args:
        shape: The component's.
        config: Of the model.
    """

    def __init__(self, shape: Shape, config: ModelConfig) -> None:
        super().__init__()
        self.bottom, self.grid = shape.bottom, bool(config.code_grid)
        channels = shape.widths[-1]
        self.layer: nn.Module
        if self.grid:
            self.layer = convolution(shape.code // shape.cells, channels, 3, config.norm)
        else:
            self.layer = nn.Sequential(nn.Linear(shape.code, channels * shape.cells), nn.ReLU())

    def forward(self, code: Tensor) -> Tensor:
        """(N, D) to (N, C, h, w)."""
        if self.grid:
            return self.layer(code.unflatten(1, (-1, *self.bottom)))
        return self.layer(code).unflatten(1, (-1, *self.bottom))


class PictureDecoder(nn.Module):
    """G_local^i: a code to the component's picture.

    Args:
        component: Which.
        config: Of the model.
    """

    def __init__(self, component: Component, config: ModelConfig) -> None:
        super().__init__()
        shape = Shape(component, config)
        layers: list[nn.Module] = [CodeMap(shape, config)]
        channels = shape.widths[-1]
        for width in [*reversed(shape.widths[:-1]), shape.widths[0]][: shape.halvings]:
            layers += [doubling(channels, width, config), *blocks(width, config.local_blocks, config.norm)]
            channels = width
        self.layers = nn.Sequential(*layers, ToPicture(channels, 5, config.fold))

    def forward(self, code: Tensor) -> Tensor:
        """(N, D) to (N, 3, h, w) in [-1, 1]."""
        return self.layers(code)


class FeatureDecoder(nn.Module):
    """A code to the features that G_m gets.

    Args:
        component: Which.
        config: Of the model.
    """

    def __init__(self, component: Component, config: ModelConfig) -> None:
        super().__init__()
        shape = Shape(component, config)
        layers: list[nn.Module] = [CodeMap(shape, config)]
        channels = shape.widths[-1]
        if not shape.doublings:
            layers.append(convolution(channels, config.features, 3, config.norm))
        for level in range(shape.doublings):
            mirrored = max(0, len(shape.widths) - 2 - level)
            last = level == shape.doublings - 1
            width = config.features if last else max(shape.widths[mirrored], config.features)
            layers += [doubling(channels, width, config), *blocks(width, config.local_blocks, config.norm)]
            channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, code: Tensor) -> Tensor:
        """(N, D) to (N, F, h / 4, w / 4)."""
        return self.layers(code)


class PictureHead(nn.Module):
    """The component's picture out of its features.

    Paper: G_local^i makes it from the code.
    Here: for the small presets; what Eq. 1 teaches reaches the features that the result is made of, at a fraction of
    the work.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            convolution(config.features, config.features, 3, config.norm), ToPicture(config.features, 3, 4)
        )

    def forward(self, features: Tensor) -> Tensor:
        """(N, F, h / 4, w / 4) to (N, 3, h, w) in [-1, 1]."""
        return self.layers(features)


class AutoEncoder(nn.Module):
    """{E_local^i, G_local^i} and the feature decoder of a component.

    Args:
        component: Which.
        config: Of the model.
        picture: Whether it makes the component's picture; setting 1's has no loss that would train that.
    """

    def __init__(self, component: Component, config: ModelConfig, *, picture: bool = True) -> None:
        super().__init__()
        self.code = Shape(component, config).code
        self.encoder = Encoder(component, config)
        self.feature_decoder = FeatureDecoder(component, config)
        self.from_features = config.picture_decoder == "features"
        self.picture_decoder: nn.Module | None = None
        if picture:
            self.picture_decoder = PictureHead(config) if self.from_features else PictureDecoder(component, config)

    def encode(self, window: Tensor) -> tuple[Tensor, Tensor | None]:
        """See :class:`Encoder`."""
        return self.encoder(window)

    def features(self, code: Tensor) -> Tensor:
        """See :class:`FeatureDecoder`."""
        return self.feature_decoder(code)

    def picture(self, code: Tensor, features: Tensor) -> Tensor | None:
        """The component's picture from its code or, as configured, from its features; None without a decoder."""
        if self.picture_decoder is None:
            return None
        return self.picture_decoder(features if self.from_features else code)


def sampled(mean: Tensor, log_variance: Tensor, generator: torch.Generator | None) -> Tensor:
    """A code of that normal distribution, (N, D)."""
    noise = torch.randn(mean.shape, generator=generator, device=mean.device if generator is None else generator.device)
    return mean + noise.to(mean.device) * (log_variance / 2).exp()
