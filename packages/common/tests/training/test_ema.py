from __future__ import annotations

import pytest
import torch
from retouch_common.training.ema import EMA


def linear(value: float) -> torch.nn.Linear:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.constant_(model.weight, value)
    return model


def test_two_updates_by_hand():
    model = linear(0.0)
    ema = EMA(model, decay=0.15)
    torch.nn.init.constant_(model.weight, 1.0)
    ema.update(model)  # decay 1 / 10
    assert ema.module.weight.item() == pytest.approx(0.9)
    ema.update(model)  # decay min(0.15, 2 / 11)
    assert ema.module.weight.item() == pytest.approx(0.15 * 0.9 + 0.85)


def test_statistics_are_averaged_and_counters_copied():
    model = torch.nn.BatchNorm1d(1)
    ema = EMA(model, decay=0.05)
    model(torch.tensor([[0.0], [20.0]]))  # running mean 0.1 * 10
    ema.update(model)
    assert ema.module.running_mean.item() == pytest.approx(0.95)
    assert ema.module.num_batches_tracked.item() == 1


def test_the_average_is_for_evaluation_and_apart_from_the_model():
    model = linear(1.0).train()
    ema = EMA(model)
    assert not ema.module.training
    assert not any(p.requires_grad for p in ema.module.parameters())
    torch.nn.init.constant_(model.weight, 5.0)
    assert ema.module.weight.item() == 1.0
    assert model.weight.requires_grad


def test_resumed_average_goes_on_to_the_bit():
    torch.manual_seed(0)
    steps = [torch.randn(3, 3) for _ in range(6)]

    def run(ema, model, values):
        for value in values:
            model.weight.data = value.clone()
            ema.update(model)

    model = torch.nn.Linear(3, 3)
    straight = EMA(model)
    first = EMA(model)
    run(straight, model, steps)
    run(first, model, steps[:3])
    second = EMA(torch.nn.Linear(3, 3))
    second.load_state_dict(first.state_dict(), num_updates=first.num_updates)
    run(second, model, steps[3:])
    assert torch.equal(second.module.weight, straight.module.weight)


@pytest.mark.parametrize("decay", [-0.1, 1.0, 2.0])
def test_impossible_decay(decay):
    with pytest.raises(ValueError, match=r"outside \[0, 1\)"):
        EMA(linear(0.0), decay=decay)
