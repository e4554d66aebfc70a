"""Training repeats to the bit in a fresh process, resumes to the bit after a kill, and keeps the golden losses."""

from pathlib import Path

import pytest
from retouch_common.testing.golden import check_curve
from retouch_common.testing.training_contract import TrainingContract

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.mark.repro
class TestTraining(TrainingContract):
    state = frozenset({"model", "ema", "optimizer-model", "discriminators", "optimizer-discriminators"})

    @pytest.mark.golden
    def test_loss_curve(self, run):
        """The first steps: what processors round differently grows to the tolerance by the sixth."""
        check_curve(GOLDEN / "loss_curve.json", run.losses()[:5])
