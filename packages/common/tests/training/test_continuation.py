"""Which differences between a run and its continuation are refused."""

from pathlib import Path

import pytest
from retouch_common.training.continuation import refuse_other_run

SAVED = {"train": {"steps": 10, "lr": 0.1, "betas": [0.9, 0.99]}}


def test_a_longer_run_and_lists_for_tuples_are_the_same_run():
    refuse_other_run(SAVED, {"train": {"steps": 20, "lr": 0.1, "betas": (0.9, 0.99)}}, Path("run"))


def test_another_learning_rate_is_another_run():
    with pytest.raises(ValueError, match=r"run holds a run with train.lr=0.1, now 0.2"):
        refuse_other_run(SAVED, {"train": {"lr": 0.2}}, Path("run"))
