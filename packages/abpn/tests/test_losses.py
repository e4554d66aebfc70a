"""Eq. 6 by hand."""

import math

import pytest
import torch
from abpn.blend import MIN_SLOPE
from abpn.config import PRESETS, LossConfig, ModelConfig
from abpn.losses import MASK_THRESHOLD, JointLoss
from abpn.model import ABPN, ABPNOutput
from retouch_common.config import apply_overrides, from_dict
from retouch_common.losses.adversarial import PatchDiscriminator
from retouch_common.losses.reconstruction import PSNR_FLOOR

NOTHING = {"mse": 0.0, "l1": 0.0, "perceptual": 0.0, "adversarial": 0.0, "dice": 0.0, "bce": 0.0, "tv": 0.0}


def flat(value: float, side: int, channels: int = 3) -> torch.Tensor:
    return torch.full((1, channels, side, side), value)


def output(result: float = 0.5, photo: float = 0.5, logit: float = 0.0) -> ABPNOutput:
    """A 16x16 photograph with l = 1, every level constant."""
    return ABPNOutput(
        results=[flat(result, 16), flat(result, 8)],
        blends=[flat(0.0, 16), flat(0.0, 8)],
        images=[flat(photo, 16), flat(photo, 8)],
        retouched_thumbnail=flat(result, 8),
        mask_logits=flat(logit, 2, channels=1),
    )


def terms(target: torch.Tensor, of: ABPNOutput, **weights):
    return JointLoss(LossConfig(**{**NOTHING, **weights}))(of, target)


def test_squared_error_adds_the_levels():
    losses = terms(flat(0.6, 16), output(0.5), mse=2.0)
    assert losses["mse"].item() == pytest.approx(2 * 0.01)
    assert losses["loss"].item() == pytest.approx(0.04)


def test_the_papers_norm_sums_over_an_image():
    losses = terms(flat(0.6, 16), output(0.5), mse=1.0, reduction="sum")
    assert losses["mse"].item() == pytest.approx(0.01 * 3 * (16 * 16 + 8 * 8), rel=1e-5)


def test_absolute_error_adds_the_levels():
    assert terms(flat(0.6, 16), output(0.5), l1=1.0)["l1"].item() == pytest.approx(0.2)


def test_emphasis_moves_weight_into_the_mask():
    target = flat(0.5, 16)
    target[..., :8, :] = 0.7  # the upper half was retouched
    result = output(0.5)
    plain = terms(target, result, l1=1.0)["l1"].item()
    emphasised = terms(target, result, l1=1.0, mask_emphasis=2.0)["l1"].item()
    assert plain == pytest.approx(2 * 0.1)
    # Weights 3 and 1 with mean 2: the upper half counts 1.5 fold.
    assert emphasised == pytest.approx(2 * 0.1 * 1.5)


def test_the_true_mask_is_the_thresholded_difference():
    target = flat(0.5, 16)
    target[..., :8, :8] = 0.6  # at l = 1 the upper left 4x4: one of the mask's four cells
    losses = terms(target, output(), dice=1.0, bce=1.0)
    # p = 0.5 in four cells, one of them true: 1 - (2 * 0.5 + 1) / (4 * 0.25 + 1 + 1)
    assert losses["dice"].item() == pytest.approx(1 - 2 / 3)
    assert losses["bce"].item() == pytest.approx(math.log(2))


def test_one_changed_pixel_of_the_thumbnail_marks_its_cell():
    target = flat(0.5, 16)
    target[..., 10:12, 10:12] = 0.6
    sure = output()
    sure.mask_logits[..., 1, 1] = 30.0
    sure.mask_logits[..., 0, :] = -30.0
    sure.mask_logits[..., 1, 0] = -30.0
    assert terms(target, sure, bce=1.0)["bce"].item() < 1e-6


def test_total_variation_adds_every_blend_layer():
    of = output()
    of.blends[0][..., 8:] = 1.0  # one step in each of 16 rows: mean over 16 x 15 differences
    of.blends[1][..., 4:] = 1.0
    assert terms(flat(0.5, 16), of, tv=1.0)["tv"].item() == pytest.approx(1 / 15 + 1 / 7)


def test_adversarial_term_trains_the_network_and_not_the_discriminator():
    discriminator = PatchDiscriminator(6, width=4, num_layers=1, norm="none").requires_grad_(False)
    of = output()
    of.results[0].requires_grad_(True)
    losses = JointLoss(LossConfig(**{**NOTHING, "adversarial": 0.1}))(of, flat(0.5, 16), discriminator)
    losses["loss"].backward()
    assert losses["loss"].item() == pytest.approx(0.1 * losses["adversarial"].item())
    assert of.results[0].grad is not None and of.results[0].grad.abs().sum() > 0


def test_perceptual_term_is_refused_without_its_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(ValueError, match="vgg16"):
        JointLoss(LossConfig())


def test_gradients_reach_every_level():
    of = output()
    supervised = [*of.results[:-1], of.retouched_thumbnail]
    for R in supervised:
        R.requires_grad_(True)
    terms(flat(0.7, 16), of, mse=1.0)["loss"].backward()
    assert all(R.grad is not None and R.grad.abs().min() > 0 for R in supervised)


@pytest.mark.parametrize("mode", ["soft_light", "adaptive", "convolutional"])
def test_the_thumbnails_result_is_supervised_where_the_blend_cannot_change_the_image(mode):
    """Soft light leaves black and white as they are, whatever the layer."""
    torch.manual_seed(0)
    config = apply_overrides(PRESETS["tiny"], {"model.blend": mode, "model.residual": False}).model
    model, white = ABPN(config).eval(), torch.ones(1, 3, 128, 128)
    of = model(white, 1)
    of.retouched_thumbnail.retain_grad()
    terms(flat(1.0, 128), of, mse=1.0)["loss"].backward()
    expected = 2 * (of.retouched_thumbnail - 1) / of.retouched_thumbnail.numel()
    grad = of.retouched_thumbnail.grad
    assert (grad - expected).abs().max() < expected.abs().max()  # R_0's part, through the blend layer, is beside it
    assert torch.corrcoef(torch.stack([grad.flatten(), expected.flatten()]))[0, 1] > 0.9


def test_a_white_background_keeps_the_blend_layer_small():
    torch.manual_seed(0)
    config = apply_overrides(PRESETS["tiny"], {"model.blend": "soft_light", "model.residual": False}).model
    model, white = ABPN(config).eval(), torch.ones(1, 3, 128, 128)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-2)
    largest = []
    for _ in range(40):
        of = model(white, 1)
        largest.append(of.blends[-1].abs().max().item())
        optimizer.zero_grad()
        terms(flat(1.0, 128), of, mse=1.0)["loss"].backward()
        optimizer.step()
    assert largest[-1] < 0.5 * largest[0]


def test_psnr_term_takes_the_logarithm_sample_by_sample():
    """Squared errors of 0.01 and 0.0001 at both levels, plus PSNR_FLOOR."""
    photos = output(0.5)
    both = ABPNOutput(
        results=[R.repeat(2, 1, 1, 1) for R in photos.results],
        blends=photos.blends,
        images=[I.repeat(2, 1, 1, 1) for I in photos.images],
        retouched_thumbnail=photos.retouched_thumbnail.repeat(2, 1, 1, 1),
        mask_logits=None,
    )
    target = torch.cat([flat(0.6, 16), flat(0.51, 16)])
    expected = 2 * (math.log10(0.0103) + math.log10(0.0004)) / 2
    assert terms(target, both, psnr=1.0)["psnr"].item() == pytest.approx(expected, rel=1e-5)


def test_options_of_earlier_releases_are_constants():
    constants = {"psnr_floor": PSNR_FLOOR, "mask_threshold": MASK_THRESHOLD, "emphasis_on": "retouched"}
    assert constants == LossConfig.RETIRED and from_dict(LossConfig, constants) == LossConfig()
    assert ModelConfig.RETIRED == {"min_slope": MIN_SLOPE}
    assert from_dict(ModelConfig, {"thumbnail": 128, "min_slope": 0.1}) == ModelConfig(thumbnail=128)
    with pytest.raises(ValueError, match="mask_threshold"):
        from_dict(LossConfig, {"mask_threshold": 0.03})


@pytest.mark.parametrize(("pyramid", "squares"), [("box", 1 / 4), ("burt", (1 + 36 + 1) / 256)])
def test_targets_are_reduced_with_the_kernel(pyramid, squares):
    """One bright column: 1/2 of cell 2 by the box's kernel, and 1, 6, 1 sixteenths of cells 1 to 3 by Burt's."""
    target = flat(0.0, 16)
    target[..., 4] = 1.0
    losses = JointLoss(LossConfig(**{**NOTHING, "mse": 1.0}), pyramid)(output(0.0), target)
    assert losses["mse"].item() == pytest.approx(1 / 16 + squares / 8)
