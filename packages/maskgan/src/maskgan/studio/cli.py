"""The command ``maskgan-studio``."""

from __future__ import annotations

import errno
import secrets
import signal
import socket
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click
from retouch_common.cli.options import device_option, friendly_errors, version_option, weights_option

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from maskgan.studio.session import Studio

PORT = 8765
ADDRESS = "127.0.0.1"
PATIENCE = 2  # seconds that answers on their way have after Ctrl+C


@click.command()
@click.argument("photo", required=False, type=click.Path(path_type=Path), metavar="[PHOTO]")
@weights_option()
@click.option(
    "--parser",
    default="small",
    metavar="NAME|PATH|HUB_ID",
    show_default=True,
    help="Weights of the network that draws a photo's first mask.",
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Of the page; 0 takes one that is free.",
)
@device_option
@click.option("--no-browser", is_flag=True, help="Only say where the page is.")
@version_option("maskgan")
@friendly_errors
def studio(photo: Path | None, weights: str, parser: str, port: int, device: str, no_browser: bool) -> None:
    """Open a page on this computer to paint a face's mask and see the face follow; PHOTO is opened in it at once.

    Photographs (JPEG, PNG, TIFF, WebP, AVIF) stay on this computer. Ctrl+C ends it.
    """
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise click.ClickException(
            f"the studio needs {error.name}, which is not installed: pip install 'maskgan[studio]'"
        ) from None
    signal.signal(signal.SIGTERM, _stop)  # or uploads would be left behind
    with _listening(port) as listener, tempfile.TemporaryDirectory(prefix="maskgan-studio-") as folder:
        token = secrets.token_urlsafe()
        app = _application(photo, weights, parser, device, Path(folder), token)
        address = f"http://{ADDRESS}:{listener.getsockname()[1]}/?token={token}"
        click.echo(f"The studio is at {address} (Ctrl+C ends it)")
        if not no_browser:
            # In a thread: a browser in the terminal would keep us. It waits until the first request is taken.
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        serve(app, listener)
    click.echo("The studio has ended.")


def _application(photo: Path | None, weights: str, parser: str, device: str, folder: Path, token: str) -> ASGIApp:
    from maskgan.studio.server import create_app
    from maskgan.studio.session import StoredFile

    rooms = _studio(weights, parser, device)
    opened = rooms.open(StoredFile(photo, str(photo), ours=False)) if photo else None
    return create_app(rooms, folder, token, start=opened.id if opened else None)


def _studio(weights: str, parser: str, device: str) -> Studio:
    from maskgan.editor import Editor
    from maskgan.studio.session import Studio

    rooms = Studio(Editor(weights, parser=parser, device=device))
    threading.Thread(target=rooms.prepare, daemon=True).start()  # or the first photo would wait for it
    return rooms


def serve(app: ASGIApp, listener: socket.socket) -> None:
    """Answer requests until Ctrl+C.

    Args:
        app: What answers.
        listener: A listening socket.
    """
    import uvicorn

    config = uvicorn.Config(
        app, log_level="warning", ws="none", lifespan="off", server_header=False, timeout_graceful_shutdown=PATIENCE
    )
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        return  # uvicorn ends in good order and then tells the caller


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
