"""Training in stages: order, refusals, killed runs, and that every stage learns."""

import json
import shutil

import numpy as np
import pytest
import pyvips
import torch
from click.testing import CliRunner
from mofrr import model as model_module
from mofrr import train as train_module
from mofrr.baselines import BASELINES
from mofrr.cli import train as command
from mofrr.config import PRESETS, SINGLE, stage_presets
from mofrr.efficientnet import EfficientNetLite0
from mofrr.losses import weighted_sum
from mofrr.model import MoFRR
from mofrr.stages import known_stages, stages_of
from mofrr.train import dry_run, initial_network, load_parts, stage_task
from mofrr.train import train as train_stages
from retouch_common.cli.training import STOPPED, chosen_configuration
from retouch_common.config import apply_overrides
from retouch_common.testing.training_runs import assert_infinite_rate_is_survived
from retouch_common.training.monitor import read_metrics
from retouch_common.training.runner import Runner
from safetensors.torch import load_file

OPERATIONS = ["white", "lift"]


def train(config, data, out, stages=None, **options):
    """Train stages, by default all, with one configuration."""
    names = stages or names_of(stages_of(config))
    return train_stages(dict.fromkeys(names, config), data, out, **options)


def configured(**changes):
    overrides = {"model.operations": OPERATIONS, "train.steps": 2, "train.batch_size": 2, "train.sheet_every": 2}
    return apply_overrides(PRESETS["tiny"], overrides | {k.replace("__", "."): v for k, v in changes.items()})


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Twelve smooth pictures; whitened ones are lighter, lifted ones shifted."""
    folder = tmp_path_factory.mktemp("faces")
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:64, :64] / 64
    for split, numbers in (("train", range(8)), ("val", range(8, 12))):
        for number in numbers:
            phase = generator.uniform(0, 6, 3)
            image = 0.5 + 0.3 * np.sin(6 * x[..., None] + 4 * y[..., None] + phase)
            strength = generator.uniform(0.05, 0.2)
            changed = {"ori": image, "Whitening_60": image + strength, "FaceLifting_60": np.roll(image, 3, axis=1)}
            for name, picture in changed.items():
                path = folder / name / split / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                levels = (255 * picture.clip(0, 1)).astype(np.uint8)
                pyvips.Image.new_from_array(levels).write_to_file(str(path))
    return str(folder)


@pytest.fixture(scope="module")
def full(faces, tmp_path_factory):
    """A run of all stages, two steps each. Not to be modified: parts are copied from it."""
    out = tmp_path_factory.mktemp("full")
    assert train(configured(), faces, out, device="cpu", report=print) == out / "weights"
    return out


def copy_parts(run, out, *names, to=""):
    """Copy finished stages of a run into another one; one of them under the name ``to``."""
    for name in names:
        shutil.copytree(run / name, out / (to or name))


def names_of(stages):
    return [stage.name for stage in stages]


def built(name, config, data, out=None):
    """A stage's task, ready for a step."""
    task = stage_task(name, config, data, out)
    task.setup(Runner(cpu=True))
    return task


def test_stages_of_a_configuration():
    names = ["router", "degree-white", "degree-lift", "expert-white", "expert-lift", "shared", "combine"]
    config = configured()
    assert names_of(stages_of(config)) == names
    known = known_stages(config)
    assert list(known) == [*names, *(f"baseline-{name}" for name in BASELINES)]
    assert names_of(known["combine"].needs()) == names[:-1]
    assert names_of(known["expert-lift"].needs()) == ["degree-lift"] and not known["router"].needs()
    assert names_of(known["degree-lift"].needs()) == ["router"]
    assert [known[name].faces for name in ("router", "degree-white", "expert-lift", "shared", "baseline-unet")] == [
        "every",
        "single",
        "single",
        "mixed",
        "mixed",
    ]
    single = known_stages(apply_overrides(PRESETS["tiny"], SINGLE))["expert-all"]
    assert names_of(stages_of(single.config)) == ["expert-all"] and single.faces == "mixed" and not single.needs()


def test_the_papers_stages():
    """Estimators of their own backbone need no router; the shared expert sees faces with several operations."""
    paper, recommended = (known_stages(PRESETS[name]) for name in ("paper", "recommended"))
    assert not paper["degree-white"].needs() and names_of(recommended["degree-white"].needs()) == ["router"]
    assert paper["shared"].faces == "multi" and recommended["shared"].faces == "mixed"
    terms = {"class": torch.tensor(2.0), "order": torch.tensor(3.0)}
    assert [weighted_sum(terms, PRESETS[name].loss).item() for name in ("paper", "recommended")] == [2.0, 5.0]


def test_all_stages_make_a_network(full):
    model = MoFRR.from_pretrained(full / "weights")
    assert model.restore(torch.rand(1, 3, 64, 64), experts=["white"]).result.shape == (1, 3, 64, 64)
    for name in names_of(stages_of(configured())):
        lines = read_metrics(full / name / "metrics.jsonl")
        assert any("loss" in line for line in lines) and any(
            key.startswith("val_") for line in lines for key in line
        ), name
        assert (full / name / "sheets" / "step-00000002.png").is_file() == (
            name.partition("-")[0] not in ("router", "degree")
        )
    edges = json.loads((full / "degree-white" / "degrees.json").read_text())
    assert edges == sorted(edges) and len(edges) == 4 and not (full / "expert-white" / "degrees.json").exists()
    stated = json.loads(model.metadata["degree_edges"])
    assert stated["white"] == edges and sorted(stated) == sorted(OPERATIONS)


def test_a_stage_needs_what_comes_before(faces, tmp_path):
    with pytest.raises(
        ValueError, match=r"degree-white must be trained first \(mofrr-train degree --operation white\)"
    ):
        train(configured(), faces, tmp_path, stages=["expert-white"], device="cpu", report=print)
    assert not (tmp_path / "expert-white").exists()
    with pytest.raises(ValueError, match="router must be trained first"):
        train(configured(), faces, tmp_path, stages=["combine"], device="cpu", report=print)


def test_weights_of_another_origin_are_not_replaced(faces, full, tmp_path):
    """With a stage of the run beside them they are the run's, and made anew with it."""
    shutil.copytree(full / "weights", tmp_path / "weights")
    file = tmp_path / "weights" / "model.safetensors"
    before, config = file.stat().st_mtime_ns, configured(model__shared=False, train__steps=1, train__init=str(full))
    with pytest.raises(ValueError, match="holds weights but no stage that they were made of; move them, or choose"):
        train(config, faces, tmp_path, stages=["combine"], device="cpu", report=print)
    assert [path.name for path in tmp_path.iterdir()] == ["weights"] and file.stat().st_mtime_ns == before
    copy_parts(full, tmp_path, "router")
    assert train(config, faces, tmp_path, stages=["combine"], device="cpu", report=print) == tmp_path / "weights"
    assert file.stat().st_mtime_ns > before


def test_a_stop_in_the_last_step_of_a_stage_ends_the_run(faces, tmp_path, monkeypatch):
    monkeypatch.setattr(Runner, "stop_requested", lambda self: True)
    assert train(configured(train__steps=1), faces, tmp_path, device="cpu", report=print) is None
    assert [folder.name for folder in tmp_path.iterdir()] == ["router"] and (tmp_path / "router" / "weights").is_dir()


def test_a_finished_stage_is_left_alone_and_what_is_missing_said(faces, full, tmp_path):
    said = []
    copy_parts(full, tmp_path, "router")
    weights = tmp_path / "router" / "weights" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert train(configured(), faces, tmp_path, stages=["router"], device="cpu", report=said.append) is None
    assert weights.stat().st_mtime_ns == before
    assert any("router is finished" in line for line in said)
    assert any("not trained yet: degree-white" in line for line in said)


def test_a_new_operation_is_trained_without_the_others(faces, full, tmp_path, monkeypatch):
    """The guide's steps: add an operation to trained weights, train what is its own."""
    monkeypatch.setattr(model_module, "THRESHOLD", 0.0)  # an untrained router finds nothing for a slot to learn from
    model = MoFRR.from_pretrained(full / "weights")
    model.add_operation("lip_plumping")
    model.save_pretrained(tmp_path / "start")
    old = {name: value.clone() for name, value in model.state_dict().items()}

    shutil.copytree(faces, tmp_path / "faces")
    shutil.copytree(tmp_path / "faces" / "Whitening_60", tmp_path / "faces" / "LipPlumping_60")
    options = {"model__operations": [*OPERATIONS, "lip_plumping"], "train__init": str(tmp_path / "start")}
    config = configured(train__only="lip_plumping", train__ema=0.0, **options)
    assert names_of(stages_of(config)) == ["router", "degree-lip_plumping", "expert-lip_plumping", "combine"]
    weights = train(config, str(tmp_path / "faces"), tmp_path / "after", device="cpu", report=print)
    new = MoFRR.from_pretrained(weights).state_dict()
    changed = {name for name in new if not torch.equal(new[name], old[name])}
    assert changed and all("lip_plumping" in name.split(".") for name in changed)
    for part in ("router.heads", "estimators", "experts", "combine.slots"):
        assert any(name.startswith(f"{part}.lip_plumping.") for name in changed), part
    with pytest.raises(ValueError, match="needs the rest of the network"):
        configured(train__only="white")
    with pytest.raises(ValueError, match="is none of"):
        configured(train__only="lip_plumping", train__init="small")


def test_parts_of_another_model_are_refused(faces, full, tmp_path):
    copy_parts(full, tmp_path, "router", "degree-white")
    with pytest.raises(ValueError, match="degree-white was trained with another model configuration"):
        other = configured(model__backbone_size=32)
        train(other, faces, tmp_path, stages=["expert-white"], device="cpu", report=print)


def same(state, other, prefix):
    """Whether all tensors of a part are the same, and there are some."""
    names = [name for name in state if name.startswith(f"{prefix}.")]
    return bool(names) and all(torch.equal(state[name], other[name]) for name in names)


def test_table_4_without_the_shared_expert_is_trained_from_the_full_network(faces, full, tmp_path):
    """Only the Combine Module is trained; everything else is the full network's."""
    said, before = [], MoFRR.from_pretrained(full / "weights").state_dict()
    config = configured(model__shared=False, train__steps=1, train__init=str(full))
    weights = train(config, faces, tmp_path, stages=["combine"], device="cpu", report=said.append)
    model = MoFRR.from_pretrained(weights)
    state = model.state_dict()
    assert model.shared is None and not any(name.startswith("combine.shared") for name in state)
    assert all(same(state, before, part) for part in ("router", "estimators", "experts"))
    assert any(line.startswith(f"taken from {full}: router, degree-white, degree-lift, expert-white") for line in said)
    start, _, _ = initial_network(config)
    assert same(start.state_dict(), before, "combine.down")  # it goes on from the full one, without a slot


def test_table_4_without_idem_trains_experts_and_combine_only(faces, full, tmp_path, caplog):
    before = MoFRR.from_pretrained(full / "weights").state_dict()
    config = configured(model__idem=False, train__steps=1, train__init=str(full))
    stages = ["expert-white", "expert-lift", "combine"]
    state = MoFRR.from_pretrained(
        train(config, faces, tmp_path, stages=stages, device="cpu", report=print)
    ).state_dict()
    assert all(same(state, before, part) for part in ("router", "estimators", "shared"))
    assert not any(".idem." in name for name in state)
    assert "has no expert-white that fits" in caplog.text and "has no router" not in caplog.text
    start, _, _ = initial_network(config)  # fine-tuned: only what multiplies R^ is missing
    name = "experts.white.denoiser.first.weight"
    expected = torch.cat([before[name][:, :6], before[name][:, 9:]], dim=1)
    assert torch.equal(start.state_dict()[name], expected)
    assert same(start.state_dict(), before, "shared.denoiser")


def test_finished_stages_are_reused_where_what_they_depend_on_is_the_same(faces, full, tmp_path):
    copy_parts(full, tmp_path, "router", "degree-white", "shared")
    other = configured(model__idem=False, train__steps=1)
    train(other, faces, tmp_path, stages=["expert-white"], device="cpu", report=print)
    assert (tmp_path / "expert-white" / "weights").is_dir()
    copy_parts(full, tmp_path, "expert-lift", "degree-lift")
    with pytest.raises(ValueError, match="expert-lift was trained with another model configuration"):
        train(other, faces, tmp_path, stages=["combine"], device="cpu", report=print)


def test_initial_weights_of_which_nothing_fits_are_refused(faces, full, tmp_path):
    config = configured(model__size=128, train__init=str(full))
    with pytest.raises(ValueError, match="was trained with another model configuration"):
        train(config, faces, tmp_path, stages=["router"], device="cpu", report=print)


def test_an_estimator_that_initial_weights_have_keeps_its_backbone(faces, full):
    run = built("degree-lift", configured(train__init=str(full)), faces, full)
    own = MoFRR.from_pretrained(full / "weights").estimators["lift"].state_dict()
    assert all(torch.equal(value, own[name]) for name, value in run.part.state_dict().items())


def test_a_run_without_all_stages_is_a_start(full, tmp_path):
    """A backbone's tensors that fit are taken into another one; finished parts of the same kind as they are."""
    first, second = tmp_path / "first", tmp_path / "second"
    copy_parts(full, first, "degree-white")
    model, reused, _ = initial_network(configured(model__router=False, train__init=str(first)))
    assert reused == ["degree-white"]
    trained = load_file(first / "degree-white" / "weights" / "model.safetensors")
    assert all(torch.equal(value, trained[name]) for name, value in model.estimators["white"].state_dict().items())
    copy_parts(full, second, "router")
    other = apply_overrides(
        configured(train__init=str(second)),
        {"model.backbone": "subbands-traces-imagenet", "model.backbone_size": 128, "model.size": 128},
    )
    model, reused, given = initial_network(other)
    trained = load_file(second / "router" / "weights" / "model.safetensors")
    name = "backbone.network.first.0.weight"
    assert reused == [] and torch.equal(model.router.state_dict()[name], trained[name])
    assert given and all(name.startswith("router.") for name in given)  # the other parts were never trained


def test_tensors_that_initial_weights_have_are_not_initialised_anew(faces, tmp_path, monkeypatch):
    """The router has another head, the estimator another size: neither fits as a whole."""
    monkeypatch.setattr(
        EfficientNetLite0, "load_imagenet", lambda self: pytest.fail("ImageNet's weights replaced them")
    )
    pretrained = {"model__backbone": "subbands-traces-imagenet", "model__backbone_size": 128, "model__size": 128}
    for stage, part, before, changes in (
        ("router", "router.backbone.pretrained", pretrained, {**pretrained, "model__operations": ["white"]}),
        ("degree-lift", "estimators.lift.backbone", {}, {"model__backbone_size": 32}),
    ):
        start = MoFRR(configured(**before).model)
        start.save_pretrained(tmp_path / stage)
        run = built(stage, configured(**changes, train__init=str(tmp_path / stage)), faces)
        assert same(run.model.state_dict(), start.state_dict(), part)


@pytest.mark.parametrize("stage", ["router", "shared"])
def test_goes_on_as_if_it_had_never_stopped(faces, tmp_path, stage):
    changes = {"train__checkpoint_every": 2, "train__sheet_every": 4, "model__router": stage == "router"}
    whole = configured(train__steps=4, **changes)
    train(whole, faces, tmp_path / "whole", stages=[stage], device="cpu", report=print)
    train(configured(train__steps=2, **changes), faces, tmp_path / "parts", stages=[stage], device="cpu", report=print)
    (tmp_path / "parts" / stage / "weights" / "model.safetensors").unlink()  # as if it had been killed at step 2
    train(whole, faces, tmp_path / "parts", stages=[stage], device="cpu", report=print)
    a, b = ((tmp_path / run / stage / "weights" / "model.safetensors").read_bytes() for run in ("whole", "parts"))
    assert a == b


def test_a_part_that_was_trained_beside_another_one_is_warned_of(full, tmp_path, caplog):
    config = configured()
    copy_parts(full, tmp_path, "router", "degree-white", "expert-white")
    expert = [known_stages(config)["expert-white"]]
    load_parts(MoFRR(config.model), expert, tmp_path)
    assert "was trained with another degree" not in caplog.text
    shutil.rmtree(tmp_path / "degree-white")
    copy_parts(full, tmp_path, "degree-lift", to="degree-white")
    warning = "expert-white was trained with another degree-white"
    load_parts(MoFRR(config.model), expert, tmp_path)
    assert caplog.text.count(warning) == 1
    record = tmp_path / "expert-white" / "trained_beside.json"
    record.rename(tmp_path / "expert-white" / "weights" / record.name)  # where development versions wrote it
    load_parts(MoFRR(config.model), expert, tmp_path)
    assert caplog.text.count(warning) == 2


def test_a_stage_that_is_resumed_with_another_part_is_warned_of(faces, full, tmp_path, caplog, monkeypatch):
    """Also once it is finished: the part it needs is not the one that it was begun with."""
    config = configured()
    copy_parts(full, tmp_path, "router", "degree-white")
    with monkeypatch.context() as patched:
        patched.setattr(Runner, "stop_requested", lambda runner: True)
        assert train(config, faces, tmp_path, stages=["expert-white"], device="cpu", report=print) is None
    shutil.rmtree(tmp_path / "degree-white")
    copy_parts(full, tmp_path, "degree-lift", to="degree-white")
    warning = "expert-white was trained with another degree-white"
    assert warning not in caplog.text
    train(config, faces, tmp_path, stages=["expert-white"], device="cpu", report=print)
    assert caplog.text.count(warning) == 1
    load_parts(MoFRR(config.model), [known_stages(config)["expert-white"]], tmp_path)
    assert caplog.text.count(warning) == 2


def test_full_rollout(faces, tmp_path):
    config = configured(loss__rollout="full", model__degree=False)
    train(config, faces, tmp_path, stages=["expert-lift"], device="cpu", report=print)
    assert (tmp_path / "expert-lift" / "weights").is_dir()


def test_an_expert_learns_to_darken(faces, tmp_path):
    config = configured(train__steps=20, model__degree=False, train__sheet_every=20)
    train(config, faces, tmp_path, stages=["expert-white"], device="cpu", report=print)
    last = [line for line in read_metrics(tmp_path / "expert-white" / "metrics.jsonl") if "val_psnr_output" in line][-1]
    assert last["val_psnr_output"] > last["val_psnr_identity"] + 1


def test_the_command(faces, tmp_path, monkeypatch):
    options = ["--preset", "tiny", "--data", faces, "--out", str(tmp_path / "run"), "--device", "cpu"]
    options += ["--set", "model.operations=[white,lift]", "--set", "train.batch_size=2", "--steps", "1"]
    run = CliRunner()
    shown = run.invoke(command, ["degree", "--operation", "white", "--dry-run", *options])
    assert shown.exit_code == 0, shown.output
    assert "dry run: no run directory was written" in shown.output and not (tmp_path / "run").exists()
    with monkeypatch.context() as patched:
        patched.setattr(Runner, "stop_requested", lambda runner: True)
        assert run.invoke(command, ["router", *options, "--steps", "2"]).exit_code == STOPPED
    shutil.rmtree(tmp_path / "run")
    for stage in (["router"], ["degree", "--operation", "white"]):
        assert run.invoke(command, [*stage, *options]).exit_code == 0
    assert (tmp_path / "run" / "degree-white" / "weights").is_dir()
    refused = run.invoke(command, ["router", "--operation", "white", *options])
    assert refused.exit_code == 1 and "Error: --operation is for degree, expert and baseline" in refused.output
    refused = run.invoke(command, ["expert", "--operation", "nose", *options])
    assert refused.exit_code == 1 and "Error: no such stage" in refused.output


def test_a_dry_run_needs_no_other_stage_and_writes_nothing(faces, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = []
    dry_run(configured(), faces, stage="combine", device="cpu", report=said.append)
    (losses,) = [line.removeprefix("losses: ").split(", ") for line in said if line.startswith("losses: ")]
    values = {name: float(value) for name, value in (loss.split() for loss in losses)}
    assert set(values) == {"l1", "ssim", "loss"} and all(np.isfinite(value) for value in values.values())
    assert values["loss"] == pytest.approx(values["l1"] + values["ssim"], rel=1e-3) and values["l1"] > 0
    assert said[-1] == "dry run: no run directory was written" and not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["router", "shared"])
def test_an_infinite_learning_rate_leaves_no_broken_weights(faces, tmp_path, stage):
    arguments = [stage, "--preset", "tiny", "--data", faces, "--out", tmp_path, "--set", "train.batch_size=2"]
    arguments += ["--set", "model.operations=[white, lift]"]
    assert_infinite_rate_is_survived(command, arguments, tmp_path / stage)


def test_the_router_is_calibrated_on_people_it_did_not_see(faces, tmp_path):
    """Of faces without an operation hardly any are taken for faces with it, however eager the router was."""
    run = built("router", configured(), faces)
    part = run.averaged.eval()
    for head in part.heads.values():
        torch.nn.init.constant_(head.answer.bias, 5.0)
    run.calibrate()
    batches = run.validation_batches(run.stage.calibration_batches)
    with torch.no_grad():
        found = torch.cat([part(batch["retouched"], batch["traces"]) for batch in batches]) > 1e-4  # rounding
    applied = torch.cat([batch["applied"] for batch in batches]) > 0
    assert all(found[~applied[:, column], column].float().mean() <= 0.05 for column in range(2))
    kept = [head.answer.bias.clone() for head in part.heads.values()]
    run.stage.config = configured(train__only="lift", train__init="x")
    torch.nn.init.constant_(part.heads["lift"].answer.bias, 5.0)
    torch.nn.init.constant_(part.heads["white"].answer.bias, 5.0)
    run.calibrate()
    assert part.heads["white"].answer.bias == 5.0 and torch.allclose(part.heads["lift"].answer.bias, kept[1])


def test_kinds_of_stages_have_recipes_of_their_own():
    """A recipe changes its preset's loss and training only, and what the user sets wins over it."""
    for kind in ("router", "degree", "expert", "shared", "combine"):
        changed, plain = stage_presets(kind)["small"], PRESETS["small"]
        assert changed.model == plain.model and changed != plain
    assert stage_presets("expert")["small"].train.steps != stage_presets("degree")["small"].train.steps
    assert stage_presets("router")["paper"] == PRESETS["paper"]
    weights = {stage_presets(kind)["small"].loss.ssim for kind in ("expert-white", "combine", "baseline-unet")}
    assert weights == {0.3}  # the baselines of Tables 2 and 3 are measured by the same PSNR
    chosen = chosen_configuration(stage_presets("router"), "small", None, ("train.lr=0.5",), steps=7)
    assert (chosen.train.lr, chosen.train.steps, chosen.train.batch_size) == (0.5, 7, 16)


def test_a_section_given_by_set_keeps_the_rest_of_it_in_the_file(tmp_path):
    file = tmp_path / "options.yaml"
    file.write_text("train: {lr: 0.5, seed: 3}")
    chosen = chosen_configuration(PRESETS, "small", file, ("train={lr: 0.25}",))
    assert (chosen.train.lr, chosen.train.seed) == (0.25, 3)


def test_the_command_trains_every_stage_by_its_own_recipe(tmp_path, monkeypatch):
    taken = {}
    monkeypatch.setattr(train_module, "train", lambda configs, *_, **__: taken.update(configs))
    options = ["--preset", "small", "--data", "faces:none", "--out", str(tmp_path)]
    for stage in (["all"], ["baseline", "--operation", "pix2pix"]):
        assert CliRunner().invoke(command, [*stage, *options]).exit_code == STOPPED
    assert {name: (config.train.steps, config.train.lr) for name, config in taken.items() if "-" not in name} == {
        "router": (1500, 5e-4), "shared": (1200, 1e-3), "combine": (150, 1e-3),
    }  # fmt: skip
    assert (taken["expert-lift"].train.steps, taken["baseline-pix2pix"].train.lr) == (500, 2e-4)
    refused = CliRunner().invoke(command, ["baseline", "--init", "small", *options])
    assert refused.exit_code == 1 and "baselines start at random" in refused.output


def test_a_degree_estimator_begins_with_the_routers_backbone(faces, full, tmp_path):
    copy_parts(full, tmp_path, "router")
    run = built("degree-lift", configured(), faces, tmp_path)
    own = run.part.backbone.state_dict()
    assert all(torch.equal(value, own[name]) for name, value in run.model.router.backbone.state_dict().items())
