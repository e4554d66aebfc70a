"""Exponential moving average of a model's weights and buffers."""

from __future__ import annotations

import copy

import torch
from torch import nn


class EMA:
    """Exponential moving average of a model.

    After the t-th update the average moves by ``1 - d`` towards the model, ``d = min(decay, t / (t + 9))``, which
    forgets the random initialisation quickly. Floating-point buffers are averaged like weights, others are copied.

    Args:
        model: The trained model.
        decay: Weight of the past, in [0, 1); ValueError otherwise.

    Attributes:
        module: The averaged model, in evaluation mode and without gradients.
        num_updates: Number of updates so far.
    """

    def __init__(self, model: nn.Module, *, decay: float = 0.999):
        if not 0 <= decay < 1:
            raise ValueError(f"EMA decay {decay} is outside [0, 1)")
        self.decay = decay
        self.num_updates = 0
        self.module = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards ``model``, which is not wrapped for distribution."""
        self.num_updates += 1
        decay = min(self.decay, self.num_updates / (self.num_updates + 9))
        trained = model.state_dict()
        averages: list[torch.Tensor] = []
        targets: list[torch.Tensor] = []
        for name, average in self.module.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                targets.append(trained[name].to(average))
            else:
                average.copy_(trained[name])
        torch._foreach_lerp_(averages, targets, 1 - decay)

    def state_dict(self) -> dict[str, torch.Tensor]:
        """Return the averaged weights and buffers, under the model's own names."""
        return self.module.state_dict()

    def load_state_dict(self, state: dict[str, torch.Tensor], *, num_updates: int) -> None:
        """Restore saved averages and their number of updates."""
        self.module.load_state_dict(state)
        self.num_updates = num_updates
