"""Section 3.3, WaveFRR: an expert that undoes one retouching operation.

DWT; the low band is sampled by conditional DDIM, guided by IDEM and the degree; HFCAM corrects the high bands; IDWT.
With several levels HFCAM works from the coarsest to the finest, each time on the low band restored so far.

Shapes: X and Y (N, 3, H, W) in [-1, 1]; z (N,) in [0, 1], the degree over 5; low bands are divided by 2^levels,
which brings them to the image's range, and high bands by 2^(level - 1), which brings them all to that of the first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from retouch_common.layers.wavelet import Subbands, haar_dwt, haar_idwt
from torch import Tensor, nn

from mofrr.config import PATCH, ModelConfig
from mofrr.denoiser import Denoiser
from mofrr.hfcam import HFCAM
from mofrr.idem import IDEM
from mofrr.sampling import Diffusion, ExpertOutput, generators_for

RESIDUAL = slice(6, 9)
"""Channels of the noise predictor's input that hold R^, after y_t and x_LL; absent without IDEM."""


@dataclass(frozen=True)
class WaveFRROutput(ExpertOutput):
    """Outputs of a training pass.

    Attributes:
        residual: R^, or None without IDEM.
        true_residual: y_LL - x_LL.
        high: y^_H of every level, finest first.
        true_high: y_H likewise.
    """

    residual: Tensor | None
    true_residual: Tensor
    high: list[Tensor]
    true_high: list[Tensor]


def without_residual(weight: Tensor) -> Tensor:
    """Return the weight of a noise predictor's first convolution, (C, 9 or 10, 3, 3), without the channels of R^."""
    return torch.cat([weight[:, : RESIDUAL.start], weight[:, RESIDUAL.stop :]], dim=1)


class WaveFRR(nn.Module):
    """The expert of an operation.

    Args:
        idem: Condition of the noise predictor; None for the retouched band alone.
        denoiser: Noise predictor.
        hfcam: One for each level, or none to keep the high bands.
        diffusion: Diffusion of the low band.
        levels: Wavelet levels.
        multiple: Sides are padded to multiples of this.
        degree_map: Also give the degree to the noise predictor.
    """

    def __init__(
        self,
        idem: IDEM | None,
        denoiser: Denoiser,
        hfcam: Sequence[HFCAM],
        diffusion: Diffusion,
        *,
        levels: int,
        multiple: int,
        degree_map: bool,
    ) -> None:
        super().__init__()
        self.idem, self.denoiser, self.hfcam, self.diffusion = idem, denoiser, nn.ModuleList(hfcam), diffusion
        self.levels, self.multiple, self.degree_map = levels, multiple, degree_map

    @classmethod
    def from_config(cls, config: ModelConfig) -> WaveFRR:
        """Return an untrained expert of a model configuration."""
        return cls(
            IDEM(config.idem_width) if config.idem else None,
            Denoiser(
                3 + 3 + 3 * config.idem + config.degree_map,
                3,
                channels=config.channels,
                multipliers=config.multipliers,
                blocks=config.blocks,
                attention_levels=config.attention_levels,
            ),
            [
                HFCAM(
                    patch=PATCH,
                    width=config.attention_width,
                    heads=config.attention_heads,
                    refine_all=config.refine_all,
                )
                for _ in range(config.levels if config.hfcam else 0)
            ],
            Diffusion.from_config(config),
            levels=config.levels,
            multiple=config.multiple,
            degree_map=config.degree_map,
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
        last_only: bool = False,
    ) -> WaveFRROutput:
        """Run a training pass at time t.

        Args:
            X: Retouched.
            Y: Original.
            z: Degrees over 5.
            t: (N,) timesteps.
            noise: (N, 3, h, w), see :meth:`low_size`.
            rollout: Seeds; the restored image is then sampled, with gradients through all DDIM steps.
            last_only: With ``rollout``, train the last DDIM step on the sampled low band and ignore ``t`` and
                ``noise``.
        """
        x, y = self._bands(X), self._bands(Y)
        x_LL, y_LL = self._low(x), self._low(y)
        weight = X.new_ones(len(X))
        if rollout is not None and last_only:
            target = y_LL
            output, residual = self._sample(x_LL, z, rollout, last_only=True)
            y_0 = output
        else:
            y_t, target = self.diffusion.schedule.noised(y_LL, noise, t), self.diffusion.target(y_LL, noise, t, x_LL)
            output, residual = self._predict(x_LL, y_t, z, t)
            if rollout is None:
                y_0 = self.diffusion.clean(output, y_t, t, x_LL)
                weight = self.diffusion.schedule.alpha_bar[t.cpu()].to(x_LL)
            else:
                y_0, _ = self._sample(x_LL, z, rollout, checkpointing=True)
        restored, high = self._reconstruct(y_0, x)
        return WaveFRROutput(
            output=output,
            target=target,
            residual=residual,
            true_residual=y_LL - x_LL,
            high=high,
            true_high=[band / 2**level for level, band in enumerate(y.high)],
            restored=restored,
            weight=weight,
        )

    def restore(self, X: Tensor, z: Tensor, seeds: Sequence[int], *, steps: int | None = None) -> Tensor:
        """Return Y^_M, (N, 3, H, W), unclamped.

        Args:
            X: Retouched.
            z: Degrees over 5.
            seeds: One per image.
            steps: DDIM steps; None for the default.
        """
        x = self._bands(X)
        return self._reconstruct(self._sample(self._low(x), z, seeds, steps=steps)[0], x)[0]

    def low_size(self, X: Tensor) -> tuple[int, ...]:
        """Return the shape of the low band of images."""
        return (len(X), 3, *(-(-side // self.multiple) * self.multiple // 2**self.levels for side in X.shape[-2:]))

    def _bands(self, image: Tensor) -> Subbands:
        return haar_dwt(image, self.levels, multiple=self.multiple)

    def _low(self, bands: Subbands) -> Tensor:
        return bands.low / 2**self.levels

    def _predict(self, x_LL: Tensor, y_t: Tensor, z: Tensor, t: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return epsilon_theta(y_t, x~, t), fp32, and R^."""
        condition, residual = (x_LL, None) if self.idem is None else self.idem(x_LL, y_t, z)
        inputs = [y_t.to(condition.dtype), condition]
        if self.degree_map:  # Paper: the degree enters through IDEM alone. Here: also as a constant map.
            inputs.append(z.view(-1, 1, 1, 1).expand(-1, 1, *x_LL.shape[-2:]).to(condition.dtype))
        return self.denoiser(torch.cat(inputs, dim=1), t).float(), residual

    def _sample(self, x_LL: Tensor, z: Tensor, seeds: Sequence[int], **options: Any) -> tuple[Tensor, Tensor | None]:
        """Return the sampled low band and R^ of the last step; options as of :meth:`Diffusion.sample`."""
        residual: Tensor | None = None

        def predict(y_t: Tensor, t: Tensor) -> Tensor:
            nonlocal residual
            output, residual = self._predict(x_LL, y_t, z, t)
            return output

        return self.diffusion.sample(predict, x_LL, generators_for(seeds, "wavefrr"), **options), residual

    def _reconstruct(self, y_0: Tensor, x: Subbands) -> tuple[Tensor, list[Tensor]]:
        """Return the image of a restored low band, by Eq. 8 and IDWT, and y^_H of every level, finest first."""
        low = y_0 * 2**self.levels
        corrected: list[Tensor] = []
        for level in reversed(range(self.levels)):
            high = x.high[level] / 2**level
            if self.hfcam:
                high = self.hfcam[level](low / 2 ** (level + 1), high).float()
            corrected.insert(0, high)
            size = (2 * low.shape[-2], 2 * low.shape[-1]) if level else x.size
            low = haar_idwt(Subbands(low, (high * 2**level,), size))
        return low, corrected
