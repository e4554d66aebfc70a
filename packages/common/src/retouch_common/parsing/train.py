"""Training the parser: one visible loop, from a command line to weights that :class:`FaceParser` reads.

A run directory holds ``config.yaml``, ``metrics.jsonl``, ``sheets/``, ``checkpoints/`` and, when it is finished,
``weights/``. A run that was stopped or killed continues with the command that started it.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate

from retouch_common.config import dump_yaml, to_dict
from retouch_common.data.portraits import mesh_of
from retouch_common.parsing.config import Config
from retouch_common.parsing.data import find_pairs, open_data
from retouch_common.parsing.evaluate import MESH_PARTS, mesh_f1
from retouch_common.parsing.labels import COLOURS, NUM_CLASSES
from retouch_common.parsing.losses import dice_loss, parsing_loss
from retouch_common.parsing.metrics import confusion, figures
from retouch_common.parsing.model import ParsingUNet
from retouch_common.parsing.parser import FaceParser
from retouch_common.training.continuation import Continuation, initial_weights
from retouch_common.training.ema import EMA
from retouch_common.training.monitor import Monitor
from retouch_common.training.runner import Runner
from retouch_common.training.samplers import EndlessBatches, endless_loader
from retouch_common.training.schedule import learning_rate_factor

VALIDATION_BATCH, HARD_SAMPLES, SHOWN_BATCHES = 4, 24, 3


def train(
    config: Config,
    data: str,
    out: str | Path,
    *,
    device: str = "auto",
    tensorboard: bool = False,
    report: Callable[[str], None] = print,
) -> Path | None:
    """Train a parser, or continue the run in ``out``.

    Args:
        config: Everything about the run.
        data: What :func:`retouch_common.parsing.data.open_data` reads.
        out: Run directory.
        device: "auto", "cpu" or "cuda".
        tensorboard: Also write TensorBoard event files.
        report: Receives lines for the user.

    Returns:
        The folder of the weights, or None if the run was stopped.

    Raises:
        ValueError: Unusable data or configuration, or a run directory of another configuration.
        NonFiniteError: Losses, gradients or weights became NaN or infinite; the last good checkpoint stays.
        OSError: Nothing can be written to ``out``; the last good checkpoint stays.
    """
    cfg, out = config.train, Path(out)
    with Runner(precision=cfg.precision, accumulate=cfg.accumulate, cpu=device == "cpu") as runner:
        runner.seed(cfg.seed)
        run = _Run(config, data, runner)
        start_step = run.continuation.resume(out)
        if runner.is_main:
            out.mkdir(parents=True, exist_ok=True)
            (out / "config.yaml").write_text(dump_yaml(config), encoding="utf-8")
            report(f"continuing after step {start_step}" if start_step else f"training for {cfg.steps} steps")
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
                    measured, rows = run.validate()
                    monitor.log(step, measured)
                    monitor.sheet(step, rows)
                    monitor.message(_summary(step, measured))
                if step % cfg.checkpoint_every == 0 or step == cfg.steps or stop:
                    monitor.flush(step)
                    run.continuation.save(out, step)
                if stop and step < cfg.steps:
                    monitor.message(f"stopped after step {step}; the same command continues")
                    return None
        runner.wait()
        if runner.is_main:
            kept = copy.deepcopy(run.averaged)
            (kept.half() if cfg.half else kept).save_pretrained(out / "weights")
            report(f"wrote {out / 'weights'}")
        return out / "weights"


def dry_run(config: Config, data: str, *, device: str = "auto", report: Callable[[str], None] = print) -> None:
    """Build everything, take one step in memory and say what a run would do; writes nothing but prepared portraits.

    Args:
        config: As for :func:`train`.
        data: As for :func:`train`.
        device: As for :func:`train`.
        report: Receives lines for the user.
    """
    cfg = config.train
    with Runner(precision=cfg.precision, accumulate=cfg.accumulate, cpu=device == "cpu") as runner:
        runner.seed(cfg.seed)
        run = _Run(config, data, runner)
        losses = run.training_step(1, run.batches(0))
        report(dump_yaml(config).rstrip())
        report(f"data: {len(run.data)} faces for training, {len(run.validation)} for validation")
        report(f"parameters: {sum(p.numel() for p in run.model.parameters()):,}")
        report(f"device: {runner.device}, {runner.num_processes} process(es)")
        report("losses of one step: " + ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items()))
        report("dry run: no run directory was written")


class _Run:
    """Network, optimiser and data, and what a step does with them."""

    def __init__(self, config: Config, data: str, runner: Runner) -> None:
        cfg, size = config.train, config.model.size
        self.config, self.runner = config, runner
        self.data = open_data(
            data, size=size, split="train", seed=cfg.seed, augmentation=cfg.augmentation, extra=cfg.extra,
            teacher=cfg.teacher,
        )  # fmt: skip
        self.validation = open_data(data, size=size, split="dev", teacher=cfg.teacher)
        self.hard = open_data(data, size=size, split="dev", seed=1, augmentation="strong", teacher=cfg.teacher)
        self.meshed = [picture for picture, _ in find_pairs(data, "dev") if mesh_of(picture) is not None]
        model = ParsingUNet(config.model)
        initial_weights(model, cfg.init)
        model.train()
        if cfg.channels_last:
            model.to(memory_format=torch.channels_last)
        model.to(runner.device)
        self.ema = EMA(model, decay=cfg.ema) if cfg.ema else None
        optimizer = torch.optim.Adam(model.parameters(), lr=cfg.lr, betas=(cfg.betas[0], cfg.betas[1]))
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(step, steps=cfg.steps, warmup=cfg.warmup, schedule=cfg.schedule),
        )
        self.model: nn.Module
        self.model, self.optimizer = runner.prepare(model, optimizer)
        self.continuation = Continuation(
            runner, to_dict(config), {"model": self.model}, {"model": self.optimizer}, {"model": self.scheduler},
            self.ema,
        )  # fmt: skip
        runner.seed(cfg.seed, per_process=True)

    def batches(self, start_step: int) -> Any:
        """The endless stream of this process's batches after ``start_step``."""
        cfg, runner = self.config.train, self.runner
        sampler = EndlessBatches(
            len(self.data), batch_size=cfg.batch_size, accumulate=cfg.accumulate, seed=cfg.seed,
            start_step=start_step, process_index=runner.process_index, num_processes=runner.num_processes,
        )  # fmt: skip
        return iter(endless_loader(self.data, sampler, num_workers=cfg.workers))

    def training_step(self, step: int, batches: Any) -> dict[str, Tensor]:
        """One optimiser step; returns the losses, averaged over processes."""
        runner, cfg = self.runner, self.config.train
        sums: dict[str, Tensor] = {}
        for _ in range(cfg.accumulate):
            batch = self._pictures(next(batches))
            with runner.micro_step(self.model):
                with runner.autocast():
                    logits = self.model(batch["image"])
                terms = {"cross_entropy": parsing_loss(logits, batch["labels"], self.config.loss.class_weights)}
                loss = terms["cross_entropy"]
                if self.config.loss.dice:
                    terms["dice"] = dice_loss(logits, batch["labels"])
                    loss = loss + self.config.loss.dice * terms["dice"]
                runner.backward(loss)
            known = batch["labels"] < NUM_CLASSES
            accuracy = (logits.detach().argmax(1) == batch["labels"])[known].float().mean()
            named = {"loss": loss, **(terms if len(terms) > 1 else {}), "accuracy": accuracy}
            for name, value in ((name, value.detach()) for name, value in named.items()):
                sums[name] = sums.get(name, torch.zeros((), device=value.device)) + value / cfg.accumulate
        means = runner.mean(sums)
        self.continuation.check_step(step, means)
        if cfg.clip:
            means["gradient_norm"] = runner.clip(self.model, cfg.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        if self.ema is not None:
            self.ema.update(self.model)
        return means

    @property
    def averaged(self) -> ParsingUNet:
        """The weights to keep: the moving average if there is one."""
        kept = self.ema.module if self.ema is not None else self.runner.unwrap(self.model)
        assert isinstance(kept, ParsingUNet)
        return kept

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], list[dict[str, Tensor]]]:
        """Figures and pictures of faces left out of training.

        They are aligned and as photographed ("val"), augmented ("hard"), and compared with their meshes ("mesh").
        """
        model = self.averaged
        was_training = model.training
        model.eval()
        weights = self.config.loss.class_weights
        measured: dict[str, float] = {}
        rows: list[dict[str, Tensor]] = []
        for name, faces, count in (("val", self.validation, len(self.validation)), ("hard", self.hard, HARD_SAMPLES)):
            matrix, loss = np.zeros((NUM_CLASSES, NUM_CLASSES), np.int64), 0.0
            for first in range(0, count, VALIDATION_BATCH):
                batch = self._pictures(
                    default_collate([faces[i] for i in range(first, min(first + VALIDATION_BATCH, count))])
                )
                with self.runner.autocast():
                    logits = model(batch["image"])
                found = logits.argmax(1)
                loss += float(parsing_loss(logits, batch["labels"], weights)) * len(found) / count
                matrix += confusion(found, batch["labels"])
                if first < SHOWN_BATCHES * VALIDATION_BATCH:
                    rows += [_row(*triple) for triple in zip(batch["image"], batch["labels"], found, strict=True)][::2]
            measured |= {f"{name}_loss": loss, **{f"{name}_{key}": value for key, value in figures(matrix).items()}}
        if self.meshed:
            found_parts = mesh_f1(FaceParser(model, str(self.runner.device)), self.meshed)
            measured |= {f"mesh_f1_{name}": value for name, value in found_parts.items()}
        model.train(was_training)
        return measured, rows

    def _pictures(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        batch = self.runner.to_device(batch)
        if self.config.train.channels_last:
            batch["image"] = batch["image"].contiguous(memory_format=torch.channels_last)
        return batch


def _row(image: Tensor, truth: Tensor, found: Tensor) -> dict[str, Tensor]:
    palette = torch.full((256, 3), 0.5)  # grey where nothing, or not all, is known
    palette[:NUM_CLASSES] = torch.from_numpy(COLOURS).float() / 255
    colours = {name: palette[labels.cpu()].permute(2, 0, 1) for name, labels in (("labels", truth), ("parsed", found))}
    return {"picture": image.cpu(), **colours, "wrong": ((truth != found) & (truth < NUM_CLASSES)).float()[None].cpu()}


def _summary(step: int, measured: dict[str, float]) -> str:
    told = [
        f"{name}: accuracy {measured[f'{name}_pixel_accuracy']:.4f}, mean F1 {measured[f'{name}_f1_mean']:.4f}"
        for name in ("val", "hard")
    ]
    parts = [f"{name} {measured[f'mesh_f1_{name}']:.3f}" for name in MESH_PARTS if f"mesh_f1_{name}" in measured]
    return f"step {step}: " + "; ".join(told + ([f"F1 against the mesh: {', '.join(parts)}"] if parts else []))
