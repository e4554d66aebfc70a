"""Reading requests of the studio's page: bodies within limits, uploads of photos, names."""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from anyio import fail_after
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from retouch_common.errors import error_line
from retouch_common.photo.formats import SUFFIXES
from retouch_common.studio.files import StoredFile
from retouch_common.studio.tools import Desk
from retouch_common.studio.views import Window, parse_view

LONGEST_NAME = 120
OUTPUTS = {"jpg": ".jpg", "png": ".png", "tif": ".tif", "webp": ".webp", "avif": ".avif"}
BLOCK_TIMEOUT = 30.0  # seconds between two blocks of a body


class TooLarge(ValueError):
    """A request's body exceeds its limit."""


class PhotoRefused(ValueError):
    """A photo cannot be opened; ``hints`` are sent to the page beside the line."""

    def __init__(self, line: str, hints: dict[str, Any]) -> None:
        super().__init__(line)
        self.hints = hints


async def receive(request: Request, limit: int, name: str, write: Callable[[bytes], Any]) -> None:
    """Write a request's body block by block.

    Raises:
        TooLarge: It is larger than ``limit``; the rest is not read.
        ValueError: It is empty.
        TimeoutError: It does not go on.
    """
    allowed = f"{limit / 1e6:.3g} MB" if limit >= 100_000 else f"{limit / 1e3:.3g} kB"
    count = int(request.headers.get("content-length", "0")[:20])
    if count <= limit:
        count = 0
        blocks = request.stream()
        while True:
            with fail_after(BLOCK_TIMEOUT):
                block = await anext(blocks, None)
            if block is None:
                break
            count += len(block)
            if count > limit:
                break
            write(block)
    if count > limit:
        raise TooLarge(f"{name}: is larger than {allowed}, the most that can be opened here")
    if not count:
        raise ValueError(f"{name}: is empty (0 bytes)")


async def body(request: Request, limit: int, name: str = "the request") -> bytes:
    """Return a request's body; see :func:`receive`."""
    data = bytearray()
    await receive(request, limit, name, data.extend)
    return bytes(data)


async def json_body(request: Request, limit: int) -> dict[str, Any]:
    """Return a request's body, a JSON object.

    Raises:
        TooLarge: It is larger than ``limit``.
        ValueError: It is something else.
    """
    data = await body(request, limit)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("the request is not JSON") from error
    if not isinstance(content, dict):
        raise ValueError("the request is not a JSON object")
    return content


@contextlib.asynccontextmanager
async def requested_file(request: Request, desk: Desk, limit: int) -> AsyncIterator[StoredFile]:
    """Yield the photo that a request names by ``file=``, or uploads as its body with ``name=``.

    Errors inside the context become :class:`PhotoRefused`, with the attribute ``hints`` of the error; an upload is
    deleted then.

    Raises:
        TooLarge: If the upload is larger than ``limit``.
        UnknownPhoto: If the photo is no longer open.
    """
    if "file" in request.query_params:
        file = desk.files[request.query_params["file"]]
        try:
            yield file
        except (ValueError, OSError) as error:
            raise _refused(error, file) from error
        return
    name = plain_name(request.query_params.get("name", ""))
    suffix = Path(name).suffix.lower()
    path = desk.folder / f"{secrets.token_hex(8)}{suffix if suffix in SUFFIXES else ''}"
    file = StoredFile(path, name, ours=True)
    try:
        with open(path, "wb") as target:
            await receive(request, limit, name, target.write)
        yield desk.files.add(file)
    except BaseException as error:
        file.discard()
        if isinstance(error, TooLarge | TimeoutError) or not isinstance(error, ValueError | OSError):
            raise
        raise _refused(error, file) from error


def _refused(error: ValueError | OSError, file: StoredFile) -> PhotoRefused:
    name, path = plain_name(file.name), file.path
    line = (error_line(error) or str(error)).replace(str(path), name).replace(path.stem, Path(name).stem)
    return PhotoRefused(line if line.startswith(name) else f"{name}: {line}", getattr(error, "hints", {}))


def plain_name(name: str) -> str:
    """Return a file's name without folders and unprintable characters."""
    name = "".join(letter for letter in name.replace("\\", "/") if letter.isprintable()).rpartition("/")[2]
    return name.strip().lstrip(".")[-LONGEST_NAME:] or "photo"


def shown(text: str) -> str:
    """Return text of a request for a message: short, and without what UTF-8 cannot encode."""
    text = text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"
    return text.encode("utf-8", "replace").decode()


def attachment(name: str) -> dict[str, str]:
    """Return the header of a file that the browser saves under a name."""
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}


def temporary_file(path: Path, name: str) -> Response:
    """Respond with a file that the browser saves under a name; the file is deleted afterwards."""
    task = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(path, headers=attachment(name), media_type="application/octet-stream", background=task)


def output_options(content: Any) -> tuple[str | None, dict[str, Any]]:
    """Parse the options of an export: the suffix, None for that of the photo, and fields of :class:`PhotoOptions`.

    Raises:
        ValueError: If an option is unknown.
    """
    if not isinstance(content, dict):
        raise ValueError("options must be an object")
    suffix, quality, strip = content.get("format"), content.get("quality"), content.get("strip")
    if suffix is not None and suffix not in OUTPUTS:
        raise ValueError(f"no format {shown(str(suffix))}; there are {', '.join(OUTPUTS)}")
    if quality is not None and not (isinstance(quality, int) and 1 <= quality <= 100):
        raise ValueError(f"quality must be between 1 and 100, not {shown(str(quality))}")
    if strip not in (None, "gps", "all"):
        raise ValueError(f"strip must be gps or all, not {shown(str(strip))}")
    options = {"quality": quality, "strip": strip, "provenance": content.get("provenance") is not False}
    return (None if suffix is None else OUTPUTS[suffix]), options


def queried_view(request: Request) -> tuple[Window, tuple[int, int]]:
    """Parse the view that a request's query names; see :func:`retouch_common.studio.views.parse_view`."""
    return parse_view([request.query_params.get(name, "") for name in ("x", "y", "w", "h", "width", "height")])


def posted_view(content: dict[str, Any]) -> tuple[Window, tuple[int, int]]:
    """Parse ``window`` and ``size`` of a request's body; see :func:`retouch_common.studio.views.parse_view`."""
    parts = (content.get(name) for name in ("window", "size"))
    return parse_view([value for part in parts if isinstance(part, list) for value in part])


def jpeg(data: bytes) -> Response:
    """Respond with a JPEG picture."""
    return Response(data, media_type="image/jpeg")
