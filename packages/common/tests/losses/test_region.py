from __future__ import annotations

import pytest
import torch
from retouch_common.losses.region import difference_mask, soft_dice_loss


def test_difference_by_hand():
    raw = torch.tensor([[[[0.5, 0.5, 0.5, 0.5]]] * 3]).reshape(1, 3, 1, 4)
    target = raw.clone()
    target[0, 1, 0, 1] += 0.25  # more, in one channel
    target[0, 2, 0, 2] -= 0.125  # exactly the threshold
    target[0, :, 0, 3] -= 0.1  # less, in all channels
    assert difference_mask(raw, target, threshold=0.125).tolist() == [[[[0.0, 1.0, 0.0, 0.0]]]]


def test_difference_of_unlike_shapes():
    with pytest.raises(ValueError, match="differ in shape"):
        difference_mask(torch.zeros(1, 3, 2, 2), torch.zeros(1, 3, 2, 3))


def test_dice_by_hand():
    p = torch.tensor([0.5, 1.0, 0.0, 0.25]).reshape(1, 1, 2, 2)
    m = torch.tensor([1.0, 1.0, 0.0, 0.0]).reshape(1, 1, 2, 2)
    # 2 * 1.5 + 1 = 4 above; 0.25 + 1 + 0.0625 + 2 + 1 = 4.3125 below
    assert soft_dice_loss(p, m).item() == pytest.approx(1 - 4 / 4.3125)
    assert soft_dice_loss(p, m, smooth=0.0).item() == pytest.approx(1 - 3 / 3.3125)


def test_dice_is_the_mean_over_samples():
    p = torch.stack([torch.ones(1, 2, 2), torch.zeros(1, 2, 2)])
    m = torch.ones(2, 1, 2, 2)
    # the first sample is right, the second scores 1 / (4 + 1)
    assert soft_dice_loss(p, m).item() == pytest.approx((0 + (1 - 1 / 5)) / 2)


def test_dice_of_nothing_predicted_where_nothing_is_costs_nothing():
    assert soft_dice_loss(torch.zeros(2, 1, 4, 4), torch.zeros(2, 1, 4, 4)).item() == 0


def test_dice_gradient_is_right():
    p = torch.rand(2, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    m = (torch.rand(2, 1, 3, 3) > 0.5).double()

    def in_double(p):  # the loss computes in single precision; the formula is the same
        a, b = p.flatten(1), m.flatten(1)
        return (1 - (2 * (a * b).sum(1) + 1) / (a.square().sum(1) + b.square().sum(1) + 1)).mean()

    assert torch.autograd.gradcheck(in_double, (p,))
    (expected,) = torch.autograd.grad(in_double(p), p)
    (found,) = torch.autograd.grad(soft_dice_loss(p, m), p)
    assert torch.allclose(found, expected, atol=1e-6)


def test_dice_of_a_large_mask_in_half_precision_does_not_overflow():
    p = torch.ones(1, 1, 512, 512, dtype=torch.float16)
    assert soft_dice_loss(p, p).item() == pytest.approx(0, abs=1e-6)


def test_dice_of_unlike_shapes():
    with pytest.raises(ValueError, match="differ in shape"):
        soft_dice_loss(torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 8, 8))
