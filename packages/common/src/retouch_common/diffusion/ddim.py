"""Deterministic DDIM sampling (eta = 0).

Song, Meng, Ermon. "Denoising Diffusion Implicit Models." ICLR 2021, Eq. 12.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from retouch_common.diffusion.schedule import Prediction, Schedule, clean_image

Spacing = Literal["leading", "trailing"]


def ddim(
    network: Callable[[Tensor, Tensor], Tensor],
    noise: Tensor,
    schedule: Schedule,
    *,
    steps: int = 10,
    spacing: Spacing = "trailing",
    prediction: Prediction = "epsilon",
    guess: Tensor | None = None,
    clip: float | None = None,
    checkpointing: bool = False,
) -> Tensor:
    """Sample x_0 (N, C, H, W) in fp32 (fp64 for fp64 noise); gradients flow through all steps.

    Args:
        network: Predicts ``prediction`` from x_t (N, C, H, W) and timesteps t (N,), int64 on x_t's device.
        noise: (N, C, H, W) standard normal, see :func:`noise_like`.
        schedule: Noise schedule.
        steps: Number of network evaluations.
        spacing: See :func:`sampling_times`.
        prediction: Prediction type of the network.
        guess: Estimate of x_0, (N, C, H, W), for a warm start: sampling starts from it with the first step's noise
            instead of pure noise, whose mean differs from that of the training images.
        clip: Clamp x_0 to [-clip, clip] at every step.
        checkpointing: Recompute each step's activations in the backward pass instead of storing them.

    Raises:
        ValueError: If there are more steps than timesteps, or an epsilon-predicting network starts from pure noise.
    """
    times = sampling_times(len(schedule), steps, spacing)
    alpha_bars = [float(schedule.alpha_bar[t]) for t in times] + [1.0]  # Python floats: no synchronisation with the GPU
    if prediction == "epsilon" and alpha_bars[0] == 0:
        raise ValueError("the first timestep is pure noise: the network must predict x0 or v, not epsilon")
    x = noise if noise.dtype == torch.float64 else noise.float()
    if guess is not None:
        x = math.sqrt(alpha_bars[0]) * guess.to(x) + math.sqrt(1 - alpha_bars[0]) * x
    for t, abar, abar_next in zip(times, alpha_bars[:-1], alpha_bars[1:], strict=True):
        when = torch.full((len(x),), t, dtype=torch.int64, device=x.device)
        model_output = checkpoint(network, x, when, use_reentrant=False) if checkpointing else network(x, when)
        signal, sigma = math.sqrt(abar), math.sqrt(1 - abar)
        x_0 = clean_image(model_output.to(x.dtype), x, signal, sigma, prediction)
        if clip is not None:
            x_0 = x_0.clamp(-clip, clip)
        epsilon = (x - signal * x_0) / sigma
        x = math.sqrt(abar_next) * x_0 + math.sqrt(1 - abar_next) * epsilon  # Eq. 12
    return x


def sampling_times(T: int, steps: int, spacing: Spacing = "trailing") -> list[int]:
    """Return the timesteps of the network evaluations, in descending order.

    "leading" takes every (T // steps)-th from 0, which excludes the last; "trailing" counts back from the last
    timestep, whose noise level is the one that sampling starts from (Lin et al., WACV 2024).

    Raises:
        ValueError: If ``steps`` is below 1 or above T, or the spacing is unknown.
    """
    if not 1 <= steps <= T:
        raise ValueError(f"{steps} steps cannot be sampled from {T} timesteps")
    if spacing == "leading":
        return [i * (T // steps) for i in reversed(range(steps))]
    if spacing == "trailing":
        return [round(T - i * T / steps) - 1 for i in range(steps)]
    raise ValueError(f"unknown spacing {spacing!r}; choose from leading, trailing")


def noise_like(x: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw standard normal noise of x's shape, each sample from its own CPU generator: independent of device and batch.

    Raises:
        ValueError: If the numbers of generators and samples differ.
    """
    if len(generators) != len(x):
        raise ValueError(f"{len(x)} images need as many generators, not {len(generators)}")
    draws = [torch.randn(x.shape[1:], generator=generator, dtype=torch.float32) for generator in generators]
    return torch.stack(draws).to(x)
