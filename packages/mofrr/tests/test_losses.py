"""Section 3.4 by hand on constant pictures."""

import math

import pytest
import torch
from mofrr.config import LossConfig
from mofrr.losses import (
    combine_losses,
    degree_loss,
    expert_losses,
    high_loss,
    idem_loss,
    l1_loss,
    order_loss,
    router_loss,
    shared_losses,
    simple_loss,
    ssim_loss,
    tv_loss,
    weighted_sum,
)
from mofrr.sampling import ExpertOutput
from mofrr.wavefrr import WaveFRROutput


def filled(value, size=16, batch=1, channels=3):
    return torch.full((batch, channels, size, size), float(value))


def test_squared_terms():
    assert idem_loss(filled(0.1), filled(0.4)).item() == pytest.approx(0.09)
    assert simple_loss(filled(-1), filled(1)).item() == pytest.approx(4)
    assert high_loss([filled(0.1), filled(0.3)], [filled(0), filled(0)]).item() == pytest.approx((0.01 + 0.09) / 2)


def test_total_variation_of_a_step():
    """One column edge of height 2 in 4 columns: the mean over 3 neighbours is 2 / 3."""
    band = torch.zeros(1, 9, 4, 4)
    band[..., 2:] = 2
    assert tv_loss([band]).item() == pytest.approx(2 / 3)
    assert tv_loss([band, torch.zeros_like(band)]).item() == pytest.approx(1 / 3)


def test_hybrid_loss():
    two = torch.cat([filled(0.5), filled(0.2)])
    assert l1_loss(two, filled(0, batch=2)).item() == pytest.approx(0.35)
    assert l1_loss(two, filled(0, batch=2), torch.tensor([1.0, 0.5])).item() == pytest.approx((0.5 + 0.1) / 2)
    # For constants SSIM is its first factor, of images in [0, 1]: 0.75 and 0.65, with C1 = 0.01^2.
    similarity = (2 * 0.75 * 0.65 + 1e-4) / (0.75**2 + 0.65**2 + 1e-4)
    assert ssim_loss(filled(0.5), filled(0.3)).item() == pytest.approx(1 - similarity, rel=1e-4)
    assert ssim_loss(filled(0.03), filled(-0.03)).item() < 0.01, "mid-grey is not black"
    weighted = ssim_loss(filled(0.5, batch=2), filled(0.3, batch=2), torch.tensor([1.0, 0.0])).item()
    assert weighted == pytest.approx((1 - similarity) / 2, rel=1e-4)


def test_classification():
    logits, applied = torch.tensor([[0.0, 2.0]]), torch.tensor([[1, 0]])
    expected = (math.log(2) + math.log(1 + math.exp(2))) / 2
    assert router_loss(logits, applied).item() == pytest.approx(expected)
    degrees = torch.tensor([[0.0, 0.0, 0.0, 0.0, math.log(4)]])
    assert degree_loss(degrees, torch.tensor([5])).item() == pytest.approx(-math.log(4 / 8))
    assert degree_loss(degrees, torch.tensor([1])).item() == pytest.approx(math.log(8))
    expected = (1 + 2 + 3 + 4 + 4 * 5) / 8
    assert order_loss(degrees, torch.tensor([5])).item() == pytest.approx((expected - 5) ** 2)
    assert order_loss(degrees, torch.tensor([1])).item() == pytest.approx((expected - 1) ** 2)


def passed(**changes):
    values = {
        "output": filled(0.1),
        "target": filled(0.3),
        "residual": filled(0.2),
        "true_residual": filled(0.5),
        "high": [filled(0.1, channels=9)],
        "true_high": [filled(0.4, channels=9)],
        "restored": filled(0.5),
        "weight": torch.tensor([0.5]),
    }
    return WaveFRROutput(**(values | changes))


def test_the_expert_adds_its_terms():
    terms = expert_losses(passed(), filled(0.3))
    similarity = (2 * 0.75 * 0.65 + 1e-4) / (0.75**2 + 0.65**2 + 1e-4)
    expected = {"simple": 0.04, "idem": 0.09, "high": 0.09, "tv": 0.0, "l1": 0.1, "ssim": (1 - similarity) / 2}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-4)
    total = 0.04 + 0.1 * 0.09 + 0.1 * 0.09 + 0.1 + (1 - similarity) / 2
    assert weighted_sum(terms, LossConfig()).item() == pytest.approx(total, rel=1e-4)
    assert "idem" not in expert_losses(passed(residual=None), filled(0.3))


def test_the_others_add_theirs():
    shared = ExpertOutput(filled(0.1), filled(0.3), filled(0.5), torch.tensor([0.5]))
    assert {"simple", "l1", "ssim"} == set(shared_losses(shared, filled(0.3)))
    assert shared_losses(shared, filled(0.3))["l1"].item() == pytest.approx(0.1)
    assert combine_losses(filled(0.5), filled(0.3))["l1"].item() == pytest.approx(0.2)
