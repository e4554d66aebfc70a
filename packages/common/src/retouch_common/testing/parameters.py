"""Untrained networks with non-trivial outputs."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def randomize_parameters(model: M, amount: float = 0.05) -> M:
    """Add noise to every parameter, the same on every call, and return the model in evaluation mode.

    Layers that are initialised to zero hide what is behind them; with noise every path carries a signal.

    Args:
        model: Modified in place.
        amount: Standard deviation of the noise.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=generator))
    return model.eval()
