from __future__ import annotations

import pytest
import torch
from retouch_common.losses.reconstruction import multi_scale_mse, total_variation


def test_mse_by_hand():
    outputs = [torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 2, 2)]
    targets = [torch.full((2, 3, 4, 4), 0.5), torch.ones(2, 3, 2, 2)]
    targets[1][1] = 0.0
    assert multi_scale_mse(outputs, targets, reduction="mean").item() == pytest.approx(0.25 + 0.5)
    # an image of level 0: 48 * 0.25 = 12, both alike; of level 1: 12 and 0
    assert multi_scale_mse(outputs, targets, reduction="sum").item() == pytest.approx(12 + 6)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_mse_does_not_depend_on_repeating_the_batch(reduction):
    output, target = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    once = multi_scale_mse([output], [target], reduction=reduction)
    twice = multi_scale_mse([output.repeat(2, 1, 1, 1)], [target.repeat(2, 1, 1, 1)], reduction=reduction)
    assert twice.item() == pytest.approx(once.item(), rel=1e-6)


def test_mse_is_computed_in_single_precision():
    output = torch.full((1, 3, 256, 256), 2.0, dtype=torch.float16)
    loss = multi_scale_mse([output], [torch.zeros_like(output)], reduction="sum")
    assert loss.item() == 4 * 3 * 256 * 256  # far beyond half precision


@pytest.mark.parametrize(
    ("outputs", "targets", "reduction", "message"),
    [
        ([], [], "mean", "0 outputs for 0 targets"),
        ([torch.zeros(1, 3, 2, 2)], [], "mean", "1 outputs for 0 targets"),
        ([torch.zeros(1, 3, 2, 2)], [torch.zeros(1, 3, 4, 4)], "mean", "level 0: .*differ"),
        ([torch.zeros(1, 3, 2, 2)], [torch.zeros(1, 3, 2, 2)], "max", "'max' is not"),
    ],
)
def test_mse_mistakes(outputs, targets, reduction, message):
    with pytest.raises(ValueError, match=message):
        multi_scale_mse(outputs, targets, reduction=reduction)


def test_total_variation_by_hand():
    image = torch.tensor([[0.0, 1.0], [3.0, 7.0]]).reshape(1, 1, 2, 2).repeat(2, 3, 1, 1)
    image[1] = 0.0
    # vertical 3 + 6, horizontal 1 + 4; three channels; the second image is flat
    assert total_variation(image, reduction="sum").item() == pytest.approx((3 * 14 + 0) / 2)
    assert total_variation(image, reduction="mean").item() == pytest.approx((4.5 + 2.5) / 2)


def test_total_variation_of_an_unknown_reduction():
    with pytest.raises(ValueError, match="'none' is not"):
        total_variation(torch.zeros(1, 3, 2, 2), reduction="none")
