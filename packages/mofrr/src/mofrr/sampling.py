"""How the experts diffuse: the schedule, what is predicted, and sampling with a seed per picture, Eq. 6-7.

Pictures and bands are (N, C, h, w) in [-1, 1] nominally. ``base`` is the retouched one that conditions the expert; with
``residual`` the network's answer is a change of it.
"""

import itertools
import zlib
from collections.abc import Callable, Sequence

import torch
from retouch_common.diffusion.ddim import ddim, noise_like
from retouch_common.diffusion.schedule import make_schedule
from torch import Tensor

from mofrr.config import ModelConfig

Network = Callable[[Tensor, Tensor], Tensor]  # y_t and t to the answer


class Diffusion:
    """The settings of a :class:`ModelConfig` that concern diffusion.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.schedule = make_schedule(config.schedule, config.T, zero_terminal_snr=config.zero_terminal_snr)

    def times(self, count: int, generator: torch.Generator) -> Tensor:
        """Random times of training, (N,), half of them mirrors of the others: every step sees early and late ones."""
        half = torch.randint(self.config.T, ((count + 1) // 2,), generator=generator)
        return torch.cat([half, self.config.T - 1 - half])[:count]

    def noised(self, y_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """y_t of Eq. 6."""
        return self.schedule.noised(y_0, noise, t)

    def target(self, y_0: Tensor, noise: Tensor, t: Tensor, base: Tensor) -> Tensor:
        """What the network should answer."""
        target = self.schedule.target(y_0, noise, t, self.config.prediction)
        return target - base if self.config.residual else target

    def clean(self, answer: Tensor, y_t: Tensor, t: Tensor, base: Tensor) -> Tensor:
        """The clean picture that an answer implies."""
        if self.config.residual:
            return base + answer
        return self.schedule.x_0(answer, y_t, t, self.config.prediction)

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
        """y^_0 by DDIM with eta = 0, Eq. 7.

        Args:
            network: The noise predictor with its conditions.
            base: The retouched picture or band.
            generators: One per picture, for the first noise.
            steps: Calls of the network; None for the configuration's.
            checkpointing: Compute activations again in the backward pass.
            last_only: Only the last step has gradients.
        """
        config, steps = self.config, steps or self.config.steps
        called = itertools.count(1)

        def answer(y_t: Tensor, t: Tensor) -> Tensor:
            with torch.set_grad_enabled(torch.is_grad_enabled() and (next(called) == steps or not last_only)):
                given = network(y_t, t).float()
            return base + given if config.residual else given

        return ddim(
            answer,
            noise_like(base.float(), generators),
            self.schedule,
            steps=steps,
            spacing=config.spacing,
            prediction=config.prediction,
            guess=base if config.warm_start else None,
            clip=1.0,
            checkpointing=checkpointing,
        )


def generators_for(seeds: Sequence[int], name: str) -> list[torch.Generator]:
    """A generator for every picture, from its seed and the kind of expert: batch and order do not matter."""
    return [torch.Generator().manual_seed((seed * 1_000_003 + zlib.crc32(name.encode())) % 2**63) for seed in seeds]
