"""What MoFRR is compared with beside doing nothing: a plain U-Net, and the Combine Module alone.

Both learn to answer the original for the retouched picture, without experts, router or diffusion. A method that does
not beat them does not need its parts.

Shapes: pictures (N, 3, S, S) in [-1, 1].
"""

import dataclasses

import torch
from torch import Tensor, nn

from mofrr.combine import Combine
from mofrr.config import ModelConfig
from mofrr.denoiser import Denoiser

BASELINES = {"unet": "plain U-Net", "combine": "Combine Module alone"}
"""Titles by name."""


class UNetRegression(nn.Module):
    """The shared expert's network without diffusion: it sees the retouched picture and answers a change of it.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.step = config.shared_unshuffle
        folded = 3 * self.step**2
        self.network = Denoiser(
            folded,
            folded,
            channels=config.shared_channels,
            multipliers=config.shared_multipliers,
            blocks=config.blocks,
        )

    def forward(self, X: Tensor) -> Tensor:
        """The restored pictures."""
        t = torch.zeros(len(X), dtype=torch.int64, device=X.device)
        change = self.network(nn.functional.pixel_unshuffle(X, self.step), t)
        return X + nn.functional.pixel_shuffle(change, self.step).float()


class CombineOnly(nn.Module):
    """The Combine Module without any slot but the retouched picture's.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.network = Combine(dataclasses.replace(config, operations=(), router=False, shared=False))

    def forward(self, X: Tensor) -> Tensor:
        """The restored pictures."""
        return self.network(X, None, {}, torch.zeros(len(X), 0, device=X.device))


def build_baseline(name: str, config: ModelConfig) -> nn.Module:
    """A baseline of a configuration's widths.

    Raises:
        ValueError: There is no such baseline.
    """
    if name not in BASELINES:
        raise ValueError(f"no baseline {name!r}; there are {', '.join(BASELINES)}")
    return UNetRegression(config) if name == "unet" else CombineOnly(config)
