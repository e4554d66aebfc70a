from __future__ import annotations

import math

import pytest
import torch
from retouch_common.losses.reconstruction import PSNR_FLOOR, emphasis_weight, psnr_loss, total_variation


def test_total_variation_by_hand():
    image = torch.tensor([[0.0, 1.0], [3.0, 7.0]]).reshape(1, 1, 2, 2).repeat(2, 3, 1, 1)
    image[1] = 0.0
    # vertical 3 + 6, horizontal 1 + 4; three channels; the second image is flat
    assert total_variation(image, reduction="sum").item() == pytest.approx((3 * 14 + 0) / 2)
    assert total_variation(image, reduction="mean").item() == pytest.approx((4.5 + 2.5) / 2)


def test_total_variation_of_an_unknown_reduction():
    with pytest.raises(ValueError, match="'none' is not"):
        total_variation(torch.zeros(1, 3, 2, 2), reduction="none")


def test_emphasised_pixels_weigh_more_and_all_weigh_one_on_average():
    mask = torch.tensor([1.0, 0.0]).view(1, 1, 1, 2)
    assert emphasis_weight(mask, 3.0).flatten().tolist() == pytest.approx([1.6, 0.4])
    assert torch.equal(emphasis_weight(mask, 0.0), torch.ones_like(mask))


def test_psnr_loss_takes_the_logarithm_sample_by_sample():
    """Squared errors of 0.01 and 0.0001."""
    output = torch.full((2, 3, 4, 4), 0.5)
    target = output + torch.tensor([0.1, 0.01]).view(2, 1, 1, 1)
    expected = (math.log10(0.01 + PSNR_FLOOR) + math.log10(0.0001 + PSNR_FLOOR)) / 2
    assert psnr_loss(output, target).item() == pytest.approx(expected, rel=1e-4)
    target[..., 2:] = output[..., 2:]  # half of the errors, twice their weight
    weight = torch.tensor([2.0, 2.0, 0.0, 0.0]).expand(2, 1, 4, 4)
    assert psnr_loss(output, target, weight).item() == pytest.approx(expected, rel=1e-4)
