from __future__ import annotations

import pytest
import torch
from retouch_common.losses.reconstruction import total_variation


def test_total_variation_by_hand():
    image = torch.tensor([[0.0, 1.0], [3.0, 7.0]]).reshape(1, 1, 2, 2).repeat(2, 3, 1, 1)
    image[1] = 0.0
    # vertical 3 + 6, horizontal 1 + 4; three channels; the second image is flat
    assert total_variation(image, reduction="sum").item() == pytest.approx((3 * 14 + 0) / 2)
    assert total_variation(image, reduction="mean").item() == pytest.approx((4.5 + 2.5) / 2)


def test_total_variation_of_an_unknown_reduction():
    with pytest.raises(ValueError, match="'none' is not"):
        total_variation(torch.zeros(1, 3, 2, 2), reduction="none")
