"""Everything a checkpoint holds, so that a resumed run continues as if it had never stopped."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from retouch_common.config import from_dict, to_dict
from retouch_common.pretrained import Pretrained
from retouch_common.training import checkpoint, finite
from retouch_common.training.config import TrainConfig
from retouch_common.training.ema import EMA
from retouch_common.training.runner import Runner
from retouch_common.training.state import load_optimizer_state, optimizer_state

# May differ in a resumed run: its length, and what changes neither weights nor data.
FREE_FIELDS = frozenset({"steps", "workers", "log_every", "sheet_every", "checkpoint_every"})
# May also differ, with a warning, while a run is unfinished: remedies for one that ran into NaN.
RECOVERY_FIELDS = frozenset({"lr", "clip", "precision"})

logger = logging.getLogger(__name__)


@dataclass
class RunState:
    """Everything that changes in a run, saved and restored together.

    Attributes:
        runner: Owner of the random states.
        config: Configuration of the run, a dataclass of sections.
        networks: Trained networks by name, as the runner prepared them.
        optimizers: By name.
        schedulers: By the names of their optimisers.
        ema: Averaged weights, if the run keeps some.
        data: Fingerprint of the data, see :func:`retouch_common.training.fingerprint.fingerprint`; None if unknown.
    """

    runner: Runner
    config: Any
    networks: Mapping[str, nn.Module]
    optimizers: Mapping[str, torch.optim.Optimizer]
    schedulers: Mapping[str, torch.optim.lr_scheduler.LRScheduler]
    ema: EMA | None
    data: str | None = None
    _resumed: checkpoint.Checkpoint | None = field(default=None, init=False)

    def resume(self, out: Path) -> int:
        """Load the newest intact checkpoint of a run directory; return its step, 0 if there is none.

        Raises:
            ValueError: The run has another configuration, other data or more steps, or there are only weights, which
                would be replaced.
        """
        found = checkpoint.latest(out / "checkpoints")
        if found is None:
            if (out / "weights").exists():
                raise ValueError(f"{out} holds weights but no checkpoint to resume from; choose another --out")
            return 0
        steps = self.config.train.steps
        free = FREE_FIELDS | RECOVERY_FIELDS if found.step < steps else FREE_FIELDS
        refuse_other_run(found.meta["config"], self.config, out, free=free)
        if found.step > steps:
            raise ValueError(
                f"{out} holds a run of {found.step} steps, more than train.steps={steps}; ask for at least as many, "
                "or choose another --out"
            )
        before = found.meta.get("data")  # runs of earlier releases have no fingerprint
        if before and self.data and before != self.data:
            raise ValueError(
                f"{out} holds a run on other data: the names or sizes of the images in --data differ; "
                "choose another --out, or repeat the command that started the run"
            )
        rates = {name: [float(rate) for rate in scheduler.base_lrs] for name, scheduler in self.schedulers.items()}
        for name, network in self.networks.items():
            self.runner.unwrap(network).load_state_dict(found.tensors(name))
        if self.ema is not None:
            self.ema.load_state_dict(found.tensors("ema"), num_updates=found.meta["ema_updates"])
        for name, optimizer in self.optimizers.items():
            load_optimizer_state(optimizer, found.tensors(f"optimizer-{name}"), found.meta[f"optimizer-{name}"])
            self.schedulers[name].load_state_dict(found.meta[f"scheduler-{name}"])
            set_base_rates(self.schedulers[name], rates[name])
        scaler = self.runner.accelerator.scaler
        if scaler is not None and "scaler" in found.meta:
            scaler.load_state_dict(found.meta["scaler"])
        self._resumed = found
        return found.step

    def restore_randomness(self) -> None:
        """Restore the random states of the checkpoint; last before the loop, since imports draw numbers too."""
        if self._resumed is not None:
            self.runner.set_random_states(self._resumed.tensors("random"), self._resumed.meta["random"])

    def save(self, out: Path, step: int) -> None:
        """Write a checkpoint; all processes call it, the main one writes. Errors as for :func:`checkpoint.save`."""
        random_tensors, random_meta = self.runner.random_states()
        if not self.runner.is_main:
            return
        tensors, meta = self._state()
        tensors["random"], meta["random"] = random_tensors, random_meta
        checkpoint.save(out / "checkpoints", step, tensors=tensors, meta=meta)

    def check_step(self, step: int, losses: Mapping[str, torch.Tensor | float]) -> None:
        """Refuse losses or gradients that are not finite; see :func:`finite.check_step`."""
        networks = {name: self.runner.unwrap(network) for name, network in self.networks.items()}
        scaled = self.runner.accelerator.scaler is not None  # it checks gradients itself and skips steps
        finite.check_step(step, losses, networks, gradients=not scaled)

    def check_state(self, step: int) -> None:
        """Refuse networks, averages or optimisers that are not finite; see :func:`finite.check_state`."""
        finite.check_state(step, {group: checkpoint.flatten(nested) for group, nested in self._state()[0].items()})

    def _state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        tensors: dict[str, Any] = {}
        meta: dict[str, Any] = {"config": to_dict(self.config), "data": self.data}
        for name, network in self.networks.items():
            tensors[name] = self.runner.unwrap(network).state_dict()
        if self.ema is not None:
            tensors["ema"], meta["ema_updates"] = self.ema.state_dict(), self.ema.num_updates
        for name, optimizer in self.optimizers.items():
            tensors[f"optimizer-{name}"], meta[f"optimizer-{name}"] = optimizer_state(optimizer)
            meta[f"scheduler-{name}"] = self.schedulers[name].state_dict()
        scaler = self.runner.accelerator.scaler
        if scaler is not None:
            meta["scaler"] = scaler.state_dict()
        return tensors, meta


def initial_weights(network: Pretrained, config: TrainConfig) -> None:
    """Initialise a network with ``train.init``, what its ``from_pretrained`` takes; empty leaves it as it is.

    Args:
        network: Modified in place.
        config: Uses ``init`` and ``ignore_mismatched_sizes``.

    Raises:
        ValueError: No such weights, or of another configuration; with ``ignore_mismatched_sizes``, no tensor fits.
    """
    if not config.init:
        return
    start = type(network).from_pretrained(config.init)
    if start.config != network.config and not config.ignore_mismatched_sizes:
        raise ValueError(
            f"train.init={config.init} was trained with another model configuration ({start.config}); choose its "
            "preset, or the --set model.… options that it was trained with, or take what fits with "
            "--set train.ignore_mismatched_sizes=true"
        )
    own = network.state_dict()
    fitting = {key: value for key, value in start.state_dict().items() if key in own and value.shape == own[key].shape}
    if not fitting:
        raise ValueError(f"train.init={config.init}: no tensor fits this model configuration")
    if start.config != network.config:
        logger.warning("train.init=%s initialises %d of %d tensors", config.init, len(fitting), len(own))
    network.load_state_dict(own | fitting)
    network.metadata = {**start.metadata, **network.metadata}


def set_base_rates(scheduler: Any, rates: Sequence[float]) -> None:
    """Let a loaded LambdaLR continue at the same point of its schedule with these rates of the parameter groups."""
    scheduler.base_lrs = list(rates)
    for group, rate, factor in zip(scheduler.optimizer.param_groups, rates, scheduler.lr_lambdas, strict=True):
        group["initial_lr"], group["lr"] = rate, rate * factor(scheduler.last_epoch)


def refuse_other_run(saved: Mapping[str, Any], config: Any, out: Path, *, free: frozenset[str] = FREE_FIELDS) -> None:
    """Refuse to resume a run under another configuration.

    Args:
        saved: Options of the run by section; missing ones have their defaults.
        config: The present configuration, a dataclass of sections.
        out: Run directory, for the message.
        free: Options that may differ; those in ``RECOVERY_FIELDS`` with a warning.

    Raises:
        ValueError: Another option differs, or the run has one that this release does not have; names it.
    """
    try:
        saved = to_dict(from_dict(type(config), saved))
    except ValueError as error:
        raise ValueError(
            f"{out} holds a run that this command cannot resume, of another command or release: {error}; "
            "choose another --out"
        ) from None
    for section, options in to_dict(config).items():
        before = saved[section]
        for name, value in options.items():
            if before[name] == value:
                continue
            if name not in free:
                raise ValueError(
                    f"{out} holds a run with {section}.{name}={before[name]}, not {value}; "
                    "choose another --out, or repeat the command that started the run"
                )
            if name in RECOVERY_FIELDS:
                logger.warning("%s resumes with %s.%s=%s instead of %s", out, section, name, value, before[name])
