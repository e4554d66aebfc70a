"""Section 3.2, the shared expert: conditional diffusion of the image itself, without wavelets.

Paper: "a baseline DDPM architecture". Here: on unshuffled pixels; at 1024 pixels a step at full resolution takes 20
TFLOP.

Shapes: X and Y (N, 3, H, W) in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mofrr.config import SHARED_UNSHUFFLE, ModelConfig
from mofrr.denoiser import Denoiser
from mofrr.sampling import Diffusion, ExpertOutput, generators_for


class SharedExpert(nn.Module):
    """The expert that works on every retouched face.

    Args:
        denoiser: Maps the unshuffled y_t and X, 96 channels, to 48.
        diffusion: Its diffusion.
        multiple: Sides are padded to multiples of this.
    """

    def __init__(self, denoiser: Denoiser, diffusion: Diffusion, *, multiple: int) -> None:
        super().__init__()
        self.denoiser, self.diffusion, self.multiple = denoiser, diffusion, multiple

    @classmethod
    def from_config(cls, config: ModelConfig) -> SharedExpert:
        """Return the untrained shared expert of a model configuration."""
        return cls(shared_denoiser(config, images=2), Diffusion.from_config(config), multiple=config.multiple)

    def forward(
        self, X: Tensor, Y: Tensor, t: Tensor, noise: Tensor, *, rollout: Sequence[int] | None = None
    ) -> ExpertOutput:
        """Run a training pass at time t.

        Args:
            X: Retouched.
            Y: Original.
            t: (N,) timesteps.
            noise: (N, 3, H, W).
            rollout: Seeds; instead, sample with gradients through the last step.
        """
        if rollout is not None:
            restored = self._sample(X, rollout, last_only=True)
            return ExpertOutput(output=restored, target=Y, restored=restored, weight=X.new_ones(len(X)))
        y_t = self.diffusion.schedule.noised(Y, noise, t)
        output = self._predict(X, y_t, t)
        return ExpertOutput(
            output=output,
            target=self.diffusion.target(Y, noise, t, X),
            restored=self.diffusion.clean(output, y_t, t, X),
            weight=self.diffusion.schedule.alpha_bar[t.cpu()].to(X),
        )

    def restore(self, X: Tensor, seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """Return Y^_se, (N, 3, H, W).

        Args:
            X: Retouched.
            seeds: One per image.
            steps: DDIM steps; None for the default.
        """
        height, width = X.shape[-2:]
        padded = F.pad(X, (0, -width % self.multiple, 0, -height % self.multiple), mode="reflect")
        return self._sample(padded, seeds, steps=steps)[..., :height, :width]

    def _sample(self, X: Tensor, seeds: Sequence[int], **options: Any) -> Tensor:
        generators = generators_for(seeds, "shared")
        return self.diffusion.sample(lambda y_t, t: self._predict(X, y_t, t), X, generators, **options)

    def _predict(self, X: Tensor, y_t: Tensor, t: Tensor) -> Tensor:
        unshuffled = F.pixel_unshuffle(torch.cat([y_t.to(X.dtype), X], dim=1), SHARED_UNSHUFFLE)
        return F.pixel_shuffle(self.denoiser(unshuffled, t), SHARED_UNSHUFFLE).float()


def shared_denoiser(config: ModelConfig, *, images: int) -> Denoiser:
    """Return the U-Net of the shared expert for some unshuffled RGB images; attention only in its bottleneck."""
    channels = 3 * SHARED_UNSHUFFLE**2
    return Denoiser(
        images * channels,
        channels,
        channels=config.shared_channels,
        multipliers=config.shared_multipliers,
        blocks=config.blocks,
    )
