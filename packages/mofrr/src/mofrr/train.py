"""Training in stages: one visible loop, from a command line to weights that ``mofrr-restore`` reads.

A run directory holds a folder for every stage (``router``, ``degree-white``, ``expert-white``, …, ``shared``,
``combine``) with its ``config.yaml``, ``metrics.jsonl``, ``sheets/``, ``checkpoints/`` and, when it is finished,
``weights/`` of its part; that of a degree stage also ``degrees.json``, the PSNRs between degrees. Once all stages are
finished, ``weights/`` of the whole network are beside them. A stage that was stopped or killed continues with the
command that started it; a finished one is left alone.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from retouch_common.config import dump_yaml, from_dict, to_dict
from retouch_common.training.continuation import Continuation, initial_weights
from retouch_common.training.ema import EMA
from retouch_common.training.monitor import Monitor
from retouch_common.training.runner import Runner
from retouch_common.training.samplers import EndlessBatches, endless_loader
from retouch_common.training.schedule import learning_rate_factor
from retouch_common.weights import load_state, resolve_weights, save_weights
from torch import Tensor, nn
from torch.utils.data import default_collate

from mofrr.config import Config, ModelConfig
from mofrr.data import open_data
from mofrr.model import MoFRR
from mofrr.stages import Batch, Stage, faces_for, needs, part_of, stage_names, trained_parameters

VALIDATION_BATCH = 4
VALIDATION_BATCHES = {"router": 75, "degree": 40}  # numbers are cheaper than pictures
VALIDATION_PICTURES = 12
CALIBRATION_BATCHES = 150
FALSE_SHARE = 0.015  # of faces without an operation that the finished router takes for faces with it


def train(
    config: Config | Mapping[str, Config],
    data: str,
    out: str | Path,
    *,
    stages: list[str] | None = None,
    device: str = "auto",
    tensorboard: bool = False,
    report: Callable[[str], None] = print,
) -> Path | None:
    """Train stages one after another, or continue the run in ``out``.

    Args:
        config: Everything about the run, or that by stage, of the stages to train; ``model`` must be the same for all.
        data: What :func:`mofrr.data.open_data` reads.
        out: Run directory.
        stages: Names from :func:`mofrr.stages.stage_names`; None for all of them, or those that have a configuration.
        device: "auto", "cpu" or "cuda".
        tensorboard: Also write TensorBoard event files.
        report: Receives lines for the user.

    Returns:
        The folder of the whole network's weights, or None while stages are missing.

    Raises:
        ValueError: Unusable data or configuration, a stage that needs another first, or a run directory of another
            configuration.
        NonFiniteError: Losses, gradients or weights became NaN or infinite; the last good checkpoint stays.
        OSError: Nothing can be written to ``out``; the last good checkpoint stays.
    """
    out = Path(out)
    configs = config if isinstance(config, Mapping) else {}
    config = config if isinstance(config, Config) else next(iter(configs.values()))
    for name in stages or list(configs) or stage_names(config):
        if not train_stage(
            name, configs.get(name, config), data, out, device=device, tensorboard=tensorboard, report=report
        ):
            return None
    missing = [name for name in stage_names(config) if not _is_finished(out / name)]
    with Runner(cpu=device == "cpu") as runner:
        if runner.is_main and missing:
            report(f"still to train: {', '.join(missing)}")
        elif runner.is_main:
            load_parts(_network(config), stage_names(config), out).save_pretrained(out / "weights")
            report(f"wrote {out / 'weights'}")
        runner.wait()
    return None if missing else out / "weights"


def train_stage(
    name: str,
    config: Config,
    data: str,
    out: Path,
    *,
    device: str = "auto",
    tensorboard: bool = False,
    report: Callable[[str], None] = print,
) -> bool:
    """Train one stage, or continue it, see :func:`train`; True if it is finished and nobody asked to stop."""
    cfg, folder, stop = config.train, out / name, False
    with Runner(precision=cfg.precision, accumulate=cfg.accumulate, cpu=device == "cpu") as runner:
        if _is_finished(folder):
            if runner.is_main:
                report(f"{name} is finished; remove {folder} to train it anew")
            return True
        runner.seed(cfg.seed)
        run = _Run(name, config, data, out, runner)
        start_step = run.continuation.resume(folder)
        if runner.is_main:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "config.yaml").write_text(dump_yaml(config), encoding="utf-8")
            if run.data.degree_edges is not None:
                (folder / "degrees.json").write_text(json.dumps(run.data.degree_edges), encoding="utf-8")
            report(f"{name}: continuing after step {start_step}" if start_step else f"{name}: {cfg.steps} steps")
        batches = run.batches(start_step)
        monitor = Monitor(
            folder, total_steps=cfg.steps, start_step=start_step, items_per_step=cfg.batch_size, every=cfg.log_every,
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
                    if rows:
                        monitor.sheet(step, rows)
                if step % cfg.checkpoint_every == 0 or step == cfg.steps or stop:
                    monitor.flush(step)
                    run.continuation.save(folder, step)
                if stop and step < cfg.steps:
                    monitor.message(f"{name}: stopped after step {step}; the same command continues")
                    return False
        if runner.is_main:
            if name == "router":
                run.calibrate()
            path = folder / "weights" / "model.safetensors"
            path.parent.mkdir(exist_ok=True)
            save_weights(path, run.averaged.state_dict(), config=to_dict(config.model))
        runner.wait()  # the next stage begins with these weights
    return not stop


def dry_run(
    config: Config, data: str, *, stage: str, device: str = "auto", report: Callable[[str], None] = print
) -> None:
    """Build a stage, take one step in memory and say what a run would do; writes nothing.

    Parts that the stage needs are untrained here.

    Args:
        config: As for :func:`train`.
        data: As for :func:`train`.
        stage: Name of the stage.
        device: As for :func:`train`.
        report: Receives lines for the user.
    """
    cfg = config.train
    with Runner(precision=cfg.precision, accumulate=cfg.accumulate, cpu=device == "cpu") as runner:
        runner.seed(cfg.seed)
        run = _Run(stage, config, data, None, runner)
        losses = run.training_step(1, run.batches(0))
        report(dump_yaml(config).rstrip())
        report(f"data: {len(run.data)} faces for training, {len(run.validation)} for validation")
        report(f"parameters: {sum(p.numel() for p in run.part.parameters()):,}")
        report(f"device: {runner.device}, {runner.num_processes} process(es)")
        report("losses of one step: " + ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items()))
        report("dry run: nothing was written")


def load_parts(model: MoFRR, stages: list[str], out: Path) -> MoFRR:
    """Put the weights of finished stages into a network, and return it.

    Raises:
        ValueError: A stage is not finished, or was trained under another ``model``.
    """
    for name in stages:
        if not _is_finished(out / name):
            raise ValueError(f"{out}: {name} must be trained first (mofrr-train {_command(name)})")
        weights = resolve_weights(out / name / "weights", bundled=None)
        if weights.config is None or from_dict(ModelConfig, weights.config) != model.config:
            raise ValueError(f"{out / name} was trained with another model configuration; train it anew, or use that")
        part_of(model, name).load_state_dict(load_state(weights))
    return model


def _network(config: Config) -> MoFRR:
    """The whole network that a run starts from."""
    model = MoFRR(config.model)
    initial_weights(model, config.train.init)
    return model


def _command(stage: str) -> str:
    kind, _, operation = stage.partition("-")
    return f"{kind} --operation {operation}" if operation else kind


def _is_finished(folder: Path) -> bool:
    return (folder / "weights" / "model.safetensors").is_file()


class _Run:
    """Networks, losses, optimiser and data of a stage, and what a step does with them."""

    def __init__(self, name: str, config: Config, data: str, out: Path | None, runner: Runner) -> None:
        cfg, size = config.train, config.model.size
        if name not in stage_names(config) and not name.startswith("baseline-"):
            raise ValueError(f"no stage {name!r}; there are {', '.join(stage_names(config))}")
        self.config, self.runner = config, runner
        options: dict[str, Any] = {
            "size": size, "operations": config.model.operations, "kind": faces_for(name), "styles": cfg.styles,
        }  # fmt: skip
        model = _network(config)
        if out is not None:
            load_parts(model, needs(name, config), out)
        self.data = open_data(data, split="train", seed=cfg.seed, **options)
        self.validation = open_data(data, split="dev", seed=cfg.seed, **options)
        if name.startswith("degree-"):
            self.data.degree_edges = self.validation.degree_edges = self.data.measured_edges()
        model.eval().requires_grad_(False)
        self.part: nn.Module = part_of(model, name)
        if name.startswith("degree-") and model.router is not None and not cfg.init:
            self.part.backbone.load_state_dict(model.router.backbone.state_dict())  # type: ignore[union-attr]
        parameters = trained_parameters(self.part, name, config)
        for parameter in parameters:
            parameter.requires_grad_(True)
        # Where only a head or a slot learns, the statistics of the rest stay, too.
        self.part.train(len(parameters) == len(list(self.part.parameters())))
        if cfg.channels_last:
            for network in (model, self.part):
                network.to(memory_format=torch.channels_last)
        model.to(runner.device)
        self.stage = Stage(name, config, model)
        self.ema = EMA(self.part, decay=cfg.ema) if cfg.ema else None
        betas = (cfg.betas[0], cfg.betas[1])
        optimizer = torch.optim.Adam(parameters, lr=cfg.lr, betas=betas)
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: learning_rate_factor(
                step, steps=cfg.steps, warmup=cfg.warmup, schedule=cfg.schedule, step_at=cfg.step_at
            ),
        )
        self.part, self.optimizer = runner.prepare(self.part, optimizer)
        if self.ema is not None:
            self.ema.module.to(runner.device)
        self.continuation = Continuation(
            runner, to_dict(config), {"part": self.part}, {"part": self.optimizer}, {"part": self.scheduler}, self.ema
        )
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
        for round_ in range(cfg.accumulate):
            batch = self._pictures(next(batches))
            # From the step's number: the same after resuming, another on every process.
            generator = torch.Generator().manual_seed(
                ((cfg.seed * 1_000_003 + step) * cfg.accumulate + round_) * runner.num_processes + runner.process_index
            )
            with runner.micro_step(self.part):
                with runner.autocast():
                    losses = self.stage.losses(self.part, batch, generator)
                runner.backward(losses["loss"])
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + value.detach() / cfg.accumulate
        means = runner.mean(sums)
        self.continuation.check_step(step, means)
        if cfg.clip:
            means["gradient_norm"] = runner.clip(self.part, cfg.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        if self.ema is not None:
            self.ema.update(self.part)
        return means

    def calibrate(self) -> None:
        """Move the router's answers so that on the validation people few faces are taken for what they are not.

        With a threshold of 0 or 1, where answers count for nothing, they stay.
        """
        threshold = self.config.model.threshold
        if not 0 < threshold < 1:
            return
        batches = self._validation_batches(CALIBRATION_BATCHES)
        part = self.averaged
        part.eval()
        with torch.no_grad(), self.runner.autocast():
            logits = torch.cat([part(batch["retouched"], batch["traces"]).float() for batch in batches])
        applied = torch.cat([batch["applied"] for batch in batches]) > 0
        level = torch.tensor(threshold).logit()
        for column, (name, head) in enumerate(part.heads.items()):  # type: ignore[union-attr, operator]
            others = logits[~applied[:, column], column]
            if len(others) and self.config.train.only in ("", name):
                head.answer.bias.data -= (others.quantile(1 - FALSE_SHARE, interpolation="higher") - level).to(
                    head.answer.bias
                )

    def _validation_batches(self, count: int) -> list[Batch]:
        """Fixed validation faces, each at most once."""
        samples = [self.validation[index] for index in range(min(count * VALIDATION_BATCH, self.validation.different))]
        return [
            self._pictures(default_collate(samples[first : first + VALIDATION_BATCH]))
            for first in range(0, len(samples), VALIDATION_BATCH)
        ]

    @property
    def averaged(self) -> nn.Module:
        """The weights to keep: the moving average if there is one."""
        return self.ema.module if self.ema is not None else self.runner.unwrap(self.part)

    def validate(self) -> tuple[dict[str, float], list[dict[str, Tensor]]]:
        """Figures and pictures of fixed validation faces."""
        part = self.averaged
        was_training = part.training
        part.eval()
        kind = self.stage.name.partition("-")[0]
        batches = self._validation_batches(VALIDATION_BATCHES.get(kind, VALIDATION_PICTURES))
        with self.runner.autocast():
            figures, rows = self.stage.validate(part, batches)
        part.train(was_training)
        return figures, rows

    def _pictures(self, batch: Batch) -> Batch:
        batch = self.runner.to_device(batch)
        if not self.config.train.channels_last:
            return batch
        form = torch.channels_last
        return {k: v.contiguous(memory_format=form) if v.ndim == 4 else v for k, v in batch.items()}
