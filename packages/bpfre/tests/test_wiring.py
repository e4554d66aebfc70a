"""Which image goes where in a training step: every test fails when its wires are crossed."""

import copy
import itertools
import math

import pytest
import torch
from bpfre.config import PRESETS, LossConfig
from bpfre.losses import r1_penalty
from bpfre.model import BPFRe, BPFReOutput
from bpfre.objective import Objective
from bpfre.train import RetouchingTask
from retouch_common.config import apply_overrides
from retouch_common.testing.parameters import randomize_parameters
from retouch_common.testing.training_runs import draw_pairs
from retouch_common.training.runner import Runner

NOTHING = {f"loss.{name}": 0.0 for name in ("pixel", "psnr", "perceptual", "identity", "blemish", "adversarial", "r1")}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Pairs for a task to open; the steps below have their own batches."""
    folder = tmp_path_factory.mktemp("pairs")
    draw_pairs(folder, number=4)
    return str(folder)


def images(number, level):
    return level + 0.2 * torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(number))


@pytest.fixture
def batches():
    """Retouched images are bright, raw ones dark; each stream has its own, and a partner that is not to be used."""
    wrong = torch.full((2, 3, 64, 64), 0.5)
    streams = {
        "paired": {"raw": images(0, 0.2), "target": images(1, 0.6)},
        "raw": {"raw": images(2, 0.2), "target": wrong},
        "retouched": {"raw": wrong, "target": images(3, 0.6)},
    }
    return {name: itertools.repeat(batch) for name, batch in streams.items()}


def built(pairs, **changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    task = RetouchingTask(apply_overrides(PRESETS["tiny"], NOTHING | changes), pairs)
    task.setup(Runner(cpu=True))
    return task


def groups(task, batches):
    """Raw images, results for them, retouched images; of pairs and without partners."""
    paired, raw, retouched = (next(batches[name]) for name in ("paired", "raw", "retouched"))
    every = torch.cat([paired["raw"], raw["raw"]])
    with torch.no_grad():
        return every, task.model(every).result, torch.cat([paired["target"], retouched["target"]])


def test_equation_10_separates_retouched_images_from_raw_ones_and_results(pairs, batches):
    task = built(pairs, loss__adversarial=1e-6)
    every = groups(task, batches)

    def means():
        with torch.no_grad():
            return [float(part.mean()) for part in task.discriminator(torch.cat(every)).chunk(3)]

    before = means()
    task.training_step(1, batches)
    after = means()
    gains = [new - old for new, old in zip(after, before, strict=True)]
    assert gains[2] > gains[0] and gains[2] > gains[1]


def test_equation_11_makes_results_look_retouched(pairs, batches):
    task = built(pairs, loss__adversarial=1.0, train__lr=1e-3)
    discriminator = copy.deepcopy(task.discriminator)

    def retouched():
        with torch.no_grad():
            return float(discriminator(groups(task, batches)[1]).mean())

    before = retouched()
    task.training_step(1, batches)
    assert retouched() > before


def test_the_networks_pass_leaves_the_discriminator_as_it_is(pairs, batches):
    """The discriminator's step does not depend on the weight of Eq. 11."""
    after = []
    for weight in (0.1, 1e4):
        torch.manual_seed(0)
        task = built(pairs, loss__adversarial=weight)
        task.training_step(1, batches)
        after.append(torch.cat([p.detach().flatten() for p in task.discriminator.parameters()]))
    assert torch.equal(*after)


def test_the_discriminator_has_its_own_momentum_and_the_schedule_of_the_run(pairs, batches):
    """It takes a step in every second one, and its rate decays as quickly as that of the network."""
    task = built(pairs, loss__adversarial=1.0, train__unpaired_every=2, train__schedule="cosine", train__steps=4)
    for step in (1, 2):
        task.training_step(step, batches)
    model, discriminator = (task.optimizers[name].param_groups[-1] for name in ("model", "discriminator"))
    assert discriminator["lr"] == pytest.approx(model["lr"]) and model["lr"] == pytest.approx(0.505 * 5e-3)
    assert (model["betas"], discriminator["betas"]) == ((0.9, 0.99), (0.0, 0.99))


def test_parts_of_a_batch_go_through_the_discriminator_as_if_alone(pairs, batches):
    """Real and fake images in one group would share a standard deviation that tells them apart."""
    task = built(pairs, loss__adversarial=1.0)
    parts = [torch.rand(count, 3, 64, 64) for count in (4, 2, 4)]
    alone = torch.cat([task.discriminator(part) for part in parts])
    together = torch.cat(parts)
    torch.testing.assert_close(task.discriminator(together, [4, 2, 4]), alone)
    assert not torch.allclose(task.discriminator(together), alone)


def test_r1_flattens_the_discriminator_at_retouched_images(pairs, batches):
    task = built(pairs, loss__adversarial=1e-6, loss__r1=1e6, loss__r1_every=1)
    retouched = groups(task, batches)[2].requires_grad_(True)

    def penalty():
        return float(r1_penalty(task.discriminator(retouched), retouched).detach())

    before = penalty()
    losses = task.training_step(1, batches)
    assert float(losses["r1"]) == pytest.approx(before, rel=1e-3)
    assert penalty() < before


def test_r1_counts_for_the_steps_without_it(pairs, batches):
    """In every second step with twice its weight."""
    task = built(pairs, loss__adversarial=1e-6, loss__r1=3.0, loss__r1_every=2)
    minimised, backward = [], task.runner.backward
    task.runner.backward = lambda loss: minimised.append(loss.item()) or backward(loss)
    assert "r1" not in task.training_step(1, batches) and len(minimised) == 2
    losses = task.training_step(2, batches)
    assert minimised[3] == pytest.approx(3 * 2 * losses["r1"].item()) and len(minimised) == 5


def test_a_step_sees_pairs_first_and_each_stream_for_what_it_is(pairs, batches):
    task = built(pairs, loss__adversarial=1.0, loss__identity=1.0, loss__pixel=1.0)
    randomize_parameters(task.model)  # untrained, both stages return their input
    raw, result, retouched = groups(task, batches)
    seen, scored = {}, []
    task.objective.register_forward_pre_hook(lambda _, args: seen.update(pair=args[1:]))
    identity = task.objective.identity
    task.objective.identity = lambda output, image: seen.update(identity=image) or identity(output, image)
    task.discriminator.register_forward_pre_hook(lambda _, args: scored.append(args[0]))
    task.model.register_forward_pre_hook(lambda _, args: seen.update(shown=args[0]))
    task.training_step(1, batches)
    assert torch.equal(seen["pair"][0], raw[:2]) and torch.equal(seen["pair"][1], retouched[:2])
    assert torch.equal(seen["identity"], retouched)
    assert torch.equal(seen["shown"], torch.cat([raw, retouched]))
    torch.testing.assert_close(scored[0], result, rtol=1e-4, atol=1e-5)  # Eq. 11
    torch.testing.assert_close(scored[1], torch.cat([raw, result, retouched]), rtol=1e-4, atol=1e-5)  # Eq. 10


def test_a_step_brings_both_stages_nearer_to_the_target(pairs, batches):
    task = built(pairs, loss__pixel=10.0)
    pair = next(batches["paired"])

    def errors():
        with torch.no_grad():
            output = task.model(pair["raw"])
        return [float((image - pair["target"]).abs().mean()) for image in (output.coarse, output.refined)]

    before = errors()
    for step in range(1, 6):
        task.training_step(step, batches)
    assert all(new < old for new, old in zip(errors(), before, strict=True))


def test_the_u_net_learns_at_its_own_rate(pairs, batches):
    task = built(pairs, loss__pixel=10.0, train__lr=1e-3, train__unet_lr=0.1)
    before = {name: p.detach().clone() for name, p in task.model.named_parameters()}
    task.training_step(1, batches)
    longest = {"unet": 0.0, "others": 0.0}
    for name, p in task.model.named_parameters():
        part = "unet" if name.startswith(("encoder.", "decoder.")) else "others"
        longest[part] = max(longest[part], float((p.detach() - before[name]).abs().max()))
    assert longest["unet"] == pytest.approx(1e-4, rel=0.05)  # Adam's first step is as long as its rate
    assert longest["others"] == pytest.approx(1e-3, rel=0.05)


@pytest.mark.parametrize("detached", [True, False])
def test_the_second_stage_trains_the_first_unless_it_is_detached(detached):
    config = apply_overrides(PRESETS["tiny"], {"model.detach_coarse": detached}).model
    model = BPFRe(config)
    output = model(torch.rand(2, 3, 64, 64))
    (output.refined.square().mean() + sum(M.mean() for M in output.attention_refined)).backward()
    first = [*model.encoder.stem.parameters(), *model.encoder.stages.parameters(), *model.decoder.parameters()]
    reached = [p.grad is not None and bool(p.grad.any()) for p in first]
    assert not any(reached) if detached else sum(reached) > 0.9 * len(reached)
    assert model.encoder.latent.weight.grad.any()  # the style code is the second stage's


def test_the_second_attention_does_not_train_the_image_that_it_sees():
    """Its maps train stage one through the features alone, the refined image through the image, too."""
    model = randomize_parameters(BPFRe(apply_overrides(PRESETS["tiny"], {"model.detach_coarse": False}).model))
    output, to_rgb = model(images(0, 0.2)), model.decoder.to_rgb.weight
    sum(M.mean() for M in output.attention_refined).backward(retain_graph=True)
    assert to_rgb.grad is None and any(p.grad is not None and p.grad.any() for p in model.decoder.stages.parameters())
    output.refined.mean().backward()
    assert to_rgb.grad.any()


def test_without_a_decoder_the_second_stage_trains_the_encoder_of_the_paper():
    """Table 1: nothing else would."""
    model = BPFRe(apply_overrides(PRESETS["tiny"], {"model.detach_coarse": True, "model.decoder": False}).model)
    model(torch.rand(2, 3, 64, 64)).refined.square().mean().backward()
    assert all(p.grad is not None and p.grad.any() for p in model.encoder.stem.parameters())


def test_without_attention_there_are_no_modules_and_other_results():
    """Table 1, with the same weights everywhere else."""
    whole, without = (BPFRe(apply_overrides(PRESETS["tiny"], {"model.attention": on}).model) for on in (True, False))
    weights = randomize_parameters(whole).state_dict()
    attention = {name for name in weights if name.startswith(("attention_coarse.", "attention_refined."))}
    assert attention and set(weights) - set(without.state_dict()) == attention
    without.load_state_dict({name: value for name, value in weights.items() if name not in attention})
    with torch.no_grad():
        expected, output = (model.eval()(images(0, 0.2)) for model in (whole, without))
    assert output.attention_coarse == [] == output.attention_refined
    for stage in ("coarse", "refined"):
        assert (getattr(output, stage) - getattr(expected, stage)).abs().max() > 1e-3


def test_each_perceptual_term_has_its_own_images():
    def filled(value):
        return torch.full((1, 3, 32, 32), value)

    objective = Objective(LossConfig(perceptual=0.0))
    objective.perceptual = lambda output, target: output.mean() - 10 * target.mean()
    output = BPFReOutput(filled(0.1), filled(0.2), [], [])
    terms = objective(output, filled(0.3), filled(0.4)) | objective.identity(output, filled(0.5))
    assert terms["perceptual_coarse"].item() == pytest.approx(0.1 - 4.0)
    assert terms["perceptual_refined"].item() == pytest.approx(0.2 - 4.0)
    assert terms["identity_perceptual"].item() == pytest.approx(0.1 - 5.0)


def test_validation_measures_the_moving_average(pairs):
    task = built(pairs, loss__pixel=1.0, train__ema=0.9)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.fill_(math.nan)
    metrics, _ = task.validate()
    assert all(math.isfinite(value) for value in metrics.values())


def test_the_preset_paper_is_what_is_printed():
    """Eq. 4-12 and section 4.2, every option; comments name what the paper does not state."""
    paper = PRESETS["paper"]
    assert vars(paper.loss) == dict(
        pixel=1.0, perceptual=1.0, psnr=0.0, emphasis=0.0, identity=0.001, blemish=1.0, blemish_distance="l1",
        difference="raw", adversarial=1.0, saturating=True, detach_map=False, perceptual_weights="",
        r1=10.0, r1_every=16,  # StyleGAN2's
        difference_floor=4 / 255,  # without effect on "raw"
    )  # fmt: skip
    assert vars(paper.train) == dict(
        steps=120_000, batch_size=2, lr=2e-3, unet_lr=1.0, unpaired_every=1, schedule="constant", warmup=0, clip=0.0,
        precision="fp32", betas=(0.0, 0.99), ema=0.998,  # the last two StyleGAN2's
        task="retouching", paired_fraction=1.0, init="", ignore_mismatched_sizes=False,
        accumulate=1, channels_last=False, workers=2, seed=0,
        log_every=20, sheet_every=1000, checkpoint_every=1000,
    )  # fmt: skip
    assert vars(paper.model) == dict(
        residual="none", detach_coarse=True, attention_norm=False, decoder=True, generator=True, attention=True,
        size=512, patch=1, channel_base=32768, max_channels=512, style_dim=512, mapping_layers=8,  # StyleGAN2's
        attention_width=32, norm="group", activation="prelu", refined_input="coarse",
        discriminator_base=32768, discriminator_max=512,
    )  # fmt: skip


def test_equation_11_trains_the_map_in_the_papers_form(pairs, batches):
    """h_map learns something else if the map that weights the logits has a gradient."""
    moved = []
    for detached in (False, True):
        torch.manual_seed(0)
        task = built(pairs, loss__adversarial=1.0, loss__detach_map=detached, loss__saturating=True)
        assert torch.isfinite(task.training_step(1, batches)["loss"])
        h_map = task.model.attention_refined.scales["64"].h_map
        moved.append(torch.cat([p.detach().flatten() for p in h_map.parameters()]))
    assert not torch.equal(*moved)
