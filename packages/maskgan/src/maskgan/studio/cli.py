"""The command ``maskgan-studio``: the studio, opened on the Edit tool."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from retouch_common.cli.options import friendly_errors, version_option, weights_option
from retouch_common.studio.cli import require_extra, run_studio, studio_options

from maskgan.cli_options import parser_option

if TYPE_CHECKING:
    from retouch_common.studio.tools import Tool, ToolContext


@click.command()
@studio_options
@weights_option()
@parser_option
@version_option("maskgan")
@friendly_errors
def studio(photo: Path | None, weights: str, parser: str, port: int, device: str, no_browser: bool) -> None:
    """Open a page on this computer to paint a face's mask with live rendering; PHOTO is opened in it.

    Photos (JPEG, PNG, TIFF, WebP, AVIF; with extras HEIC, JPEG XL, camera raw) stay on this computer. Press Ctrl+C to
    stop.
    """
    require_extra("maskgan[studio]")
    from retouch_common.studio.tools import installed_factories

    from maskgan.studio.server import edit_tool

    def load_edit_tool(context: ToolContext) -> Tool:
        tool = edit_tool(context, weights=weights, parser=parser)
        if tool.prepare is not None:
            tool.prepare()  # now, so that weights that cannot be loaded end the command
        return tool

    factories = {**installed_factories(), "edit": load_edit_tool}
    run_studio(photo, factories, first="edit", port=port, device=device, browser=not no_browser)
