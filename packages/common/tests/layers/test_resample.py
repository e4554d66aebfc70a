"""[1, 3, 3, 1] by hand, against zero insertion, and on constants."""

import pytest
import torch
import torch.nn.functional as F
from retouch_common.layers.resample import Blur, downsample2d, upsample2d
from torch import Tensor

INTERIOR = (..., slice(2, -2), slice(2, -2))
FORMATS = [torch.contiguous_format, torch.channels_last]


def filtered(x: Tensor, taps: tuple[float, float, float, float]) -> Tensor:
    """Full cross-correlation with the outer product of the taps, channel by channel, by shifting and adding."""
    x = F.pad(x, (3, 3, 3, 3))
    H, W = x.shape[-2] - 3, x.shape[-1] - 3
    return sum(  # type: ignore[return-value]
        taps[i] * taps[j] * x[..., i : i + H, j : j + W] for i in range(4) for j in range(4)
    )


def zero_inserted(x: Tensor) -> Tensor:
    y = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    y[..., ::2, ::2] = x
    return y


def test_upsample_by_hand() -> None:
    row = torch.tensor([4.0, 8.0, 0.0]).expand(1, 1, 3, 3)
    # new pixels lie a quarter to the left and to the right of the old: 3/4 nearest + 1/4 next
    expected = torch.tensor([4.0, 5.0, 7.0, 6.0, 2.0, 0.0])
    torch.testing.assert_close(upsample2d(row), expected.expand(1, 1, 6, 6))


def test_downsample_by_hand() -> None:
    x = torch.zeros(1, 1, 6, 6)
    x[0, 0, 2, 2] = 64.0
    expected = torch.zeros(1, 1, 3, 3)
    # pixel 2 is the second of cell 1's taps (1, 2, 3, 4) and the last of cell 0's (-1, 0, 1, 2)
    expected[0, 0, :2, :2] = torch.tensor([[1.0, 3.0], [3.0, 9.0]])
    torch.testing.assert_close(downsample2d(x), expected)


def test_upsample_is_zero_insertion_and_filter() -> None:
    x = torch.randn(2, 3, 7, 9, dtype=torch.float64)
    expected = filtered(zero_inserted(x), (0.25, 0.75, 0.75, 0.25))[..., 1:-2, 1:-2]
    assert expected.shape[-2:] == (14, 18)
    torch.testing.assert_close(upsample2d(x)[INTERIOR], expected[INTERIOR], rtol=0, atol=1e-12)


def test_downsample_is_filter_and_decimation() -> None:
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    expected = filtered(x, (0.125, 0.375, 0.375, 0.125))[..., 2:-2:2, 2:-2:2]
    torch.testing.assert_close(downsample2d(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_constants_stay_in_the_interior(memory_format: torch.memory_format, dtype: torch.dtype) -> None:
    x = torch.full((2, 5, 12, 12), 3.0, dtype=dtype).contiguous(memory_format=memory_format)
    for y in (upsample2d(x), downsample2d(x), Blur(padding=2)(x)):
        torch.testing.assert_close(y[INTERIOR], torch.full_like(y[INTERIOR], 3.0), rtol=0, atol=0)
        assert y.is_contiguous(memory_format=memory_format)
        assert y.dtype == dtype
    assert torch.equal(upsample2d(x), torch.full_like(upsample2d(x), 3.0))  # at the edges too


@pytest.mark.parametrize("gain", [1.0, 4.0])
@pytest.mark.parametrize("padding", [1, 2])
def test_blur_has_the_gain_the_size_and_the_bias(gain: float, padding: int) -> None:
    x = torch.randn(1, 2, 6, 6)
    bias = torch.tensor([10.0, -20.0])
    y = Blur(gain=gain, padding=padding)(x, bias)
    full = filtered(x, (0.125, 0.375, 0.375, 0.125))
    trim = slice(3 - padding, full.shape[-1] - 3 + padding)
    torch.testing.assert_close(y, gain * full[..., trim, trim] + bias[:, None, None])
    assert y.shape[-1] == 6 + 2 * padding - 3


def test_blur_is_not_saved() -> None:
    assert not Blur(padding=1).state_dict()


@pytest.mark.parametrize("function", [upsample2d, downsample2d])
def test_gradients_of_first_and_second_order(function) -> None:
    x = torch.randn(1, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(function, (x,))
    assert torch.autograd.gradgradcheck(function, (x,))
