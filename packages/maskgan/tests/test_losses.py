"""Eq. 1-8 by hand on constant pictures."""

import math

import pytest
import torch
from maskgan.losses import (
    appearance_loss,
    background_loss,
    discriminator_loss,
    feature_matching_loss,
    global_loss,
    local_loss,
    r1_penalty,
    region_loss,
    sigmoid_loss,
)
from retouch_common.parsing.losses import parsing_loss


def filled(*values, channels=3, size=8):
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None].expand(-1, channels, size, size)


def log_sigma(x):
    return -math.log(1 + math.exp(-x))


def test_local_reconstruction_is_half_the_squared_error_of_every_component():
    """Eq. 1: errors 0.2 and 0.4 of eyes, 0.5 of the mouth; the second face has no mouth."""
    made = {"eye_left": filled(0.2, 0.4), "mouth": filled(0.5, 0.9)}
    true = {"eye_left": filled(0.0, 0.0), "mouth": filled(0.0, 0.0)}
    present = torch.tensor([[True, True, True, True, True], [True, True, False, True, True]])
    assert local_loss(made, true, present).item() == pytest.approx((0.04 + 0.16) / 2 / 2 + 0.25 / 2)
    everything = (0.04 + 0.16) / 2 / 2 + (0.25 + 0.81) / 2 / 2
    assert local_loss(made, true).item() == pytest.approx(everything)
    nobody = torch.zeros(2, 5, dtype=torch.bool)
    assert local_loss(made, true, nobody).item() == 0


def test_global_reconstruction():
    """Eq. 2."""
    assert global_loss(filled(0.5), filled(-0.1)).item() == pytest.approx(0.36 / 2)


def test_regions_count_alike_whatever_their_size():
    """Two pixels of an eye are 0.4 off, half of the picture is skin and 0.2 off, the rest does not count."""
    result, labels = torch.zeros(1, 3, 8, 8), torch.zeros(1, 8, 8, dtype=torch.long)
    labels[:, 4:], result[:, :, 4:] = 1, 0.2
    labels[:, 0, :2], result[:, :, 0, :2] = 4, 0.4
    result[:, :, 1] = 9.0
    source = torch.zeros_like(result)
    assert region_loss(result, source, labels).item() == pytest.approx(0.16 / 2 + 0.04 / 2)
    weighted = region_loss(result, source, labels, (2.0, 1.0, 1.0, 0.5, 1.0)).item()
    assert weighted == pytest.approx(2 * 0.16 / 2 + 0.5 * 0.04 / 2)


def test_appearance_is_mean_and_deviation():
    """Grey skin, 0.1 and 0.3 against twice 0.4: of three opponent colours only intensity, sqrt(3) grey, differs."""
    labels, source_labels = torch.zeros(1, 8, 8, dtype=torch.long), torch.zeros(1, 8, 8, dtype=torch.long)
    result, source = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    labels[:, 4, :2], result[:, :, 4, 0], result[:, :, 4, 1] = 1, 0.1, 0.3
    source_labels[:, 6, :2], source[:, :, 6, :2] = 1, 0.4
    labels[:, 0, :2], result[:, :, 0] = 8, 9.0  # a mouth, which the source does not have
    loss = appearance_loss(result, labels, source, source_labels).item()
    assert loss == pytest.approx(3 * (0.2**2 + 0.1**2) / 3 / 2, rel=2e-2)
    assert appearance_loss(source, source_labels, source, source_labels).item() == 0


def test_a_red_fringe_counts_more_than_a_bright_one():
    """Where the light varies, as in hair, and the hue does not."""
    labels = torch.full((1, 8, 8), 10)
    source = torch.full((1, 3, 8, 8), 0.2)
    source[..., ::2] = -0.4
    red, bright = source.clone(), source.clone()
    red[:, 0, 0], bright[:, :, 0] = red[:, 0, 0] + 0.3, bright[:, :, 0] + 0.3 / 3**0.5
    losses = [appearance_loss(picture, labels, source, labels).item() for picture in (red, bright)]
    assert losses[0] > 2 * losses[1] > 0


def test_the_targets_background_comes_back():
    labels = torch.ones(1, 8, 8, dtype=torch.long)
    labels[:, 0, :4] = 0
    result, target = torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8)
    result[:, :, 0, 0], result[:, :, 4] = 0.2, 9.0
    assert background_loss(result, labels, target).item() == pytest.approx(0.04 / 2 / 4)


def test_the_game_adds_its_scales():
    """Eq. 3 and 4."""
    real, fake = [filled(1.0, channels=1), filled(0.0, channels=1)], [filled(-1.0, channels=1), filled(2.0, channels=1)]
    expected = -log_sigma(1) - log_sigma(1) - log_sigma(0) - log_sigma(-2)
    assert discriminator_loss(real, fake).item() == pytest.approx(expected, rel=1e-6)
    assert sigmoid_loss(fake).item() == pytest.approx(-log_sigma(-1) - log_sigma(2), rel=1e-6)
    assert discriminator_loss(real, fake, "hinge").item() == pytest.approx((0 + 0) + (1 + 3))
    assert sigmoid_loss(fake, "hinge").item() == pytest.approx(1 - 2)


def test_feature_matching():
    """Eq. 5. Real features get no gradient."""
    fake = [filled(0.1, channels=4).clone().requires_grad_(), filled(0.5, channels=8)]
    real = [filled(0.3, channels=4).clone().requires_grad_(), filled(0.4, channels=8)]
    loss = feature_matching_loss(fake, real)
    assert loss.item() == pytest.approx((0.04 + 0.01) / 2)
    assert feature_matching_loss(fake, real, "l1").item() == pytest.approx((0.2 + 0.1) / 2)
    loss.backward()
    assert fake[0].grad is not None and real[0].grad is None


def test_parsing():
    """Eq. 8: logits log 5 for the true class and 0 for ten others, probability 5 / 15; uniform ones, 1 / 11."""
    labels = torch.tensor([[[0, 3], [10, 3]]])
    logits = torch.zeros(1, 11, 2, 2).scatter(1, labels[:, None], math.log(5))
    assert parsing_loss(logits, labels).item() == pytest.approx(math.log(3), rel=1e-6)
    assert parsing_loss(torch.zeros(1, 11, 2, 2), labels).item() == pytest.approx(math.log(11), rel=1e-6)
    weights = [0.0] * 11
    weights[10] = 2.0  # only the one pixel of hair counts
    logits[0, :, 1, 0] = 0
    assert parsing_loss(logits, labels, weights).item() == pytest.approx(math.log(11), rel=1e-6)


def test_gradient_penalty():
    """l = 3 x: the gradient of its mean over 4 pixels is 3 / 4 at each, so |g|^2 / 2 = 4 (9 / 16) / 2."""
    image = torch.rand(2, 1, 2, 2, requires_grad=True)
    assert r1_penalty([3 * image], image).item() == pytest.approx(9 / 8)
    assert r1_penalty([3 * image, -3 * image], image).item() == pytest.approx(0)
