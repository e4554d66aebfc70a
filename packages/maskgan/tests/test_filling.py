"""Pictures continued over what they do not show."""

import torch
from maskgan.filling import filled


def test_filling_continues_a_plane():
    """By hand: the middle of a ramp that is known at both ends only."""
    ramp = torch.linspace(0, 1, 33).view(1, 1, 1, 33).expand(1, 1, 33, 33)
    known = torch.ones(1, 1, 33, 33)
    known[..., 12:21] = 0
    result = filled(ramp.clone(), known)
    assert torch.equal(result[known > 0], ramp[known > 0])
    assert (result[0, 0, :, 16] - 0.5).abs().max() < 0.05


def test_filling_keeps_constants_and_gives_zero_without_anything_known():
    picture, known = torch.full((1, 3, 20, 31), 0.7), (torch.rand(1, 1, 20, 31) < 0.1).float()
    assert torch.allclose(filled(picture * known, known), picture, atol=1e-5)
    assert not filled(picture, torch.zeros(1, 1, 20, 31)).any()
