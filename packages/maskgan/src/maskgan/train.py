"""Training task of MaskGAN: networks, a step of the (1+1) strategy, validation.

The loop is :mod:`retouch_common.training.fit`.
"""

import math
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from retouch_common.parsing.labels import coloured
from retouch_common.parsing.model import ParsingUNet
from retouch_common.ranges import to_unit
from retouch_common.training import fit
from retouch_common.training.run_state import initial_weights
from retouch_common.training.task import Task
from retouch_common.training.validation import evaluating
from torch import Tensor, nn
from torch.utils.data import default_collate

from maskgan.config import Config
from maskgan.data import open_faces
from maskgan.discriminator import DiscriminatorOutput, Discriminators, Situation
from maskgan.losses import r1_penalty
from maskgan.model import MaskGAN, MaskGANOutput
from maskgan.neck import neck_matte, recoloured, skin_colour
from maskgan.objective import Objective, situations

SHEET_ROWS = 6
VALIDATION_FACES = 12
R1_EVERY = 16  # passes of a discriminator between two with the penalty, which counts as many times; as StyleGAN2

Batch = dict[str, Tensor]


def train(config: Config, data: str, out: str | Path, **options: Any) -> Path | None:
    """Train on ``data``, a specification for :func:`maskgan.data.open_faces`, or resume the run in ``out``.

    Returns:
        The folder of the final weights, for ``maskgan-edit --weights``; None if the run was asked to stop. For options
        and errors see :func:`retouch_common.training.fit.fit`.
    """
    return fit.fit(FaceTask(config, data), out, **options)


class FaceTask(Task):
    """MaskGAN and, with ``loss.adversarial``, its discriminators; for the arguments see :func:`train`."""

    # Every pass uses one of two discriminators, and the auto-encoders of the components present.
    find_unused_parameters: ClassVar[bool] = True
    dry_steps = (1, 2)  # paired and unpaired data

    def build(self) -> None:
        """Build the networks and open the faces."""
        config, cfg, size = self.config, self.config.train, self.config.model.size
        if cfg.pairing != "paired" and cfg.batch_size // (cfg.accumulate * self.runner.num_processes) < 2:
            raise ValueError(
                f"train.batch_size={cfg.batch_size} leaves a process and round less than two faces; "
                "unpaired data are made of pairs within a batch"
            )
        model = MaskGAN(config.model)
        initial_weights(model, cfg)
        parser = cfg.parser or None
        self.data = open_faces(
            self.spec, size=size, split="train", seed=cfg.seed, augment=cfg.augment, moved=cfg.moved, parser=parser
        )
        self.validation = open_faces(self.spec, size=size, split="dev", seed=cfg.seed, parser=parser)
        self.parser: nn.Module | None = None
        if config.loss.parsing:
            self.parser = ParsingUNet.from_pretrained(cfg.parser).requires_grad_(False).to(self.runner.device)
            if cfg.channels_last:
                self.parser.to(memory_format=torch.channels_last)
        self.objective = Objective(config.loss, self.parser).to(self.runner.device)
        self.model = self.add_network("model", model)
        self.discriminators: nn.Module | None = None
        if config.loss.adversarial:
            self.discriminators = self.add_network(
                "discriminators", Discriminators(config.model), lr=cfg.lr * cfg.discriminator_lr
            )

    def training_step(self, step: int, batches: Any) -> dict[str, Tensor]:
        """Take one step of the (1+1) strategy; return its losses, averaged over processes."""
        runner, cfg = self.runner, self.config.train
        trained = [self.model] if self.discriminators is None else [self.model, self.discriminators]
        sums: dict[str, Tensor] = {}
        counts: Counter[str] = Counter()
        for _ in range(cfg.accumulate):
            batch = self.to_device(next(batches))
            with runner.micro_step(*trained):
                for situation in situations(step, cfg.pairing):
                    output, losses = self._update_generator(step, batch, situation)
                    if self.discriminators is not None:
                        losses |= self._update_discriminators(step, output, batch, situation)
                    for name, value in losses.items():
                        sums[name] = sums.get(name, 0.0) + value.detach()
                    counts.update(losses.keys())
        counts["loss"] = cfg.accumulate  # the sum over both situations is minimised
        return self.apply_gradients(step, {name: value / counts[name] for name, value in sums.items()})

    def _update_generator(
        self, step: int, batch: Batch, situation: Situation
    ) -> tuple[MaskGANOutput, dict[str, Tensor]]:
        """Gradients of Eq. 9."""
        runner = self.runner
        frozen = None
        if self.discriminators is not None and step > self.config.train.adversarial_warmup:
            frozen = cast(Discriminators, runner.unwrap(self.discriminators))
            frozen.requires_grad_(False)  # in this pass only
        source, source_labels, target = self._situated(batch, situation)
        with runner.autocast():
            output = self.model(source, source_labels, target, batch["labels"])
            losses = self.objective(output, target, batch["labels"], situation, frozen, (source, source_labels))
        if frozen is not None:
            frozen.requires_grad_(True)
        losses["loss"] = self.objective.total(losses)
        runner.backward(losses["loss"])
        return output, losses

    def _situated(self, batch: Batch, situation: Situation) -> tuple[Tensor, Tensor, Tensor]:
        """Return x^s, m^s and x^t: the same face, possibly in another pose, or every face's neighbour as its source."""
        target, labels = batch["image"], batch["labels"]
        if situation == "paired":
            return batch.get("source", target), batch.get("source_labels", labels), target
        source, source_labels = target.roll(1, dims=0), labels.roll(1, dims=0)
        if self.config.train.neck:
            matte = neck_matte(target, labels)
            target = recoloured(target, matte, skin_colour(target, labels), skin_colour(source, source_labels))
        return source, source_labels, target

    def _update_discriminators(
        self, step: int, output: MaskGANOutput, batch: Batch, situation: Situation
    ) -> dict[str, Tensor]:
        """Gradients of Eq. 3 and, every ``R1_EVERY`` passes, of R1."""
        runner, config = self.runner, self.config.loss
        assert self.discriminators is not None
        losses: dict[str, Tensor] = {}
        if config.r1 and (step + 1) // 2 % R1_EVERY == 0:  # an odd step and the even one after it: both situations
            # In fp32: second-order gradients in bf16 divide by zero inside oneDNN for some batch sizes.
            real = batch["image"].detach().requires_grad_(True)
            output_real: DiscriminatorOutput = runner.forward_unsynced(
                self.discriminators, real, batch["labels"], situation
            )
            losses["r1"] = r1_penalty(output_real.logits, real)
            runner.backward(config.r1 * R1_EVERY * losses["r1"])
        with runner.autocast():
            losses["discriminator"] = self.objective.discriminator(
                cast(Discriminators, self.discriminators), output.image, batch["image"], batch["labels"], situation
            )
        runner.backward(losses["discriminator"])
        return losses

    def validate(self) -> tuple[dict[str, float], list[dict[str, Tensor]]]:
        """Generate validation faces with their own and with one another's appearance; return metrics and sheet rows."""
        model: MaskGAN = self.averaged
        count = min(VALIDATION_FACES, len(self.validation))
        faces = self.to_device(default_collate([self.validation[index] for index in range(count)]))
        image, labels = faces["image"], faces["labels"]
        with evaluating(model), self.runner.autocast():
            codes = model.encode(image, labels)
            same = model.generate(codes, image, labels).float()
            other = model(image.roll(1, dims=0), labels.roll(1, dims=0), image, labels).image.float()
            agreement = {}
            if self.parser is not None:
                found = self.parser(to_unit(other.clamp(-1, 1))).argmax(dim=1)
                agreement["val_parsing"] = float((found == labels).float().mean())
        error = ((same.clamp(-1, 1) - image) / 2).square()
        inside = (labels != 0)[:, None].expand_as(error)
        metrics = {"val_psnr": _psnr(error), "val_psnr_face": _psnr(error[inside]), **agreement}
        rows = []
        for index in range(min(count, SHEET_ROWS)):
            mask = torch.from_numpy(coloured(labels[index].cpu().numpy().astype(np.uint8))).permute(2, 0, 1) / 255
            row = {"face": image[index], "as it is": same[index], "appearance": image[index - 1], "drawn": other[index]}
            shown = {name: to_unit(value.float().cpu()) for name, value in row.items()}
            rows.append({"face": shown.pop("face"), "mask": mask, **shown})
        return metrics, rows


def _psnr(error: Tensor) -> float:
    """Return the PSNR in dB of squared errors of images in [0, 1]."""
    return -10 * math.log10(max(float(error.mean()), 1e-10))
