"""Baselines, which regress the original from the retouched image without experts, router or diffusion.

A method that does not beat them does not need its parts.

    unet      a plain U-Net
    combine   the Combine Module alone
    nafnet    NAFNet (Chen et al., "Simple baselines for image restoration", ECCV 2022), by spandrel
    pix2pix   a U-Net against a PatchGAN, see :mod:`mofrr.pix2pix`

Shapes: images (N, 3, S, S) in [-1, 1].
"""

from importlib import import_module

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mofrr.combine import Combine
from mofrr.config import SHARED_UNSHUFFLE, ModelConfig
from mofrr.pix2pix import Pix2Pix
from mofrr.shared import shared_denoiser

BASELINES = {"unet": "plain U-Net", "combine": "Combine Module alone", "nafnet": "NAFNet", "pix2pix": "pix2pix"}
"""Titles by name."""


class UNetRegression(nn.Module):
    """The shared expert's U-Net without diffusion, which predicts a change of the image.

    Args:
        config: Widths of the shared expert.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.network = shared_denoiser(config, images=1)

    def forward(self, X: Tensor) -> Tensor:
        """Return restored images."""
        t = torch.zeros(len(X), dtype=torch.int64, device=X.device)
        change = self.network(F.pixel_unshuffle(X, SHARED_UNSHUFFLE), t)
        return X + F.pixel_shuffle(change, SHARED_UNSHUFFLE).float()


class CombineOnly(nn.Module):
    """The Combine Module with the retouched image as its only slot.

    Args:
        channels: Channels at the finest resolution.
        depth: Number of downsamplings.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.network = Combine((), channels=channels, depth=depth, shared=False, add_changes=False)

    def forward(self, X: Tensor) -> Tensor:
        """Return restored images."""
        return self.network(X, None, {}, torch.zeros(len(X), 0, device=X.device))


class NAFNet(nn.Module):
    """NAFNet of 0.6 million parameters, with one block at each of five resolutions on the way down and up.

    Paper: Restormer. Here: NAFNet, which was made from it by leaving out parts, and is quick enough for a CPU.

    Raises:
        ValueError: spandrel is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        try:
            module = import_module("spandrel.architectures.NAFNet.__arch.NAFNet_arch")
        except ImportError:
            raise ValueError('the baseline nafnet needs spandrel: pip install "mofrr[baselines]"') from None
        self.network = module.NAFNet(width=12, middle_blk_num=1, enc_blk_nums=[1] * 4, dec_blk_nums=[1] * 4)

    def forward(self, X: Tensor) -> Tensor:
        """Return restored images."""
        restored: Tensor = self.network(X)
        return restored.float()


def build_baseline(name: str, config: ModelConfig) -> nn.Module:
    """Return an untrained baseline of a configuration's widths.

    Raises:
        ValueError: There is no such baseline, or a library that it needs.
    """
    if name not in BASELINES:
        raise ValueError(f"unknown baseline {name!r}; choose from {', '.join(BASELINES)}")
    if name == "unet":
        return UNetRegression(config)
    if name == "combine":
        return CombineOnly(config.combine_channels, config.combine_depth)
    return NAFNet() if name == "nafnet" else Pix2Pix(config.size, config.shared_channels)
