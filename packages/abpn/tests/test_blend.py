"""Eq. 1-4 against values worked out by hand, and the two modules against each other."""

import pytest
import torch
from abpn.blend import MIN_SLOPE, AdaptiveBlend, ConvolutionalBlend, NeutralBlend, make_blend, polynomial


def pixel(value: float) -> torch.Tensor:
    return torch.full((1, 3, 1, 1), value)


def test_polynomial_is_the_sum_of_hadamard_powers():
    coefficients = torch.tensor([1.0, 2.0, 3.0])
    assert polynomial(coefficients, pixel(0.5)).flatten().tolist() == [2.75] * 3  # 1 + 2/2 + 3/4


def test_equation_3_by_hand():
    blend = AdaptiveBlend()
    with torch.no_grad():
        blend.j.copy_(torch.tensor([0.1, 0.2, 0.3]))
        blend.k.copy_(torch.tensor([0.4, 0.5, 0.6]))
    # (0.1 B + 0.4) + (0.2 B + 0.5) I + (0.3 B + 0.6) I^2 at I = 0.5, B = 2: 0.6 + 0.45 + 0.3
    torch.testing.assert_close(blend(pixel(0.5), pixel(2.0)), pixel(1.35))


def test_equation_4_by_hand():
    blend = AdaptiveBlend()
    with torch.no_grad():
        blend.j.copy_(torch.tensor([0.1, 0.2, 0.3]))
        blend.k.copy_(torch.tensor([0.4, 0.5, 0.6]))
    # (1.35 - 0.4 - 0.25 - 0.15) / (0.1 + 0.1 + 0.075)
    torch.testing.assert_close(blend.reverse(pixel(0.5), pixel(1.35)), pixel(2.0))


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("rgb", 0.8),  # R = B
        ("addition", 1.05),  # R = I + B
        ("soft_light", (1 - 2 * 0.8) * 0.25**2 + 2 * 0.8 * 0.25),  # Pegtop's formula
        ("adaptive", (1 - 2 * 0.8) * 0.25**2 + 2 * 0.8 * 0.25),  # starts as soft light
        ("neutral", 0.25 + (0.25 + 0.25 - 0.0625) * 0.8),  # I + D(I) B
    ],
)
def test_blend_modes_of_table_2(mode, expected):
    torch.testing.assert_close(make_blend(mode)(pixel(0.25), pixel(0.8)), pixel(expected))


@pytest.mark.parametrize("mode", ["rgb", "addition", "adaptive", "soft_light", "neutral"])
def test_reverse_inverts_the_blend(mode):
    generator = torch.Generator().manual_seed(0)
    I, R = torch.rand(2, 1, 3, 64, 64, generator=generator)
    if mode in ("adaptive", "soft_light"):
        I = 0.1 + 0.8 * I  # soft light has no inverse at black and white
    blend = make_blend(mode)
    torch.testing.assert_close(blend(I, blend.reverse(I, R)), R, rtol=0, atol=1e-5)


def test_reverse_keeps_the_sign_of_a_divisor_near_zero():
    blend = AdaptiveBlend("addition", eps=0.5)
    with torch.no_grad():
        blend.j.copy_(torch.tensor([-0.1, 0.0, 0.0]))
    # D = -0.1 becomes -0.5: (R - I) / -0.5
    torch.testing.assert_close(blend.reverse(pixel(0.2), pixel(0.3)), pixel(-0.2))


def test_reverse_is_finite_at_black_and_white():
    blend = make_blend("soft_light")
    for I in (pixel(0.0), pixel(1.0)):
        assert torch.isfinite(blend.reverse(I, pixel(0.5))).all()


def test_neutral_layer_leaves_every_pixel_bit_for_bit():
    I = torch.rand(1, 3, 97, 89, generator=torch.Generator().manual_seed(1))
    assert torch.equal(NeutralBlend()(I, torch.zeros_like(I)), I)


def test_neutral_slope_never_falls_below_its_bound():
    blend = NeutralBlend()
    with torch.no_grad():
        blend.j.copy_(torch.tensor([-5.0, 1.0, 0.0]))
    assert blend.slope(torch.rand(1, 3, 8, 8)).min().item() == pytest.approx(MIN_SLOPE)


@pytest.mark.parametrize(
    ("mode", "learned"), [("adaptive", 6), ("neutral", 3), ("rgb", 0), ("addition", 0), ("soft_light", 0)]
)
def test_only_the_adaptive_blends_learn(mode, learned):
    assert sum(p.numel() for p in make_blend(mode).parameters() if p.requires_grad) == learned


def test_convolutional_blend_works_on_single_pixels():
    blend = ConvolutionalBlend()
    I, B = torch.rand(2, 1, 3, 4, 4)
    whole = blend(I, B)
    torch.testing.assert_close(whole[..., :2, :2], blend(I[..., :2, :2], B[..., :2, :2]))


def test_convolutional_blend_has_a_network_for_each_direction():
    blend = ConvolutionalBlend()
    I, other = torch.rand(2, 1, 3, 4, 4)
    pair = torch.cat([I, other], dim=1)
    assert torch.equal(blend(I, other), blend.apply_layer(pair))
    assert torch.equal(blend.reverse(I, other), blend.recover_layer(pair))
    assert not torch.equal(blend.reverse(I, other), blend(I, other))


def test_negligible_layers_bound_the_change_of_every_image():
    blend = NeutralBlend().requires_grad_(False)
    blend.j.data = torch.tensor([0.3, 0.9, -0.6])  # D is largest at I = 0.75
    layer = blend.negligible(0.1)
    B = torch.tensor([-layer, layer]).view(2, 1, 1, 1).expand(2, 3, 1, 101)
    I = torch.linspace(0, 1, 101).expand(2, 3, 1, 101)
    assert 0.98 * 0.1 < blend.change(I, B).abs().max() <= 0.1
