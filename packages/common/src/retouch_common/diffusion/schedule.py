"""Noise schedules of diffusion models.

q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I), t = 0 ... T - 1 (Ho, Jain, Abbeel, "Denoising Diffusion
Probabilistic Models", NeurIPS 2020).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "x0", "v"]

BETAS = (1e-4, 0.02)  # beta_0 and beta_{T-1}


@dataclass(frozen=True)
class Schedule:
    """Noise schedule; ``alpha_bar`` is (T,) float64 on the CPU, descending, in [0, 1]."""

    alpha_bar: Tensor

    def __len__(self) -> int:
        """Return T."""
        return len(self.alpha_bar)

    def noised(self, x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Return x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) noise; images and noise (N, C, H, W), timesteps t (N,)."""
        signal, sigma = self._factors(t, x_0)
        return signal * x_0 + sigma * noise

    def target(self, x_0: Tensor, noise: Tensor, t: Tensor, prediction: Prediction) -> Tensor:
        """Return the network's target: the noise, x_0, or v = sqrt(abar) noise - sigma x_0 (Salimans, Ho, ICLR 2022).

        Images and noise are (N, C, H, W), timesteps t (N,).
        """
        if prediction == "v":
            signal, sigma = self._factors(t, x_0)
            return signal * noise - sigma * x_0
        return noise if prediction == "epsilon" else x_0

    def x_0(self, model_output: Tensor, x_t: Tensor, t: Tensor, prediction: Prediction) -> Tensor:
        """Return the clean images that a model output for x_t (N, C, H, W) at timesteps t (N,) implies."""
        return clean_image(model_output, x_t, *self._factors(t, x_t), prediction)

    def _factors(self, t: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return sqrt(abar_t) and sqrt(1 - abar_t), (N, 1, 1, 1)."""
        alpha_bar = self.alpha_bar[t.cpu()].view(-1, 1, 1, 1)
        return alpha_bar.sqrt().to(like), (1 - alpha_bar).sqrt().to(like)


def clean_image(
    model_output: Tensor, x_t: Tensor, signal: Tensor | float, sigma: Tensor | float, prediction: Prediction
) -> Tensor:
    """Return the x_0 that a model output implies, with ``signal`` = sqrt(abar_t) and ``sigma`` = sqrt(1 - abar_t)."""
    if prediction == "epsilon":
        return (x_t - sigma * model_output) / signal
    return model_output if prediction == "x0" else signal * x_t - sigma * model_output


def make_schedule(T: int, *, zero_terminal_snr: bool = False) -> Schedule:
    """Return the schedule of Ho et al.: beta_t is linear, from 10^-4 to 0.02.

    Args:
        T: Number of timesteps.
        zero_terminal_snr: Rescale sqrt(abar) so that the last timestep is pure noise (Lin et al., WACV 2024). T = 200
            leaves 13 % of the image's variance there, which sampling from noise cannot know. Needs a network that
            predicts x0 or v.

    Raises:
        ValueError: If T is below 2.
    """
    if T < 2:
        raise ValueError(f"a schedule needs at least 2 times, not {T}")
    alpha_bar = (1 - torch.linspace(*BETAS, T, dtype=torch.float64)).cumprod(0)
    if zero_terminal_snr:
        root = alpha_bar.sqrt()
        alpha_bar = ((root - root[-1]) * root[0] / (root[0] - root[-1])).square()
    return Schedule(alpha_bar)
