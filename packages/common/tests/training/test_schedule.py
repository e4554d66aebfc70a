"""Learning rates by hand."""

import pytest
from retouch_common.training.schedule import learning_rate_factor


def test_cosine_after_a_warm_up():
    factors = {step: learning_rate_factor(step, steps=110, warmup=10) for step in (0, 10, 60, 110, 200)}
    expected = {0: 0.1, 10: 1.0, 60: 0.01 + 0.99 / 2, 110: 0.01, 200: 0.01}
    assert factors == pytest.approx(expected)


def test_constant_after_a_warm_up():
    assert [learning_rate_factor(s, steps=9, warmup=2, schedule="constant") for s in (0, 1, 2, 99)] == [0.5, 1, 1, 1]
