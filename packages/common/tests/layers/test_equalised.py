"""Equalised learning rates: scales, lr_mul, and halving convolutions."""

import math

import pytest
import torch
import torch.nn.functional as F
from retouch_common.layers.equalised import EqualConv2d, EqualLinear, full_precision, leaky_relu
from retouch_common.layers.resample import downsample2d
from torch import Tensor


def test_leaky_relu_by_hand() -> None:
    torch.testing.assert_close(leaky_relu(torch.tensor([3.0, -5.0])), math.sqrt(2) * torch.tensor([3.0, -1.0]))


def test_linear_by_hand() -> None:
    layer = EqualLinear(4, 2, bias_init=0.5, lr_mul=0.1)
    layer.weight.data = torch.tensor([[1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 0.0, 0.0]])
    x = torch.tensor([[1.0, 1.0, 1.0, 2.0]])
    # scale = 0.1 / sqrt(4); the bias is stored as 0.5 / 0.1 and comes out as 0.5
    torch.testing.assert_close(layer(x), torch.tensor([[0.05 * 14 + 0.5, -0.05 + 0.5]]))
    layer.activation = True
    layer.bias.data.fill_(-10.0)
    torch.testing.assert_close(layer(x), math.sqrt(2) * torch.tensor([[0.2 * (0.7 - 1), 0.2 * (-0.05 - 1)]]))


def test_lr_mul_leaves_the_start_alone_and_slows_the_steps() -> None:
    x, target = torch.randn(5, 8), torch.randn(5, 3)

    def effective(lr_mul: float, *, steps: int) -> tuple[Tensor, Tensor]:
        torch.manual_seed(0)
        layer = EqualLinear(8, 3, bias_init=1.0, lr_mul=lr_mul)
        optimiser = torch.optim.Adam(layer.parameters(), lr=1e-3)
        for _ in range(steps):
            optimiser.zero_grad()
            F.mse_loss(layer(x), target).backward()
            optimiser.step()
        return layer(x), layer(torch.eye(8)) - layer(torch.zeros(8))

    (full, full_weight), (slow, slow_weight) = effective(1.0, steps=0), effective(0.01, steps=0)
    torch.testing.assert_close(full, slow)
    # Adam moves every stored weight by lr; the effective one by lr * lr_mul / sqrt(fan-in)
    moved = [(effective(m, steps=1)[1] - w).abs() for m, w in ((1.0, full_weight), (0.01, slow_weight))]
    torch.testing.assert_close(moved[0], torch.full_like(moved[0], 1e-3 / math.sqrt(8)), rtol=1e-2, atol=1e-6)
    torch.testing.assert_close(moved[1], 0.01 * moved[0], rtol=0.1, atol=1e-6)


@torch.no_grad()
def test_layers_keep_unit_variance() -> None:
    torch.manual_seed(0)
    assert EqualLinear(256, 512, lr_mul=0.01)(torch.randn(256, 256)).var() == pytest.approx(1, abs=0.03)
    assert EqualConv2d(64, 64, 3)(torch.randn(4, 64, 18, 18))[..., 1:-1, 1:-1].var() == pytest.approx(1, abs=0.05)
    # about kept by the activation: E[(sqrt(2) lrelu)^2] = 1 + 0.2^2
    assert leaky_relu(torch.randn(100_000)).square().mean() == pytest.approx(1.04, abs=0.03)


def test_convolution_by_hand() -> None:
    layer = EqualConv2d(2, 1, 1)
    layer.weight.data = torch.tensor([3.0, -1.0]).reshape(1, 2, 1, 1)
    layer.bias.data.fill_(0.25)
    x = torch.tensor([2.0, 4.0]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(layer(x).flatten(), torch.tensor([(6.0 - 4.0) / math.sqrt(2) + 0.25]))


@pytest.mark.parametrize(("down", "side"), [(False, 8), (True, 4)])
@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_sides(kernel: int, down: bool, side: int) -> None:
    layer = EqualConv2d(2, 3, kernel, down=down, activation=True, bias=False)
    assert layer(torch.randn(1, 2, 8, 8)).shape == (1, 3, side, side)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]


def test_halving_with_one_pixel_is_downsampling() -> None:
    layer = EqualConv2d(3, 4, 1, down=True, bias=False)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(layer(x), F.conv2d(downsample2d(x), layer.weight / math.sqrt(3)))


def test_halving_is_centred() -> None:
    """A ramp stays the same ramp: cell j of the result lies at 2j + 1/2 of the input."""
    layer = EqualConv2d(1, 1, 3, down=True, bias=False)
    layer.weight.data.fill_(1 / 3)  # scale 1 / 3: a mean over nine pixels
    ramp = torch.arange(12.0).expand(1, 1, 12, 12)
    torch.testing.assert_close(layer(ramp)[0, 0, 2, 1:-1], 2 * torch.arange(1.0, 5.0) + 0.5)


def test_halving_removes_what_would_alias() -> None:
    stripes = (torch.arange(32) % 2 * 2.0 - 1).expand(1, 1, 32, 32)
    for kernel in (1, 3):
        assert EqualConv2d(1, 1, kernel, down=True)(stripes)[..., 2:-2, 2:-2].abs().max() < 1e-6


def test_refuses_even_kernels() -> None:
    with pytest.raises(ValueError, match="must be odd, not 2"):
        EqualConv2d(1, 1, 2)


def test_full_precision_inside_autocast() -> None:
    a = torch.randn(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        assert (a @ a).dtype == torch.bfloat16
        with full_precision(a):
            assert (a @ a).dtype == torch.float32
        assert (a @ a).dtype == torch.bfloat16
    with full_precision(a):
        assert (a @ a).dtype == torch.float32
