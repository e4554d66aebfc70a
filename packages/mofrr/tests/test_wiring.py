"""Which image goes where in a training step: every test fails when its wires are crossed."""

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest
import pyvips
import torch
import torch.nn.functional as F
from mofrr import stages
from mofrr.config import PRESETS
from mofrr.losses import expert_losses, shared_losses
from mofrr.sampling import Diffusion, ExpertOutput, generators_for
from mofrr.shared import SharedExpert
from mofrr.stages import known_stages
from mofrr.train import StageTask
from mofrr.wavefrr import WaveFRR, WaveFRROutput
from retouch_common.config import apply_overrides
from retouch_common.training.runner import Runner
from safetensors.torch import load_file
from torch import nn


def configured(**changes):
    overrides = {"model.operations": ["white", "lift"], "train.batch_size": 2}
    return apply_overrides(PRESETS["tiny"], overrides | {k.replace("__", "."): v for k, v in changes.items()})


def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def batch():
    """Retouched faces are bright, originals dark."""
    images = 0.2 * torch.rand(2, 2, 3, 64, 64, generator=generator())
    return {
        "retouched": images[0] + 0.7,
        "original": images[1] + 0.1,
        "traces": torch.zeros(2, 1, 4, 4),
        "applied": torch.tensor([[1.0, 0.0], [0.0, 1.0]]),
        "degree": torch.tensor([2, 5]),
    }


class FakePart:
    """Records what a stage gives its part, and answers zeros."""

    def __call__(self, X, Y, *given, **options):
        self.X, self.Y, self.given, self.options = X, Y, given, options
        none = torch.zeros(2, 3, 32, 32)
        if len(given) == 2:
            return ExpertOutput(output=none, target=none, restored=0 * X, weight=torch.ones(2))
        return WaveFRROutput(
            output=none, target=none, residual=None, true_residual=none, high=[none], true_high=[none],
            restored=0 * X, weight=torch.ones(2),
        )  # fmt: skip


def network(config):
    """A network of which a stage asks the degree and the sizes."""
    return SimpleNamespace(
        experts={"white": WaveFRR.from_config(config.model)},
        shared=SharedExpert.from_config(config.model),
        degree=lambda name, image, traces: image.mean(dim=(1, 2, 3)) if name == "white" else None,
    )


def test_an_expert_learns_from_the_retouched_face_to_its_original_guided_by_the_degree(batch):
    config, part = configured(), FakePart()
    terms = known_stages(config)["expert-white"].terms(network(config), part, batch, generator())
    assert torch.equal(part.X, 2 * batch["retouched"] - 1) and torch.equal(part.Y, 2 * batch["original"] - 1)
    z, t, noise = part.given
    assert torch.equal(z, batch["retouched"].mean(dim=(1, 2, 3)))
    assert t.shape == (2,) and noise.shape == (2, 3, 32, 32) and noise.std() == pytest.approx(1, abs=0.05)
    assert terms["l1"].item() == pytest.approx((2 * batch["original"] - 1).abs().mean().item(), rel=1e-5)


def test_the_shared_expert_learns_from_the_retouched_face_to_its_original(batch):
    config, part = configured(), FakePart()
    terms = known_stages(config)["shared"].terms(network(config), part, batch, generator())
    assert torch.equal(part.X, 2 * batch["retouched"] - 1) and torch.equal(part.Y, 2 * batch["original"] - 1)
    assert terms["l1"].item() == pytest.approx((2 * batch["original"] - 1).abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize("stage", ["router", "degree-white"])
def test_router_and_degree_estimators_learn_from_the_retouched_face(batch, stage):
    """The right logits cost nothing."""
    seen, right = [], {"router": 40 * batch["applied"] - 20, "degree-white": 40 * F.one_hot(batch["degree"] - 1, 5)}
    terms = known_stages(configured())[stage].terms(
        None, lambda *given: seen.append(given) or right[stage], batch, generator()
    )
    ((image, traces),) = seen
    assert torch.equal(image, batch["retouched"]) and torch.equal(traces, batch["traces"])
    assert set(terms) == ({"class"} if stage == "router" else {"class", "order"})
    assert all(0 <= term < 1e-6 for term in terms.values())


def test_a_baseline_learns_from_the_retouched_face_to_its_original(batch):
    seen = []
    terms = known_stages(configured())["baseline-unet"].terms(
        None, lambda X: seen.append(X) or 0 * X, batch, generator()
    )
    assert torch.equal(seen[0], 2 * batch["retouched"] - 1)
    assert terms["l1"].item() == pytest.approx((2 * batch["original"] - 1).abs().mean().item(), rel=1e-5)


@pytest.mark.parametrize("stage", ["expert-white", "shared"])
def test_validation_samples_from_the_retouched_face(batch, stage):
    config, X, seen = configured(), 2 * batch["retouched"] - 1, []
    part = SimpleNamespace(restore=lambda *given: seen.append(given) or given[0])
    restored = known_stages(config)[stage].restored(network(config), part, batch, [3, 4])
    ((image, *degree, seeds),) = seen
    assert torch.equal(image, X) and torch.equal(restored, X) and seeds == [3, 4]
    if stage == "expert-white":
        assert torch.equal(degree[0], batch["retouched"].mean(dim=(1, 2, 3)))


def test_validation_combines_all_experts_of_the_retouched_face(batch):
    """No expert is withheld; the second face, without an operation, stays."""
    X, seen = 2 * batch["retouched"] - 1, []
    found = SimpleNamespace(
        X=X, shared=0.1 * X, experts={"white": 0.2 * X}, gates=torch.ones(2, 2, dtype=torch.bool),
        active=torch.tensor([True, False]),
    )  # fmt: skip
    model = SimpleNamespace(consult=lambda image, **given: seen.append((image, given)) or found)

    def combine(X, shared, experts, shares):
        assert torch.equal(shares, found.gates)
        return X + shared + experts["white"]

    restored = known_stages(configured())["combine"].restored(model, combine, batch, [3, 4])
    ((image, given),) = seen
    assert torch.equal(image, batch["retouched"]) and torch.equal(given["traces"], batch["traces"])
    assert given["seeds"] == [3, 4]
    torch.testing.assert_close(restored, torch.stack([1.3 * X[0], X[1]]))


@pytest.mark.parametrize(("rollout", "chances"), [("one_step", 0), ("full", 40), ("last", 20)])
def test_what_is_rolled_out(batch, rollout, chances):
    config, part, drawn = configured(loss__rollout=rollout), FakePart(), generator()
    stage, model, taken = known_stages(config)["expert-white"], network(config), []
    for _ in range(40):
        stage.terms(model, part, batch, drawn)
        seeds, last = part.options["rollout"], part.options["last_only"]
        assert last == (rollout == "last" and seeds is not None)
        assert seeds is None or (len(seeds) == 2 and seeds[0] != seeds[1])
        taken.append(seeds is not None)
    assert sum(taken) == pytest.approx(chances, abs=8 if rollout == "last" else 0)


def test_wavefrr_diffuses_the_originals_low_band(batch):
    config = configured().model
    expert = WaveFRR.from_config(config)
    X, Y = 2 * batch["retouched"] - 1, 2 * batch["original"] - 1
    z, t = torch.tensor([0.4, 0.8]), torch.tensor([10, 40])
    noise = torch.randn(expert.low_size(X), generator=generator())
    x_LL, y_LL = (expert._low(expert._bands(image)) for image in (X, Y))
    seen = []
    expert._predict = lambda *given: seen.append(given) or (torch.zeros_like(x_LL), None)
    passed = expert(X, Y, z, t, noise)
    ((condition, y_t, degree, times),) = seen
    assert torch.equal(condition, x_LL) and torch.equal(degree, z) and torch.equal(times, t)
    assert torch.allclose(y_t, expert.diffusion.schedule.noised(y_LL, noise, t))
    assert torch.allclose(passed.target, y_LL - x_LL)  # tiny predicts x0 as a change of the retouched band
    assert torch.allclose(passed.true_residual, y_LL - x_LL)
    true = expert._bands(Y).high[0]
    assert torch.allclose(passed.true_high[0], true) and expert_losses(passed, Y)["simple"] > 0


def test_the_noise_predictor_sees_its_condition_and_the_degree_as_a_map(batch):
    """y_t, x~ = (x_LL, R^) and z."""
    expert, seen = WaveFRR.from_config(configured().model), []
    X, Y = 2 * batch["retouched"] - 1, 2 * batch["original"] - 1
    z, t = torch.tensor([0.4, 0.8]), torch.tensor([10, 40])
    noise = torch.randn(expert.low_size(X), generator=generator())
    x_LL, y_LL = (expert._bands(image).low / 2 for image in (X, Y))  # in the image's range
    expert.denoiser.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    passed = expert(X, Y, z, t, noise)
    y_t = expert.diffusion.schedule.noised(y_LL, noise, t)
    expected = [y_t, x_LL, passed.residual, z.view(2, 1, 1, 1).expand(2, 1, 32, 32)]
    torch.testing.assert_close(seen[0], torch.cat(expected, dim=1))


def test_the_shared_expert_diffuses_the_original(batch):
    expert = SharedExpert.from_config(configured().model)
    X, Y = 2 * batch["retouched"] - 1, 2 * batch["original"] - 1
    t, noise, seen = torch.tensor([10, 40]), torch.randn(X.shape, generator=generator()), []
    expert._predict = lambda *given: seen.append(given) or torch.zeros_like(X)
    passed = expert(X, Y, t, noise)
    ((condition, y_t, times),) = seen
    assert torch.equal(condition, X) and torch.equal(times, t)
    assert torch.allclose(y_t, expert.diffusion.schedule.noised(Y, noise, t))
    assert torch.allclose(passed.target, Y - X) and torch.allclose(passed.restored, X)
    assert shared_losses(passed, Y)["simple"].item() == pytest.approx((Y - X).square().mean().item(), rel=1e-5)


def test_hfcam_learns_from_low_bands_in_range(batch):
    """As in sampling: the preset "recommended" predicts epsilon, whose error the last timestep amplifies by 157."""
    changes = {"prediction": "epsilon", "residual": False, "zero_terminal_snr": False, "T": 1000}
    config = configured(**{f"model__{name}": value for name, value in changes.items()}).model
    expert, seen = WaveFRR.from_config(config), []
    expert.hfcam[0].register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
    X, Y, t = 2 * batch["retouched"] - 1, 2 * batch["original"] - 1, torch.tensor([999, 500])
    expert(X, Y, torch.zeros(2), t, torch.randn(expert.low_size(X), generator=generator()))
    assert seen[0].abs().max() <= 1
    unclamped = Diffusion.from_config(dataclasses.replace(config, clip=False))
    low = torch.full((2, 3, 8, 8), 0.5)
    assert unclamped.clean(torch.zeros_like(low), low, t, low)[0].max() > 50  # as in the preset "paper"


@pytest.mark.parametrize("last_only", [False, True])
def test_sampling_passes_gradients_through_the_steps_it_should(last_only):
    """Of a network w y_t, the derivative with respect to w of all calls, or of the last call alone."""
    diffusion = Diffusion.from_config(configured(model__steps=3, model__residual=False).model)
    base = torch.zeros(1, 3, 8, 8)

    def sampled(*weights):
        calls = iter(weights)
        return diffusion.sample(lambda y, t: next(calls) * y, base, generators_for([1], "x"), last_only=last_only)

    w = torch.tensor(0.2, requires_grad=True)
    sampled(w, w, w).square().sum().backward()
    with torch.no_grad():
        moved = [torch.tensor(0.2 + e) for e in (1e-3, -1e-3)]
        first = torch.tensor(0.2)
        values = [sampled(*((first, first, m) if last_only else (m, m, m))).square().sum() for m in moved]
    assert w.grad.item() == pytest.approx(float(values[0] - values[1]) / 2e-3, rel=0.02)


@pytest.mark.parametrize("last_only", [False, True])
def test_a_rollout_trains_the_noise_predictor_by_the_restored_face(batch, last_only):
    expert = WaveFRR.from_config(configured().model)
    nn.init.normal_([p for p in expert.denoiser.parameters() if p.ndim == 4][-1], std=0.1)  # it starts at zero
    X, Y = 2 * batch["retouched"] - 1, 2 * batch["original"] - 1
    noise = torch.randn(expert.low_size(X), generator=generator())
    passed = expert(X, Y, torch.zeros(2), torch.tensor([10, 40]), noise, rollout=[1, 2], last_only=last_only)
    expert_losses(passed, Y)["l1"].backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in expert.denoiser.parameters())
    assert passed.weight.tolist() == [1.0, 1.0]
    if last_only:
        assert torch.allclose(passed.target, expert._low(expert._bands(Y))) and passed.output.requires_grad


def test_a_rollout_trains_the_last_step_of_the_shared_expert(batch):
    expert, trained = SharedExpert.from_config(configured().model), []
    nn.init.normal_([p for p in expert.denoiser.parameters() if p.ndim == 4][-1], std=0.1)  # it starts at zero
    expert.denoiser.register_forward_hook(lambda layer, given, output: trained.append(output.requires_grad))
    X, Y = 2 * batch["retouched"] - 1, 2 * batch["original"] - 1
    passed = expert(X, Y, torch.tensor([10, 40]), torch.randn(X.shape, generator=generator()), rollout=[1, 2])
    assert trained == [False, True]
    assert torch.equal(passed.target, Y) and torch.equal(passed.output, passed.restored)
    assert passed.weight.tolist() == [1.0, 1.0]
    shared_losses(passed, Y)["l1"].backward()
    assert any(p.grad is not None and bool(p.grad.any()) for p in expert.denoiser.parameters())


@pytest.mark.parametrize("share", [0.0, 0.1])
def test_a_tenth_of_the_experts_is_withheld_from_the_combine_module(batch, share, monkeypatch):
    if not share:
        monkeypatch.setattr(stages, "DROP_EXPERTS", 0.0)
    config, drawn, counted = configured(), generator(), []
    gates = torch.tensor([[True, True], [False, True]])
    found = SimpleNamespace(
        X=2 * batch["retouched"] - 1, shared=None, experts={}, gates=gates,
        active=torch.tensor([True, False]),
    )  # fmt: skip
    model = SimpleNamespace(consult=lambda image, seeds, traces: found)

    def combine(X, shared, experts, given):
        assert not (given & ~gates).any()
        counted.append((~given[gates]).float().mean())
        return torch.zeros_like(X)

    for _ in range(150):
        terms = known_stages(config)["combine"].terms(model, combine, batch, drawn)
    assert float(torch.stack(counted).mean()) == pytest.approx(share, abs=0.03 if share else 0)
    Y = 2 * batch["original"] - 1  # the first face is combined, the second one, without an operation, stays
    expected = (Y[0].abs().mean() + (found.X[1] - Y[1]).abs().mean()) / 2
    assert terms["l1"].item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    folder = tmp_path_factory.mktemp("faces")
    noise = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            levels = noise.integers(60, 150, (64, 64, 3), dtype=np.uint8)
            for name, image in (
                ("ori", levels),
                ("Whitening_60", levels + 40),
                ("FaceLifting_60", levels[::-1].copy()),
            ):
                path = folder / name / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pyvips.Image.new_from_array(image).write_to_file(str(path))
    return str(folder)


@pytest.mark.parametrize("stage", ["router", "shared"])
def test_validation_measures_the_moving_average(faces, stage):
    task = StageTask(stage, configured(train__ema=0.9), faces, None)
    task.setup(Runner(cpu=True))
    expected, _ = task.validate()
    with torch.no_grad():
        for parameter in task.part.parameters():
            parameter.fill_(math.nan)
    metrics, _ = task.validate()
    assert metrics == expected and all(math.isfinite(value) for value in metrics.values())


def test_the_moving_average_is_what_is_saved(faces, tmp_path):
    task = StageTask("shared", configured(train__ema=0.9), faces, None)
    task.setup(Runner(cpu=True))
    with torch.no_grad():
        for parameter in task.part.parameters():
            parameter.fill_(math.nan)
    task.save_weights(tmp_path / "weights")
    saved, average = load_file(tmp_path / "weights" / "model.safetensors"), task.ema.module.state_dict()
    assert saved.keys() == average.keys() and all(torch.equal(value, average[name]) for name, value in saved.items())
