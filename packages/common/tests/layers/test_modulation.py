"""The modulated convolution: by hand, beside the published form, doubled sides, half precision."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from retouch_common.layers.modulation import ModulatedConv2d
from retouch_common.layers.resample import upsample2d
from retouch_common.testing.modulation import use_grouped
from torch import Tensor

HALVES = [torch.bfloat16, torch.float16]
INTERIOR = (..., slice(2, -2), slice(2, -2))


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)


def fixed_style(layer: ModulatedConv2d, s: Tensor) -> None:
    """Make the layer's style s whatever the style code is."""
    layer.affine.weight.data.zero_()
    layer.affine.bias.data = s.clone()


@pytest.mark.parametrize("form", [lambda layer: layer, use_grouped])
def test_by_hand(form) -> None:
    layer = form(ModulatedConv2d(2, 1, 1, 4, demodulate=False))
    layer.weight.data = torch.tensor([3.0, 4.0]).reshape(1, 2, 1, 1)
    fixed_style(layer, torch.tensor([2.0, -1.0]))
    x, style = torch.tensor([1.0, 5.0]).reshape(1, 2, 1, 1), torch.randn(1, 4)
    # (2 * 3 * 1 - 1 * 4 * 5) / sqrt(2), and demodulated: over sqrt(6^2 + 4^2)
    assert layer(x, style).item() == pytest.approx(-14 / math.sqrt(2), rel=1e-6)
    layer.demodulate = True
    assert layer(x, style).item() == pytest.approx(-14 / math.sqrt(52), rel=1e-6)
    assert layer(x, style, gain=2.0, bias=torch.tensor([10.0])).item() == pytest.approx(10 - 28 / math.sqrt(52))


def test_starts_with_styles_around_one() -> None:
    layer = ModulatedConv2d(6, 3, 3, 4)
    assert torch.equal(layer.affine(torch.zeros(2, 4)), torch.ones(2, 6))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("demodulate", [True, False])
@pytest.mark.parametrize(("kernel", "up"), [(1, False), (3, False), (3, True)])
def test_agrees_with_the_published_form(batch: int, demodulate: bool, kernel: int, up: bool) -> None:
    layer = ModulatedConv2d(6, 5, kernel, 7, demodulate=demodulate, up=up)
    x, style, bias = torch.randn(batch, 6, 8, 10), torch.randn(batch, 7), torch.randn(5, requires_grad=True)
    published = use_grouped(copy.deepcopy(layer))
    results = []
    for form in (layer, published):
        for memory_format in (torch.contiguous_format, torch.channels_last):
            seen = x.contiguous(memory_format=memory_format).requires_grad_()
            y = form(seen, style, gain=1.5, bias=bias)
            gradients = torch.autograd.grad(y.square().sum(), [seen, bias, *form.parameters()])
            results.append((y, gradients))
            if form is layer:
                assert y.is_contiguous(memory_format=memory_format)
    assert results[0][0].shape == ((batch, 5, 16, 20) if up else (batch, 5, 8, 10))
    for y, gradients in results[1:]:
        torch.testing.assert_close(y, results[0][0], rtol=0, atol=1e-5)
        for a, b in zip(gradients, results[0][1], strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    for form in (layer, published):  # without gradients the memory is used again
        with torch.no_grad():
            torch.testing.assert_close(form(x, style, gain=1.5, bias=bias), results[0][0], rtol=0, atol=1e-5)
            without = form(x, style, gain=1.5)
        torch.testing.assert_close(without + bias[:, None, None], results[0][0], rtol=0, atol=1e-5)


def test_samples_do_not_mix() -> None:
    layer = ModulatedConv2d(4, 4, 3, 5, up=True)
    x, style = torch.randn(3, 4, 6, 6), torch.randn(3, 5)
    alone = torch.cat([layer(x[n : n + 1], style[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(layer(x, style), alone, rtol=0, atol=1e-5)


def test_demodulated_output_has_unit_variance() -> None:
    layer = ModulatedConv2d(16, 12, 3, 8)
    layer.weight.data *= 7
    layer.affine.weight.data *= 3
    style = torch.randn(2, 8)
    y = layer(torch.randn(2, 16, 130, 130), style)[..., 1:-1, 1:-1]
    torch.testing.assert_close(y.var(dim=(2, 3)), torch.ones(2, 12), rtol=0, atol=0.07)
    layer.demodulate = False
    y = layer(torch.randn(2, 16, 130, 130), style)[..., 1:-1, 1:-1]
    assert (y.var(dim=(2, 3)) > 5).all()


def test_demodulation_undoes_the_size_of_weights_and_styles() -> None:
    layer = ModulatedConv2d(4, 3, 3, 5)
    x, style = torch.randn(2, 4, 6, 6), torch.randn(2, 5)
    before = layer(x, style)
    layer.weight.data *= 30
    layer.affine.weight.data *= 20
    layer.affine.bias.data *= 20
    torch.testing.assert_close(layer(x, style), before, rtol=0, atol=1e-5)


def test_doubling_is_resizing_and_the_mirrored_convolution() -> None:
    """In the interior; the edges differ, since one repeats them and the other has zeros there."""
    layer = ModulatedConv2d(5, 4, 3, 6, up=True)
    plain = ModulatedConv2d(5, 4, 3, 6)
    plain.affine.load_state_dict(layer.affine.state_dict())
    plain.weight.data = layer.weight.data.transpose(0, 1).flip(2, 3)  # kept in the order of a transposed convolution
    x, style = torch.randn(2, 5, 9, 7), torch.randn(2, 6)
    torch.testing.assert_close(layer(x, style)[INTERIOR], plain(upsample2d(x), style)[INTERIOR], rtol=0, atol=1e-5)


@pytest.mark.parametrize("up", [True, False])
def test_gradients(up: bool) -> None:
    layer = ModulatedConv2d(2, 2, 3, 3, up=up).double()
    x, style = torch.randn(2, 2, 3, 4, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, style, *(p.detach().clone() for p in layer.parameters()))]
    names = [name for name, _ in layer.named_parameters()]

    def call(x: Tensor, style: Tensor, *values: Tensor) -> Tensor:
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x, style))

    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("up", "demodulate"), [(True, True), (False, True), (False, False)])
def test_autocast_is_close(dtype: torch.dtype, up: bool, demodulate: bool) -> None:
    layer = ModulatedConv2d(32, 16, 3, 8, up=up, demodulate=demodulate)
    x, style, bias = torch.randn(2, 32, 8, 8), torch.randn(2, 8), torch.randn(16)
    expected = layer(x, style, bias=bias)
    with torch.autocast("cpu", dtype):
        y = layer(x, style, bias=bias)
        z = layer(x.to(dtype), style.to(dtype), bias=bias)
    assert y.dtype == z.dtype == dtype
    error = 0.03 if dtype == torch.bfloat16 else 0.004
    scale = expected.abs().max()
    assert (y.float() - expected).abs().max() < error * scale
    assert (z.float() - expected).abs().max() < error * scale


@pytest.mark.parametrize("dtype", HALVES)
def test_a_network_in_half_precision(dtype: torch.dtype) -> None:
    layer = ModulatedConv2d(32, 16, 3, 8, up=True)
    x, style = torch.randn(2, 32, 8, 8), torch.randn(2, 8)
    expected = layer(x, style)
    y = layer.to(dtype)(x.to(dtype), style.to(dtype))
    assert y.dtype == dtype
    assert (y.float() - expected).abs().max() < 0.04 * expected.abs().max()


def test_half_precision_does_not_overflow() -> None:
    """Large weights and styles that demodulation takes back: intermediate sums would pass 65504."""
    layer = ModulatedConv2d(64, 8, 3, 8)
    layer.weight.data *= 1000
    layer.affine.bias.data.fill_(1000)
    x, style = torch.randn(2, 64, 8, 8), torch.randn(2, 8)
    expected = layer(x, style)
    assert torch.isinf(F.conv2d((x * 1000).half(), layer.weight.half(), padding=1)).any()
    with torch.autocast("cpu", torch.float16):
        y = layer(x, style)
    assert (y.float() - expected).abs().max() < 0.004 * expected.abs().max()


def test_dead_weights_and_styles_give_zeros() -> None:
    layer = ModulatedConv2d(4, 3, 3, 5)
    layer.weight.data[0].zero_()
    fixed_style(layer, torch.zeros(4))
    x, style = torch.randn(1, 4, 6, 6), torch.randn(1, 5)
    for context in (torch.autocast("cpu", torch.bfloat16, enabled=enabled) for enabled in (False, True)):
        with context:
            y = layer(x, style)
        assert torch.equal(y, torch.zeros_like(y))
        y.float().sum().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize(
    ("kernel", "options", "message"),
    [
        (2, {}, "must be odd, not 2"),
        (1, {"up": True}, "3 to double the sides, not 1"),
    ],
)
def test_refuses(kernel: int, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ModulatedConv2d(1, 1, kernel, 1, **options)
