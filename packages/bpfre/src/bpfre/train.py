"""Training: one visible loop, from a command line to weights that ``bpfre-retouch`` reads.

A run directory holds ``config.yaml``, ``lists.json`` (which pictures are pairs, which are not), ``metrics.jsonl``,
``sheets/``, ``checkpoints/`` and, at the end, ``weights/``. A run that was stopped, killed or cut off by a power
failure continues with the command that started it.
"""

import json
import math
from collections.abc import Callable, Sized
from pathlib import Path
from typing import Any, cast

import torch
from retouch_common.config import dump_yaml, to_dict
from retouch_common.losses.region import difference_mask
from retouch_common.training.continuation import Continuation, initial_weights
from retouch_common.training.ema import EMA
from retouch_common.training.monitor import Monitor
from retouch_common.training.runner import Runner
from retouch_common.training.samplers import EndlessBatches, endless_loader
from retouch_common.training.schedule import learning_rate_factor
from torch import Tensor, nn

from bpfre.attention import merged_map
from bpfre.config import Config
from bpfre.data import limit_pairs, open_data
from bpfre.discriminator import Discriminator
from bpfre.losses import discriminator_loss, r1_penalty
from bpfre.model import BPFRe, BPFReOutput
from bpfre.objective import Objective, full_size_map

SHEET_ROWS = 6
VALIDATION_SAMPLES = 24
MASK_THRESHOLD = 0.02  # of the validation figures: a pixel is inside if a channel changes by more

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
        data: What :func:`retouch_common.data.pairs.open_pairs` reads: a folder with ``raw/`` and ``target/``, FFHQR,
            or ``faces:DIR``.
        out: Run directory.
        device: "auto", "cpu" or "cuda".
        tensorboard: Also write TensorBoard event files.
        report: Receives lines for the user.

    Returns:
        The folder of the final weights, for ``bpfre-retouch --weights``.

    Raises:
        ValueError: Unusable data or configuration, or a run directory of another configuration.
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
            (out / "lists.json").write_text(json.dumps(run.streams.lists), encoding="utf-8")
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
    with _runner(config, device) as runner:
        runner.seed(config.train.seed)
        run = _Run(config, data, runner)
        step = config.train.unpaired_every  # the first step in which everything takes part
        losses = run.training_step(step, run.batches(step - 1))
        lists = run.streams.lists
        report(dump_yaml(config).rstrip())
        report(f"data: {len(lists['paired'])} pairs, {len(lists['raw'])} pictures for each unpaired stream, "
               f"{len(cast(Sized, run.validation))} pairs for validation")  # fmt: skip
        report(f"parameters: {sum(p.numel() for p in run.model.parameters()):,}")
        report(f"device: {runner.device}, {runner.num_processes} process(es)")
        report("losses of one step: " + ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items()))
        report("dry run: nothing was written")


def _runner(config: Config, device: str) -> Runner:
    # In steps without unpaired pictures the discriminator rests, and without a gradient penalty parts of it may.
    return Runner(precision=config.train.precision, accumulate=config.train.accumulate, cpu=device == "cpu")


class _Run:
    """Networks, losses, optimisers and data of a run, and what a step does with them."""

    def __init__(self, config: Config, data: str, runner: Runner) -> None:
        self.config, self.runner = config, runner
        cfg, size = config.train, config.model.size
        everything = open_data(data, size=size, split="train", seed=cfg.seed, task=cfg.task)
        self.streams = limit_pairs(everything, fraction=cfg.paired_fraction, seed=cfg.seed)
        self.validation = open_data(data, size=size, split="dev", seed=cfg.seed, task=cfg.task)

        model = BPFRe(config.model)
        model.metadata = {"task": cfg.task}
        self.model: nn.Module = model
        initial_weights(self.model, cfg.init)
        self.objective = Objective(config.loss).to(runner.device)
        self.discriminator: nn.Module | None = Discriminator(config.model) if config.loss.adversarial else None
        if cfg.channels_last:
            for network in (self.model, self.discriminator):
                if network is not None:
                    network.to(memory_format=torch.channels_last)
        self.ema = EMA(self.model, decay=cfg.ema) if cfg.ema else None
        self.optimizers = self._optimizers()
        # Each counts the steps of its own optimiser; the discriminator rests between the steps that it takes part in.
        rests = {"model": 1, "discriminator": cfg.unpaired_every}
        self.schedulers = {
            name: torch.optim.lr_scheduler.LambdaLR(optimizer, self._learning_rate(rests[name]))
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

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        """Adam, with the U-Net at a rate of its own."""
        cfg = self.config.train
        betas = (cfg.betas[0], cfg.betas[1])
        model = cast(BPFRe, self.model)
        unet = [p for part in (model.encoder, model.decoder) if part is not None for p in part.parameters()]
        known = {id(p) for p in unet}
        others = [p for p in model.parameters() if id(p) not in known]
        groups: list[dict[str, Any]] = [{"params": unet, "lr": cfg.lr * cfg.unet_lr}]
        if others:
            groups.append({"params": others, "lr": cfg.lr})
        optimizers: dict[str, torch.optim.Optimizer] = {"model": torch.optim.Adam(groups, betas=betas)}
        if self.discriminator is not None:
            parameters = self.discriminator.parameters()
            optimizers["discriminator"] = torch.optim.Adam(parameters, lr=cfg.lr, betas=(0.0, 0.99))
        return optimizers

    def _learning_rate(self, every: int) -> Callable[[int], float]:
        """The schedule of an optimiser that takes a step every so many steps of the run."""
        cfg = self.config.train

        def factor(taken: int) -> float:
            return learning_rate_factor(
                taken * every, steps=cfg.steps, warmup=cfg.warmup, schedule=cfg.schedule, step_at=cfg.step_at
            )

        return factor

    def batches(self, start_step: int) -> dict[str, Any]:
        """The endless streams of this process's batches after ``start_step``, by kind."""
        cfg, runner = self.config.train, self.runner
        # Unpaired pictures are taken in every unpaired_every-th step only.
        starts = {"paired": start_step, "raw": start_step // cfg.unpaired_every}
        starts["retouched"] = starts["raw"]
        streams = {}
        for name, first in starts.items():
            data = getattr(self.streams, name)
            sampler = EndlessBatches(
                len(data), batch_size=cfg.batch_size, accumulate=cfg.accumulate, seed=cfg.seed, start_step=first,
                process_index=runner.process_index, num_processes=runner.num_processes,
            )  # fmt: skip
            streams[name] = iter(endless_loader(data, sampler, num_workers=cfg.workers))
        return streams

    def training_step(self, step: int, batches: dict[str, Any]) -> dict[str, Tensor]:
        """One step of Eq. 12; returns the losses, averaged over processes."""
        runner, cfg = self.runner, self.config.train
        with_unpaired = step % cfg.unpaired_every == 0
        playing = with_unpaired and self.discriminator is not None
        trained: list[nn.Module] = [self.model]
        if playing and self.discriminator is not None:
            trained.append(self.discriminator)
        sums: dict[str, Tensor] = {}
        for _ in range(cfg.accumulate):
            paired = self._pictures(next(batches["paired"]))
            raw, target = paired["raw"], paired["target"]
            all_raw, all_retouched = raw, target
            if with_unpaired:
                all_raw = torch.cat([raw, self._pictures(next(batches["raw"]))["raw"]])
                all_retouched = torch.cat([target, self._pictures(next(batches["retouched"]))["target"]])
            with runner.micro_step(*trained):
                losses = self._update_networks(all_raw, target, all_retouched if with_unpaired else None, playing)
                if playing:
                    losses |= self._update_discriminator(step, all_raw, all_retouched)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / cfg.accumulate
        means = runner.mean(sums)
        self.continuation.check_step(step, means)
        if cfg.clip:
            means["gradient_norm"] = runner.clip(self.model, cfg.clip)
        for name, optimizer in self.optimizers.items():
            if name == "model" or playing:
                optimizer.step()
                self.schedulers[name].step()
            optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.model)
        return means

    def _update_networks(
        self, all_raw: Tensor, target: Tensor, all_retouched: Tensor | None, playing: bool
    ) -> dict[str, Tensor]:
        """Gradients of L_blem + L_cons + L_adv^synt; the first ``len(target)`` raw pictures are the paired ones."""
        runner, count = self.runner, len(target)
        if not (self.config.loss.identity and self.config.model.decoder):
            all_retouched = None
        # One call for raw and retouched pictures: distributed training allows one forward pass per backward pass.
        pictures = all_raw if all_retouched is None else torch.cat([all_raw, all_retouched])
        with runner.autocast():
            output: BPFReOutput = self.model(pictures)
        raw_part, retouched_part = split(output, len(all_raw))
        self.output = raw_part  # the discriminator's pass judges it
        losses = self.objective(split(raw_part, count)[0], all_raw[:count], target)
        if all_retouched is not None:
            losses |= self.objective.identity(retouched_part, all_retouched)
        if playing:
            judge = runner.unwrap(cast(nn.Module, self.discriminator))
            judge.requires_grad_(False)  # its own pass below trains it, this one does not
            with runner.autocast():
                logits = judge(raw_part.result)
            losses |= self.objective.adversarial(logits, raw_part)
            judge.requires_grad_(True)
        losses["loss"] = self.objective.total(losses)
        runner.backward(losses["loss"])
        return losses

    def _update_discriminator(self, step: int, all_raw: Tensor, all_retouched: Tensor) -> dict[str, Tensor]:
        """Gradients of Eq. 10 and, every ``r1_every`` steps, of R1."""
        runner, config = self.runner, self.config.loss
        assert self.discriminator is not None
        losses: dict[str, Tensor] = {}
        if config.r1 and (step // self.config.train.unpaired_every) % config.r1_every == 0:
            # In fp32: gradients of gradients in bf16 end in a division by zero inside oneDNN for some sizes of batches.
            retouched = all_retouched.detach().requires_grad_(True)
            losses["r1"] = r1_penalty(runner.forward_alone(self.discriminator, retouched), retouched)
            runner.backward(config.r1 * config.r1_every * losses["r1"])
        fake = self.output.result.detach()
        with runner.autocast():  # one call for all, as above
            logits = self.discriminator(torch.cat([all_raw, fake.to(all_raw.dtype), all_retouched]))
        on_raw, on_fake, on_retouched = logits.split([len(all_raw), len(fake), len(all_retouched)])
        M = full_size_map(self.output, logits.shape[-1])
        losses |= {"discriminator": discriminator_loss(on_raw, M, on_fake, M, on_retouched), "mask_mean": M.mean()}
        runner.backward(losses["discriminator"])
        return losses

    def _pictures(self, batch: Batch) -> Batch:
        batch = self.runner.to_device(batch)
        if not self.config.train.channels_last:
            return batch
        return {k: v.contiguous(memory_format=torch.channels_last) for k, v in batch.items() if k in ("raw", "target")}

    @property
    def averaged(self) -> BPFRe:
        """The weights to keep: the moving average if there is one."""
        model = self.ema.module if self.ema is not None else self.runner.unwrap(self.model)
        assert isinstance(model, BPFRe)
        return model

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], list[dict[str, Tensor]]]:
        """Retouch fixed validation samples; returns figures in dB beside doing nothing, and rows of a sheet."""
        model = self.averaged
        was_training = model.training
        model.eval()
        errors: dict[str, list[Tensor]] = {}
        rows: list[dict[str, Tensor]] = []
        for index in range(VALIDATION_SAMPLES):
            sample = self._pictures({name: value[None] for name, value in self.validation[index].items()})
            raw, target = sample["raw"], sample["target"]
            with self.runner.autocast():
                output: BPFReOutput = model(raw)
            inside = difference_mask(raw, target, threshold=MASK_THRESHOLD) > 0
            for name, image in (("identity", raw), ("coarse", output.coarse), ("refined", output.refined)):
                if image is None:
                    continue
                error = (image.clamp(0, 1) - target).square()
                errors.setdefault(name, []).append(error.mean())
                if inside.any():
                    errors.setdefault(f"{name}_inside", []).append(error[inside.expand_as(error)].mean())
            if len(rows) < SHEET_ROWS:
                rows.append(_sheet_row(raw, output, target))
        model.train(was_training)
        mean = {name: torch.stack(values).mean() for name, values in errors.items()}
        figures = {f"val_psnr_{name}": -10 * math.log10(max(float(value), 1e-12)) for name, value in mean.items()}
        return figures, rows


def split(output: BPFReOutput, count: int) -> tuple[BPFReOutput, BPFReOutput]:
    """The first ``count`` pictures of a batch, and the others."""

    def part(which: slice) -> BPFReOutput:
        return BPFReOutput(
            None if output.coarse is None else output.coarse[which],
            None if output.refined is None else output.refined[which],
            [M[which] for M in output.attention_coarse],
            [M[which] for M in output.attention_refined],
        )

    return part(slice(count)), part(slice(count, None))


def _sheet_row(raw: Tensor, output: BPFReOutput, target: Tensor) -> dict[str, Tensor]:
    """One line of the picture sheet: raw, M^{E2D}, stage one, M^{D2G}, stage two, target."""
    size = raw.shape[-1]
    row = {"raw": raw}
    if output.attention_coarse:
        row["M E2D"] = merged_map(output.attention_coarse, size)
    if output.coarse is not None:
        row["stage one"] = output.coarse.clamp(0, 1)
    if output.attention_refined:
        row["M D2G"] = merged_map(output.attention_refined, size)
    if output.refined is not None:
        row["stage two"] = output.refined.clamp(0, 1)
    row["target"] = target
    return {name: image[0].float().cpu() for name, image in row.items()}
