"""A small backbone for aligned faces: a residual network on Haar subbands.

Retouching leaves traces that are fine (missing texture, interpolated pixels, mask borders) and local (eyes, jaw).
Networks for natural images downsample the first away and pool over the second; here the high bands enter at full
resolution, and the output keeps an 8 x 8 grid.

Interpolation leaves one or two 8-bit levels: the network also sees the truncated residual of a second-order filter, as
forensic detectors do (Fridrich, Kodovsky, "Rich Models for Steganalysis of Digital Images", IEEE TIFS 2012). Maps of
the photograph's own traces (:mod:`mofrr.traces`) join at a quarter of the image's resolution.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from retouch_common.layers.wavelet import haar_dwt
from torch import Tensor, nn

from mofrr.traces import CHANNELS as TRACES

CHANNELS = (16, 32, 64, 96, 128)  # at the bands' resolution and after each downsampling
TRACE_CHANNELS = 48
JOINED = 2  # index of the block that takes the traces
STEM = 24  # channels of the first convolution
FEATURES = 16  # channels of the output grid
GAIN = 4.0  # high bands are an order of magnitude weaker than the low one
RESIDUAL = ((-1, 2, -1), (2, -4, 2), (-1, 2, -1))  # over 4
TRUNCATION = 27.0  # of normalised pixels: tanh is straight up to about two 8-bit levels
DROPOUT = 0.2


class SubbandCNN(nn.Module):
    """The backbone.

    Args:
        size: Side of the images in pixels, a multiple of 32.
        with_traces: Also take maps of traces.

    Attributes:
        width: F, the flattened output grid.
    """

    filter: Tensor

    def __init__(self, size: int, *, with_traces: bool) -> None:
        super().__init__()
        self.register_buffer("filter", torch.tensor(RESIDUAL).expand(3, 1, 3, 3) / 4, persistent=False)
        self.width = FEATURES * (size // 2 ** len(CHANNELS)) ** 2
        self.first = _convolution(24, STEM)
        blocks = [_Residual(STEM, CHANNELS[0], 1), *(_Residual(a, b, 2) for a, b in pairwise(CHANNELS))]
        self.traces: nn.Module | None = None
        if with_traces:
            self.traces = nn.Sequential(
                nn.BatchNorm2d(TRACES),
                _convolution(TRACES, TRACE_CHANNELS),
                _Residual(TRACE_CHANNELS, TRACE_CHANNELS, 1),
                _Residual(TRACE_CHANNELS, TRACE_CHANNELS, 1),
            )
            blocks[JOINED] = _Residual(CHANNELS[JOINED - 1] + TRACE_CHANNELS, CHANNELS[JOINED], 2)
        self.blocks = nn.ModuleList(blocks)
        self.reduce = nn.Conv2d(CHANNELS[-1], FEATURES, 1)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, image: Tensor, traces: Tensor | None = None) -> Tensor:
        """Return features, (N, F).

        Args:
            image: (N, 3, S, S), normalised.
            traces: (N, C, G, G), if the network takes them.
        """
        bands = haar_dwt(image, 1)
        with torch.autocast(image.device.type, enabled=False):  # bf16 pixels differ by half a level from these
            residual = F.conv2d(image.float(), self.filter, padding=1, groups=3)
            residual = F.pixel_unshuffle(torch.tanh(TRUNCATION * residual), 2)
        x = torch.cat([bands.low / 2, GAIN * bands.high[0], residual], dim=1)
        x = x.contiguous(memory_format=torch.channels_last)
        x = self.first(x)
        for number, block in enumerate(self.blocks):
            if number == JOINED and self.traces is not None:
                assert traces is not None
                found = F.adaptive_avg_pool2d(self.traces(traces.to(image.dtype)), x.shape[-2:])
                x = torch.cat([x, found.to(x.dtype)], dim=1)
            x = block(x)
        features = self.reduce(x)
        return self.dropout(F.relu(features).flatten(1))


class _Residual(nn.Module):
    """Two convolutions and a shortcut (He et al., CVPR 2016)."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(in_channels, channels, stride=stride)
        self.second = _convolution(channels, channels, activation=False)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != in_channels:
            self.shortcut = _convolution(in_channels, channels, 1, stride=stride, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


def _convolution(
    in_channels: int, channels: int, kernel: int = 3, *, stride: int = 1, activation: bool = True
) -> nn.Sequential:
    """Convolution, batch normalisation and ReLU: torchvision's Conv2dNormActivation, which takes seconds to import."""
    layers = [
        nn.Conv2d(in_channels, channels, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(channels),
        *([nn.ReLU(inplace=True)] if activation else []),
    ]
    return nn.Sequential(*layers)
