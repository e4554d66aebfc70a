"""A small backbone for aligned faces: a residual network on Haar subbands.

What retouching leaves behind is fine (texture that is missing, pixels that were interpolated, the border of a mask) and
in its place (eyes, jaw). Networks for photographs of anything begin by throwing the first away and end by averaging
over the second. Here the high bands are seen at their full resolution, and the answer keeps an 8 x 8 grid.

What interpolation leaves is fainter still, of one or two 8-bit levels: beside the bands the network sees the residual
of a second-order filter, truncated so that edges do not drown it, as forensic detectors do (Fridrich and Kodovsky,
"Rich Models for Steganalysis of Digital Images", IEEE TIFS 2012). Where the picture was reduced from a photograph, that
photograph's own traces come as maps (:mod:`mofrr.traces`) and join at a quarter of the picture's resolution.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from retouch_common.layers.wavelet import haar_dwt
from torch import Tensor, nn

from mofrr.traces import CHANNELS as TRACES

CHANNELS = (16, 32, 64, 96, 128)  # at the bands' resolution and after each halving
TRACE_CHANNELS = 48
JOINED = 2  # traces join after so many blocks
STEM = 24  # of the first convolution
FEATURES = 16  # of a place in the grid
GAIN = 4.0  # high bands are an order of magnitude weaker than the low one
RESIDUAL = ((-1, 2, -1), (2, -4, 2), (-1, 2, -1))  # over 4
TRUNCATION = 27.0  # of normalised pixels: tanh is straight up to about two 8-bit levels
DROPOUT = 0.2


class SubbandCNN(nn.Module):
    """The backbone.

    Args:
        size: Side of the pictures in pixels, a multiple of 32.
        with_traces: Whether the photographs' own traces are seen, too.

    Attributes:
        width: F, the features of all places together.
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
        """(N, 3, S, S), normalised, to (N, F).

        Args:
            image: The pictures.
            traces: Maps (N, C, G, G) of their photographs, for a network that sees them.
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

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(channels_in, channels, stride)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or channels != channels_in:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.second(self.first(x)) + self.shortcut(x))


def _convolution(channels_in: int, channels: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU()
    )
