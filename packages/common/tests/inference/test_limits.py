import pytest
import torch
import torch.nn.functional as F
from retouch_common.inference import limits
from retouch_common.inference.limits import limit_uncertain

SIDE, LIMIT = 13, 8 / 255


def shift(*, y: int, x: int, radius: int, amount: float) -> torch.Tensor:
    """A square change in an image of 64 x 64 pixels."""
    change = torch.zeros(1, 3, 64, 64)
    change[..., y - radius : y + radius + 1, x - radius : x + radius + 1] = amount
    return change


def limited(change: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return limit_uncertain(change, mask, limit=LIMIT, side=SIDE, certain=(0.6, 0.8))


def test_a_broad_change_without_a_mask_is_reduced_to_the_limit():
    change = shift(y=32, x=32, radius=12, amount=30 / 255)
    result = limited(change, torch.zeros(1, 1, 64, 64))
    assert torch.allclose(result[0, :, 32, 32], torch.full((3,), LIMIT), atol=1e-6)
    assert (result.abs() <= change.abs()).all()


def test_a_broad_change_is_kept_where_the_mask_is_certain():
    change = shift(y=32, x=32, radius=12, amount=30 / 255)
    mask = (change[:, :1] > 0).float()
    assert torch.equal(limited(change, mask), change)


def test_one_certain_change_does_not_vouch_for_another():
    sure, unsure = (shift(y=32, x=x, radius=8, amount=-30 / 255) for x in (14, 50))
    result = limited(sure + unsure, (sure[:, :1] < 0).float())
    assert torch.equal(result[..., :16], sure[..., :16])
    assert float(result[..., 32, 50].abs().max()) < 9 / 255


def test_details_and_faint_changes_are_kept_bit_for_bit():
    none = torch.zeros(1, 1, 64, 64)
    for change in (shift(y=20, x=20, radius=1, amount=100 / 255), shift(y=32, x=32, radius=20, amount=7 / 255)):
        assert torch.equal(limited(change, none), change)


@pytest.mark.parametrize("side", [1, 5, 13, 41])
def test_squares_are_those_of_pooling(side):
    values = torch.rand(2, 3, 20, 33, generator=torch.Generator().manual_seed(side)) - 0.5
    mean = F.avg_pool2d(values, side, stride=1, padding=side // 2, count_include_pad=False)
    torch.testing.assert_close(limits._mean(values, side), mean, rtol=0, atol=1e-6)
    assert torch.equal(limits._max(values, side), F.max_pool2d(values, side, stride=1, padding=side // 2))
