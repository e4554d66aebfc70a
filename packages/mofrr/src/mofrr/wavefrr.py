"""Section 3.3, WaveFRR: an expert that undoes one retouching operation.

DWT; the low band sampled anew by conditional DDIM, guided by IDEM and the degree; the high bands corrected by HFCAM;
IDWT. With more than one level, HFCAM works from the coarsest level to the finest, each time on the low band restored so
far.

Shapes: X and Y (N, 3, H, W) in [-1, 1]; z (N,) in [0, 1], the degree over 5; low bands are divided by 2^levels and high
bands by 2^(level - 1), which puts them back into the picture's range.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from retouch_common.layers.wavelet import Subbands, haar_dwt, haar_idwt
from torch import Tensor, nn

from mofrr.config import ModelConfig
from mofrr.denoiser import Denoiser
from mofrr.hfcam import HFCAM
from mofrr.idem import IDEM
from mofrr.sampling import Diffusion, generators_for


@dataclass(frozen=True)
class WaveFRRTraining:
    """What a training pass computes.

    Attributes:
        answer: Of the noise predictor.
        target: What it should have been.
        residual: R^, or None without IDEM.
        true_residual: y_LL - x_LL.
        high: y^_H of every level, finest first.
        true_high: y_H.
        restored: Y^_M, (N, 3, H, W).
        weight: (N,), of the losses on ``restored``: abar_t for one-step pictures, 1 for sampled ones.
    """

    answer: Tensor
    target: Tensor
    residual: Tensor | None
    true_residual: Tensor
    high: list[Tensor]
    true_high: list[Tensor]
    restored: Tensor
    weight: Tensor


class WaveFRR(nn.Module):
    """The expert.

    Args:
        config: Of the model.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.diffusion = Diffusion(config)
        self.idem = IDEM(config.idem_width) if config.idem else None
        self.denoiser = Denoiser(
            3 + 3 + 3 * config.idem + config.degree_map,
            3,
            channels=config.channels,
            multipliers=config.multipliers,
            blocks=config.blocks,
            attention_levels=config.attention_levels,
        )
        self.hfcam = nn.ModuleList(
            HFCAM(
                patch=config.patch,
                width=config.attention_width,
                heads=config.attention_heads,
                query=config.query,
                refine_all=config.refine_all,
            )
            for _ in range(config.levels if config.hfcam else 0)
        )

    def forward(
        self,
        X: Tensor,
        Y: Tensor,
        z: Tensor,
        t: Tensor,
        noise: Tensor,
        *,
        rollout: Sequence[int] | None = None,
        checkpointing: bool = False,
        last_only: bool = False,
    ) -> WaveFRRTraining:
        """A training pass: one step of diffusion at time t, and the picture that it implies.

        Args:
            X: Retouched.
            Y: The original.
            z: Degrees over 5.
            t: (N,) times.
            noise: (N, 3, h, w) of the low band's size, see :meth:`low_size`.
            rollout: Seeds of the pictures: they come from all DDIM steps instead.
            checkpointing: For a rollout.
            last_only: Of a rollout: t and noise count for nothing; the answer is the sampled low band, with gradients
                through the last step alone.
        """
        x, y = self._bands(X), self._bands(Y)
        x_LL, y_LL = self._low(x), self._low(y)
        if rollout is not None and last_only:
            return self._sampled_last(x, y, z, rollout)
        y_t = self.diffusion.noised(y_LL, noise, t)
        answer, residual = self._answer(x_LL, y_t, z, t)
        if rollout is None:
            y_0 = self.diffusion.clean(answer, y_t, t, x_LL)
            weight = self.diffusion.schedule.alpha_bar[t.cpu()].to(x_LL)
        else:
            y_0 = self._sample(x_LL, z, rollout, None, checkpointing)
            weight = X.new_ones(len(X))
        return self._trained(x, y, y_0, answer, self.diffusion.target(y_LL, noise, t, x_LL), residual, weight)

    def _sampled_last(self, x: Subbands, y: Subbands, z: Tensor, seeds: Sequence[int]) -> WaveFRRTraining:
        """The last step of sampling, from what the steps before really come to."""
        x_LL = self._low(x)
        residuals: list[Tensor | None] = []

        def answer(y_t: Tensor, t: Tensor) -> Tensor:
            given, residual = self._answer(x_LL, y_t, z, t)
            residuals.append(residual)
            return given

        y_0 = self.diffusion.sample(answer, x_LL, generators_for(seeds, "wavefrr"), last_only=True)
        return self._trained(x, y, y_0, y_0, self._low(y), residuals[-1], x_LL.new_ones(len(x_LL)))

    def _trained(
        self,
        x: Subbands,
        y: Subbands,
        y_0: Tensor,
        answer: Tensor,
        target: Tensor,
        residual: Tensor | None,
        weight: Tensor,
    ) -> WaveFRRTraining:
        restored, high = self._rise(y_0, x)
        return WaveFRRTraining(
            answer=answer,
            target=target,
            residual=residual,
            true_residual=self._low(y) - self._low(x),
            high=high,
            true_high=[band / 2**level for level, band in enumerate(y.high)],
            restored=restored,
            weight=weight,
        )

    def restore(self, X: Tensor, z: Tensor, seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """Y^_M, (N, 3, H, W), unclamped.

        Args:
            X: Retouched.
            z: Degrees over 5.
            seeds: One per picture.
            steps: DDIM steps; None for the configuration's.
        """
        x = self._bands(X)
        return self._rise(self._sample(self._low(x), z, seeds, steps, False), x)[0]

    def low_size(self, X: Tensor) -> tuple[int, ...]:
        """Shape of the low band of pictures."""
        step, multiple = 2**self.config.levels, self.config.multiple
        return (len(X), 3, *(-(-side // multiple) * multiple // step for side in X.shape[-2:]))

    def _bands(self, picture: Tensor) -> Subbands:
        return haar_dwt(picture, self.config.levels, multiple=self.config.multiple)

    def _low(self, bands: Subbands) -> Tensor:
        return bands.low / 2**self.config.levels

    def _answer(self, x_LL: Tensor, y_t: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """epsilon_theta(y_t, x~, t), fp32, and R^."""
        condition, residual = (x_LL, None) if self.idem is None else self.idem(x_LL, y_t, z)
        seen = [y_t.to(condition.dtype), condition]
        if self.config.degree_map:  # Paper: the degree enters through IDEM alone. Here: also as a constant map.
            seen.append(z.view(-1, 1, 1, 1).expand(-1, 1, *x_LL.shape[-2:]).to(condition.dtype))
        return self.denoiser(torch.cat(seen, dim=1), t).float(), residual

    def _sample(self, x_LL: Tensor, z: Tensor, seeds: Sequence[int], steps: int | None, checkpointing: bool) -> Tensor:
        return self.diffusion.sample(
            lambda y_t, t: self._answer(x_LL, y_t, z, t)[0],
            x_LL,
            generators_for(seeds, "wavefrr"),
            steps=steps,
            checkpointing=checkpointing,
        )

    def _rise(self, y_0: Tensor, x: Subbands) -> tuple[Tensor, list[Tensor]]:
        """From the restored low band to the picture: Eq. 8 and IDWT; also y^_H of every level, finest first."""
        low = y_0 * 2**self.config.levels
        corrected: list[Tensor] = []
        for level in reversed(range(self.config.levels)):
            high = x.high[level] / 2**level
            if self.hfcam:
                high = self.hfcam[level](low / 2 ** (level + 1), high).float()
            corrected.insert(0, high)
            size = (2 * low.shape[-2], 2 * low.shape[-1]) if level else x.size
            low = haar_idwt(Subbands(low, (high * 2**level,), size))
        return low, corrected
