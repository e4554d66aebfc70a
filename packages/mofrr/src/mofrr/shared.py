"""Section 3.2, the shared expert: conditional diffusion of the picture itself, without wavelets.

Paper: "a baseline DDPM architecture". At 1024 pixels that is 20 TFLOP a step; here pixels are folded into channels
first, ``shared_unshuffle`` by ``shared_unshuffle``.

Shapes: X and Y (N, 3, H, W) in [-1, 1].
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mofrr.config import ModelConfig
from mofrr.denoiser import Denoiser
from mofrr.sampling import Diffusion, generators_for


@dataclass(frozen=True)
class SharedTraining:
    """What a training pass computes.

    Attributes:
        answer: Of the noise predictor, (N, 3, H, W).
        target: What it should have been.
        restored: The picture that the answer implies.
        weight: (N,) abar_t.
    """

    answer: Tensor
    target: Tensor
    restored: Tensor
    weight: Tensor


class SharedExpert(nn.Module):
    """The expert that works on every retouched face.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.diffusion = Diffusion(config)
        folded = 3 * config.shared_unshuffle**2
        self.denoiser = Denoiser(
            2 * folded,
            folded,
            channels=config.shared_channels,
            multipliers=config.shared_multipliers,
            blocks=config.blocks,
            # Attention over more than a 64th of the picture's pixels does not pay.
            attention_levels=(),
        )

    def forward(
        self, X: Tensor, Y: Tensor, t: Tensor, noise: Tensor, *, rollout: Sequence[int] | None = None
    ) -> SharedTraining:
        """A training pass: one step of diffusion at time t.

        Args:
            X: Retouched.
            Y: The original.
            t: (N,) times.
            noise: (N, 3, H, W).
            rollout: Seeds: instead, the last step of sampling, from what the steps before really come to.
        """
        if rollout is not None:
            restored = self.diffusion.sample(
                lambda y_t, t: self._answer(X, y_t, t), X, generators_for(rollout, "shared"), last_only=True
            )
            return SharedTraining(answer=restored, target=Y, restored=restored, weight=X.new_ones(len(X)))
        y_t = self.diffusion.noised(Y, noise, t)
        answer = self._answer(X, y_t, t)
        return SharedTraining(
            answer=answer,
            target=self.diffusion.target(Y, noise, t, X),
            restored=self.diffusion.clean(answer, y_t, t, X),
            weight=self.diffusion.schedule.alpha_bar[t.cpu()].to(X),
        )

    def restore(self, X: Tensor, seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """Y^_se, (N, 3, H, W).

        Args:
            X: Retouched.
            seeds: One per picture.
            steps: DDIM steps; None for the configuration's.
        """
        height, width = X.shape[-2:]
        padded = F.pad(X, (0, -width % self.config.multiple, 0, -height % self.config.multiple), mode="reflect")
        restored = self.diffusion.sample(
            lambda y_t, t: self._answer(padded, y_t, t), padded, generators_for(seeds, "shared"), steps=steps
        )
        return restored[..., :height, :width]

    def _answer(self, X: Tensor, y_t: Tensor, t: Tensor) -> Tensor:
        step = self.config.shared_unshuffle
        seen = F.pixel_unshuffle(torch.cat([y_t.to(X.dtype), X], dim=1), step)
        return F.pixel_shuffle(self.denoiser(seen, t), step).float()
