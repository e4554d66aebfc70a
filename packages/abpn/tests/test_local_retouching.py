"""Section 4.2: sizes, and the modules against their formulas."""

import pytest
import torch
import torch.nn.functional as F
from abpn.local_retouching import (
    LocalAttentiveModule,
    LocalRetouchingLayer,
    MaskPredictionBranch,
    MutualEncoder,
    PartialConvolutionBlock,
)

WIDTHS = (4, 6, 8, 10, 12, 14)


def test_encoder_gives_six_halvings():
    features = MutualEncoder(WIDTHS).eval()(torch.rand(1, 3, 128, 192))
    assert [tuple(F_i.shape[1:]) for F_i in features] == [
        (3, 128, 192), (4, 64, 96), (6, 32, 48), (8, 16, 24), (10, 8, 12), (12, 4, 6), (14, 2, 3),
    ]  # fmt: skip


def test_mask_has_a_quarter_of_the_thumbnails_size():
    features = MutualEncoder(WIDTHS).eval()(torch.rand(1, 3, 128, 192))
    branch = MaskPredictionBranch(WIDTHS).eval()
    assert len(branch.blocks) == 4
    assert branch(features).shape == (1, 1, 32, 48)


def test_lam_chooses_between_new_and_kept_features():
    lam = LocalAttentiveModule(4, 3, 5, last=True)
    x, skip, mask = torch.rand(1, 4, 8, 8), torch.rand(1, 3, 8, 8), torch.rand(1, 1, 8, 8)
    joined = torch.cat([x, skip, mask], dim=1)
    g = torch.sigmoid(F.conv2d(joined, lam.gate.weight, lam.gate.bias, padding=1))
    new = F.conv2d(joined, lam.conv.weight, lam.conv.bias, padding=1)
    kept = F.conv2d(skip, lam.conv_skip.weight, lam.conv_skip.bias, padding=1)
    torch.testing.assert_close(lam(x, skip, mask), new * g + kept * (1 - g))


def test_an_open_gate_passes_the_new_features_and_a_closed_one_the_encoders():
    lam = LocalAttentiveModule(2, 3, 2).eval()
    x, skip, mask = torch.rand(1, 2, 4, 4), torch.rand(1, 3, 4, 4), torch.rand(1, 1, 4, 4)
    with torch.no_grad():
        lam.gate.weight.zero_()
        lam.gate.bias.fill_(-100.0)
    torch.testing.assert_close(
        lam(x, skip, mask), F.leaky_relu(lam.norm_skip(lam.conv_skip(skip)), 0.2), rtol=1e-5, atol=1e-6
    )
    with torch.no_grad():
        lam.gate.bias.fill_(100.0)
    joined = torch.cat([x, skip, mask], dim=1)
    torch.testing.assert_close(lam(x, skip, mask), F.leaky_relu(lam.norm(lam.conv(joined)), 0.2), rtol=1e-5, atol=1e-6)


def test_partial_convolution_ignores_what_the_mask_covers():
    block = PartialConvolutionBlock(2, 3, 4, last=True).eval()
    x, skip = torch.rand(1, 2, 9, 9), torch.rand(1, 3, 9, 9)
    mask = torch.zeros(1, 1, 9, 9)
    mask[..., 4, 4] = 1.0
    changed = x.clone()
    changed[..., 4, 4] += 10.0
    torch.testing.assert_close(block(x, skip, mask), block(changed, skip, mask))
    assert not torch.allclose(block(x, skip, torch.zeros_like(mask)), block(changed, skip, torch.zeros_like(mask)))


def test_partial_convolution_without_a_mask_is_a_convolution():
    block = PartialConvolutionBlock(2, 3, 4, last=True).eval()
    x, skip = torch.rand(1, 2, 6, 6), torch.rand(1, 3, 6, 6)
    plain = F.conv2d(torch.cat([x, skip], dim=1), block.conv.weight, padding=1)
    torch.testing.assert_close(block(x, skip, torch.zeros(1, 1, 6, 6)), plain)


@pytest.mark.parametrize("attention", ["lam", "partial"])
def test_a_residual_layer_starts_as_the_identity(attention):
    layer = LocalRetouchingLayer(WIDTHS, attention=attention).eval()
    thumbnail = torch.rand(2, 3, 64, 128)
    retouched, logits = layer(thumbnail)
    assert torch.equal(retouched, thumbnail)
    assert logits is not None and logits.shape == (2, 1, 16, 32)


def test_without_the_mask_branch_there_are_no_logits():
    layer = LocalRetouchingLayer(WIDTHS, mask_branch=False, residual=False).eval()
    retouched, logits = layer(torch.rand(1, 3, 64, 64))
    assert logits is None and retouched.shape == (1, 3, 64, 64)


def test_channels_last_changes_nothing():
    layer = LocalRetouchingLayer(WIDTHS, residual=False).eval()
    thumbnail = torch.rand(1, 3, 64, 64)
    expected, _ = layer(thumbnail)
    layer = layer.to(memory_format=torch.channels_last)
    found, _ = layer(thumbnail.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
