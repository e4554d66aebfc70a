from __future__ import annotations

import math

import pytest
import torch
from retouch_common.losses.adversarial import PatchDiscriminator, discriminator_loss, generator_loss

REAL, FAKE = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.5])


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("kind", "discriminator", "generator"),
    [
        (
            "bce",
            -(math.log(sigmoid(2)) + math.log(sigmoid(0.5))) / 2
            - (math.log(1 - sigmoid(-3)) + math.log(1 - sigmoid(0.5))) / 2,
            -(math.log(sigmoid(-3)) + math.log(sigmoid(0.5))) / 2,
        ),
        ("hinge", (0 + 0.5) / 2 + (0 + 1.5) / 2, (3.0 - 0.5) / 2),
        ("lsgan", 0.5 * (1 + 0.25) / 2 + 0.5 * (9 + 0.25) / 2, 0.5 * (16 + 0.25) / 2),
    ],
)
def test_losses_by_hand(kind, discriminator, generator):
    assert discriminator_loss(REAL, FAKE, kind=kind).item() == pytest.approx(discriminator, rel=1e-5)
    assert generator_loss(FAKE, kind=kind).item() == pytest.approx(generator, rel=1e-5)


@pytest.mark.parametrize("kind", ["bce", "hinge", "lsgan"])
def test_both_players_are_pulled_the_right_way(kind):
    fake = torch.zeros(3, requires_grad=True)
    real = torch.zeros(3, requires_grad=True)
    generator_loss(fake, kind=kind).backward()
    assert (fake.grad < 0).all(), "the generator wants larger logits"
    fake.grad = None
    discriminator_loss(real, fake, kind=kind).backward()
    assert (real.grad < 0).all()
    if kind != "lsgan":  # whose pull on fakes vanishes at its aim, 0
        assert (fake.grad > 0).all()


def test_unknown_kind():
    with pytest.raises(ValueError, match="'wgan' is not one of bce, hinge, lsgan"):
        discriminator_loss(REAL, FAKE, kind="wgan")
    with pytest.raises(ValueError, match="'wgan' is not one of bce, hinge, lsgan"):
        generator_loss(FAKE, kind="wgan")


@pytest.mark.parametrize(("num_layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_receptive_field(num_layers, field):
    """One output sees a square of 16, 34 or 70 pixels: that many rows and columns have a gradient."""
    torch.manual_seed(0)
    model = PatchDiscriminator(width=8, num_layers=num_layers, norm="none").double()
    image = torch.randn(1, 3, 128, 128, dtype=torch.float64, requires_grad=True)
    logits = model(image)
    middle = logits.shape[-1] // 2
    logits[0, 0, middle, middle].backward()
    touched = image.grad[0].abs().sum(0) > 0
    assert int(touched.any(0).sum()) == field
    assert int(touched.any(1).sum()) == field


def test_shape_and_size_of_the_published_network():
    model = PatchDiscriminator(6)
    assert model(torch.zeros(2, 6, 256, 256)).shape == (2, 1, 30, 30)
    # 4 * 4 kernels: 6-64 with bias, 64-128-256-512 with normalisation, 512-1 with bias
    expected = 6 * 64 * 16 + 64 + sum(16 * a * 2 * a + 4 * a for a in (64, 128, 256)) + 512 * 16 + 1
    assert sum(p.numel() for p in model.parameters()) == expected


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_every_parameter_has_a_gradient(norm):
    torch.manual_seed(0)
    model = PatchDiscriminator(width=4, norm=norm)
    model(torch.rand(2, 3, 64, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


def test_unknown_norm():
    with pytest.raises(ValueError, match="'layer' is not one of"):
        PatchDiscriminator(norm="layer")
