"""Training of ABPN with Eq. 6; the loop is :mod:`retouch_common.training.fit`."""

import logging
import math
from pathlib import Path
from typing import Any

import torch
from retouch_common.losses.adversarial import PatchDiscriminator, discriminator_loss
from retouch_common.training import fit
from retouch_common.training.run_state import initial_weights
from retouch_common.training.task import Sheet, Task
from retouch_common.training.validation import validate_pairs
from torch import Tensor

from abpn.config import Config, TrainConfig
from abpn.data import open_pairs
from abpn.losses import JointLoss, with_condition
from abpn.model import ABPN, ABPNOutput

logger = logging.getLogger(__name__)


def train(config: Config, data: str, out: str | Path, **options: Any) -> Path | None:
    """Train on ``data``, a specification for :func:`abpn.data.open_pairs`, or resume the run ``out``.

    Returns:
        The folder of the final weights, or None if the run was stopped. For options and errors see
        :func:`retouch_common.training.fit.fit`.
    """
    return fit.fit(RetouchingTask(config, data), out, **options)


class RetouchingTask(Task):
    """ABPN and, if ``loss.adversarial`` is not 0, its discriminator, on pairs of photographs."""

    def build(self) -> None:
        """Build the networks and open the data."""
        config, cfg = self.config, self.config.train
        model = ABPN(config.model)
        initial_weights(model, cfg)
        self.data = open_pairs(self.spec, size=cfg.size, split="train", seed=cfg.seed, fit=cfg.fit)
        self.validation = open_pairs(self.spec, size=cfg.size, split="dev", seed=cfg.seed, fit=cfg.fit)
        self.criterion = JointLoss(config.loss, config.model.pyramid).to(self.runner.device)
        self.model = self.add_network("model", model)
        self.discriminator = None
        if config.loss.adversarial:
            # Paper: pix2pix's discriminator, with batch normalisation. Here: with instance normalisation, so that real
            # and fake images in one batch (distributed training needs one pass) do not influence each other.
            self.discriminator = self.add_network("discriminator", PatchDiscriminator(6, norm="instance"))
        if cfg.schedule == "step" and cfg.step_at_epoch and self.step_at >= cfg.steps:
            logger.warning("the learning rate would drop after step %d; the run ends at %d", self.step_at, cfg.steps)

    @property
    def step_at(self) -> int:
        """Steps after which the schedule "step" divides, of ``train.step_at_epoch`` epochs if that is not 0."""
        cfg = self.config.train
        return math.ceil(cfg.step_at_epoch * len(self.data) / cfg.batch_size) if cfg.step_at_epoch else cfg.step_at

    def rate_factor(self, step: int) -> float:
        """Return the learning rate after ``step`` steps of the run, divided by its peak, also for "step"."""
        cfg = self.config.train
        if cfg.schedule == "step" and step >= cfg.warmup:
            return 1.0 if step < self.step_at else 0.1
        return super().rate_factor(step)

    def training_step(self, step: int, batches: Any) -> dict[str, Tensor]:
        """Take one optimiser step of Eq. 6 and return its losses, averaged over processes."""
        runner, cfg = self.runner, self.config.train
        num_levels = levels_of_step(step, cfg)
        trained = [self.model] if self.discriminator is None else [self.model, self.discriminator]
        sums: dict[str, Tensor] = {}
        for _ in range(cfg.accumulate):
            batch = self.to_device({name: cut(image, num_levels, cfg) for name, image in next(batches).items()})
            raw, target = batch["raw"], batch["target"]
            with runner.micro_step(*trained):
                with runner.autocast():
                    output = self.model(raw, num_levels)
                if cfg.channels_last:
                    for R in output.results:  # the losses return channels-first gradients
                        R.register_hook(lambda grad: grad.contiguous(memory_format=torch.channels_last))
                discriminator = runner.unwrap(self.discriminator) if self.discriminator is not None else None
                if discriminator is not None:
                    discriminator.requires_grad_(False)  # trained by its own pass below
                losses = self.criterion(output, target, discriminator)
                runner.backward(losses["loss"])
                if self.discriminator is not None and discriminator is not None:
                    discriminator.requires_grad_(True)
                    real, fake = with_condition(raw, target), with_condition(raw, output.results[0].detach())
                    # Distributed training allows one forward pass per backward pass.
                    logits = self.discriminator(torch.cat([real, fake]))
                    losses["discriminator"] = discriminator_loss(*logits.chunk(2), kind="bce")
                    runner.backward(losses["discriminator"])
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / cfg.accumulate
        return self.apply_gradients(step, sums)

    def validate(self) -> tuple[dict[str, float], Sheet]:
        """Return PSNR (dB) of fixed samples, with the identity for comparison, and rows of an image sheet."""
        num_levels = self.config.train.levels[0]
        return validate_pairs(
            self, lambda model, raw: model(raw, num_levels), lambda output: {"output": output.results[0]}, _sheet_row
        )


def levels_of_step(step: int, cfg: TrainConfig) -> int:
    """Draw l for a step from ``cfg.levels``; the same on every process and after resuming."""
    generator = torch.Generator().manual_seed(cfg.seed * 1_000_003 + step)
    return cfg.levels[int(torch.randint(len(cfg.levels), (), generator=generator))]


def cut(image: Tensor, num_levels: int, cfg: TrainConfig) -> Tensor:
    """Center-crop (N, C, H, W), so that the thumbnail at ``num_levels`` has ``cfg.thumbnail`` pixels at most."""
    side = cfg.thumbnail * 2**num_levels
    if not side or side >= cfg.size:
        return image
    start = (cfg.size - side) // 2
    return image[..., start : start + side, start : start + side]


def _sheet_row(raw: Tensor, target: Tensor, output: ABPNOutput) -> dict[str, Tensor]:
    """Return a row of the image sheet; the change is amplified four times around grey."""
    result, change = output.results[0].clamp(0, 1), (0.5 + 4 * (output.results[0] - raw)).clamp(0, 1)
    row = {"raw": raw, "mask": output.mask, "output": result, "target": target, "change": change}
    return {name: image[0].float().cpu() for name, image in row.items() if image is not None}
