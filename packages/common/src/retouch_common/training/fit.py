"""The training loop of every paper: build, resume, step, report, validate, checkpoint.

A run directory holds ``config.yaml``, ``metrics.jsonl``, ``sheets/``, ``checkpoints/`` and, when it is finished,
``weights/``. Rerun the same command to resume a run that was stopped or killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from retouch_common.config import dump_yaml
from retouch_common.devices import resolve_device
from retouch_common.files import exclusive, write_atomically
from retouch_common.training.fingerprint import refuse_output_in_data
from retouch_common.training.monitor import Monitor
from retouch_common.training.runner import Runner
from retouch_common.training.task import Task

LOCK = ".lock"  # in every run directory from the start on


def fit(
    task: Task,
    out: str | Path,
    *,
    device: str = "auto",
    tensorboard: bool = False,
    report: Callable[[str], None] = print,
) -> Path | None:
    """Train, or resume the run in ``out``.

    Args:
        task: What is trained, and on what.
        out: Run directory.
        device: "auto", "cpu" or "cuda".
        tensorboard: Also write TensorBoard event files.
        report: Receives lines for the user.

    Returns:
        The folder of the final weights, or None if the run was asked to stop before its end.

    Raises:
        ValueError: Unusable data or configuration, no CUDA device where "cuda" is asked for, or a run directory of
            another configuration, of other data or inside the data, with files of no run, or in use by another process.
        NonFiniteError: Losses, gradients or weights became NaN or infinite; the last good checkpoint stays.
        OSError: Nothing can be written to ``out``; the last good checkpoint stays.
    """
    out, cfg = Path(out), task.config.train
    runner = _runner(task, device)
    refuse_output_in_data(out, task.spec)
    if runner.is_main:
        refuse_foreign_files(out)
    with contextlib.ExitStack() as active:
        task.setup(runner)  # Ctrl-C ends this at once: what was prepared is in caches
        if runner.is_main:
            out.mkdir(parents=True, exist_ok=True)
            active.enter_context(exclusive(out / LOCK, f"the run directory {out}"))
        start_step = task.state.resume(out)
        active.enter_context(runner)
        if runner.is_main:
            begun_with = {} if start_step else task.run_files()
            for name, text in {"config.yaml": dump_yaml(task.config), **begun_with}.items():
                write_atomically(out / name, text.encode())
            begun = f"resuming {out} after step {start_step}" if start_step else f"training {out}: {cfg.steps} steps"
            report(f"{begun}, on {runner.device} in {runner.precision}")
        batches = task.batches(start_step)
        monitor = Monitor(
            out, total_steps=cfg.steps, start_step=start_step, items_per_step=cfg.batch_size, every=cfg.log_every,
            tensorboard=tensorboard, enabled=runner.is_main,
        )  # fmt: skip
        task.state.restore_randomness()  # last before the loop: even imports may draw random numbers
        with monitor:
            for step in range(start_step + 1, cfg.steps + 1):
                losses = task.training_step(step, batches)
                monitor.step(step, losses)
                stop = runner.stop_requested()
                if step % cfg.sheet_every == 0 or step == cfg.steps:
                    task.state.check_state(step)
                    metrics, rows = task.validate()
                    monitor.log(step, metrics)
                    if rows:
                        monitor.sheet(step, rows)
                    monitor.message(f"step {step}: {task.summarize(metrics)}")
                if step % cfg.checkpoint_every == 0 or step == cfg.steps or stop:
                    monitor.flush(step)
                    task.state.save(out, step)
                if stop and step < cfg.steps:
                    monitor.message(f"stopped after step {step}; rerun the same command to resume")
                    return None
        runner.wait()
        if runner.is_main:
            task.save_weights(out / "weights")
            report(f"wrote {out / 'weights'}")
        runner.wait()  # a later stage may begin with these weights
    return out / "weights"


def dry_run(task: Task, *, device: str = "auto", report: Callable[[str], None] = print) -> None:
    """Build everything and take the steps ``task.dry_steps`` in memory; write no run directory."""
    with _runner(task, device) as runner:
        task.setup(runner)
        first, last = task.dry_steps
        batches = task.batches(first - 1)
        losses: dict[str, Tensor] = {}
        for step in range(first, last + 1):
            losses |= task.training_step(step, batches)
        if not runner.is_main:
            return
        report(dump_yaml(task.config).rstrip())
        report(f"data: {task.describe_data()}")
        report(f"parameters: {sum(p.numel() for p in task.networks[task.kept].parameters()):,}")
        report(f"device: {runner.device}, {runner.num_processes} process(es), {runner.precision}")
        report("losses: " + ", ".join(f"{name} {float(value):.4g}" for name, value in losses.items()))
        report("dry run: no run directory was written")


def refuse_foreign_files(out: Path) -> None:
    """Refuse to replace files in a folder that is no run directory: one without a lock and without a checkpoint.

    Raises:
        ValueError: The folder holds such a file.
    """
    if (out / LOCK).exists() or any((out / "checkpoints").glob("step-*/manifest.json")):
        return
    for name in ("config.yaml", "metrics.jsonl"):
        if (out / name).exists():
            raise ValueError(f"{out / name}: already exists and belongs to no run; move it, or choose another --out")


def _runner(task: Task, device: str) -> Runner:
    cfg = task.config.train
    resolve_device(device)  # refuses "cuda" without CUDA
    return Runner(
        precision=cfg.precision,
        accumulate=cfg.accumulate,
        cpu=device == "cpu",
        find_unused_parameters=task.find_unused_parameters,
    )
