"""Untrained networks that do something."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def made_busy(model: M, amount: float = 0.05) -> M:
    """Move every parameter off its initial value, the same way on every call, and return the model for evaluation.

    Layers that start at zero hide what is behind them; after the move every path carries a signal.

    Args:
        model: Is changed.
        amount: Standard deviation of what is added.
    """
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(amount * torch.randn(parameter.shape, generator=generator))
    return model.eval()
