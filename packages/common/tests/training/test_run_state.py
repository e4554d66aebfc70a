"""Which differences between a run and its continuation are refused."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from retouch_common.training.config import TrainConfig
from retouch_common.training.run_state import FREE_FIELDS, RECOVERY_FIELDS, refuse_other_run, set_base_rates


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    RETIRED: ClassVar[dict[str, Any]] = {"kl": 0.0}
    l1: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Config:
    train: TrainConfig = field(default_factory=TrainConfig)
    loss: LossConfig = field(default_factory=LossConfig)


SAVED = {"train": {"steps": 10, "lr": 0.1, "betas": [0.9, 0.99]}}  # of a release that had no other options


def asked(**changes):
    return Config(train=TrainConfig(**{"steps": 10, "lr": 0.1, "betas": (0.9, 0.99)} | changes))


def test_a_longer_run_is_the_same_run_and_options_that_were_added_have_their_defaults():
    refuse_other_run(SAVED, asked(steps=20), Path("run"))
    with pytest.raises(ValueError, match=r"run holds a run with train.warmup=0, not 3"):
        refuse_other_run(SAVED, asked(warmup=3), Path("run"))


def test_a_run_with_a_retired_option_resumes_with_its_constant_only():
    refuse_other_run(SAVED | {"loss": {"l1": 1.0, "kl": 0.0}}, asked(), Path("run"))
    with pytest.raises(
        ValueError,
        match=r"run holds a run that .* cannot resume, of another command or release: loss.kl: .* has only 0.0",
    ):
        refuse_other_run(SAVED | {"loss": {"l1": 1.0, "kl": 0.5}}, asked(), Path("run"))


def test_another_learning_rate_is_another_run_but_may_mend_an_unfinished_one(caplog):
    with pytest.raises(ValueError, match=r"run holds a run with train.lr=0.1, not 0.2"):
        refuse_other_run(SAVED, asked(lr=0.2), Path("run"))
    refuse_other_run(SAVED, asked(lr=0.2), Path("run"), free=FREE_FIELDS | RECOVERY_FIELDS)
    assert "run resumes with train.lr=0.2 instead of 0.1" in caplog.text


def test_another_learning_rate_counts_from_the_point_of_the_schedule_that_is_reached():
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    groups = [{"params": [parameters[0]], "lr": 0.1}, {"params": [parameters[1]], "lr": 0.2}]
    optimizer = torch.optim.Adam(groups)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    scheduler.step()
    set_base_rates(scheduler, [0.1, 0.2])
    assert scheduler.get_last_lr() == [group["lr"] for group in optimizer.param_groups] == [0.05, 0.1]
    set_base_rates(scheduler, [0.01, 0.02])
    assert [group["lr"] for group in optimizer.param_groups] == [0.005, 0.01]
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.0025, 0.005]


def test_a_batch_that_no_memory_holds_is_refused():
    with pytest.raises(ValueError, match=r"train\.batch_size must be at most 100000"):
        TrainConfig(batch_size=10**9)
