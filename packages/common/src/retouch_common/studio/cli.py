"""The command ``retouch-studio``, and what it shares with commands that open a single tool."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from retouch_common.cli.options import device_option, friendly_errors, option_group, version_option
from retouch_common.files import ScratchDirectory

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from retouch_common.studio.tools import ToolFactory

PORT = 8765
HOST = "127.0.0.1"
SHUTDOWN_TIMEOUT = 2  # seconds for running responses after Ctrl+C
PREPARATION = "prepare"  # name of the thread that loads the networks of the first tool


studio_options = option_group(
    click.argument("photo", required=False, type=click.Path(path_type=Path), metavar="[PHOTO]"),
    click.option(
        "--port",
        type=click.IntRange(0, 65535),
        default=PORT,
        show_default=True,
        help="Port of the page; 0: a free one.",
    ),
    device_option,
    click.option("--no-browser", is_flag=True, help="Do not open a browser; print the address only."),
)


@click.command()
@studio_options
@click.option("--tool", metavar="NAME", help="Tool to begin with: retouch, restore or edit.  [default: the first]")
@version_option("retouch-common")
@friendly_errors
def studio(photo: Path | None, port: int, device: str, no_browser: bool, tool: str | None) -> None:
    """Open a page on this computer to retouch, restore and edit photos; PHOTO is opened in it.

    Photos (JPEG, PNG, TIFF, WebP, AVIF; with extras HEIC, JPEG XL, camera raw) stay on this computer. Press Ctrl+C to
    stop.
    """
    require_extra("retouch-common[studio]")
    from retouch_common.studio.tools import installed_factories

    run_studio(photo, installed_factories(), first=tool, port=port, device=device, browser=not no_browser)


def require_extra(requirement: str) -> None:
    """Check that the studio's dependencies are installed; ``requirement`` is what installs them.

    Raises:
        click.ClickException: If one is missing.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            f"the studio needs {error.name}, which is not installed: pip install '{requirement}'"
        ) from None


def run_studio(
    photo: Path | None,
    factories: Mapping[str, ToolFactory],
    *,
    first: str | None,
    port: int,
    device: str,
    browser: bool,
) -> None:
    """Serve the studio until Ctrl+C, which ends the process at once if requests are still running.

    Args:
        photo: Photo that the page opens with.
        factories: Tool factories by name.
        first: Name of the tool that the page opens with; None for the first.
        port: Port; 0 for a free one.
        device: Where to compute.
        browser: Whether to open the page in a browser.

    Raises:
        OSError: If ``photo`` cannot be opened.
        ValueError: If it is not a photo, the port cannot be used, or there is no tool, or none of the name ``first``.
    """
    signal.signal(signal.SIGTERM, _exit_on_signal)  # so that uploads are removed
    with bind_port(port) as listener, ScratchDirectory("retouch-studio-") as folder:
        token, one_time_token = secrets.token_urlsafe(), secrets.token_urlsafe()
        app = _create_app(photo, factories, first, device, Path(folder), token, one_time_token)
        address = f"http://{HOST}:{listener.getsockname()[1]}/?token="
        click.echo(f"The studio is at {address}{token} (Ctrl+C ends it)")
        if browser:
            page = write_redirect_page(Path(folder), f"{address}{one_time_token}")
            # In a thread, since a text browser blocks; it waits until the first request is accepted.
            threading.Thread(target=webbrowser.open, args=(page.as_uri(),), daemon=True).start()
        status = serve(app, listener)
    if not status:
        click.echo("The studio has ended.")
    if status is not None:
        sys.stdout.flush()
        os._exit(status)  # the interpreter would wait for, or abort in, threads in which networks run or load


def write_redirect_page(folder: Path, address: str) -> Path:
    """Write an HTML file that redirects to an address, readable by the current user only.

    Other users can see the arguments of the browser's command line, so the address must not be one of them.
    """
    path = folder / "studio.html"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={address}">\n')
    return path


def _create_app(
    photo: Path | None,
    factories: Mapping[str, ToolFactory],
    first: str | None,
    device: str,
    folder: Path,
    token: str,
    one_time_token: str,
) -> ASGIApp:
    from retouch_common.photo.io import Photo
    from retouch_common.studio.files import StoredFile, displayed
    from retouch_common.studio.server import create_app
    from retouch_common.studio.tools import ToolContext, create_tools

    start = None
    if photo is not None:
        Photo.open(photo)
        start = StoredFile(photo.absolute(), displayed(photo), owned=False)
    context = ToolContext(folder=folder, device=device)
    tools = create_tools(factories, context)
    names = [tool.name for tool in tools]
    if first is not None and first not in names:
        raise ValueError(f"--tool: {first!r} is not installed; choose from {', '.join(names)}")
    tool = tools[0 if first is None else names.index(first)]
    if tool.prepare is not None:
        threading.Thread(target=tool.prepare, name=PREPARATION, daemon=True).start()
    return create_app(tools, context, token, one_time_token=one_time_token, first=tool.name, start=start)


def serve(app: ASGIApp, listener: socket.socket) -> int | None:
    """Serve ``app`` on a listening socket until Ctrl+C; return the exit status if other threads are still busy.

    These are running requests and the loading of networks.

    Raises:
        SystemExit: On SIGTERM, if none is.
    """
    import uvicorn

    class Server(uvicorn.Server):
        interrupted = False  # whether requests were running at the end

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # cancelled requests are not errors
            self.interrupted = bool(self.server_state.tasks)
            await super().shutdown(sockets)

    server, status = Server(server_config(app)), 0
    try:
        server.run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # raised again by uvicorn after a clean shutdown, as is SystemExit
    except SystemExit as ending:
        if not (server.interrupted or _is_preparing()):
            raise
        status = int(ending.code or 0)
    return status if server.interrupted or _is_preparing() else None


def _is_preparing() -> bool:
    return any(thread.name == PREPARATION for thread in threading.enumerate())


def server_config(app: ASGIApp) -> uvicorn.Config:
    """Return the configuration of uvicorn."""
    import uvicorn

    from retouch_common.studio.connections import MAX_CONNECTIONS, HeaderTimeoutProtocol

    return uvicorn.Config(
        app,
        http=HeaderTimeoutProtocol,
        limit_concurrency=MAX_CONNECTIONS,
        log_level="warning",
        ws="none",
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_TIMEOUT,
    )


def bind_port(port: int) -> socket.socket:
    """Return a socket that listens on a port of the loopback interface.

    Raises:
        ValueError: If it cannot be used.
    """
    try:
        return socket.create_server((HOST, port))
    except PermissionError:
        raise ValueError(f"--port {port}: no permission for this port; choose one above 1023") from None
    except OSError as error:
        in_use = error.errno == errno.EADDRINUSE
        reason = "is taken by another program" if in_use else (error.strerror or str(error)).lower()
        raise ValueError(f"--port {port}: {reason}; choose another, or 0 for one that is free") from None


def _exit_on_signal(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
