"""The discriminators: scales, features, conditions, one or two of them."""

from dataclasses import replace

import pytest
import torch
from maskgan.config import PRESETS
from maskgan.discriminator import Discriminators

TINY = PRESETS["tiny"].model


def test_the_official_size():
    """64 filters, three strided layers, 11 + 3 channels: 2.8 M each scale."""
    with torch.device("meta"):
        model = Discriminators(PRESETS["official"].model).paired
    counts = [sum(p.numel() for p in scale.parameters()) / 1e6 for scale in model.scales]
    assert counts == pytest.approx([2.77, 2.77], abs=0.02)
    assert model.scales[0].layers[0].in_channels == 14


def test_the_second_scale_sees_half_the_side(drawn_labels, drawn_pictures):
    model = Discriminators(replace(TINY, discriminator_layers=3)).paired.eval()
    judged = model(drawn_pictures(2), drawn_labels(2))
    assert [tuple(logits.shape) for logits in judged.logits] == [(2, 1, 6, 6), (2, 1, 2, 2)]
    assert [tuple(features.shape) for features in judged.features] == [(2, 32, 7, 7), (2, 32, 3, 3)]
    assert all(
        torch.equal(scale.layers[-1](features), logits)
        for scale, features, logits in zip(model.scales, judged.features, judged.logits, strict=True)
    )
    seen = []
    model.scales[1].layers[0].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    picture = drawn_pictures(1)
    model(picture, drawn_labels(1))
    assert torch.allclose(seen[0][:, :3], torch.nn.functional.avg_pool2d(picture, 2))


def test_the_mask_conditions(drawn_labels, drawn_pictures):
    model = Discriminators(TINY).paired.eval()
    labels, picture = drawn_labels(1), drawn_pictures(1)
    other = torch.where(labels == 10, 1, labels)
    assert not torch.equal(model(picture, labels).logits[1], model(picture, other).logits[1])


@pytest.mark.parametrize("norm", ["batch", "instance", "spectral", "none"])
def test_every_parameter_gets_a_gradient(norm, drawn_labels, drawn_pictures):
    model = Discriminators(replace(TINY, discriminator_norm=norm, discriminators=2))
    judged = [model(drawn_pictures(2), drawn_labels(2), situation) for situation in ("paired", "unpaired")]
    sum(logits.square().mean() for one in judged for logits in one.logits).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())


def test_spectral_norm_bounds_the_weights():
    model = Discriminators(TINY).paired
    weight = model.scales[0].layers[2].weight
    assert torch.linalg.matrix_norm(weight.flatten(1), 2).item() == pytest.approx(1, abs=0.1)


def test_one_discriminator_judges_both_situations_two_judge_their_own(drawn_labels, drawn_pictures):
    picture, labels = drawn_pictures(1), drawn_labels(1)
    one, two = (Discriminators(replace(TINY, discriminators=n)).eval() for n in (1, 2))
    assert torch.equal(one(picture, labels, "paired").logits[0], one(picture, labels, "unpaired").logits[0])
    assert not torch.equal(two(picture, labels, "paired").logits[0], two(picture, labels, "unpaired").logits[0])
    assert sum(p.numel() for p in two.parameters()) == 2 * sum(p.numel() for p in one.parameters())
