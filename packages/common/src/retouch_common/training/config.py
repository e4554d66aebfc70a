"""The options of every training run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_BATCH_SIZE = 100_000  # indices of a batch are listed in memory


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Options of a training run. Papers subclass it with their own options and defaults.

    Attributes:
        steps: Optimiser steps.
        init: Weights of the same model configuration to start from (bundled name, path or hub id); empty for random
            initialisation.
        ignore_mismatched_sizes: Accept ``init`` of another model configuration: take its tensors whose names and shapes
            fit, and initialise the others at random.
        batch_size: Samples in a step over all processes and accumulation rounds.
        accumulate: Gradient accumulation rounds in a step.
        lr: Peak learning rate of Adam.
        betas: Adam's momentum coefficients.
        schedule: "constant", or "cosine" (decays to 1 % at the end of the run).
        warmup: Steps of linear warm-up.
        clip: Largest gradient norm; 0 does not clip.
        ema: Decay of the weights' moving average, which is what is evaluated and kept; 0 keeps none.
        precision: "fp32", "bf16", "fp16" or "auto": bf16 where the hardware computes in it, else fp32.
        channels_last: Keep tensors in channels-last memory order.
        workers: Data loading processes.
        seed: Seed of weights and data order.
        log_every: Steps between lines of metrics.jsonl.
        sheet_every: Steps between validations with their image sheets.
        checkpoint_every: Steps between checkpoints.
    """

    steps: int = 100_000
    init: str = ""
    ignore_mismatched_sizes: bool = False
    batch_size: int = 8
    accumulate: int = 1
    lr: float = 2e-4
    betas: tuple[float, ...] = (0.9, 0.999)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = 0
    clip: float = 0.0
    ema: float = 0.0
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "fp32"
    channels_last: bool = False
    workers: int = 4
    seed: int = 0
    log_every: int = 20
    sheet_every: int = 1000
    checkpoint_every: int = 1000

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "log_every", "sheet_every", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name} must be at least 1, not {getattr(self, name)}")
        for name in ("clip", "warmup", "workers"):
            if getattr(self, name) < 0:
                raise ValueError(f"train.{name} must be at least 0, not {getattr(self, name)}")
        if self.batch_size > MAX_BATCH_SIZE:
            raise ValueError(f"train.batch_size must be at most {MAX_BATCH_SIZE}, not {self.batch_size}")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"train.batch_size={self.batch_size} cannot be split into train.accumulate={self.accumulate} rounds"
            )
        if len(self.betas) != 2:
            raise ValueError(f"train.betas must be two numbers, not {self.betas}")
