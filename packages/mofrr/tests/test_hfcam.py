"""HFCAM: Eq. 8 by hand."""

import pytest
import torch
from mofrr.hfcam import HFCAM, positions


def built(**options):
    return HFCAM(**({"patch": 2, "width": 8, "heads": 2} | options))


@pytest.mark.parametrize("refine_all", [True, False])
def test_starts_as_the_identity(refine_all):
    y, x = torch.rand(2, 3, 8, 4), torch.rand(2, 9, 8, 4)
    assert torch.equal(built(refine_all=refine_all)(y, x), x)


def test_equation_8_adds_the_convolutions_of_what_was_attended_to():
    hfcam = built(refine_all=False)
    hfcam.convolutions = torch.nn.Identity()
    y, x = torch.rand(1, 3, 4, 4), torch.rand(1, 9, 4, 4)
    assert torch.allclose(hfcam(y, x), x + hfcam._attend(y, x))


def test_one_patch_attends_to_itself():
    """With a single patch the softmax is 1, and CA is the value, put back: 9 x 2 x 2 numbers through both layers."""
    hfcam = built()
    y, x = torch.rand(1, 3, 2, 2), torch.rand(1, 9, 2, 2)
    token = x.flatten()  # channel by channel, then row, then column
    value = (hfcam.to_key_value.weight @ token + hfcam.to_key_value.bias)[8:]
    expected = hfcam.from_tokens(value).view(1, 9, 2, 2)
    assert torch.allclose(hfcam._attend(y, x), expected, atol=1e-6)


def test_attention_by_hand():
    """Two patches, one head, queries and keys that are the positions alone."""
    hfcam = HFCAM(patch=1, width=4, heads=1)
    for layer in (hfcam.to_query, hfcam.to_key_value):
        torch.nn.init.zeros_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        hfcam.to_key_value.weight[4:, :4] = torch.eye(4)
    x = torch.randn(1, 9, 1, 2)
    place = positions(1, 2, 4)
    weight = torch.softmax(place @ place.T / 2, dim=-1)
    value = x[0, :4, 0].T
    expected = hfcam.from_tokens(weight @ value).T.view(1, 9, 1, 2)
    assert torch.allclose(hfcam._attend(torch.rand(1, 3, 1, 2), x), expected, atol=1e-6)


def test_positions_tell_rows_from_columns():
    place = positions(3, 4, 16)
    assert place.shape == (12, 16)
    assert len({tuple(row.tolist()) for row in place}) == 12
    assert torch.equal(place[0, :8], place[3, :8]) and not torch.equal(place[0, 8:], place[3, 8:])


def test_a_patch_answers_in_its_place(monkeypatch):
    """With values for answers, what comes back are the high bands themselves, pixel by pixel."""
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", lambda q, k, v: v)
    hfcam = HFCAM(patch=2, width=36, heads=1)
    with torch.no_grad():
        for layer in (hfcam.to_query, hfcam.to_key_value, hfcam.from_tokens):
            layer.weight.zero_()
            layer.bias.zero_()
        hfcam.to_key_value.weight[36:] = torch.eye(36)
        hfcam.from_tokens.weight.copy_(torch.eye(36))
    x = torch.rand(1, 9, 4, 6)
    assert torch.allclose(hfcam._attend(torch.rand(1, 3, 4, 6), x), x)
