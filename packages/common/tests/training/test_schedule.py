"""Learning rates by hand."""

import pytest
from retouch_common.training.schedule import learning_rate_factor


def test_cosine_after_a_warm_up():
    factors = {step: learning_rate_factor(step, steps=110, warmup=10) for step in (0, 10, 60, 110, 200)}
    expected = {0: 0.1, 10: 1.0, 60: 0.01 + 0.99 / 2, 110: 0.01, 200: 0.01}
    assert factors == pytest.approx(expected)


def test_step_and_constant():
    assert [learning_rate_factor(s, steps=9, schedule="step", step_at=100) for s in (0, 99, 100)] == [1.0, 1.0, 0.1]
    assert [learning_rate_factor(s, steps=9, warmup=2, schedule="constant") for s in (0, 1, 2, 99)] == [0.5, 1, 1, 1]
