"""Learning rates over a run, as a share of their peak."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["constant", "cosine"]


def learning_rate_factor(step: int, *, steps: int, warmup: int = 0, schedule: Schedule = "cosine") -> float:
    """Return the learning rate after ``step`` steps, divided by its peak.

    Args:
        step: Steps already taken, from 0.
        steps: Length of the run.
        warmup: Steps of linear warm-up.
        schedule: "constant", or "cosine", which decays to 1 % at the end of the run.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))
