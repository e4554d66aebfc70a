"""Diffusion of the experts, Eq. 6-7: timesteps, targets and DDIM sampling with one seed per image.

Images and bands are (N, C, h, w), nominally in [-1, 1]. ``base`` is the retouched one, which conditions the expert.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Literal

import torch
from retouch_common.diffusion.ddim import ddim, noise_like
from retouch_common.diffusion.schedule import Prediction, Schedule, make_schedule
from torch import Tensor

from mofrr.config import ModelConfig

Network = Callable[[Tensor, Tensor], Tensor]
"""Maps y_t (N, C, h, w) and t (N,) to the model output."""


@dataclass(frozen=True)
class ExpertOutput:
    """Outputs of an expert's training pass.

    Attributes:
        output: Of the noise predictor.
        target: Its target.
        restored: The restored image, (N, 3, H, W).
        weight: (N,), of the losses on ``restored``: abar_t for the x0 estimate at time t, 1 for samples.
    """

    output: Tensor
    target: Tensor
    restored: Tensor
    weight: Tensor


@dataclass(frozen=True)
class Diffusion:
    """Linear noise schedule, prediction target and DDIM sampler; fields as of :class:`mofrr.config.ModelConfig`."""

    T: int
    zero_terminal_snr: bool = False
    prediction: Prediction = "epsilon"
    residual: bool = False
    steps: int = 10
    spacing: Literal["leading", "trailing"] = "trailing"
    clip: bool = True
    warm_start: bool = False

    @classmethod
    def from_config(cls, config: ModelConfig) -> Diffusion:
        """Return the diffusion of a model configuration."""
        return cls(**{option.name: getattr(config, option.name) for option in fields(cls)})

    @cached_property
    def schedule(self) -> Schedule:
        """The noise schedule."""
        return make_schedule(self.T, zero_terminal_snr=self.zero_terminal_snr)

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw antithetic training timesteps, (N,): half are t, half T - 1 - t, so that a batch has early and late."""
        half = torch.randint(self.T, ((count + 1) // 2,), generator=generator)
        return torch.cat([half, self.T - 1 - half])[:count]

    def target(self, y_0: Tensor, noise: Tensor, t: Tensor, base: Tensor) -> Tensor:
        """Return what the network should predict."""
        target = self.schedule.target(y_0, noise, t, self.prediction)
        return target - base if self.residual else target

    def clean(self, output: Tensor, y_t: Tensor, t: Tensor, base: Tensor) -> Tensor:
        """Return the y_0 that a model output implies.

        That of a predicted epsilon is clamped as in sampling: late timesteps amplify its error a hundredfold.
        """
        if self.residual:
            return base + output
        y_0 = self.schedule.x_0(output, y_t, t, self.prediction)
        return y_0.clamp(-1, 1) if self.clip and self.prediction == "epsilon" else y_0

    def sample(
        self,
        network: Network,
        base: Tensor,
        generators: Sequence[torch.Generator],
        *,
        steps: int | None = None,
        checkpointing: bool = False,
        last_only: bool = False,
    ) -> Tensor:
        """Sample y_0 by DDIM, Eq. 7.

        Args:
            network: Noise predictor with its conditions.
            base: Retouched image or band.
            generators: One per image, for the initial noise.
            steps: DDIM steps; None for the default.
            checkpointing: Recompute activations in the backward pass.
            last_only: Only the last step has gradients.
        """
        steps = steps or self.steps
        calls = itertools.count(1)

        def predict(y_t: Tensor, t: Tensor) -> Tensor:
            with torch.set_grad_enabled(torch.is_grad_enabled() and (next(calls) == steps or not last_only)):
                output = network(y_t, t).float()
            return base + output if self.residual else output

        return ddim(
            predict,
            noise_like(base.float(), generators),
            self.schedule,
            steps=steps,
            spacing=self.spacing,
            prediction=self.prediction,
            guess=base if self.warm_start else None,
            # Paper: DDIM's Eq. 12 as it is. Here, but in `paper`: y_0 is an image's band and is kept in its range.
            clip=1.0 if self.clip else None,
            checkpointing=checkpointing,
        )


def generators_for(seeds: Sequence[int], name: str) -> list[torch.Generator]:
    """Return a generator for each image, from its seed and the kind of expert, whatever the batch."""
    return [torch.Generator().manual_seed((seed * 1_000_003 + zlib.crc32(name.encode())) % 2**63) for seed in seeds]
