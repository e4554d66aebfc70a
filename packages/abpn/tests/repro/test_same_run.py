"""Training repeats to the bit in a fresh process, and resumes to the bit after a kill."""

import pytest
from retouch_common.testing.training_contract import TrainingContract


@pytest.mark.repro
class TestTraining(TrainingContract):
    state = frozenset({"model", "ema", "optimizer-model"})
