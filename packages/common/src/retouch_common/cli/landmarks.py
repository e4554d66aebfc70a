"""The command ``retouch-landmarks``."""

from __future__ import annotations

from pathlib import Path

import click

from retouch_common.cli.options import friendly_errors, version_option
from retouch_common.errors import printable


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option(
    "--model",
    required=True,
    metavar="FILE|HUB_ID",
    help="MediaPipe's face_landmark.onnx, its folder, or owner/name on the Hugging Face hub; its checksum is verified.",
)
@version_option("retouch-common")
@friendly_errors
def landmarks(folder: Path, model: str) -> None:
    """Find the 468 landmarks of the largest face of every portrait in DIR.

    They are written to landmarks.npz in each folder that holds portraits, where training with faces:DIR reads them.
    Portraits that have landmarks already are skipped, so rerun the same command to resume. Portraits without a face are
    listed at the end, and the exit status is then 1.
    """
    from retouch_common.data.mesh_folder import write_landmarks
    from retouch_common.faces.mesh_model import MeshModel

    failed = write_landmarks(folder, MeshModel(model))
    for path, reason in failed:
        click.echo(printable(f"{path}: {reason}"), err=True)
    if failed:
        raise SystemExit(1)
