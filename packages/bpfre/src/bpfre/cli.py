"""The commands ``bpfre-train``, ``bpfre-retouch``, ``bpfre-inpaint``, ``bpfre-evaluate`` and ``bpfre-export``.

Each parses its options and calls the module of the same concept; heavy imports wait until a command runs.
"""

from pathlib import Path

import click
from retouch_common.cli import device_option, friendly_errors, set_option, version_option, weights_option


@click.command()
@click.option("--preset", default="recommended", show_default=True, help="paper, recommended, small or tiny.")
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="Folder with raw/ and target/, FFHQR as published, or faces:DIR for plain portraits.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Run directory.")
@click.option(
    "--paired-fraction",
    type=click.FloatRange(0, 1, min_open=True),
    help="Share of the pairs used as pairs; short for --set train.paired_fraction=F.",
)
@click.option(
    "--task",
    type=click.Choice(["retouching", "inpainting"]),
    help="Inpainting: of white strokes over the target pictures; short for --set train.task=TASK.",
)
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="YAML file with options to change.")
@set_option
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps; short for --set train.steps=N.")
@click.option("--init", metavar="WEIGHTS", help="Train on from these weights; short for --set train.init=WEIGHTS.")
@click.option("--dry-run", is_flag=True, help="Check everything and show the configuration, but do not train.")
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard event files.")
@device_option
@version_option("bpfre")
@friendly_errors
def train(
    preset: str,
    data: str,
    out: Path,
    paired_fraction: float | None,
    task: str | None,
    config_file: Path | None,
    overrides: tuple[str, ...],
    steps: int | None,
    init: str | None,
    dry_run: bool,
    tensorboard: bool,
    device: str,
) -> None:
    """Train BPFRe, or continue the run in RUN: a killed run goes on with the same command.

    On several GPUs or nodes: accelerate launch "$(which bpfre-train)" with the same options, or torchrun --no-python
    bpfre-train; scripts/ in the package has examples, for SLURM too.
    """
    from retouch_common.config import apply_overrides, load_yaml, parse_overrides

    from bpfre.config import PRESETS
    from bpfre.train import dry_run as check
    from bpfre.train import train as run

    if preset not in PRESETS:
        raise ValueError(f"--preset {preset}: there are {', '.join(PRESETS)}")
    changes = (load_yaml(config_file) if config_file else {}) | parse_overrides(overrides)
    short = {"paired_fraction": paired_fraction, "task": task, "steps": steps, "init": init}
    changes |= {f"train.{name}": value for name, value in short.items() if value is not None}
    config = apply_overrides(PRESETS[preset], changes)
    if dry_run:
        check(config, data, device=device, report=click.echo)
    else:
        run(config, data, out, device=device, tensorboard=tensorboard, report=click.echo)


@click.command()
@weights_option()
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), metavar="FILE.onnx")
@version_option("bpfre")
@friendly_errors
def export(weights: str, out: Path) -> None:
    """Write the network as ONNX, for onnxruntime and other runtimes.

    Inputs and outputs are described in the module bpfre.export; the configuration is in the file's metadata.
    """
    from retouch_common.onnx import require_onnx

    require_onnx("bpfre")
    from bpfre.export import export as run
    from bpfre.model import BPFRe

    run(BPFRe.from_pretrained(weights), out, report=click.echo)
