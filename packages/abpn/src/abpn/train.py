"""Training: one visible loop, from a command line to weights that ``abpn-retouch`` reads.

A run directory holds ``config.yaml``, ``metrics.jsonl``, ``sheets/``, ``checkpoints/`` and, at the end, ``weights/``.
A run that was stopped, killed or cut off by a power failure continues with the command that started it.
"""

import math
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, cast

import torch
from retouch_common.config import dump_yaml, to_dict
from retouch_common.data.pairs import open_pairs
from retouch_common.losses.adversarial import PatchDiscriminator, discriminator_loss
from retouch_common.losses.region import difference_mask
from retouch_common.training.continuation import Continuation, initial_weights
from retouch_common.training.ema import EMA
from retouch_common.training.monitor import Monitor
from retouch_common.training.runner import Runner
from retouch_common.training.samplers import EndlessBatches, endless_loader
from retouch_common.training.schedule import learning_rate_factor
from torch import Tensor, nn

from abpn.config import Config, TrainConfig
from abpn.losses import JointLoss
from abpn.model import ABPN

SHEET_ROWS = 6
VALIDATION_SAMPLES = 24


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
        data: What :func:`retouch_common.data.pairs.open_pairs` reads: a folder with ``raw/`` and ``target/``, FFHQR,
            CRHD-3K, or ``faces:DIR``.
        out: Run directory.
        device: "auto", "cpu" or "cuda".
        tensorboard: Also write TensorBoard event files.
        report: Receives lines for the user.

    Returns:
        The folder of the final weights, for ``abpn-retouch --weights``.

    Raises:
        ValueError: Unusable data or configuration, or a run directory of another configuration.
        NonFiniteError: Losses, gradients or weights became NaN or infinite; the last good checkpoint stays.
        OSError: Nothing can be written to ``out``; the last good checkpoint stays.
    """
    out = Path(out)
    cfg = config.train
    with Runner(precision=cfg.precision, accumulate=cfg.accumulate, cpu=device == "cpu") as runner:
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
    """Build everything, take one step in memory and say what a run would do; writes nothing.

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
        report(f"data: {run.num_samples} pictures for training, {run.num_validation} for validation")
        report(f"parameters: {sum(p.numel() for p in run.model.parameters()):,}")
        report(f"device: {runner.device}, {runner.num_processes} process(es)")
        report("losses of one step: " + ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items()))
        report("dry run: nothing was written")


class _Run:
    """Network, loss, optimisers and data of a run, and what a step does with them."""

    def __init__(self, config: Config, data: str, runner: Runner) -> None:
        self.config = config
        self.runner = runner
        cfg = config.train
        self.data = open_pairs(data, size=cfg.size, split="train", seed=cfg.seed, fit=cfg.fit)
        self.validation = open_pairs(data, size=cfg.size, split="dev", seed=cfg.seed, fit=cfg.fit)
        self.num_samples, self.num_validation = len(cast(Sized, self.data)), len(cast(Sized, self.validation))

        self.model: nn.Module = ABPN(config.model)
        initial_weights(self.model, cfg.init)
        if cfg.channels_last:
            self.model = self.model.to(memory_format=torch.channels_last)
        self.criterion = JointLoss(config.loss, config.model.pyramid).to(runner.device)
        self.ema = EMA(self.model, decay=cfg.ema) if cfg.ema else None
        self.discriminator: nn.Module | None = PatchDiscriminator() if config.loss.adversarial else None

        betas = (cfg.betas[0], cfg.betas[1])
        self.optimizers = {"model": torch.optim.Adam(self.model.parameters(), lr=cfg.lr, betas=betas)}
        if self.discriminator is not None:
            self.optimizers["discriminator"] = torch.optim.Adam(self.discriminator.parameters(), lr=cfg.lr, betas=betas)
        self.schedulers = {
            name: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: self._learning_rate(step))
            for name, optimizer in self.optimizers.items()
        }
        self.model, self.optimizers["model"] = runner.prepare(self.model, self.optimizers["model"])
        if self.ema is not None:
            self.ema.module.to(runner.device)
        if self.discriminator is not None:
            self.discriminator, self.optimizers["discriminator"] = runner.prepare(
                self.discriminator, self.optimizers["discriminator"]
            )
        networks = {"model": self.model}
        if self.discriminator is not None:
            networks["discriminator"] = self.discriminator
        self.continuation = Continuation(runner, to_dict(config), networks, self.optimizers, self.schedulers, self.ema)
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
            self.num_samples, batch_size=cfg.batch_size, accumulate=cfg.accumulate, seed=cfg.seed,
            start_step=start_step, process_index=runner.process_index, num_processes=runner.num_processes,
        )  # fmt: skip
        return iter(endless_loader(self.data, sampler, num_workers=cfg.workers))

    def training_step(self, step: int, batches: Any) -> dict[str, Tensor]:
        """One optimiser step; returns the losses, averaged over processes."""
        runner, cfg = self.runner, self.config.train
        num_levels = levels_of_step(step, cfg)
        trained = [self.model] if self.discriminator is None else [self.model, self.discriminator]
        sums: dict[str, Tensor] = {}
        for _ in range(cfg.accumulate):
            batch = runner.to_device(next(batches))
            raw, target = (self._layout(cut(batch[name], num_levels, cfg)) for name in ("raw", "target"))
            with runner.micro_step(*trained):
                with runner.autocast():
                    output = self.model(raw, num_levels)
                if cfg.channels_last:
                    for R in output.results:  # the losses hand back channels-first gradients
                        R.register_hook(lambda grad: grad.contiguous(memory_format=torch.channels_last))
                judge = runner.unwrap(self.discriminator) if self.discriminator is not None else None
                if judge is not None:
                    judge.requires_grad_(False)  # its own pass below trains it, this one does not
                losses = self.criterion(output, target, judge)
                runner.backward(losses["loss"])
                if self.discriminator is not None and judge is not None:
                    judge.requires_grad_(True)
                    real, fake = target * 2 - 1, output.results[0].detach() * 2 - 1
                    # One call for both: distributed training allows a module one forward pass per backward pass.
                    logits = self.discriminator(torch.cat([real, fake]))
                    losses["discriminator"] = discriminator_loss(*logits.chunk(2), kind="bce")
                    runner.backward(losses["discriminator"])
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / cfg.accumulate
        means = runner.mean(sums)
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

    @property
    def averaged(self) -> ABPN:
        """The weights to keep: the moving average if there is one."""
        model = self.ema.module if self.ema is not None else self.runner.unwrap(self.model)
        assert isinstance(model, ABPN)
        return model

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], list[dict[str, Tensor]]]:
        """Retouch fixed validation samples; returns figures in dB beside doing nothing, and rows of a sheet."""
        model = self.averaged
        was_training = model.training
        model.eval()
        num_levels = self.config.train.levels[0]
        errors: dict[str, list[Tensor]] = {
            "identity": [],
            "output": [],
            "identity_inside": [],
            "output_inside": [],
        }
        rows: list[dict[str, Tensor]] = []
        for index in range(VALIDATION_SAMPLES):
            sample = self.validation[index]
            raw, target = (self._layout(sample[name][None].to(self.runner.device)) for name in ("raw", "target"))
            with self.runner.autocast():
                output = model(raw, num_levels)
            inside = difference_mask(raw, target, threshold=self.config.loss.mask_threshold) > 0
            result = output.results[0].clamp(0, 1)
            for name, image in (("identity", raw), ("output", result)):
                error = (image - target).square()
                errors[name].append(error.mean())
                if inside.any():
                    errors[f"{name}_inside"].append(error[inside.expand_as(error)].mean())
            if len(rows) < SHEET_ROWS:
                rows.append(_sheet_row(raw, target, result, output.blends[0], output.mask))
        model.train(was_training)
        mean = {name: torch.stack(values).mean() for name, values in errors.items() if values}
        figures = {f"val_psnr_{name}": -10 * math.log10(max(float(value), 1e-12)) for name, value in mean.items()}
        return figures, rows

    def _layout(self, image: Tensor) -> Tensor:
        return image.contiguous(memory_format=torch.channels_last) if self.config.train.channels_last else image


def levels_of_step(step: int, cfg: TrainConfig) -> int:
    """L for a step: drawn from ``cfg.levels``, the same on every process and after resuming."""
    generator = torch.Generator().manual_seed(cfg.seed * 1_000_003 + step)
    return cfg.levels[int(torch.randint(len(cfg.levels), (), generator=generator))]


def cut(image: Tensor, num_levels: int, cfg: TrainConfig) -> Tensor:
    """The middle of (N, C, H, W) crops, so large that the thumbnail at ``num_levels`` is ``cfg.thumbnail``."""
    side = cfg.thumbnail * 2**num_levels
    if not side or side >= cfg.size:
        return image
    start = (cfg.size - side) // 2
    return image[..., start : start + side, start : start + side]


def _sheet_row(raw: Tensor, target: Tensor, result: Tensor, B_0: Tensor, mask: Tensor | None) -> dict[str, Tensor]:
    """One line of the picture sheet; the blend layer is shown around grey, four times amplified."""
    row = {"raw": raw, "mask": mask, "output": result, "target": target, "blend": (0.5 + 4 * B_0).clamp(0, 1)}
    return {name: image[0].float().cpu() for name, image in row.items() if image is not None}
