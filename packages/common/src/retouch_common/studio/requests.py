"""Parsing of requests of the studio's pages, with size limits, and common responses."""

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
from retouch_common.photo.formats import format_for_output
from retouch_common.studio.files import PHOTO_SUFFIXES, StoredFile
from retouch_common.studio.tools import ToolContext
from retouch_common.studio.views import Window, parse_view

MAX_NAME_LENGTH = 120
OUTPUT_SUFFIXES = {"jpg": ".jpg", "png": ".png", "tif": ".tif", "webp": ".webp", "avif": ".avif"}
CHUNK_TIMEOUT = 30.0  # seconds between two chunks of a body


class BodyTooLargeError(ValueError):
    """A request's body exceeds its limit."""


class PhotoError(ValueError):
    """A photo cannot be opened; ``hints`` are sent to the page beside the line."""

    def __init__(self, line: str, hints: dict[str, Any]) -> None:
        super().__init__(line)
        self.hints = hints


async def stream_body(request: Request, limit: int, name: str, write: Callable[[bytes], Any]) -> None:
    """Pass a request's body to ``write``, chunk by chunk.

    Raises:
        BodyTooLargeError: If it is larger than ``limit``; the rest is not read.
        ValueError: If it is empty.
        TimeoutError: If no chunk arrives for ``CHUNK_TIMEOUT`` seconds.
    """
    allowed = f"{limit / 1e6:g} MB" if limit >= 100_000 else f"{limit / 1e3:.3g} kB"
    count = int(request.headers.get("content-length", "0")[:20])
    if count <= limit:
        count = 0
        chunks = request.stream()
        while True:
            with fail_after(CHUNK_TIMEOUT):
                chunk = await anext(chunks, None)
            if chunk is None:
                break
            count += len(chunk)
            if count > limit:
                break
            write(chunk)
    if count > limit:
        raise BodyTooLargeError(f"{name}: is larger than {allowed}, the most that can be opened here")
    if not count:
        raise ValueError(f"{name}: is empty (0 bytes)")


async def read_body(request: Request, limit: int, name: str = "the request") -> bytes:
    """Return a request's body; see :func:`stream_body`."""
    data = bytearray()
    await stream_body(request, limit, name, data.extend)
    return bytes(data)


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """Return a request's body, a JSON object.

    Raises:
        BodyTooLargeError: If it is larger than ``limit``.
        ValueError: If it is not a JSON object.
    """
    data = await read_body(request, limit)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError("the request is not JSON") from error
    if not isinstance(content, dict):
        raise ValueError("the request is not a JSON object")
    return content


@contextlib.asynccontextmanager
async def photo_file(request: Request, context: ToolContext, limit: int) -> AsyncIterator[StoredFile]:
    """Yield the photo that a request names by ``file=``, or uploads as its body with ``name=``.

    Errors inside the context become :class:`PhotoError`, with the attribute ``hints`` of the error; an upload is
    deleted then.

    Raises:
        BodyTooLargeError: If the upload is larger than ``limit``.
        UnknownPhotoError: If the photo is no longer open.
    """
    if "file" in request.query_params:
        file = context.files[request.query_params["file"]]
        try:
            yield file
        except (ValueError, OSError) as error:
            raise _photo_error(error, file) from error
        return
    name = safe_filename(request.query_params.get("name", ""))
    suffix = Path(name).suffix.lower()
    path = context.folder / f"{secrets.token_hex(8)}{suffix if suffix in PHOTO_SUFFIXES else ''}"
    file = StoredFile(path, name, owned=True)
    try:
        with open(path, "wb") as target:
            await stream_body(request, limit, name, target.write)
        yield context.files.add(file)
    except BaseException as error:
        file.discard()
        if isinstance(error, BodyTooLargeError | TimeoutError) or not isinstance(error, ValueError | OSError):
            raise
        raise _photo_error(error, file) from error


def _photo_error(error: ValueError | OSError, file: StoredFile) -> PhotoError:
    name, path = safe_filename(file.name), file.path
    line = (error_line(error) or str(error)).replace(str(path), name).replace(path.stem, Path(name).stem)
    return PhotoError(line if line.startswith(name) else f"{name}: {line}", getattr(error, "hints", {}))


def safe_filename(name: str) -> str:
    """Return a file's name without folders, unprintable characters and leading dots."""
    name = "".join(letter for letter in name.replace("\\", "/") if letter.isprintable()).rpartition("/")[2]
    return name.strip().lstrip(".")[-MAX_NAME_LENGTH:] or "photo"


def truncate(text: str) -> str:
    """Return text of a request for use in a message: at most MAX_NAME_LENGTH characters, encodable as UTF-8."""
    text = text if len(text) <= MAX_NAME_LENGTH else f"{text[:MAX_NAME_LENGTH]}…"
    return text.encode("utf-8", "replace").decode()


def attachment(name: str) -> dict[str, str]:
    """Return the header by which a browser saves a response under a name."""
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}


def temporary_file_response(path: Path, name: str) -> Response:
    """Respond with a file to be saved under a name; it is deleted afterwards."""
    task = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(path, headers=attachment(name), media_type="application/octet-stream", background=task)


def export_formats() -> dict[str, dict[str, Any]]:
    """Return by name what pages need to know of the formats of exports.

    ``quality`` is the default quality, None if the format is lossless; ``bits`` the maximum bits per channel;
    ``alpha`` whether it supports transparency.
    """
    formats = {name: format_for_output(f"photo{suffix}") for name, suffix in OUTPUT_SUFFIXES.items()}
    return {
        name: {"quality": entry.quality, "bits": entry.bits, "alpha": entry.alpha} for name, entry in formats.items()
    }


def parse_output_options(content: Any) -> tuple[str | None, dict[str, Any]]:
    """Parse the options of an export: the suffix, None for that of the photo, and fields of :class:`PhotoOptions`.

    Raises:
        ValueError: If an option is unknown.
    """
    if not isinstance(content, dict):
        raise ValueError("options must be an object")
    suffix, quality, strip = content.get("format"), content.get("quality"), content.get("strip")
    if suffix is not None and not (isinstance(suffix, str) and suffix in OUTPUT_SUFFIXES):
        raise ValueError(f"no format {truncate(str(suffix))}; there are {', '.join(OUTPUT_SUFFIXES)}")
    if quality is not None and not (isinstance(quality, int) and 1 <= quality <= 100):
        raise ValueError(f"quality must be between 1 and 100, not {truncate(str(quality))}")
    if strip not in (None, "gps", "all"):
        raise ValueError(f"strip must be gps or all, not {truncate(str(strip))}")
    options = {
        "quality": quality,
        "strip": strip,
        "provenance": content.get("provenance") is not False,
        "convert": content.get("convert") is True,
    }
    return (None if suffix is None else OUTPUT_SUFFIXES[suffix]), options


def view_from_query(request: Request) -> tuple[Window, tuple[int, int]]:
    """Parse the view that a request's query names; see :func:`retouch_common.studio.views.parse_view`."""
    return parse_view([request.query_params.get(name, "") for name in ("x", "y", "w", "h", "width", "height")])


def view_from_body(content: dict[str, Any]) -> tuple[Window, tuple[int, int]]:
    """Parse ``window`` and ``size`` of a request's body; see :func:`retouch_common.studio.views.parse_view`."""
    parts = (content.get(name) for name in ("window", "size"))
    return parse_view([value for part in parts if isinstance(part, list) for value in part])


def jpeg_response(data: bytes) -> Response:
    """Respond with a JPEG image."""
    return Response(data, media_type="image/jpeg")
