"""What is no number is refused before an update and before it is saved, and named."""

import math

import pytest
import torch
from retouch_common.training.finite import NonFiniteError, as_floats, check_state, check_step
from torch import nn


def network(gradient=0.5):
    layers = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    for parameter in layers.parameters():
        parameter.grad = torch.full_like(parameter, gradient)
    return layers


def test_numbers_pass():
    check_step(1, {"a": torch.tensor(1e30), "b": 0.0}, {"model": network(), "resting": nn.Linear(1, 1)})
    check_state(1, {"model": {"w": torch.ones(2), "empty": torch.ones(0), "count": torch.tensor(3)}})


def test_losses_are_named():
    with pytest.raises(NonFiniteError, match=r"step 7: dice is nan, adv is inf; repeat .* lower train\.lr"):
        check_step(7, {"mse": torch.tensor(1.0), "dice": torch.tensor(math.nan), "adv": math.inf}, {"model": network()})
    assert issubclass(NonFiniteError, ValueError)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_gradient_is_named_though_the_loss_is_a_number(value):
    model = network()
    model[1].bias.grad[0] = value
    with pytest.raises(NonFiniteError, match=r"step 3: gradient norm of model is .*gradient of model/1\.bias holds"):
        check_step(3, {"loss": 1.0}, {"other": network(), "model": model})
    check_step(3, {"loss": 1.0}, {"model": model}, gradients=False)


def test_parameters_broken_earlier_are_named_before_their_gradients():
    model = network(math.nan)
    with torch.no_grad():
        model[0].weight[0, 0] = math.inf
    with pytest.raises(NonFiniteError, match=r"model/0\.weight holds NaN or infinite values since an earlier update"):
        check_step(2, {"loss": math.nan}, {"model": model})


def test_gradients_whose_squares_overflow_are_refused():
    """Adam would keep infinite second moments."""
    with pytest.raises(NonFiniteError, match="gradient norm of model is inf"):
        check_step(1, {"loss": 1.0}, {"model": network(1e30)})


def test_a_state_names_groups_and_counts_the_rest():
    broken = {f"w{i}": torch.tensor([1.0, math.nan]) for i in range(5)}
    with pytest.raises(NonFiniteError, match=r"step 4: ema/w0, ema/w1, ema/w2 and 2 more hold NaN"):
        check_state(4, {"model": {"w": torch.ones(1)}, "ema": broken})


def test_as_floats():
    assert as_floats({"a": torch.tensor([2.0]), "b": 3}) == {"a": 2.0, "b": 3.0}
