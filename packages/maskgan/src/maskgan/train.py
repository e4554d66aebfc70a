"""Training: one visible loop, from a command line to weights that ``maskgan-edit`` reads.

A run directory holds ``config.yaml``, ``metrics.jsonl``, ``sheets/``, ``checkpoints/`` and, at the end, ``weights/``. A
run that was stopped, killed or cut off by a power failure continues with the command that started it.
"""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from retouch_common.config import dump_yaml, to_dict
from retouch_common.parsing.labels import coloured
from retouch_common.parsing.model import ParsingUNet
from retouch_common.training.continuation import Continuation, initial_weights
from retouch_common.training.ema import EMA
from retouch_common.training.monitor import Monitor
from retouch_common.training.runner import Runner
from retouch_common.training.samplers import EndlessBatches, endless_loader
from retouch_common.training.schedule import learning_rate_factor
from torch import Tensor, nn
from torch.utils.data import default_collate

from maskgan.config import Config
from maskgan.data import open_data
from maskgan.discriminator import Discriminators, Judgement, Situation
from maskgan.losses import r1_penalty
from maskgan.model import MaskGAN, MaskGANOutput, unit
from maskgan.neck import neck_matte, recoloured, skin_colour
from maskgan.objective import Objective, situations

SHEET_ROWS = 6
VALIDATION_FACES = 12

Batch = dict[str, Tensor]


def train(
    config: Config,
    data: str,
    out: str | Path,
    *,
    device: str = "auto",
    tensorboard: bool = False,
    report: Callable[[str], None] = print,
) -> Path:
    """Train, or continue the run in ``out``.

    Args:
        config: Everything about the run.
        data: What :func:`maskgan.data.open_data` reads.
        out: Run directory.
        device: "auto", "cpu" or "cuda".
        tensorboard: Also write TensorBoard event files.
        report: Receives lines for the user.

    Returns:
        The folder of the final weights, for ``maskgan-edit --weights``.

    Raises:
        ValueError: Unusable data or configuration, no face parser, or a run directory of another configuration.
        NonFiniteError: Losses, gradients or weights became NaN or infinite; the last good checkpoint stays.
        OSError: Nothing can be written to ``out``; the last good checkpoint stays.
    """
    out = Path(out)
    cfg = config.train
    with _runner(config, device) as runner:
        runner.seed(cfg.seed)
        run = _Run(config, data, runner)
        start_step = run.continuation.resume(out)
        if runner.is_main:
            out.mkdir(parents=True, exist_ok=True)
            (out / "config.yaml").write_text(dump_yaml(config), encoding="utf-8")
            if start_step:
                report(f"continuing {out} after step {start_step}")
        batches = run.batches(start_step)
        monitor = Monitor(
            out, total_steps=cfg.steps, start_step=start_step, items_per_step=cfg.batch_size, every=cfg.log_every,
            tensorboard=tensorboard, enabled=runner.is_main,
        )  # fmt: skip
        run.continuation.restore_randomness()  # last before the loop: even imports may draw random numbers
        with monitor:
            for step in range(start_step + 1, cfg.steps + 1):
                losses = run.training_step(step, batches)
                monitor.step(step, losses)
                stop = runner.stop_requested()
                if step % cfg.sheet_every == 0 or step == cfg.steps:
                    run.continuation.check_state(step)
                    figures, rows = run.validate()
                    monitor.log(step, figures)
                    monitor.sheet(step, rows)
                if step % cfg.checkpoint_every == 0 or step == cfg.steps or stop:
                    monitor.flush(step)
                    run.continuation.save(out, step)
                if stop and step < cfg.steps:
                    monitor.message(f"stopped after step {step}; the same command continues")
                    return out
        runner.wait()
        if runner.is_main:
            run.averaged.save_pretrained(out / "weights")
            report(f"wrote {out / 'weights'}")
    return out / "weights"


def dry_run(config: Config, data: str, *, device: str = "auto", report: Callable[[str], None] = print) -> None:
    """Build everything, take two steps in memory and say what a run would do; writes nothing.

    Args:
        config: As for :func:`train`.
        data: As for :func:`train`.
        device: As for :func:`train`.
        report: Receives lines for the user.
    """
    with _runner(config, device) as runner:
        runner.seed(config.train.seed)
        run = _Run(config, data, runner)
        batches = run.batches(0)
        losses = run.training_step(1, batches) | run.training_step(2, batches)
        report(dump_yaml(config).rstrip())
        report(f"data: {len(run.data)} faces, {len(run.validation)} for validation")
        report(f"parameters: {sum(p.numel() for p in run.model.parameters()):,}")
        report(f"device: {runner.device}, {runner.num_processes} process(es)")
        report("losses of two steps: " + ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items()))
        report("dry run: nothing was written")


def _runner(config: Config, device: str) -> Runner:
    # Of two discriminators, one rests in every pass; where a component is missing, so does its auto-encoder.
    return Runner(
        precision=config.train.precision,
        accumulate=config.train.accumulate,
        cpu=device == "cpu",
        find_unused_parameters=True,
    )


class _Run:
    """Networks, losses, optimisers and data of a run, and what a step does with them."""

    def __init__(self, config: Config, data: str, runner: Runner) -> None:
        self.config, self.runner = config, runner
        cfg, size = config.train, config.model.size
        if cfg.batch_size // (cfg.accumulate * runner.num_processes) < 2:
            raise ValueError(
                f"train.batch_size={cfg.batch_size} leaves a process and round less than two faces; "
                "unpaired data are made of pairs within a batch"
            )
        labelled_by = cfg.parser or None
        self.data = open_data(
            data, size=size, split="train", seed=cfg.seed, augment=cfg.augment, moved=cfg.moved, parser=labelled_by
        )
        self.validation = open_data(data, size=size, split="dev", seed=cfg.seed, parser=labelled_by)
        self.model: nn.Module = MaskGAN(config.model)
        initial_weights(self.model, cfg.init)
        self.parser: nn.Module | None = None
        if config.loss.parsing:
            self.parser = ParsingUNet.from_pretrained(cfg.parser).requires_grad_(False).to(runner.device)
        self.objective = Objective(config.loss, self.parser).to(runner.device)
        self.discriminators: nn.Module | None = Discriminators(config.model) if config.loss.adversarial else None
        networks = [n for n in (self.model, self.discriminators, self.parser) if n is not None]
        if cfg.channels_last:
            for network in networks:
                network.to(memory_format=torch.channels_last)
        self.ema = EMA(self.model, decay=cfg.ema) if cfg.ema else None
        betas = (cfg.betas[0], cfg.betas[1])
        optimizers = {"model": torch.optim.Adam(self.model.parameters(), lr=cfg.lr, betas=betas)}
        if self.discriminators is not None:
            parameters, lr = self.discriminators.parameters(), cfg.lr * cfg.discriminator_lr
            optimizers["discriminators"] = torch.optim.Adam(parameters, lr=lr, betas=betas)
        self.schedulers = {
            name: torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate)
            for name, optimizer in optimizers.items()
        }
        self.model, optimizers["model"] = runner.prepare(self.model, optimizers["model"])
        if self.ema is not None:
            self.ema.module.to(runner.device)
        trained = {"model": self.model}
        if self.discriminators is not None:
            self.discriminators, optimizers["discriminators"] = runner.prepare(
                self.discriminators, optimizers["discriminators"]
            )
            trained["discriminators"] = self.discriminators
        self.optimizers = optimizers
        self.continuation = Continuation(runner, to_dict(config), trained, optimizers, self.schedulers, self.ema)
        runner.seed(cfg.seed, per_process=True)

    def _learning_rate(self, step: int) -> float:
        cfg = self.config.train
        return learning_rate_factor(
            step, steps=cfg.steps, warmup=cfg.warmup, schedule=cfg.schedule, step_at=cfg.step_at
        )

    def batches(self, start_step: int) -> Any:
        """The endless stream of this process's batches after ``start_step``."""
        cfg, runner = self.config.train, self.runner
        sampler = EndlessBatches(
            len(self.data), batch_size=cfg.batch_size, accumulate=cfg.accumulate, seed=cfg.seed,
            start_step=start_step, process_index=runner.process_index, num_processes=runner.num_processes,
        )  # fmt: skip
        return iter(endless_loader(self.data, sampler, num_workers=cfg.workers))

    def training_step(self, step: int, batches: Any) -> dict[str, Tensor]:
        """One step of the (1+1) strategy; returns the losses, averaged over processes."""
        runner, cfg = self.runner, self.config.train
        trained = [self.model] if self.discriminators is None else [self.model, self.discriminators]
        sums: dict[str, Tensor] = {}
        counts: Counter[str] = Counter()
        for _ in range(cfg.accumulate):
            batch = self._pictures(next(batches))
            with runner.micro_step(*trained):
                for situation in situations(step, cfg.pairing):
                    output, losses = self._update_framework(batch, situation)
                    if self.discriminators is not None:
                        losses |= self._update_discriminators(step, output, batch, situation)
                    for name, value in losses.items():
                        sums[name] = sums.get(name, 0.0) + value.detach()
                    counts.update(losses.keys())
        counts["loss"] = cfg.accumulate  # what is minimised is the sum over both situations
        means = runner.mean({name: value / counts[name] for name, value in sums.items()})
        self.continuation.check_step(step, means)
        if cfg.clip:
            means["gradient_norm"] = runner.clip(self.model, cfg.clip)
        for name, optimizer in self.optimizers.items():
            optimizer.step()
            optimizer.zero_grad()
            self.schedulers[name].step()
        if self.ema is not None:
            self.ema.update(self.model)
        return means

    def _update_framework(self, batch: Batch, situation: Situation) -> tuple[MaskGANOutput, dict[str, Tensor]]:
        """Gradients of Eq. 9."""
        runner = self.runner
        judges = None
        if self.discriminators is not None:
            judges = cast(Discriminators, runner.unwrap(self.discriminators))
            judges.requires_grad_(False)  # their own pass below trains them, this one does not
        source, source_labels, target = self._situated(batch, situation)
        with runner.autocast():
            output = self.model(source, source_labels, target, batch["labels"])
            losses = self.objective(output, target, batch["labels"], situation, judges, (source, source_labels))
        if judges is not None:
            judges.requires_grad_(True)
        losses["loss"] = self.objective.total(losses)
        runner.backward(losses["loss"])
        return output, losses

    def _situated(self, batch: Batch, situation: Situation) -> tuple[Tensor, Tensor, Tensor]:
        """x^s, m^s and x^t: the same face, perhaps moved, or the next one's appearance for every face."""
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
        """Gradients of Eq. 3 and, in one of ``r1_every`` passes, of R1."""
        runner, config = self.runner, self.config.loss
        assert self.discriminators is not None
        losses: dict[str, Tensor] = {}
        if config.r1 and (step + 1) // 2 % config.r1_every == 0:  # an odd step and the even one after: both situations
            # In fp32: gradients of gradients in bf16 end in a division by zero inside oneDNN for some sizes of batches.
            real = batch["image"].detach().requires_grad_(True)
            judged: Judgement = runner.forward_alone(self.discriminators, real, batch["labels"], situation)
            losses["r1"] = r1_penalty(judged.logits, real)
            runner.backward(config.r1 * config.r1_every * losses["r1"])
        with runner.autocast():
            losses["discriminator"] = self.objective.discriminator(
                cast(Discriminators, self.discriminators), output.image, batch["image"], batch["labels"], situation
            )
        runner.backward(losses["discriminator"])
        return losses

    @property
    def averaged(self) -> MaskGAN:
        """The weights to keep: the moving average if there is one."""
        model = self.ema.module if self.ema is not None else self.runner.unwrap(self.model)
        return cast(MaskGAN, model)

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], list[dict[str, Tensor]]]:
        """Draw fixed validation faces, as they are and with one another's appearance; figures and rows of a sheet."""
        model = self.averaged
        was_training = model.training
        model.eval()
        count = min(VALIDATION_FACES, len(self.validation))
        faces = self._pictures(default_collate([self.validation[index] for index in range(count)]))
        image, labels = faces["image"], faces["labels"]
        with self.runner.autocast():
            codes = model.encode(image, labels)
            same = model.generate(codes, image, labels).float()
            other = model(image.roll(1, dims=0), labels.roll(1, dims=0), image, labels).image.float()
            agreement = {}
            if self.parser is not None:
                found = self.parser(unit(other.clamp(-1, 1))).argmax(dim=1)
                agreement["val_parsing"] = float((found == labels).float().mean())
        model.train(was_training)
        error = ((same.clamp(-1, 1) - image) / 2).square()
        inside = (labels != 0)[:, None].expand_as(error)
        figures = {"val_psnr": _psnr(error), "val_psnr_face": _psnr(error[inside]), **agreement}
        rows = []
        for index in range(min(count, SHEET_ROWS)):
            mask = torch.from_numpy(coloured(labels[index].cpu().numpy().astype(np.uint8))).permute(2, 0, 1) / 255
            row = {"face": image[index], "as it is": same[index], "appearance": image[index - 1], "drawn": other[index]}
            shown = {name: unit(picture.float().cpu()) for name, picture in row.items()}
            rows.append({"face": shown.pop("face"), "mask": mask, **shown})
        return figures, rows

    def _pictures(self, batch: Batch) -> Batch:
        batch = self.runner.to_device(batch)
        if not self.config.train.channels_last:
            return batch
        last = {"memory_format": torch.channels_last}
        return {name: value.contiguous(**last) if value.ndim == 4 else value for name, value in batch.items()}


def _psnr(error: Tensor) -> float:
    """In dB, of squared errors of pictures in [0, 1]."""
    return -10 * math.log10(max(float(error.mean()), 1e-10))
