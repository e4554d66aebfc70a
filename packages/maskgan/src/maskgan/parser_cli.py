"""The commands ``maskgan-train-parser`` and ``maskgan-convert-labels``."""

from pathlib import Path
from typing import Any

import click
from retouch_common.cli.options import friendly_errors, version_option
from retouch_common.cli.training import start_training, training_options

KINDS = ("helen", "helen-relabelled", "celebamask-hq", "lapa", "templates")


@click.command()
@training_options(data="faces:DIR for portraits with .tem templates, or a folder with images/ and labels/.")
@version_option("retouch-common")
@friendly_errors
def train_parser(**options: Any) -> None:
    """Train the face parser P_F; rerun the same command to resume.

    On several GPUs or nodes: accelerate launch "$(which maskgan-train-parser)" with the same options.
    """
    from retouch_common.parsing.config import PRESETS
    from retouch_common.parsing.train import ParsingTask

    start_training(PRESETS, ParsingTask, **options)


@click.command()
@click.argument("kind", type=click.Choice(KINDS), metavar="|".join(KINDS))
@click.argument("source", type=click.Path(path_type=Path), metavar="DIR")
@click.option("-o", "--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder to write.")
@version_option("retouch-common")
@friendly_errors
def convert(kind: str, source: Path, out: Path) -> None:
    """Convert a labelled data set in DIR to images/ and labels/ for training.

    Classes beyond the 11 become background; left is the image's left. Images with existing labels are skipped: rerun
    the same command to resume. Images whose labels cannot be read or made are listed at the end, and the exit status is
    then 1.
    """
    from retouch_common.parsing.converters import convert as run

    run(kind, source, out, report=click.echo)
