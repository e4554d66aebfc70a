"""IDEM: Eq. 3-5 by hand."""

import math

import pytest
import torch
from mofrr.idem import IDEM, MCA


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


class Constant(torch.nn.Module):
    """An MCA that answers the same everywhere."""

    def __init__(self, value):
        super().__init__()
        self.value = value

    def forward(self, x):
        return torch.full_like(x, self.value)


def test_equations_3_to_5_by_hand():
    """x = 0.4, y = -0.2, z = 0.6; MCA answers 0.25, then 0.5."""
    idem = IDEM(0)
    idem.mca_first, idem.mca_second = Constant(0.25), Constant(0.5)
    x, y = torch.full((1, 3, 2, 2), 0.4), torch.full((1, 3, 2, 2), -0.2)
    condition, residual = idem(x, y, torch.tensor([0.6]))
    F = 0.25 * 0.4 + 0.75 * 0.6
    R = 0.5 * -0.2 + 0.5 * F
    assert torch.allclose(residual, torch.full_like(x, R))
    assert torch.equal(condition, torch.cat([x, residual], dim=1))


def test_what_mca_is_asked():
    """Eq. 3 asks with z + x_LL, Eq. 4 with F + y_t."""
    asked = []

    class Recorder(Constant):
        def forward(self, x):
            asked.append(x)
            return super().forward(x)

    idem = IDEM(0)
    idem.mca_first, idem.mca_second = Recorder(1.0), Recorder(0.0)
    idem(torch.full((1, 3, 2, 2), 0.4), torch.full((1, 3, 2, 2), -0.2), torch.tensor([0.6]))
    assert asked[0].flatten()[0].item() == pytest.approx(1.0)
    assert asked[1].flatten()[0].item() == pytest.approx(0.4 - 0.2)


def test_mca_adds_a_local_and_a_global_branch():
    """Both branches answer their input's first channel: sigmoid(local + mean)."""
    mca = MCA(2)

    class First(torch.nn.Module):
        def forward(self, x):
            return x[:, :1].expand(-1, 2, -1, -1)

    mca.local, mca.glob = First(), First()
    x = torch.tensor([[[[1.0, 3.0]], [[0.0, 0.0]]]])
    expected = [sigmoid(1 + 2), sigmoid(3 + 2)]
    assert mca(x)[0, 0, 0].tolist() == pytest.approx(expected)
    assert mca(x)[0, 1, 0].tolist() == pytest.approx(expected)


def test_the_printed_form_cannot_be_the_residual_and_the_lifted_one_can():
    """All three inputs at 0.8: what is printed answers 0.8; the residual may be 0."""
    ones = torch.full((1, 3, 8, 8), 0.8)
    _, printed = IDEM(0)(ones, ones, torch.tensor([0.8]))
    assert torch.allclose(printed, ones)
    _, lifted = IDEM(8)(ones, ones, torch.tensor([0.8]))
    assert lifted.abs().max() == 0  # where it starts


def test_works_on_a_single_pixel_of_a_single_picture():
    for width in (0, 8):
        condition, _ = IDEM(width).train()(torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 1), torch.rand(1))
        assert torch.isfinite(condition).all()
