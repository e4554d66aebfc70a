"""Eq. 4-6 and 9-12 by hand on one or two pixels."""

import math
from dataclasses import replace

import pytest
import torch
from bpfre.config import PRESETS, LossConfig, ModelConfig, TrainConfig
from bpfre.losses import blemish_loss, discriminator_loss, pixel_loss, r1_penalty, synthesis_loss
from bpfre.model import BPFReOutput
from bpfre.objective import Objective, full_size_map
from retouch_common.config import from_dict
from retouch_common.losses.reconstruction import PSNR_FLOOR


def sp(x):
    return math.log1p(math.exp(x))


def filled(value, size=2, channels=1, batch=1):
    return torch.full((batch, channels, size, size), float(value))


def test_equations_4_and_5():
    """Two scales; the coarser target is the mean over its cells; 8 pixels and below do not count."""
    difference = torch.zeros(1, 1, 32, 32)
    difference[..., :16] = 1
    maps = [filled(0.25, 32), filled(0.5, 16), filled(0.9, 8)]
    expected = ((0.75 + 0.25) / 2 + 0.5) / 2
    assert blemish_loss(maps, difference).item() == pytest.approx(expected)


def test_cross_entropy_of_the_maps():
    difference, M = filled(0.25, 32), filled(0.5, 32)
    M[..., :16] = 0.2
    expected = -(0.25 * math.log(0.5) + 0.75 * math.log(0.5)) / 2 - (0.25 * math.log(0.2) + 0.75 * math.log(0.8)) / 2
    assert blemish_loss([M], difference, distance="cross_entropy").item() == pytest.approx(expected, rel=1e-5)


def test_pixel_terms_of_equations_6_and_9():
    output, target = torch.tensor([0.1, 0.5]).view(1, 1, 1, 2), torch.tensor([0.3, 0.4]).view(1, 1, 1, 2)
    assert pixel_loss(output, target).item() == pytest.approx(0.15)
    weight = torch.tensor([1.6, 0.4]).view(1, 1, 1, 2)
    assert pixel_loss(output, target, weight).item() == pytest.approx((1.6 * 0.2 + 0.4 * 0.1) / 2)


def test_equation_10():
    logits = {"raw": filled(0.3), "refined": filled(-0.2), "retouched": filled(1.5)}
    loss = discriminator_loss(*logits.values(), filled(0.5))
    assert loss.item() == pytest.approx(0.5 * sp(0.3) + 0.5 * sp(-0.2) + sp(-1.5))


def test_equation_11_in_both_forms():
    logits, M = filled(0.7), filled(0.5)
    assert synthesis_loss(logits, M).item() == pytest.approx(0.5 * sp(-0.7))
    printed = 0.5 * math.log(1 - 1 / (1 + math.exp(-0.7)))
    assert synthesis_loss(logits, M, saturating=True).item() == pytest.approx(printed, rel=1e-5)


@pytest.mark.parametrize("saturating", [False, True])
@pytest.mark.parametrize("detached", [False, True])
def test_equation_11_shapes_the_map_unless_it_is_detached(saturating, detached):
    M, logits = filled(0.5, 32).requires_grad_(), filled(0.1, 32).requires_grad_()
    output = BPFReOutput(filled(0.5, 32, 3), filled(0.5, 32, 3), [], [M])
    objective = Objective(LossConfig(perceptual=0.0, saturating=saturating, detach_map=detached))
    objective.adversarial(logits, output)["adversarial"].backward()
    assert logits.grad.ne(0).all()
    expected = -sp(0.1) if saturating else sp(-0.1)
    assert M.grad is None if detached else M.grad.sum().item() == pytest.approx(expected, rel=1e-4)


def test_equation_10_does_not_shape_the_map():
    M, logits = filled(0.5).requires_grad_(), filled(0.1).requires_grad_()
    discriminator_loss(logits, logits, logits, M).backward()
    assert M.grad is None and logits.grad.ne(0).all()


def test_the_papers_difference_is_not_stretched():
    """Eq. 4: |x_raw - x_ret|, a tenth in one channel of three."""
    raw, target = filled(0.5, 32, 3), filled(0.5, 32, 3)
    raw[:, 0, :16] = 0.6
    config = replace(PRESETS["paper"].loss, perceptual=0.0)
    terms = Objective(config)(output_of(0.5, 0.5, M=0.0), raw, target)
    assert terms["blemish_coarse"].item() == pytest.approx(0.1 / 3 / 2, rel=1e-4)


def test_r1_of_a_linear_discriminator():
    """Logits a * sum over channels: the pixel mean has the gradient a / (S * S) everywhere, half of it in [-1, 1]."""
    image = torch.rand(2, 3, 4, 4, requires_grad=True)
    logits = 8 * image.sum(dim=1, keepdim=True)
    expected = 3 * 16 * (8 / 16 / 2) ** 2 / 2
    assert r1_penalty(logits, image).item() == pytest.approx(expected)


def output_of(coarse, refined, M=0.5, size=32):
    maps = [filled(M, size), filled(M, size // 2)]
    return BPFReOutput(filled(coarse, size, 3), None if refined is None else filled(refined, size, 3), maps, maps)


def test_equation_12_puts_the_terms_together():
    """raw 0.5, target 0.6: nothing stands out of the difference, so Delta is 0 everywhere."""
    config = LossConfig(pixel=2.0, perceptual=0.0, identity=0.001, blemish=3.0, adversarial=0.5)
    objective = Objective(config)
    output = output_of(coarse=0.55, refined=0.58)
    terms = objective(output, filled(0.5, 32, 3), filled(0.6, 32, 3))
    expected = {"blemish_coarse": 0.5, "pixel_coarse": 0.05, "blemish_refined": 0.5, "pixel_refined": 0.02}
    assert {name: term.item() for name, term in terms.items()} == pytest.approx(expected, rel=1e-5)
    terms |= objective.identity(output, filled(0.45, 32, 3)) | objective.adversarial(filled(0.2, 32), output)
    assert terms["identity"].item() == pytest.approx(0.1, rel=1e-5)
    total = 3 * (0.5 + 0.5) + 2 * (0.05 + 0.02) + 0.001 * 2 * 0.1 + 0.5 * 0.5 * sp(-0.2)
    assert objective.total(terms).item() == pytest.approx(total, rel=1e-5)


def test_perceptual_terms_have_their_weights(monkeypatch):
    """Eq. 6 and 9, with a distance of pixels for that of features: lambda weighs the term of retouched images."""
    monkeypatch.setattr("bpfre.objective.read_vgg", lambda *_: {})
    monkeypatch.setattr("bpfre.objective.PerceptualLoss", lambda *_, **__: pixel_loss)
    objective = Objective(LossConfig(pixel=0.0, perceptual=4.0, identity=0.1, blemish=0.0))
    output = output_of(coarse=0.55, refined=0.58)
    terms = objective(output, filled(0.5, 32, 3), filled(0.6, 32, 3)) | objective.identity(output, filled(0.45, 32, 3))
    assert objective.total(terms).item() == pytest.approx(4 * (0.05 + 0.02) + 0.1 * 4 * 0.1, rel=1e-5)


def test_emphasised_are_the_retouched_pixels():
    """Delta is 0.2 in the left half, and the weight 1 + 5 * 0.2 = 2, of mean 1.5; errors 0.2 there and in a quarter."""
    raw, target, output = filled(0.5, 32, 3), filled(0.5, 32, 3), output_of(0.5, 0.5)
    target[..., :16] = 0.7  # missed
    output.refined[..., 24:] = 0.7  # a false change of a quarter
    terms = Objective(LossConfig(perceptual=0.0, difference="raw", emphasis=5.0, psnr=1.0))(output, raw, target)
    assert terms["pixel_refined"].item() == pytest.approx((2 * 0.2 / 2 + 0.2 / 4) / 1.5, rel=1e-5)
    squared = (2 * 0.04 / 2 + 0.04 / 4) / 1.5
    assert terms["psnr_refined"].item() == pytest.approx(math.log10(squared + PSNR_FLOOR), rel=1e-5)


def test_the_refined_difference_is_what_stage_one_left():
    objective = Objective(LossConfig(perceptual=0.0))
    raw, target = filled(0.5, 32, 3), filled(0.5, 32, 3)
    raw[..., 0, 0] = 0.9
    output = output_of(0.5, 0.5, M=0.0)
    terms = objective(output, raw, target)
    assert terms["blemish_coarse"].item() > 0 and terms["blemish_refined"].item() == 0


def test_the_refined_difference_does_not_train_stage_one():
    """x~ would otherwise be drawn to where its own error has the map's value."""
    output = output_of(0.5, 0.5)
    output.coarse.requires_grad_(True)
    terms = Objective(LossConfig(perceptual=0.0, difference="raw"))(output, filled(0.5, 32, 3), filled(0.7, 32, 3))
    assert terms["pixel_coarse"].requires_grad and not terms["blemish_refined"].requires_grad


def test_the_map_that_weights_the_discriminator():
    assert torch.equal(full_size_map(output_of(0.5, 0.5, M=0.3), 64), filled(0.3, 64))
    assert torch.equal(full_size_map(BPFReOutput(filled(0.5, 32, 3), None, [], []), 32), filled(1, 32))


def test_perceptual_terms_need_their_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="vgg19"):
        Objective(PRESETS["paper"].loss)


def test_options_of_earlier_releases_are_constants():
    assert LossConfig.RETIRED["psnr_floor"] == PSNR_FLOOR
    assert from_dict(ModelConfig, {"size": 256, "parameters": "pixel"}) == ModelConfig(size=256)
    assert from_dict(LossConfig, {"emphasis_on": "retouched"}) == LossConfig()
    assert from_dict(TrainConfig, {"step_at": 100_000}) == TrainConfig()
    for cls, option in (
        (ModelConfig, {"parameters": "channel"}),
        (ModelConfig, {"weight_activation": "sigmoid"}),
        (LossConfig, {"perceptual_normalise": False}),
    ):
        with pytest.raises(ValueError, match=next(iter(option))):
            from_dict(cls, option)
