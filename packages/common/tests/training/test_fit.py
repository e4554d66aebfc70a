"""The training loop on a network of one layer: what is stepped, kept, validated, resumed and refused."""

import signal
from dataclasses import dataclass, field, replace

import pytest
import torch
from retouch_common.files import exclusive
from retouch_common.training.config import TrainConfig
from retouch_common.training.fit import dry_run, fit
from retouch_common.training.monitor import read_metrics
from retouch_common.training.runner import Runner
from retouch_common.training.task import Task
from torch import nn

QUIET = {"device": "cpu", "report": lambda line: None}


@dataclass(frozen=True, kw_only=True)
class Config:
    train: TrainConfig = field(default_factory=TrainConfig)


class Layer(nn.Linear):
    def save_pretrained(self, folder):
        folder.mkdir(exist_ok=True)
        torch.save(self.state_dict(), folder / "model.pt")


class LineTask(Task):
    """y = 2 x, a little blurred; a second network has a rate of its own and rests in every second step."""

    def build(self):
        self.data = self.validation = [{"x": torch.tensor([float(i)]), "y": torch.tensor([2.0 * i])} for i in range(8)]
        self.model = self.add_network("model", Layer(1, 1))
        self.other = self.add_network("other", Layer(1, 1), lr=0.5)
        self.validated = []

    def training_step(self, step, batches):
        batch = self.to_device(next(batches))
        with self.runner.micro_step(self.model, self.other):
            loss = (self.model(batch["x"] + 0.1 * torch.randn(2, 1)) - batch["y"]).square().mean()
            self.runner.backward(loss + self.other(batch["x"]).square().mean())
        return self.apply_gradients(step, {"loss": loss}, skip=("other",) if step % 2 else ())

    def validate(self):
        self.validated.append(self.averaged)
        return {"val_weight": float(self.averaged.weight.detach())}, []


def task(**changes):
    options = {"steps": 4, "batch_size": 2, "lr": 0.1, "workers": 0, "log_every": 1, "sheet_every": 2, "ema": 0.5}
    return LineTask(Config(train=TrainConfig(**options | changes)))


def test_a_run_leaves_metrics_checkpoints_and_the_averaged_weights(tmp_path):
    run = task()
    assert fit(run, tmp_path, **QUIET) == tmp_path / "weights"
    lines = read_metrics(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in lines if "loss" in line] == [1, 2, 3, 4]
    assert [line["step"] for line in lines if "val_weight" in line] == [2, 4]
    kept = torch.load(tmp_path / "weights" / "model.pt", weights_only=True)
    torch.manual_seed(0)
    assert (kept["weight"] - Layer(1, 1).weight).abs() > 0.05  # four steps of 0.1, averaged
    assert torch.equal(kept["weight"], run.ema.module.weight) and not torch.equal(kept["weight"], run.model.weight)
    assert (tmp_path / "config.yaml").is_file() and (tmp_path / "checkpoints" / "step-00000004").is_dir()


def test_the_configuration_of_a_run_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    fit(task(steps=2), tmp_path, **QUIET)
    before = (tmp_path / "config.yaml").read_bytes()

    def full(temporary, path):
        raise OSError("no space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="no space left"):
        fit(task(), tmp_path, **QUIET)
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_what_is_validated_is_the_moving_average(tmp_path):
    run = task()
    fit(run, tmp_path, **QUIET)
    assert run.validated == [run.ema.module] * 2
    run = task(ema=0.0)
    fit(run, tmp_path / "plain", **QUIET)
    assert run.validated == [run.model] * 2


def test_each_network_is_stepped_at_its_own_rate_unless_it_rests():
    with Runner(cpu=True) as runner:
        run = task(clip=1e9)
        run.setup(runner)
        batches = run.batches(0)
        for step, moves in ((1, False), (2, True)):
            before = {name: network.weight.detach().clone() for name, network in run.networks.items()}
            losses = run.training_step(step, batches)
            moved = {
                name: float((network.weight - before[name]).detach().abs()) for name, network in run.networks.items()
            }
            assert moved["model"] == pytest.approx(0.1, rel=0.1)  # Adam's first steps are as long as its rate
            assert moved["other"] == pytest.approx(0.5 if moves else 0.0, rel=0.01)
            assert "gradient_norm" in losses
            assert all(p.grad is None or not p.grad.any() for net in run.networks.values() for p in net.parameters())


def test_the_average_forgets_as_configured():
    with Runner(cpu=True) as runner:
        run = task(ema=0.05)  # less than the tenth that the first update keeps at most
        run.setup(runner)
        before = run.model.weight.detach().clone()
        run.training_step(1, run.batches(0))
        torch.testing.assert_close(run.ema.module.weight, (0.05 * before + 0.95 * run.model.weight).detach())


def test_gradients_are_clipped_before_the_step():
    with Runner(cpu=True) as runner:
        run, norms = task(clip=0.01), []
        run.setup(runner)
        run.optimizers["model"].optimizer.register_step_pre_hook(
            lambda *_: norms.append(float(sum(p.grad.square().sum() for p in run.model.parameters()) ** 0.5))
        )
        losses = run.training_step(1, run.batches(0))
        assert norms == [pytest.approx(0.01, rel=1e-3)] and losses["gradient_norm"] > 0.1


def test_optimisers_have_their_momentum_and_the_schedule_of_the_run():
    """Four steps, two of warm-up; an optimiser of every second step has taken two of them after one of its own."""
    with Runner(cpu=True) as runner:
        run = task(warmup=2, schedule="cosine", betas=(0.5, 0.75))
        run.setup(runner)
        run.add_network("rare", Layer(1, 1), betas=(0.0, 0.9), every=2)
        rates = {"model": [], "rare": []}
        for name, seen in rates.items():
            for _ in range(4):
                seen.append(run.optimizers[name].param_groups[0]["lr"])
                run.optimizers[name].step()
                run.schedulers[name].step()
        assert rates["model"] == pytest.approx([0.05, 0.1, 0.1, 0.1 * (0.01 + 0.99 / 2)])
        assert rates["rare"] == pytest.approx([0.05, 0.1, 0.001, 0.001])
        assert run.optimizers["model"].param_groups[0]["betas"] == (0.5, 0.75)
        assert run.optimizers["rare"].param_groups[0]["betas"] == (0.0, 0.9)


class RoundsTask(LineTask):
    """Without blur, in rounds of gradient accumulation."""

    def training_step(self, step, batches):
        for _ in range(self.config.train.accumulate):
            batch = self.to_device(next(batches))
            with self.runner.micro_step(self.model):
                loss = (self.model(batch["x"]) - batch["y"]).square().mean()
                self.runner.backward(loss)
        return self.apply_gradients(step, {"loss": loss}, skip=("other",))


def test_gradients_of_the_rounds_are_averaged(tmp_path):
    norms = []
    for accumulate in (1, 4):
        options = {"steps": 1, "batch_size": 4, "accumulate": accumulate, "clip": 1e9, "workers": 0, "log_every": 1}
        fit(RoundsTask(Config(train=TrainConfig(**options))), tmp_path / str(accumulate), **QUIET)
        norms.append(read_metrics(tmp_path / str(accumulate) / "metrics.jsonl")[0]["gradient_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=1e-5)


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path, monkeypatch):
    fit(task(), tmp_path / "whole", **QUIET)
    monkeypatch.setattr(Runner, "stop_requested", lambda self: True)
    said = []
    assert fit(task(), tmp_path / "parts", device="cpu", report=said.append) is None
    assert not (tmp_path / "parts" / "weights").exists()
    monkeypatch.undo()
    fit(task(), tmp_path / "parts", device="cpu", report=said.append)
    assert f"resuming {tmp_path / 'parts'} after step 1, on cpu in fp32" in said
    a, b = (torch.load(tmp_path / run / "weights" / "model.pt", weights_only=True) for run in ("whole", "parts"))
    assert torch.equal(a["weight"], b["weight"]) and torch.equal(a["bias"], b["bias"])


def test_ctrl_c_ends_preparations_at_once_and_training_after_its_step(tmp_path):
    class InterruptedTask(LineTask):
        interrupt_in = "build"

        def build(self):
            super().build()
            if self.interrupt_in == "build":
                signal.raise_signal(signal.SIGINT)

        def training_step(self, step, batches):
            signal.raise_signal(signal.SIGINT)
            return super().training_step(step, batches)

    run = InterruptedTask(task().config)
    with pytest.raises(KeyboardInterrupt):
        fit(run, tmp_path, **QUIET)
    assert not any(tmp_path.iterdir())
    run.interrupt_in = "step"
    assert fit(run, tmp_path, **QUIET) is None
    assert [line["step"] for line in read_metrics(tmp_path / "metrics.jsonl")] == [1]


def test_a_dry_run_takes_its_steps_and_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run, said = task(), []
    run.dry_steps = (2, 3)
    dry_run(run, device="cpu", report=said.append)
    assert said[-1] == "dry run: no run directory was written" and not list(tmp_path.iterdir())
    assert "data: 8 samples for training, 8 for validation" in said and "parameters: 2" in said
    assert run.schedulers["model"].last_epoch == 2


def test_a_dry_run_of_several_processes_is_reported_by_the_main_one():
    class OtherProcess(LineTask):
        def build(self):
            super().build()
            self.runner.is_main = False

    said = []
    dry_run(OtherProcess(task().config), device="cpu", report=said.append)
    assert not said


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize(
    "train", [lambda out: fit(task(), out, device="cuda"), lambda _: dry_run(task(), device="cuda")]
)
def test_cuda_is_refused_where_there_is_none(tmp_path, train):
    with pytest.raises(ValueError, match="'cuda' was asked for, but torch finds no CUDA GPU here; use auto or cpu"):
        train(tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"accumulate": 3}, r"train\.batch_size=8 cannot be split into train\.accumulate=3 rounds"),
        ({"betas": (0.9,)}, r"train\.betas must be two numbers"),
        *(
            ({name: 0}, rf"train\.{name} must be at least 1, not 0")
            for name in ("steps", "batch_size", "accumulate", "log_every", "sheet_every", "checkpoint_every")
        ),
        ({"clip": -1.0}, r"train\.clip must be at least 0, not -1"),  # would reverse the gradients
        ({"warmup": -3}, r"train\.warmup must be at least 0, not -3"),
        ({"workers": -1}, r"train\.workers must be at least 0, not -1"),
    ],
)
def test_options_with_which_nothing_can_be_trained_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        replace(TrainConfig(), **changes)


def run_on(folder, **changes):
    run = task(**changes)
    run.spec = f"faces:{folder}"
    return run


def test_a_run_is_resumed_on_its_own_data_only_wherever_that_lies(tmp_path):
    data, out = tmp_path / "data", tmp_path / "run"
    (data / "set").mkdir(parents=True)
    (data / "set" / "a.png").write_bytes(b"1234")
    fit(run_on(data, steps=2), out, **QUIET)
    (data / "landmarks.npz").write_bytes(b"written between two runs")
    moved = data.rename(tmp_path / "moved, as it is")
    fit(run_on(moved, steps=3), out, **QUIET)
    (moved / "set" / "b.png").write_bytes(b"5678")
    with pytest.raises(ValueError, match="run holds a run on other data"):
        fit(run_on(moved, steps=4), out, **QUIET)


def test_a_run_is_not_recorded_as_shorter_than_it_was(tmp_path):
    fit(task(steps=2), tmp_path, **QUIET)
    before = (tmp_path / "config.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"holds a run of 2 steps, more than train\.steps=1"):
        fit(task(steps=1), tmp_path, **QUIET)
    assert (tmp_path / "config.yaml").read_bytes() == before


def test_a_run_without_a_fingerprint_is_resumed(tmp_path):
    """As a release wrote it that recorded none."""
    data, out = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    (data / "a.png").write_bytes(b"1234")
    fit(task(steps=2), out, **QUIET)
    assert fit(run_on(data, steps=3), out, **QUIET) == out / "weights"


@pytest.mark.parametrize("spec", ["{}", "pairs:{}", "faces:{}", "faces:{other},{}"])
@pytest.mark.parametrize("out", ["data", "data/run", "data/../data/sub/run", "link/run"])
def test_a_run_inside_its_data_is_refused_before_it_begins(tmp_path, spec, out):
    """Its image sheets would become part of the data."""
    data, other = tmp_path / "data", tmp_path / "other, too"
    data.mkdir()
    other.mkdir()
    (tmp_path / "link").symlink_to(data)
    run = task()
    run.spec = spec.format(data, other=other)
    with pytest.raises(ValueError, match=r"is inside the data, .*data, and would become part of it; choose another"):
        fit(run, tmp_path / out, **QUIET)
    assert not any(data.iterdir())
    beside = tmp_path / "data-run"
    assert fit(run, beside, **QUIET) == beside / "weights"


def test_a_run_directory_in_use_is_refused(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    with exclusive(out / ".lock", "the run"), pytest.raises(ValueError, match="run is in use by another process"):
        fit(task(), out, **QUIET)
    assert fit(task(), out, **QUIET) == out / "weights"


@pytest.mark.parametrize("name", ["config.yaml", "metrics.jsonl"])
def test_files_of_no_run_are_not_replaced(tmp_path, name):
    """Checkpoints of another program do not make a folder a run directory."""
    (tmp_path / "checkpoints" / "step-1000").mkdir(parents=True)
    (tmp_path / name).write_text("epochs: 3\n")
    for _ in range(2):
        with pytest.raises(ValueError, match=f"{name}: already exists and belongs to no run; move it, or choose"):
            fit(task(), tmp_path, **QUIET)
    assert (tmp_path / name).read_text() == "epochs: 3\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", name]


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path):
    """Also beside what other commands wrote into its directory."""
    (tmp_path / "stages.jsonl").write_text("{}\n")

    class KilledTask(LineTask):
        def validate(self):
            raise SystemExit

    with pytest.raises(SystemExit):
        fit(KilledTask(task().config), tmp_path, **QUIET)
    assert (tmp_path / "config.yaml").is_file() and len(read_metrics(tmp_path / "metrics.jsonl")) == 2
    assert fit(task(), tmp_path, **QUIET) == tmp_path / "weights"
    assert (tmp_path / "stages.jsonl").read_text() == "{}\n"


def test_a_run_of_a_release_without_locks_is_resumed(tmp_path):
    fit(task(steps=2), tmp_path, **QUIET)
    (tmp_path / ".lock").unlink()
    assert fit(task(), tmp_path, **QUIET) == tmp_path / "weights"
