"""The command ``maskgan-studio``."""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from retouch_common.cli.options import device_option, friendly_errors, version_option, weights_option
from retouch_common.files import ScratchDirectory

from maskgan.cli_options import parser_option

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from maskgan.studio.session import Studio

PORT = 8765
ADDRESS = "127.0.0.1"
SHUTDOWN_TIMEOUT = 2  # seconds for running responses after Ctrl+C


@click.command()
@click.argument("photo", required=False, type=click.Path(path_type=Path), metavar="[PHOTO]")
@weights_option()
@parser_option
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="Port of the page; 0: a free one."
)
@device_option
@click.option("--no-browser", is_flag=True, help="Do not open a browser; print the address only.")
@version_option("maskgan")
@friendly_errors
def studio(photo: Path | None, weights: str, parser: str, port: int, device: str, no_browser: bool) -> None:
    """Open a page on this computer to paint a face's mask with live rendering; PHOTO is opened in it.

    Photos (JPEG, PNG, TIFF, WebP, AVIF) stay on this computer. Press Ctrl+C to stop.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            f"the studio needs {error.name}, which is not installed: pip install 'maskgan[studio]'"
        ) from None
    signal.signal(signal.SIGTERM, _stop)  # removes uploads
    with _listening(port) as listener, ScratchDirectory("maskgan-studio-") as folder:
        token, single = secrets.token_urlsafe(), secrets.token_urlsafe()
        app = _application(photo, weights, parser, device, Path(folder), token, single)
        address = f"http://{ADDRESS}:{listener.getsockname()[1]}/?token="
        click.echo(f"The studio is at {address}{token} (Ctrl+C ends it)")
        if not no_browser:
            entrance = _write_entrance(Path(folder), f"{address}{single}")
            # In a thread, since a text browser blocks; it waits until the first request is accepted.
            threading.Thread(target=webbrowser.open, args=(entrance.as_uri(),), daemon=True).start()
        serve(app, listener)
    click.echo("The studio has ended.")


def _write_entrance(folder: Path, address: str) -> Path:
    """Write a page that leads to an address, readable by this user only.

    Other users see the arguments of the browser's command, so that the address must not be among them.
    """
    path = folder / "studio.html"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={address}">\n')
    return path


def _application(
    photo: Path | None, weights: str, parser: str, device: str, folder: Path, token: str, single: str
) -> ASGIApp:
    from maskgan.studio.server import create_app
    from maskgan.studio.session import StoredFile

    studio = _studio(weights, parser, device)
    opened = studio.open(StoredFile(photo, str(photo), ours=False)) if photo else None
    return create_app(studio, folder, token, single=single, start=opened.id if opened else None)


def _studio(weights: str, parser: str, device: str) -> Studio:
    from maskgan.editor import Editor
    from maskgan.studio.session import Studio

    studio = Studio(Editor(weights, parser=parser, device=device))
    threading.Thread(target=studio.prepare, daemon=True).start()  # so that the first photo need not wait for it
    return studio


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Serve ``app`` on a listening socket until Ctrl+C."""
    import uvicorn

    try:
        uvicorn.Server(configuration(app)).run(sockets=[listener])
    except KeyboardInterrupt:
        return  # raised again by uvicorn after a clean shutdown


def configuration(app: ASGIApp) -> uvicorn.Config:
    """Return uvicorn's configuration of the studio."""
    import uvicorn

    from maskgan.studio.connections import MAX_CONNECTIONS, HeaderTimeoutProtocol

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


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((ADDRESS, port))
    except PermissionError:
        raise ValueError(f"--port {port}: this port may not be used here; choose one above 1023") from None
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "is taken by another program" if taken else (error.strerror or str(error)).lower()
        raise ValueError(f"--port {port}: {reason}; choose another, or 0 for one that is free") from None


def _stop(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)
