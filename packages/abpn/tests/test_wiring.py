"""Which image goes where in a training step: every test fails when its wires are crossed."""

import copy
import itertools
import math

import pytest
import torch
from abpn.blend_pyramid import down
from abpn.config import PRESETS, LossConfig
from abpn.losses import JointLoss
from abpn.model import ABPNOutput
from abpn.train import RetouchingTask
from retouch_common.config import apply_overrides
from retouch_common.testing.parameters import randomize_parameters
from retouch_common.testing.training_runs import draw_pairs
from retouch_common.training.runner import Runner

NOTHING = {f"loss.{name}": 0.0 for name in ("mse", "l1", "psnr", "perceptual", "adversarial", "dice", "bce", "tv")}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs for a task to open; the steps below have their own batches."""
    folder = tmp_path_factory.mktemp("pairs")
    draw_pairs(folder, number=3)
    return str(folder)


@pytest.fixture
def batch():
    """Targets are bright, photographs have dark spots."""
    target = 0.7 + 0.2 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    raw = target.clone()
    raw[..., 16:32, 16:32] -= 0.6
    return {"raw": raw, "target": target}


def built(pairs, **changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    task = RetouchingTask(apply_overrides(PRESETS["tiny"], NOTHING | {"train.schedule": "constant"} | changes), pairs)
    task.setup(Runner(cpu=True))
    return task


def result(task, batch):
    with torch.no_grad():
        return task.model(batch["raw"], 1).results[0]


def test_a_step_brings_the_result_nearer_to_the_target(pairs, batch):
    task = built(pairs, loss__mse=100.0)
    before = (result(task, batch) - batch["target"]).square().mean()
    for step in range(1, 6):
        task.training_step(step, itertools.repeat(batch))
    assert (result(task, batch) - batch["target"]).square().mean() < 0.9 * before


def test_the_discriminator_learns_what_is_a_target_and_what_a_result(pairs, batch):
    """Each beside the photograph, in one pass."""
    task = built(pairs, loss__adversarial=0.1)
    randomize_parameters(task.model, amount=0.05)
    signed = {name: image * 2 - 1 for name, image in (*batch.items(), ("result", result(task, batch)))}
    assert (signed["result"] - signed["raw"]).abs().max() > 0.01
    real, fake = (torch.cat([signed["raw"], signed[name]], dim=1) for name in ("target", "result"))

    def gap():
        with torch.no_grad():
            return float(task.discriminator(real).mean() - task.discriminator(fake).mean())

    before, seen = gap(), []
    handle = task.discriminator.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    task.training_step(1, itertools.repeat(batch))
    handle.remove()
    assert torch.allclose(seen[0], fake, atol=1e-6) and torch.allclose(seen[1], torch.cat([real, fake]), atol=1e-6)
    assert gap() > before + 0.1


def test_the_discriminator_rates_a_real_image_alone_as_in_a_batch_with_fakes(pairs, batch):
    """The network's step shows it fakes alone."""
    task = built(pairs, loss__adversarial=1e-6, train__lr=2e-4)
    for step in range(1, 9):
        task.training_step(step, itertools.repeat(batch))
    raw, fake = batch["raw"] * 2 - 1, result(task, batch) * 2 - 1
    real = torch.cat([raw, batch["target"] * 2 - 1], dim=1)[:1]
    fake = torch.cat([raw, fake], dim=1)[:1]
    with torch.no_grad():
        alone = [task.discriminator(image) for image in (real, fake)]
        together = task.discriminator(torch.cat([real, fake]))
    torch.testing.assert_close(torch.cat(alone), together, rtol=1e-4, atol=1e-4)
    assert alone[0].mean() > alone[1].mean() + 0.1


def test_the_networks_pass_leaves_the_discriminator_as_it_is(pairs, batch):
    """The discriminator's step does not depend on the weight of the network's adversarial term."""
    after = []
    for weight in (0.1, 1e4):
        torch.manual_seed(0)
        task = built(pairs, loss__adversarial=weight, train__clip=0.0)
        task.training_step(1, itertools.repeat(batch))
        after.append(torch.cat([p.detach().flatten() for p in task.discriminator.parameters()]))
    assert torch.equal(*after)


@pytest.mark.parametrize("kernel", ["box", "burt"])
def test_photographs_and_targets_have_pyramids_of_the_same_kernel(pairs, batch, kernel):
    task = built(pairs, loss__mse=1.0, model__pyramid=kernel)
    assert task.criterion.pyramid == kernel
    with torch.no_grad():
        images = task.model(batch["raw"], 1).images
    torch.testing.assert_close(images[1], down(batch["raw"], kernel))


def test_the_network_learns_to_look_real(pairs, batch):
    task = built(pairs, loss__adversarial=1.0)
    discriminator = copy.deepcopy(task.discriminator)

    def real():
        with torch.no_grad():
            return float(discriminator(torch.cat([batch["raw"], result(task, batch)], dim=1) * 2 - 1).mean())

    before = real()
    task.training_step(1, itertools.repeat(batch))
    assert real() > before


def test_the_perceptual_term_compares_the_thumbnails_result_with_its_target():
    images = [torch.full((1, 3, side, side), 0.5) for side in (16, 8)]
    output = ABPNOutput(
        results=[images[0] + 0.1, images[1] + 0.4],
        blends=images,
        images=images,
        retouched_thumbnail=images[1] - 0.2,
        mask_logits=None,
    )
    loss = JointLoss(LossConfig(perceptual=0.0, adversarial=0.0))
    seen = []
    loss.perceptual = lambda output, target: seen.append((output, target)) or output.mean()
    loss(output, torch.full((1, 3, 16, 16), 0.9))
    ((of, target),) = seen
    assert of.shape == target.shape == (1, 3, 8, 8)
    assert of.mean().item() == pytest.approx(0.3) and target.mean().item() == pytest.approx(0.9)


def test_validation_measures_the_moving_average(pairs):
    task = built(pairs, loss__mse=1.0, train__ema=0.9)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.fill_(math.nan)
    metrics, _ = task.validate()
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_preset_paper_is_what_is_printed():
    """Sections 4 and 5.1, every option; comments name what the paper does not state."""
    paper = PRESETS["paper"]
    assert vars(paper.model) == dict(
        thumbnail=256, refine_width=16, refine=True, mask_branch=True, attention="lam", blend="adaptive",
        residual=False, widths=(64, 128, 256, 512, 512, 512),  # widths of the paper's times
        pyramid="burt",
    )  # fmt: skip
    assert vars(paper.loss) == dict(
        mse=1.0, perceptual=0.1, adversarial=0.1, dice=1.0, tv=0.1, l1=0.0, psnr=0.0, bce=0.0, mask_emphasis=0.0,
        reduction="mean", perceptual_weights="",  # the norm of L_mse is a sum: a deviation
    )  # fmt: skip
    assert vars(paper.train) == dict(
        size=1024, fit="whole", levels=(2,), thumbnail=0, batch_size=8, lr=5e-4, schedule="step", step_at_epoch=100,
        steps=100_000, betas=(0.9, 0.999), warmup=0, clip=0.0, ema=0.0, precision="fp32",  # the length; Adam's betas
        init="", ignore_mismatched_sizes=False,
        accumulate=1, step_at=50_000, channels_last=False, workers=4, seed=0, log_every=20, sheet_every=1000,
        checkpoint_every=1000,
    )  # fmt: skip


def test_the_loss_is_the_weighted_sum_of_its_terms():
    """Eq. 6."""
    output = ABPNOutput(
        results=[torch.full((1, 3, 16, 16), 0.5)] * 2,
        blends=[torch.rand(1, 3, 16, 16)] * 2,
        images=[torch.full((1, 3, 16, 16), 0.5)] * 2,
        retouched_thumbnail=torch.full((1, 3, 16, 16), 0.5),
        mask_logits=None,
    )
    terms = JointLoss(LossConfig(mse=0.0, perceptual=0.0, adversarial=0.0, dice=0.0))(output, torch.rand(1, 3, 16, 16))
    assert terms["loss"].item() == pytest.approx(0.1 * terms["tv"].item()) and terms["tv"] > 0
