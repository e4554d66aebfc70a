"""Which image goes where in a training step: every test fails when its wires are crossed."""

import copy
import itertools
import math

import pytest
import torch
from maskgan.config import PRESETS, LossConfig
from maskgan.discriminator import DiscriminatorOutput
from maskgan.losses import appearance_loss, background_loss, feature_matching_loss, r1_penalty
from maskgan.model import MaskGANOutput
from maskgan.objective import Objective
from maskgan.train import FaceTask
from retouch_common.config import apply_overrides
from retouch_common.training.runner import Runner

TERMS = (
    "local",
    "reconstruction",
    "region",
    "appearance",
    "background",
    "feature_matching",
    "parsing",
    "perceptual",
    "r1",
)
NOTHING = {f"loss.{name}": 0.0 for name in TERMS}
OPTIONS = {"train.batch_size": 2, "train.neck": False, "train.parser": ""}


@pytest.fixture
def batch(drawn_labels, drawn_pictures):
    """Two faces of different places and colours, and the first one's sources, held otherwise."""
    labels, image = drawn_labels(2), 0.3 * drawn_pictures(2) + torch.tensor([0.5, -0.5]).view(2, 1, 1, 1)
    return {"image": image, "labels": labels, "source": image.flip(3), "source_labels": labels.flip(2)}


def built(faces, **changes):
    changes = {name.replace("__", "."): value for name, value in changes.items()}
    task = FaceTask(apply_overrides(PRESETS["tiny"], NOTHING | OPTIONS | changes), str(faces))
    task.setup(Runner(cpu=True))
    return task


def generated(task, batch, situation):
    source, source_labels, target = task._situated(batch, situation)
    with torch.no_grad():
        return task.model(source, source_labels, target, batch["labels"]).image


SITUATIONS = [(1, "paired"), (2, "unpaired")]


@pytest.mark.parametrize(("step", "situation"), SITUATIONS)
def test_the_discriminators_learn_what_is_real(faces, batch, step, situation):
    task = built(faces, loss__adversarial=1e-6, model__discriminators=2)
    fake = generated(task, batch, situation)

    def gap():
        with torch.no_grad():
            real, made = (task.discriminators(image, batch["labels"], situation) for image in (batch["image"], fake))
        return sum(float(r.mean() - m.mean()) for r, m in zip(real.logits, made.logits, strict=True))

    for _ in range(50):  # until the power iterations of the spectral norms stand still
        before = gap()
    task.training_step(step, itertools.repeat(batch))
    assert gap() > before + 1e-3


@pytest.mark.parametrize(("step", "situation"), SITUATIONS)
def test_generated_faces_learn_to_look_real(faces, batch, step, situation):
    task = built(faces, loss__adversarial=1.0)
    discriminators = copy.deepcopy(task.discriminators).eval()

    def real():
        with torch.no_grad():
            judged = discriminators(generated(task, batch, situation), batch["labels"], situation)
        return sum(float(logits.mean()) for logits in judged.logits)

    before = real()
    task.training_step(step, itertools.repeat(batch))
    assert real() > before


@pytest.mark.parametrize(("step", "situation"), SITUATIONS)
def test_the_generators_pass_leaves_the_discriminators_as_they_are(faces, batch, step, situation):
    """Their step does not depend on the weight of the generator's adversarial term."""
    after = []
    for weight in (0.1, 1e4):
        torch.manual_seed(0)
        task = built(faces, loss__adversarial=weight)
        task.training_step(step, itertools.repeat(batch))
        after.append(torch.cat([p.detach().flatten() for p in task.discriminators.parameters()]))
    assert torch.equal(*after)


def test_in_the_warmup_only_the_discriminators_learn_from_the_adversarial_loss(faces, batch):
    def trained(weight, step):
        torch.manual_seed(0)
        task = built(faces, loss__local=1.0, loss__adversarial=weight, train__adversarial_warmup=2)
        discriminators = copy.deepcopy(task.discriminators.state_dict())
        losses = task.training_step(step, itertools.repeat(batch))
        changed = not all(torch.equal(p, discriminators[name]) for name, p in task.discriminators.state_dict().items())
        return torch.cat([p.detach().flatten() for p in task.model.parameters()]), losses, changed

    for step, equal in ((2, True), (3, False)):
        light, losses, changed = trained(0.1, step)
        assert changed and "discriminator" in losses and ("sigmoid" in losses) is not equal
        assert torch.equal(light, trained(1e4, step)[0]) is equal


def test_the_discriminators_learn_at_their_own_rate(faces):
    task = built(faces, loss__adversarial=1.0, train__lr=1e-3, train__discriminator_lr=0.25)
    rates = {name: optimizer.param_groups[0]["lr"] for name, optimizer in task.optimizers.items()}
    assert rates == pytest.approx({"model": 1e-3, "discriminators": 2.5e-4})


def test_r1_flattens_the_discriminators_at_real_faces(faces, batch, monkeypatch):
    monkeypatch.setattr("maskgan.train.R1_EVERY", 1)
    task = built(faces, loss__adversarial=1e-6, loss__r1=1e6)
    image = batch["image"].clone().requires_grad_(True)

    def penalty():
        judged = task.discriminators.eval()(image, batch["labels"], "paired")
        return float(r1_penalty(judged.logits, image).detach())

    before, seen, alone = penalty(), [], task.runner.forward_unsynced
    task.runner.forward_unsynced = lambda network, *inputs: seen.append(inputs) or alone(network, *inputs)
    losses = task.training_step(1, itertools.repeat(batch))
    assert torch.equal(seen[0][0], batch["image"]) and torch.equal(seen[0][1], batch["labels"])
    assert float(losses["r1"]) == pytest.approx(before, rel=0.01)
    assert penalty() < before


def test_r1_counts_for_the_passes_without_it(faces, batch, monkeypatch):
    """In every second one with twice its weight."""
    monkeypatch.setattr("maskgan.train.R1_EVERY", 2)
    task = built(faces, loss__adversarial=1e-6, loss__r1=3.0)
    minimised, backward = [], task.runner.backward
    task.runner.backward = lambda loss: minimised.append(loss.item()) or backward(loss)
    losses = task.training_step(3, itertools.repeat(batch))
    assert minimised[1] == pytest.approx(3 * 2 * losses["r1"].item()) and len(minimised) == 3


@pytest.mark.parametrize(("step", "situation"), SITUATIONS)
def test_the_framework_and_its_terms_see_what_belongs_to_the_situation(faces, batch, step, situation):
    task, seen = built(faces, loss__adversarial=1.0), {}
    task.model.register_forward_pre_hook(lambda _, args: seen.update(model=args))
    task.objective.register_forward_pre_hook(lambda _, args: seen.update(objective=args))
    task.training_step(step, itertools.repeat(batch))
    image, labels = batch["image"], batch["labels"]
    paired = situation == "paired"
    source = batch["source"] if paired else image.roll(1, dims=0)
    source_labels = batch["source_labels"] if paired else labels.roll(1, dims=0)
    expected = (source, source_labels, image, labels)
    assert all(torch.equal(given, right) for given, right in zip(seen["model"], expected, strict=True))
    _, target, target_labels, name, _, given_source = seen["objective"]
    assert torch.equal(target, image) and torch.equal(target_labels, labels) and name == situation
    assert torch.equal(given_source[0], source) and torch.equal(given_source[1], source_labels)


class Judge:
    """Discriminators whose one feature is the image."""

    def __call__(self, image, labels, situation):
        return DiscriminatorOutput([image.mean(dim=1, keepdim=True)], [image])


def test_terms_compare_the_generated_face_with_the_target(drawn_labels, drawn_pictures):
    labels, target, image = drawn_labels(2), drawn_pictures(2, seed=1), drawn_pictures(2, seed=2).requires_grad_()
    objective = Objective(LossConfig(parsing=0.0, local=0.0, reconstruction=0.0), None)
    seen = []
    objective.perceptual = lambda output, target: seen.append((output, target)) or output.mean()
    output = MaskGANOutput(image=image, codes=None, windows={}, reconstructions={})
    terms = objective(output, target, labels, "paired", Judge())
    face = (labels != 0)[:, None]
    ((of, wanted),) = seen
    assert torch.allclose(of, (image + 1) / 2 * face) and torch.allclose(wanted, (target + 1) / 2 * face)
    assert terms["feature_matching"].item() == pytest.approx(feature_matching_loss([image], [target]).item())
    assert terms["feature_matching"] > 0 and torch.autograd.grad(terms["feature_matching"], image)[0].any()


def test_unpaired_terms_take_colours_of_the_source_and_the_background_of_the_target(drawn_labels, drawn_pictures):
    labels, (target, image, source) = drawn_labels(2), (drawn_pictures(2, seed=seed) for seed in (1, 2, 3))
    source_labels = labels.flip(2)
    weights = {"appearance": 1.0, "background": 1.0, "adversarial": 0.0, "parsing": 0.0}
    objective = Objective(LossConfig(**weights), None)
    output = MaskGANOutput(image=image, codes=None, windows={}, reconstructions={})
    terms = objective(output, target, labels, "unpaired", None, (source, source_labels))
    assert set(terms) == {"appearance", "background"}
    assert torch.equal(terms["appearance"], appearance_loss(image, labels, source, source_labels))
    assert torch.equal(terms["background"], background_loss(image, labels, target))


def test_validation_measures_the_moving_average(faces):
    task = built(faces, loss__reconstruction=1.0, train__ema=0.9)
    with torch.no_grad():
        for parameter in task.model.parameters():
            parameter.fill_(math.nan)
    metrics, _ = task.validate()
    assert all(math.isfinite(value) for value in metrics.values())


def test_validation_takes_agreement_with_anothers_appearance(faces, parser_weights):
    task = built(faces, loss__parsing=1.0, train__parser=str(parser_weights))
    seen = []
    task.averaged.register_forward_pre_hook(lambda _, args: seen.append(args))
    task.validate()
    ((source, source_labels, target, labels),) = seen
    assert torch.equal(source, target.roll(1, dims=0)) and torch.equal(source_labels, labels.roll(1, dims=0))
    assert not torch.equal(source[0], target[0])
