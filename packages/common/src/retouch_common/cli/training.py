"""Options of the training commands, and the configuration they select.

@click.command()
@training_options(data="Folder with raw/ and target/.")
@version_option("abpn")
@friendly_errors
def train(**options):
    from abpn.config import PRESETS
    from abpn.train import RetouchingTask

    start_training(PRESETS, RetouchingTask, **options)
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from retouch_common.cli.options import device_option, option_group, set_option
from retouch_common.config import apply_overrides, load_yaml, parse_overrides

if TYPE_CHECKING:
    from retouch_common.training.task import Task

STOPPED = 75
"""Exit status of an interrupted training command: EX_TEMPFAIL of sysexits.h."""

F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C")


def training_options(
    *, data: str, presets: Sequence[str] = ("paper", "recommended", "small", "tiny")
) -> Callable[[F], F]:
    """Add the options of a training command; ``data`` and ``presets`` are the help of --data and --preset."""
    names = f"{', '.join(presets[:-1])} or {presets[-1]}."
    return option_group(
        click.option("--preset", default="recommended", show_default=True, help=names),
        click.option("--data", required=True, metavar="DATA", help=data),
        click.option("--out", required=True, type=click.Path(path_type=Path), metavar="RUN", help="Run directory."),
        click.option(
            "--config", "config_file", type=click.Path(path_type=Path), help="YAML file with options to change."
        ),
        set_option,
        click.option("--steps", type=click.IntRange(min=1), help="Optimiser steps; short for --set train.steps=N."),
        click.option(
            "--init", metavar="WEIGHTS", help="Train on from these weights; short for --set train.init=WEIGHTS."
        ),
        click.option("--dry-run", is_flag=True, help="Check everything and show the configuration, but do not train."),
        click.option("--tensorboard", is_flag=True, help="Also write TensorBoard event files."),
        device_option,
    )


def chosen_configuration(
    presets: Mapping[str, C], preset: str, config_file: Path | None, overrides: tuple[str, ...], **short: Any
) -> C:
    """Return a preset with the values of a file, of --set, and of options that abbreviate a field of ``train``.

    Later ones take precedence; of ``short``, by field of ``train``, those that are not None.

    Raises:
        ValueError: If the preset, a field or a value is invalid.
        OSError: If the file cannot be read.
    """
    if preset not in presets:
        raise ValueError(f"--preset: unknown preset {preset!r}; choose from {', '.join(presets)}")
    abbreviated = {f"train.{name}": value for name, value in short.items() if value is not None}
    of_file = load_yaml(config_file) if config_file else {}
    return apply_overrides(presets[preset], of_file, parse_overrides(overrides), abbreviated)


def refuse_own_configuration(config_file: Path | None, out: Path) -> None:
    """Refuse a --config that the run would overwrite, ``out/config.yaml``.

    Raises:
        ValueError: If it is that file.
    """
    written = out / "config.yaml"
    if config_file is not None and written.exists() and os.path.samefile(config_file, written):
        raise ValueError(f"--config {config_file} would be written over by the run in {out}; move it elsewhere")


def start_training(
    presets: Mapping[str, C],
    task: Callable[[C, str], Task],
    /,
    *,
    preset: str,
    data: str,
    out: Path,
    config_file: Path | None,
    overrides: tuple[str, ...],
    dry_run: bool,
    tensorboard: bool,
    device: str,
    **short: Any,
) -> None:
    """Train, or with --dry-run check everything without training; exit with :data:`STOPPED` if it was interrupted.

    ``task`` is called with configuration and data. The keyword arguments are the values of the options of
    :func:`training_options` and of options that abbreviate a field of ``train``.

    Raises:
        ValueError: From :func:`chosen_configuration` and :mod:`retouch_common.training.fit`.
        OSError: Likewise.
    """
    from retouch_common.training import fit

    config = chosen_configuration(presets, preset, config_file, overrides, **short)
    refuse_own_configuration(config_file, out)
    if dry_run:
        fit.dry_run(task(config, data), device=device, report=click.echo)
    elif fit.fit(task(config, data), out, device=device, tensorboard=tensorboard, report=click.echo) is None:
        sys.exit(STOPPED)
