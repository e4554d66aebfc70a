"""The command ``maskgan-studio``: the studio, opened on the Edit tool."""

from __future__ import annotations

import functools
from pathlib import Path

import click
from retouch_common.cli.options import friendly_errors, version_option, weights_option
from retouch_common.studio.cli import require_extra, run_studio, studio_options

from maskgan.cli_options import parser_option


@click.command()
@studio_options
@weights_option()
@parser_option
@version_option("maskgan")
@friendly_errors
def studio(photo: Path | None, weights: str, parser: str, port: int, device: str, no_browser: bool) -> None:
    """Open a page on this computer to paint a face's mask with live rendering; PHOTO is opened in it.

    Photos (JPEG, PNG, TIFF, WebP, AVIF) stay on this computer. Press Ctrl+C to stop.
    """
    require_extra("maskgan[studio]")
    from retouch_common.studio.tools import installed_factories

    from maskgan.studio.server import edit_tool

    factories = installed_factories()
    factories["edit"] = functools.partial(edit_tool, weights=weights, parser=parser)
    run_studio(photo, factories, first="edit", port=port, device=device, browser=not no_browser)
