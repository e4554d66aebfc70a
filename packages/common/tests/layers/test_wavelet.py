"""The Haar transform: by hand, against PyWavelets, there and back at any size."""

import pytest
import pywt
import torch
from retouch_common.layers.wavelet import Subbands, haar_dwt, haar_idwt


def test_one_block_by_hand():
    bands = haar_dwt(torch.tensor([[[[7.0, 5.0], [2.0, 4.0]]]]))
    assert bands.low.item() == 9.0
    assert bands.high[0].flatten().tolist() == [3.0, 0.0, 2.0]


def test_names_and_signs_are_those_of_pywavelets():
    x = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    low, details = pywt.dwt2(x.numpy(), "haar")
    bands = haar_dwt(x)
    assert torch.allclose(bands.low, torch.from_numpy(low), atol=1e-12)
    for band, detail in zip(bands.high[0].chunk(3, dim=1), details, strict=True):
        assert torch.allclose(band, torch.from_numpy(detail), atol=1e-12)


def test_levels_are_those_of_pywavelets():
    x = torch.randn(1, 2, 16, 16, dtype=torch.float64)
    low, coarse, fine = pywt.wavedec2(x.numpy(), "haar", level=2)
    bands = haar_dwt(x, 2)
    assert torch.allclose(bands.low, torch.from_numpy(low), atol=1e-12)
    for high, details in zip(bands.high, (fine, coarse), strict=True):
        expected = torch.cat([torch.from_numpy(detail) for detail in details], dim=1)
        assert torch.allclose(high, expected, atol=1e-12)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("size", [(16, 16), (17, 23), (101, 64), (8, 9)])
def test_there_and_back(levels, size):
    x = torch.rand(2, 3, *size) * 2 - 1
    bands = haar_dwt(x, levels)
    assert (haar_idwt(bands) - x).abs().max() <= 1e-6
    assert bands.low.shape[-2:] == tuple(-(-side // 2**levels) for side in size)


def test_keeps_the_sum_of_squares_and_doubles_a_constant():
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    bands = haar_dwt(x, 2)
    assert sum(band.square().sum() for band in (bands.low, *bands.high)) == pytest.approx(x.square().sum().item())
    assert torch.equal(haar_dwt(torch.ones(1, 1, 8, 8), 2).low, torch.full((1, 1, 2, 2), 4.0))


def test_padding_reflects_and_is_cut_off():
    x = torch.arange(15.0).view(1, 1, 3, 5)
    bands = haar_dwt(x, multiple=4)
    assert bands.low.shape == (1, 1, 2, 4) and bands.size == (3, 5)
    assert bands.low[0, 0, 1].tolist() == [16.0, 20.0, 22.0, 18.0]  # rows 2 and 1, columns 0 1, 2 3, 4 3, 2 1
    assert torch.equal(haar_idwt(bands), x)


def test_gradients_pass_both_ways():
    x = torch.randn(1, 1, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: haar_idwt(haar_dwt(x, 1)), x)


def test_stays_in_fp32_under_autocast():
    x = torch.rand(1, 3, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        bands = haar_dwt(x.bfloat16(), 2)
        back = haar_idwt(bands)
    assert bands.low.dtype == back.dtype == torch.float32
    assert (back - x.bfloat16().float()).abs().max() <= 1e-6


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="multiples of 4, not of 6"):
        haar_dwt(torch.rand(1, 1, 8, 8), 2, multiple=6)
    with pytest.raises(ValueError, match="5x3 pixels are too few"):
        haar_dwt(torch.rand(1, 1, 3, 5), multiple=8)
    with pytest.raises(ValueError, match="do not fit"):
        haar_idwt(Subbands(torch.rand(1, 3, 4, 4), (torch.rand(1, 3, 4, 4),), (8, 8)))
