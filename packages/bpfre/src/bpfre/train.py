"""Training of BPFRe with Eq. 12; the loop is :mod:`retouch_common.training.fit`.

The run directory also holds ``lists.json``, which says which images are paired and which are not.
"""

import json
from pathlib import Path
from typing import Any, cast

import torch
from retouch_common.training import fit
from retouch_common.training.run_state import initial_weights
from retouch_common.training.task import Sheet, Task
from retouch_common.training.validation import validate_pairs
from torch import Tensor, nn

from bpfre.attention import merged_map
from bpfre.config import Config
from bpfre.data import limit_pairs, open_face_pairs
from bpfre.discriminator import Discriminator
from bpfre.losses import discriminator_loss, r1_penalty
from bpfre.model import BPFRe, BPFReOutput
from bpfre.objective import Objective, full_size_map


def train(config: Config, data: str, out: str | Path, **options: Any) -> Path | None:
    """Train on ``data``, a specification for :func:`bpfre.data.open_face_pairs`, or resume the run in ``out``.

    Returns:
        The folder of the final weights, or None if the run was stopped. For options and errors see
        :func:`retouch_common.training.fit.fit`.
    """
    return fit.fit(RetouchingTask(config, data), out, **options)


class RetouchingTask(Task):
    """BPFRe and, if ``loss.adversarial`` is not 0, its discriminator, on few pairs and on unpaired images.

    The discriminator is trained only in steps with unpaired images.
    """

    def __init__(self, config: Config, data: str) -> None:
        super().__init__(config, data)
        every = config.train.unpaired_every
        self.dry_steps = (every, every)  # the first step with unpaired images

    def build(self) -> None:
        """Build the networks and open the data."""
        config, cfg, size = self.config, self.config.train, self.config.model.size
        model = BPFRe(config.model)
        model.metadata = {"task": cfg.task}
        initial_weights(model, cfg)
        pairs = open_face_pairs(self.spec, size=size, split="train", seed=cfg.seed, task=cfg.task)
        self.data = limit_pairs(pairs, fraction=cfg.paired_fraction, seed=cfg.seed)
        self.validation = open_face_pairs(self.spec, size=size, split="dev", seed=cfg.seed, task=cfg.task)
        self.objective = Objective(config.loss).to(self.runner.device)
        self.model = self.add_network("model", model, _parameter_groups(model, cfg.lr, cfg.unet_lr))
        self.discriminator: nn.Module | None = None
        if config.loss.adversarial:
            discriminator = Discriminator(config.model.discriminator_channels, patch=config.model.patch)
            self.discriminator = self.add_network(
                "discriminator", discriminator, betas=(0.0, 0.99), every=cfg.unpaired_every
            )

    def run_files(self) -> dict[str, str]:
        """Return the lists of paired and unpaired images."""
        return {"lists.json": json.dumps(self.data.lists)}

    def describe_data(self) -> str:
        """Return the numbers of pairs and unpaired images."""
        lists = self.data.lists
        return (
            f"{len(lists['paired'])} pairs, {len(lists['raw'])} images in each unpaired stream, "
            f"{len(self.validation)} pairs for validation"
        )

    def batches(self, start_step: int) -> dict[str, Any]:
        """Return this process's endless batches after ``start_step``, paired and unpaired."""
        unpaired = start_step // self.config.train.unpaired_every
        starts = {"paired": start_step, "raw": unpaired, "retouched": unpaired}
        return {name: self.stream(getattr(self.data, name), first) for name, first in starts.items()}

    def training_step(self, step: int, batches: dict[str, Any]) -> dict[str, Tensor]:
        """Take one optimiser step of Eq. 12 and return its losses, averaged over processes."""
        runner, cfg = self.runner, self.config.train
        with_unpaired = step % cfg.unpaired_every == 0
        adversarial = with_unpaired and self.discriminator is not None
        trained: list[nn.Module] = [self.model]
        if adversarial and self.discriminator is not None:
            trained.append(self.discriminator)
        sums: dict[str, Tensor] = {}
        for _ in range(cfg.accumulate):
            paired = self.to_device(next(batches["paired"]))
            raw, target = paired["raw"], paired["target"]
            all_raw, all_retouched = raw, target
            if with_unpaired:
                all_raw = torch.cat([raw, self.to_device(next(batches["raw"]))["raw"]])
                all_retouched = torch.cat([target, self.to_device(next(batches["retouched"]))["target"]])
            with runner.micro_step(*trained):
                losses = self._update_networks(all_raw, target, all_retouched if with_unpaired else None, adversarial)
                if adversarial:
                    losses |= self._update_discriminator(step, all_raw, all_retouched)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / cfg.accumulate
        return self.apply_gradients(step, sums, skip=() if adversarial else ("discriminator",))

    def _update_networks(
        self, all_raw: Tensor, target: Tensor, all_retouched: Tensor | None, adversarial: bool
    ) -> dict[str, Tensor]:
        """Accumulate gradients of L_blem + L_cons + L_adv^synt; the first ``len(target)`` raw images are paired."""
        runner, count = self.runner, len(target)
        if not (self.config.loss.identity and self.config.model.decoder):
            all_retouched = None
        # Distributed training allows one forward pass per backward pass.
        images = all_raw if all_retouched is None else torch.cat([all_raw, all_retouched])
        with runner.autocast():
            output: BPFReOutput = self.model(images)
        raw_part, retouched_part = split(output, len(all_raw))
        self.output = raw_part  # for the discriminator's pass
        losses = self.objective(split(raw_part, count)[0], all_raw[:count], target)
        if all_retouched is not None:
            losses |= self.objective.identity(retouched_part, all_retouched)
        if adversarial:
            discriminator = runner.unwrap(cast(nn.Module, self.discriminator))
            discriminator.requires_grad_(False)  # trained by its own pass below
            with runner.autocast():
                logits = discriminator(raw_part.result)
            losses |= self.objective.adversarial(logits, raw_part)
            discriminator.requires_grad_(True)
        losses["loss"] = self.objective.total(losses)
        runner.backward(losses["loss"])
        return losses

    def _update_discriminator(self, step: int, all_raw: Tensor, all_retouched: Tensor) -> dict[str, Tensor]:
        """Accumulate gradients of Eq. 10 and, in every ``r1_every``-th of these steps, of R1."""
        runner, config = self.runner, self.config.loss
        assert self.discriminator is not None
        losses: dict[str, Tensor] = {}
        if config.r1 and (step // self.config.train.unpaired_every) % config.r1_every == 0:
            # In fp32: second-order gradients in bf16 divide by zero inside oneDNN at some batch sizes.
            retouched = all_retouched.detach().requires_grad_(True)
            losses["r1"] = r1_penalty(runner.forward_unsynced(self.discriminator, retouched), retouched)
            runner.backward(config.r1 * config.r1_every * losses["r1"])
        fake = self.output.result.detach()
        with runner.autocast():
            parts = [len(all_raw), len(fake), len(all_retouched)]
            logits = self.discriminator(torch.cat([all_raw, fake.to(all_raw.dtype), all_retouched]), parts)
        on_raw, on_fake, on_retouched = logits.split(parts)
        M = full_size_map(self.output, logits.shape[-1]).detach()
        losses |= {"discriminator": discriminator_loss(on_raw, on_fake, on_retouched, M), "mask_mean": M.mean()}
        runner.backward(losses["discriminator"])
        return losses

    def validate(self) -> tuple[dict[str, float], Sheet]:
        """Return PSNR (dB) of fixed samples, with the identity for comparison, and rows of an image sheet."""
        return validate_pairs(
            self,
            lambda model, raw: model(raw),
            lambda output: {"coarse": output.coarse, "refined": output.refined},
            _sheet_row,
        )


def _parameter_groups(model: BPFRe, lr: float, unet_lr: float) -> list[dict[str, Any]]:
    """Return parameter groups, with the U-Net's learning rate at ``unet_lr`` times that of other layers."""
    unet: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        (unet if name.startswith(("encoder.", "decoder.")) else others).append(parameter)
    groups: list[dict[str, Any]] = [{"params": unet, "lr": lr * unet_lr}]
    return [*groups, {"params": others, "lr": lr}] if others else groups


def split(output: BPFReOutput, count: int) -> tuple[BPFReOutput, BPFReOutput]:
    """Split the output of a batch into that of the first ``count`` images and of the others."""

    def part(which: slice) -> BPFReOutput:
        return BPFReOutput(
            None if output.coarse is None else output.coarse[which],
            None if output.refined is None else output.refined[which],
            [M[which] for M in output.attention_coarse],
            [M[which] for M in output.attention_refined],
        )

    return part(slice(count)), part(slice(count, None))


def _sheet_row(raw: Tensor, target: Tensor, output: BPFReOutput) -> dict[str, Tensor]:
    """Return a row of the image sheet: raw, M^{E2D}, stage one, M^{D2G}, stage two, target."""
    stages = (
        ("M E2D", output.attention_coarse, "stage one", output.coarse),
        ("M D2G", output.attention_refined, "stage two", output.refined),
    )
    row = {"raw": raw}
    for map_name, maps, name, image in stages:
        if maps:
            row[map_name] = merged_map(maps, raw.shape[-1])
        if image is not None:
            row[name] = image.clamp(0, 1)
    row["target"] = target
    return {name: image[0].float().cpu() for name, image in row.items()}
