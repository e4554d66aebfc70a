"""The training loop on pairs of a few pixels: configurations, limited pairs, overfitting, resuming, refusals."""

import json

import numpy as np
import pytest
import pyvips
import torch
from bpfre.cli import train as command
from bpfre.config import PRESETS
from bpfre.data import open_face_pairs
from bpfre.model import BPFRe
from bpfre.train import RetouchingTask, split, train
from retouch_common.config import apply_overrides
from retouch_common.testing.training_runs import assert_infinite_rate_is_survived
from retouch_common.training.fit import dry_run
from retouch_common.training.runner import Runner

QUIET = {"device": "cpu", "report": lambda line: None}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Smooth images with dark spots, and without them."""
    folder = tmp_path_factory.mktemp("pairs")
    generator = np.random.default_rng(0)
    for name in ("raw", "target"):
        (folder / name).mkdir()
    y, x = np.mgrid[:64, :64]
    for number in range(9):  # one is held out for validation
        a, b, c = generator.uniform(60, 190, 3)
        target = np.stack([a + 0.5 * x, b + 0.4 * y, c + 0 * x], axis=-1)
        raw = target.copy()
        for cy, cx in generator.integers(8, 56, (4, 2)):
            raw[np.hypot(y - cy, x - cx) < 4] *= 0.5
        for name, pixels in (("raw", raw), ("target", target)):
            levels = pixels.clip(0, 255).astype(np.uint8)
            pyvips.Image.new_from_array(levels).write_to_file(str(folder / name / f"{number}.png"))
    return str(folder)


def configured(**changes):
    overrides = {"train.steps": 2, **{name.replace("__", "."): value for name, value in changes.items()}}
    return apply_overrides(PRESETS["tiny"], overrides)


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"model__decoder": False},
        {"model__generator": False},
        {"model__attention": False},
        {"model__residual": "none", "model__detach_coarse": True, "loss__saturating": True},
        {"train__paired_fraction": 0.3, "train__unpaired_every": 2},
        {"train__accumulate": 2, "train__batch_size": 4, "loss__emphasis": 3.0, "loss__difference": "raw"},
        {"train__precision": "bf16", "train__channels_last": True, "model__patch": 2, "model__norm": "none"},
        {"loss__adversarial": 0.0, "loss__identity": 0.0},
    ],
    ids=lambda changes: ",".join(f"{name}={value}" for name, value in changes.items()) or "tiny",
)
def test_every_configuration_takes_steps(pairs, tmp_path, changes):
    weights = train(configured(**changes), pairs, tmp_path / "run", **QUIET)
    lines = metrics(tmp_path / "run")
    assert all(np.isfinite(line["loss"]) for line in lines if "loss" in line)
    assert ("discriminator" in lines[1]) == (changes.get("loss__adversarial") != 0)
    model = BPFRe.from_pretrained(weights)
    assert model.config == configured(**changes).model
    validated = next(line for line in lines if "val_psnr_identity" in line)
    assert ("val_psnr_refined" in validated) == model.config.generator
    assert ("val_psnr_coarse" in validated) == model.config.decoder
    assert list((tmp_path / "run" / "sheets").glob("*.png"))


def test_the_ablation_without_a_generator_plays_too(pairs, tmp_path):
    train(configured(model__generator=False), pairs, tmp_path / "run", **QUIET)
    assert "adversarial" in metrics(tmp_path / "run")[0]


def test_unpaired_images_take_part_when_they_should(pairs, tmp_path):
    config = configured(train__paired_fraction=0.375, train__unpaired_every=2, train__steps=4)
    train(config, pairs, tmp_path / "run", **QUIET)
    steps = {line["step"]: line for line in metrics(tmp_path / "run") if "loss" in line}
    assert [("identity" in steps[step], "discriminator" in steps[step]) for step in (1, 2, 3, 4)] == [
        (False, False),
        (True, True),
    ] * 2
    lists = json.loads((tmp_path / "run" / "lists.json").read_text())
    assert len(lists["paired"]) == 3 and len(lists["raw"]) == 5 and not set(lists["paired"]) & set(lists["raw"])


def test_every_parameter_gets_a_gradient_from_the_total_objective(pairs):
    config = configured(loss__r1_every=1)
    with Runner(cpu=True) as runner:
        run = RetouchingTask(config, pairs)
        run.setup(runner)
        seen = {}
        for name, optimizer in run.optimizers.items():
            network = run.model if name == "model" else run.discriminator
            names = {id(p): f"{name}: {key}" for key, p in network.named_parameters()}

            def record(optimizer, args, kwargs, names=names):
                for p in (p for group in optimizer.param_groups for p in group["params"]):
                    seen[names[id(p)]] = p.grad is not None and bool(p.grad.isfinite().all() and p.grad.any())

            getattr(optimizer, "optimizer", optimizer).register_step_pre_hook(record)
        run.training_step(1, run.batches(0))
    total = sum(1 for network in (run.model, run.discriminator) for _ in network.parameters())
    assert len(seen) == total
    assert [name for name, reached in seen.items() if not reached] == []


def test_overfits_eight_pairs(pairs, tmp_path):
    """Stage two beats stage one beats the identity, on the pairs it was trained with."""
    config = configured(
        model__size=32, model__norm="none", train__steps=90, train__batch_size=4, train__ema=0.0,
        train__sheet_every=90, train__checkpoint_every=90, train__schedule="cosine", train__unpaired_every=90,
        loss__adversarial=0.0, loss__identity=0.0, loss__emphasis=5.0,
    )  # fmt: skip
    weights = train(config, pairs, tmp_path / "run", **QUIET)
    model = BPFRe.from_pretrained(weights)
    data = open_face_pairs(pairs, size=32, split="train", seed=0)
    data.augment = False
    samples = [data[index] for index in range(8)]
    raw, target = (torch.stack([sample[name] for sample in samples]) for name in ("raw", "target"))
    with torch.no_grad():
        output = model(raw)
    errors = [(image - target).square().mean().item() for image in (raw, output.coarse, output.refined)]
    assert errors[2] < errors[1] < 0.5 * errors[0]


def test_split_keeps_the_order():
    model = BPFRe.from_preset("tiny").eval()
    with torch.no_grad():
        whole = model(torch.rand(3, 3, 64, 64))
        first, rest = split(whole, 2)
    assert torch.equal(torch.cat([first.refined, rest.refined]), whole.refined)
    assert [M.shape[0] for M in first.attention_refined] == [2] * 4 and rest.coarse.shape[0] == 1


def test_a_stopped_run_continues_with_the_same_numbers(pairs, tmp_path):
    whole = configured(train__steps=4, train__paired_fraction=0.5, train__unpaired_every=2)
    half = apply_overrides(whole, {"train.steps": 2})
    first = train(whole, pairs, tmp_path / "whole", **QUIET)
    train(half, pairs, tmp_path / "halves", **QUIET)
    second = train(whole, pairs, tmp_path / "halves", **QUIET)
    a, b = BPFRe.from_pretrained(first).state_dict(), BPFRe.from_pretrained(second).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_another_configuration_does_not_continue_a_run(pairs, tmp_path):
    train(configured(train__steps=1), pairs, tmp_path / "run", **QUIET)
    with pytest.raises(ValueError, match=r"train\.paired_fraction=1\.0, not 0\.5"):
        train(configured(train__paired_fraction=0.5), pairs, tmp_path / "run", **QUIET)


def test_training_on_needs_the_same_network(pairs, tmp_path):
    weights = train(configured(train__steps=1), pairs, tmp_path / "run", **QUIET)
    train(configured(train__steps=1, train__init=str(weights)), pairs, tmp_path / "on", **QUIET)
    with pytest.raises(ValueError, match="another model configuration"):
        other = configured(train__init=str(weights), model__attention=False)
        train(other, "faces:missing", tmp_path / "other", **QUIET)  # refused before the data are opened


def test_a_dry_run_writes_nothing(pairs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = []
    dry_run(RetouchingTask(configured(train__paired_fraction=0.5), pairs), device="cpu", report=lines.append)
    assert list(tmp_path.iterdir()) == []
    assert any(line.startswith("data: 4 pairs, 4 images in each unpaired stream") for line in lines)


def test_the_gradient_penalty_is_computed_in_full_precision(pairs):
    config = configured(train__precision="bf16", loss__r1_every=1)
    with Runner(cpu=True, precision="bf16") as runner:
        run = RetouchingTask(config, pairs)
        run.setup(runner)
        image = torch.rand(2, 3, 64, 64)
        alone = runner.forward_unsynced(run.discriminator, image)
        with runner.autocast():
            wrapped = run.discriminator(image)
        assert alone.dtype == torch.float32 and not torch.equal(alone, wrapped.float())
        assert "r1" in run.training_step(1, run.batches(0))


def test_an_infinite_learning_rate_leaves_no_broken_weights(pairs, tmp_path):
    arguments = ["--preset", "tiny", "--data", pairs, "--out", tmp_path / "run"]
    assert_infinite_rate_is_survived(command, arguments, tmp_path / "run")
