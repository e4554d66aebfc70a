"""Section 4.2: sizes, and the modules against their formulas."""

import pytest
import torch
import torch.nn.functional as F
from abpn.config import PRESETS
from abpn.local_retouching import (
    LocalAttentiveModule,
    LocalRetouchingLayer,
    MaskPredictionBranch,
    MutualEncoder,
    ProbabilisticContextBlock,
    ProbabilisticContextNorm,
)
from abpn.model import ABPN
from retouch_common.config import apply_overrides

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


def test_probabilistic_context_normalisation_by_hand():
    """Inside: mean 2 and deviation 1; outside: 12 and 2. Half of (X - 2) * 2 + 12 and half of X, inside alone."""
    norm = ProbabilisticContextNorm(1)
    for parameter in norm.parameters():
        torch.nn.init.zeros_(parameter)  # beta = 1/2
    X, mask = torch.tensor([1.0, 3.0, 10.0, 14.0]).view(1, 1, 2, 2), torch.tensor([1.0, 1.0, 0.0, 0.0]).view(1, 1, 2, 2)
    torch.testing.assert_close(norm(X, mask).flatten(), torch.tensor([5.5, 8.5, 10.0, 14.0]), rtol=1e-4, atol=1e-4)
    assert torch.equal(norm(X, torch.zeros_like(mask)), X)


def test_pcb_is_a_residual_block_whose_branch_is_normalised_by_the_mask():
    block = ProbabilisticContextBlock(2, 3, 4)
    x, skip, mask = torch.rand(1, 2, 9, 9), torch.rand(1, 3, 9, 9), torch.rand(1, 1, 9, 9)
    joined = torch.cat([x, skip], dim=1)
    residual = block.conv_2(F.elu(block.conv_1(joined)))
    expected = F.elu(block.shortcut(joined) + block.norm(residual, mask))
    torch.testing.assert_close(block(x, skip, mask), expected)
    assert (block(x, skip, mask) - block(x, skip, torch.zeros_like(mask))).abs().max() > 1e-3


def test_pcb_is_chosen_by_name_and_partial_convolution_is_gone():
    assert isinstance(LocalRetouchingLayer(WIDTHS, attention="pcb").retouching_branch.modules_up[0],
                      ProbabilisticContextBlock)  # fmt: skip
    with pytest.raises(ValueError, match=r"model\.attention: 'partial' is not valid, expected one of lam, pcb"):
        apply_overrides(PRESETS["tiny"], {"model.attention": "partial"})


def test_parameters_of_both_modules_at_the_papers_widths():
    """The numbers of README's row on Table 2."""
    found = {}
    for attention in ("lam", "pcb"):
        with torch.device("meta"):
            model = ABPN(apply_overrides(PRESETS["paper"], {"model.attention": attention}).model)
        found[attention] = round(sum(p.numel() for p in model.parameters()) / 1e6, 1)
    assert found == {"lam": 47.0, "pcb": 36.6}


def test_every_parameter_of_a_pcb_that_starts_at_zero_is_trained():
    layer = LocalRetouchingLayer(WIDTHS, attention="pcb")
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    thumbnail = torch.rand(2, 3, 64, 64)
    for _ in range(2):
        optimizer.zero_grad()
        (layer(thumbnail)[0] - 0.5).square().mean().backward()
        optimizer.step()
    last = layer.retouching_branch.modules_up[-1]
    assert all(p.grad.abs().sum() > 0 for p in last.parameters())


@pytest.mark.parametrize("attention", ["lam", "pcb"])
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
