"""The commands ``abpn-train``, ``abpn-retouch``, ``abpn-evaluate`` and ``abpn-export``.

Each parses its options and calls the module of the same concept; heavy imports wait until a command runs.
"""

from pathlib import Path

import click
from retouch_common.cli import device_option, friendly_errors, set_option, version_option


@click.command()
@click.option("--preset", default="recommended", show_default=True, help="paper, recommended, small or tiny.")
@click.option(
    "--data",
    required=True,
    metavar="DATA",
    help="Folder with raw/ and target/, FFHQR or CRHD-3K as published, or faces:DIR for plain portraits.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Run directory.")
@click.option("--config", "config_file", type=click.Path(path_type=Path), help="YAML file with options to change.")
@set_option
@click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps; short for --set train.steps=N.")
@click.option("--dry-run", is_flag=True, help="Check everything and show the configuration, but do not train.")
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard event files.")
@device_option
@version_option("abpn")
@friendly_errors
def train(
    preset: str,
    data: str,
    out: Path,
    config_file: Path | None,
    overrides: tuple[str, ...],
    steps: int | None,
    dry_run: bool,
    tensorboard: bool,
    device: str,
) -> None:
    """Train ABPN, or continue the run in RUN: a killed run goes on with the same command.

    On several GPUs or nodes: accelerate launch -m abpn.cli.train, torchrun or SLURM with the same options.
    """
    from retouch_common.config import apply_overrides, load_yaml, parse_overrides

    from abpn.config import PRESETS
    from abpn.train import dry_run as check
    from abpn.train import train as run

    if preset not in PRESETS:
        raise ValueError(f"--preset {preset}: there are {', '.join(PRESETS)}")
    changes = (load_yaml(config_file) if config_file else {}) | parse_overrides(overrides)
    config = apply_overrides(PRESETS[preset], changes | ({"train.steps": steps} if steps else {}))
    if dry_run:
        check(config, data, device=device, report=click.echo)
    else:
        run(config, data, out, device=device, tensorboard=tensorboard, report=click.echo)
