"""Eq. 9 and section 3.3: the schedule, what acts when, and the weights."""

import pytest
import torch
from maskgan.config import PRESETS, Config, LossConfig, TrainConfig
from maskgan.discriminator import Discriminators
from maskgan.losses import global_loss, local_loss, region_loss
from maskgan.model import MaskGAN
from maskgan.objective import Objective, situations
from retouch_common.config import apply_overrides, from_dict, to_dict
from retouch_common.parsing.losses import parsing_loss
from torch import nn

TINY = PRESETS["tiny"].model


def parser_of(seed=0):
    torch.manual_seed(seed)
    return nn.Conv2d(3, 11, 1).eval().requires_grad_(False)


def passed(drawn_labels, drawn_pictures, **losses):
    torch.manual_seed(0)
    model, game = MaskGAN(TINY).train(), Discriminators(TINY).requires_grad_(False)
    labels, picture = drawn_labels(2), drawn_pictures(2)
    output = model(picture, labels, picture, labels)
    return Objective(LossConfig(**losses), parser_of()), output, picture, labels, game


def test_the_strategy_of_one_plus_one():
    alternating = [situations(step, "alternate") for step in range(1, 5)]
    assert alternating == [("paired",), ("unpaired",), ("paired",), ("unpaired",)]
    overlapping = [situations(step, "overlap") for step in range(1, 4)]
    assert overlapping == [("paired", "unpaired"), ("unpaired",), ("paired", "unpaired")]
    with pytest.raises(ValueError, match="not one of alternate, overlap"):
        situations(1, "both")
    assert {situations(step, "paired") for step in range(1, 4)} == {("paired",)}


def test_paired_data_use_all_terms_and_unpaired_two_less(drawn_labels, drawn_pictures):
    """Section 3.3: "for unpaired data, we set lambda_global and lambda_FM to zero"."""
    objective, output, picture, labels, game = passed(drawn_labels, drawn_pictures)
    paired = objective(output, picture, labels, "paired", game)
    unpaired = objective(output, picture, labels, "unpaired", game)
    assert set(paired) == {"local", "reconstruction", "sigmoid", "feature_matching", "parsing"}
    assert set(unpaired) == {"local", "sigmoid", "parsing"}
    assert set(objective(output, picture, labels, "paired")) == {"local", "reconstruction", "parsing"}


@pytest.mark.parametrize("adversarial", [1.0, 0.5])
def test_the_sum_has_the_papers_weights(drawn_labels, drawn_pictures, adversarial):
    """{10, 1, 1, 1} and lambda_FM = 10, which is part of what lambda_GD weighs (Eq. 6)."""
    objective, output, picture, labels, game = passed(drawn_labels, drawn_pictures, adversarial=adversarial)
    terms = objective(output, picture, labels, "paired", game)
    by_hand = (
        10 * local_loss(output.reconstructions, output.windows, output.codes.present)
        + global_loss(output.image, picture)
        + adversarial * (terms["sigmoid"] + 10 * terms["feature_matching"])
        + parsing_loss(parser_of()((output.image + 1) / 2), labels)
    )
    assert objective.total(terms).item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_further_terms_are_off_until_asked_for(drawn_labels, drawn_pictures):
    objective, output, picture, labels, _ = passed(
        drawn_labels, drawn_pictures, region=2.0, parsing_on="unpaired", local=0.0, reconstruction=0.0
    )
    terms = objective(output, picture, labels, "paired")
    assert set(terms) == {"region"}
    expected = 2 * region_loss(output.image, picture, labels)
    assert objective.total(terms).item() == pytest.approx(expected.item(), rel=1e-5)
    assert set(objective(output, picture, labels, "unpaired")) == {"parsing"}


def test_the_discriminators_get_no_gradient_into_the_generator(drawn_labels, drawn_pictures):
    objective, output, picture, labels, game = passed(drawn_labels, drawn_pictures, kind="hinge")
    game.requires_grad_(True)
    objective.discriminator(game, output.image, picture, labels, "paired").backward()
    assert all(parameter.grad is not None for parameter in game.parameters())
    assert output.image.requires_grad and output.image.grad_fn is not None
    output.image.sum().backward()  # its graph is still whole


def test_the_parser_gets_no_gradient_but_passes_one(drawn_labels, drawn_pictures):
    objective, output, picture, labels, _ = passed(drawn_labels, drawn_pictures, local=0.0, reconstruction=0.0)
    output.image.retain_grad()
    objective.total(objective(output, picture, labels, "unpaired")).backward()
    assert output.image.grad.abs().sum() > 0
    assert not list(objective.parameters()) and not objective.state_dict()


def test_nothing_trains_without_a_loaded_parser():
    with pytest.raises(ValueError, match="needs a trained face parser"):
        Objective(LossConfig(), None)
    with pytest.raises(ValueError, match="frozen and in evaluation mode"):
        Objective(LossConfig(), nn.Conv2d(3, 11, 1).eval())
    with pytest.raises(ValueError, match=r"train\.parser"):
        Config(train=TrainConfig(parser=""))
    Objective(LossConfig(parsing=0), None)


def test_the_preset_paper_is_what_is_printed():
    """Sections 3 and 4, every option; comments name what the paper leaves to its supplement."""
    paper = PRESETS["paper"]
    assert vars(paper.model) == dict(
        size=256, embedding="local", background="fused", foreground="features", mask_eyes=True, missing="zero",
        whole_windows="box", surroundings="zero", snap=False, enlarge=1.0, code_grid=0, variational=False, fold=1,
        local_blocks=0, picture_decoder="own", mask_skips=False, background_blocks=0, background_residual=False,
        discriminators=1,
        # The official code's layers.
        code=(512, 512, 512, 512, 512), width=64, max_width=512, features=256, generator_width=256,
        generator_blocks=9, foreground_width=64, upsampling="transposed", norm="batch", discriminator_width=64,
        discriminator_layers=3, discriminator_norm="batch",
    )  # fmt: skip
    assert vars(paper.loss) == dict(
        local=10.0, reconstruction=1.0, adversarial=1.0, parsing=1.0, kind="bce", feature_distance="l2",
        parsing_on="both", feature_matching=10.0,  # the last the official code's
        region=0.0, region_weights=(1.0,) * 5, appearance=0.0, background=0.0, perceptual=0.0, perceptual_weights="",
        r1=0.0,
    )  # fmt: skip
    assert vars(paper.train) == dict(
        pairing="alternate", augment=False, moved=0.0, neck=False,
        # The official code's, but for the length.
        lr=2e-4, betas=(0.5, 0.999), batch_size=4, steps=200_000, schedule="constant", discriminator_lr=1.0,
        adversarial_warmup=0,
        warmup=0, clip=0.0, ema=0.0, precision="fp32",
        parser="small", init="", ignore_mismatched_sizes=False,
        accumulate=1, channels_last=False, workers=4, seed=0, log_every=20,
        sheet_every=2000, checkpoint_every=1000,
    )  # fmt: skip


def test_the_preset_official_differs_as_the_design_decides():
    official = PRESETS["official"]
    assert official.train.pairing == "overlap"
    assert (official.model.discriminators, official.model.mask_eyes, official.model.variational) == (2, False, True)
    assert (official.loss.feature_distance, official.loss.parsing_on) == ("l1", "unpaired")
    assert (official.model.missing, official.model.enlarge) == ("canonical", 1.1)
    assert (official.train.lr, official.train.betas) == (2e-4, (0.5, 0.999))


def test_configurations_that_contradict_themselves_are_refused():
    with pytest.raises(ValueError, match="five numbers"):
        LossConfig(region_weights=(1.0,))
    with pytest.raises(ValueError, match="cannot be split"):
        TrainConfig(batch_size=3, accumulate=2)
    with pytest.raises(ValueError, match=r"train\.accumulate must be at least 1"):
        TrainConfig(accumulate=0)
    with pytest.raises(ValueError, match=r"did you mean 'model\.norm'"):
        apply_overrides(PRESETS["tiny"], {"model.nrom": "batch"})
    assert apply_overrides(Config(), to_dict(PRESETS["small"])) == PRESETS["small"]


def test_options_that_became_constants_still_load():
    before = to_dict(PRESETS["small"])
    before["model"] |= {"hidden": 1024, "discriminator_scales": 2}
    before["loss"] |= {"distance": "l2", "parsing_weights": [], "kl": 0.0, "r1_every": 16}
    before["train"] |= {"augment": True, "step_at": 100_000}
    assert from_dict(Config, before) == PRESETS["small"]
    before["loss"]["kl"] = 1.0
    with pytest.raises(ValueError, match=r"loss\.kl"):
        from_dict(Config, before)
