"""The part of training that is a paper's own: its networks and data, its step, its validation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from retouch_common.training.ema import EMA
from retouch_common.training.fingerprint import fingerprint
from retouch_common.training.run_state import RunState
from retouch_common.training.runner import Runner
from retouch_common.training.samplers import EndlessBatches, endless_loader
from retouch_common.training.schedule import learning_rate_factor

Sheet = Sequence[Mapping[str, Tensor]]


class Task(ABC):
    """One network to train; :func:`retouch_common.training.fit.fit` calls the methods in this order.

    Args:
        config: Configuration with the sections ``model`` and ``train``, a
            :class:`retouch_common.training.config.TrainConfig`.
        data: Specification of the data; other images in its folders are refused when a run is resumed.

    Attributes:
        runner: Device, processes, precision and gradient accumulation.
        networks: Trained networks by name as the runner prepared them; ``kept`` names the one to keep.
        optimizers: By the same names.
        schedulers: By the same names.
        ema: Moving average of the network to keep, if ``train.ema`` asks for one.
        data: Training set, of samples by index.
        validation: Validation set.
        state: Everything a checkpoint holds.
    """

    kept: ClassVar[str] = "model"
    """Name of the network to keep, in checkpoints too."""
    find_unused_parameters: ClassVar[bool] = False
    """Whether a step may leave some parameters without a gradient."""
    dry_steps: tuple[int, int] = (1, 1)
    """First and last of the steps that a dry run takes."""

    runner: Runner
    data: Any
    validation: Any
    state: RunState

    def __init__(self, config: Any, data: str = "") -> None:
        self.config, self.spec = config, data
        self.networks: dict[str, nn.Module] = {}
        self.optimizers: dict[str, torch.optim.Optimizer] = {}
        self.schedulers: dict[str, torch.optim.lr_scheduler.LRScheduler] = {}
        self.ema: EMA | None = None

    def setup(self, runner: Runner) -> None:
        """Seed, call :meth:`build`, and collect what it registered into ``state``."""
        self.runner = runner
        seed = self.config.train.seed
        runner.seed(seed)
        self.build()
        self.state = RunState(
            runner, self.config, self.networks, self.optimizers, self.schedulers, self.ema,
            data=fingerprint(self.spec),
        )  # fmt: skip
        runner.seed(seed, per_process=True)

    @abstractmethod
    def build(self) -> None:
        """Open ``data`` and ``validation``, build the networks, and register each with :meth:`add_network`."""

    def add_network(
        self,
        name: str,
        network: nn.Module,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]] | None = None,
        *,
        lr: float | None = None,
        betas: Sequence[float] | None = None,
        every: int = 1,
    ) -> nn.Module:
        """Give a network its Adam and learning-rate schedule, and prepare it for the run's devices.

        Args:
            name: Name in checkpoints; the network named ``kept`` also gets the moving average.
            network: The network.
            parameters: Parameters or groups to optimise; None for all.
            lr: Peak learning rate; None for ``train.lr``.
            betas: Adam's; None for ``train.betas``.
            every: The optimiser takes one step every so many steps of the run.

        Returns:
            The prepared network, also in ``networks``.
        """
        cfg, runner = self.config.train, self.runner
        if cfg.channels_last:
            network = network.to(memory_format=torch.channels_last)
        if name == self.kept and cfg.ema:
            self.ema = EMA(network, decay=cfg.ema)
        beta1, beta2 = cfg.betas if betas is None else betas
        optimizer = torch.optim.Adam(
            network.parameters() if parameters is None else parameters, lr=cfg.lr if lr is None else lr,
            betas=(beta1, beta2),
        )  # fmt: skip
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda taken: self.rate_factor(taken * every))
        self.schedulers[name] = scheduler
        self.networks[name], self.optimizers[name] = runner.prepare(network, optimizer)
        if name == self.kept and self.ema is not None:
            self.ema.module.to(runner.device)
        return self.networks[name]

    def rate_factor(self, step: int) -> float:
        """Return the learning rate after ``step`` steps of the run, divided by its peak."""
        cfg = self.config.train
        return learning_rate_factor(step, steps=cfg.steps, warmup=cfg.warmup, schedule=cfg.schedule)

    def run_files(self) -> dict[str, str]:
        """Return further text files that are written when a run begins, by name."""
        return {}

    def batches(self, start_step: int) -> Any:
        """Return this process's endless batches after ``start_step``, which :meth:`training_step` takes from."""
        return self.stream(self.data, start_step)

    def stream(self, data: Any, start_step: int) -> Any:
        """Return this process's endless batches of a data set after ``start_step`` steps."""
        cfg, runner = self.config.train, self.runner
        sampler = EndlessBatches(
            len(data), batch_size=cfg.batch_size, accumulate=cfg.accumulate, seed=cfg.seed, start_step=start_step,
            process_index=runner.process_index, num_processes=runner.num_processes,
        )  # fmt: skip
        return iter(endless_loader(data, sampler, num_workers=cfg.workers))

    @abstractmethod
    def training_step(self, step: int, batches: Any) -> dict[str, Tensor]:
        """Take one optimiser step; return its losses, averaged over processes."""

    def to_device(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Move a batch to the device, images into the memory order of ``train.channels_last``."""
        moved = self.runner.to_device(batch)
        if not self.config.train.channels_last:
            return moved
        form = torch.channels_last
        return {
            name: value.contiguous(memory_format=form) if isinstance(value, Tensor) and value.ndim == 4 else value
            for name, value in moved.items()
        }

    def apply_gradients(self, step: int, losses: dict[str, Tensor], *, skip: Collection[str] = ()) -> dict[str, Tensor]:
        """Check and clip gradients, step optimisers and schedules, update the moving average.

        Args:
            step: Number of the step.
            losses: Losses of this process.
            skip: Networks that take no step; their gradients are dropped.

        Returns:
            The losses averaged over processes, and ``gradient_norm`` of the kept network where gradients are clipped.

        Raises:
            NonFiniteError: Losses or gradients are NaN or infinite.
        """
        means = self.runner.mean(losses)
        self.state.check_step(step, means)
        if self.config.train.clip:
            network, optimizer = self.networks[self.kept], self.optimizers[self.kept]
            means["gradient_norm"] = self.runner.clip(network, self.config.train.clip, optimizer)
        for name, optimizer in self.optimizers.items():
            if name not in skip:
                optimizer.step()
                self.schedulers[name].step()
            optimizer.zero_grad()
        if self.ema is not None:
            self.ema.update(self.runner.unwrap(self.networks[self.kept]))
        return means

    @property
    def averaged(self) -> Any:
        """The network to keep: the moving average if there is one."""
        return self.ema.module if self.ema is not None else self.runner.unwrap(self.networks[self.kept])

    @abstractmethod
    def validate(self) -> tuple[dict[str, float], Sheet]:
        """Return metrics of fixed validation samples, and rows of an image sheet."""

    def summarize(self, metrics: dict[str, float]) -> str:
        """Return a line on the metrics of :meth:`validate`, for the progress report."""
        return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())

    def save_weights(self, folder: Path) -> None:
        """Write the network to keep."""
        self.averaged.save_pretrained(folder)

    def describe_data(self) -> str:
        """Return the numbers of samples, for a dry run."""
        return f"{len(self.data):,} samples for training, {len(self.validation):,} for validation"
