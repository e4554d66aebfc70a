"""Section 3.3 by hand: Eq. 1-3, the true difference of Eq. 4 and 5, scales."""

import math

import pytest
import torch
from bpfre.attention import AttentionPyramid, BlemishAttention, merged_map, resize_area, supervised, true_difference
from torch import nn


def constant(convolution, weight, bias):
    """A convolution whose output is ``weight`` times its middle pixel, summed over channels, plus ``bias``."""
    nn.init.zeros_(convolution.weight)
    convolution.weight.data[:, :, 1, 1] = weight
    convolution.bias.data.copy_(torch.as_tensor(bias, dtype=torch.float32))


@pytest.fixture
def module():
    """h_param = (alpha - 1, beta) = (0.5, -0.25); h_map = 2 f; h_weight = 3 - (1 - M)."""
    attention = BlemishAttention(1, width=2)
    constant(attention.h_param[-1], 0.0, [0.5, -0.25])
    constant(attention.h_map[0], 1.0, [0.0, 0.0])
    constant(attention.h_map[-1], 1.0, [0.0])
    constant(attention.h_weight[0], 1.0, [0.0, 0.0])
    constant(attention.h_weight[-1], -0.5, [3.0])
    return attention


def test_equations_1_to_3_by_hand(module):
    M, W = module(torch.zeros(1, 3, 8, 8), torch.full((1, 1, 4, 4), 0.7))
    expected = 1 / (1 + math.exp(-(1.5 * (2 * 0.7) - 0.25)))
    assert M.shape == W.shape == (1, 1, 4, 4)
    assert torch.allclose(M, torch.full_like(M, expected))
    assert torch.allclose(W, torch.full_like(W, 3 - (1 - expected)))


def test_seven_convolutions(module):
    assert sum(isinstance(layer, nn.Conv2d) for layer in module.modules()) == 7


def test_features_pass_nearly_unchanged_at_the_start():
    torch.manual_seed(0)
    _, W = BlemishAttention(8, width=8)(torch.randn(1, 3, 16, 16), torch.randn(1, 8, 16, 16))
    assert (W - 1).abs().max() < 0.25


def test_the_coarsest_scales_pass_as_they_are():
    features = {r: torch.rand(1, 3, r, r) for r in (32, 16, 8, 4)}
    pyramid = AttentionPyramid(dict.fromkeys(features, 3), width=2)
    weighted, maps = pyramid(torch.rand(1, 3, 64, 64), features)
    assert [M.shape[-1] for M in maps] == [32, 16, 8]
    assert weighted[4] is features[4] and not torch.equal(weighted[8], features[8])
    assert [M.shape[-1] for M in supervised(maps)] == [32, 16]
    merged = merged_map([torch.full((1, 1, 32, 32), 0.2), torch.full((1, 1, 16, 16), 0.6)], 64)
    assert torch.allclose(merged, torch.full((1, 1, 64, 64), 0.4))


def test_area_resize_by_hand():
    image = torch.tensor([[1.0, 3.0], [5.0, 7.0]])[None, None]
    assert resize_area(image, (1, 1)).item() == 4
    assert resize_area(image, (2, 2)) is image


def test_true_difference_by_hand():
    before = torch.zeros(1, 3, 1, 3)
    after = before.clone()
    after[0, :, 0, 1] = torch.tensor([0.3, 0.0, 0.0])  # d = 0.1
    after[0, :, 0, 2] = 0.2
    by_hand = [0.0, *(2 / (1 + math.exp(-50 * d)) - 1 for d in (0.5, 1.0))]
    assert true_difference(before, after)[0, 0, 0].tolist() == pytest.approx(by_hand)
    assert true_difference(before, after, kind="raw")[0, 0, 0].tolist() == pytest.approx([0, 0.1, 0.2])


def test_noise_is_not_stretched_to_a_blemish():
    before = torch.zeros(2, 3, 4, 4)
    after = before.clone()
    after[0, :, 0, 0] = 0.1 / 255
    assert torch.equal(true_difference(before[1:], after[1:]), torch.zeros(1, 1, 4, 4))
    noise = true_difference(before, after)[0].max().item()
    assert noise == pytest.approx(2 / (1 + math.exp(-50 * 0.1 / 4)) - 1)
    assert true_difference(before, after, floor=1e-9)[0].max() == 1
