"""Parsing of requests of the studio's pages, with size limits, and common responses."""

from __future__ import annotations

import json
import logging
import secrets
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from anyio import fail_after
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from retouch_common.errors import error_line
from retouch_common.photo import io as photo_io
from retouch_common.photo.formats import format_for_output
from retouch_common.studio.files import PHOTO_SUFFIXES, StoredFile, UnknownPhotoError
from retouch_common.studio.tools import ToolContext

MAX_NAME_LENGTH = 120
UPLOAD_BYTES = 2_000_000_000  # of a photo
OUTPUT_SUFFIXES = {"jpg": ".jpg", "png": ".png", "tif": ".tif", "webp": ".webp", "avif": ".avif"}
CHUNK_TIMEOUT = 30.0  # seconds between two chunks of a body

T = TypeVar("T")


class BodyTooLargeError(ValueError):
    """A request's body exceeds its limit."""


class PhotoError(ValueError):
    """A photo cannot be opened; ``hints`` are sent to the page beside the line."""

    def __init__(self, line: str, hints: dict[str, Any]) -> None:
        super().__init__(line)
        self.hints = hints


def failure_line(error: Exception) -> str:
    """Return the line that a page shows for an exception; that of a bug refers to the terminal."""
    if isinstance(error, UnknownPhotoError):
        return str(error)
    return error_line(error) or f"the studio failed: {type(error).__name__}; its terminal says where"


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


def json_handler(limit: int, handle: Callable[[dict[str, Any]], Response]) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler of a request whose body is a JSON object, which ``handle`` is called with in a thread.

    Raises:
        BodyTooLargeError: If the body is larger than ``limit``.
        ValueError: If it is not a JSON object.
    """

    async def respond(request: Request) -> Response:
        data = await read_body(request, limit)
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise ValueError("the request is not JSON") from error
        if not isinstance(content, dict):
            raise ValueError("the request is not a JSON object")
        return await run_in_threadpool(handle, content)

    return respond


async def open_photo(request: Request, context: ToolContext, opener: Callable[[StoredFile], T]) -> T:
    """Call ``opener`` in a thread with the photo that a request names by ``file=``, or uploads with ``name=``.

    Raises:
        PhotoError: If ``opener`` cannot open it, with the attribute ``hints`` of its error; an upload is deleted then.
        BodyTooLargeError: If the upload is larger than ``UPLOAD_BYTES``.
        UnknownPhotoError: If the photo is no longer open.
    """
    if "file" in request.query_params:
        file = context.files[request.query_params["file"]]
        try:
            return await run_in_threadpool(opener, file)
        except (ValueError, OSError) as error:
            raise _photo_error(error, file) from error
    name = safe_filename(request.query_params.get("name", ""))
    suffix = Path(name).suffix.lower()
    path = context.folder / f"{secrets.token_hex(8)}{suffix if suffix in PHOTO_SUFFIXES else ''}"
    file = StoredFile(path, name, owned=True)
    try:
        with open(path, "wb") as target:
            await stream_body(request, UPLOAD_BYTES, name, target.write)
        return await run_in_threadpool(opener, context.files.add(file))
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


class _Losses(logging.Handler):
    """Collects what the outputs that the current thread writes do not carry, see :meth:`Photo.write_stripes`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._thread = threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        losses = getattr(record, "losses", None)
        if losses is not None and record.thread == self._thread:
            self.found.append(losses)


def export_response(export: Callable[..., tuple[Path, str]], *args: Any) -> Response:
    """Respond with the file that ``export(*args)`` writes, under the name that it returns; it is deleted afterwards.

    The header ``X-Losses``, percent-encoded, names the photo's metadata that the file does not carry, if any.
    """
    losses = _Losses()
    photo_io.logger.addHandler(losses)
    try:
        path, name = export(*args)
    finally:
        photo_io.logger.removeHandler(losses)
    headers = attachment(name)
    if losses.found:
        headers["X-Losses"] = quote("; ".join(losses.found))
    task = BackgroundTask(path.unlink, missing_ok=True)
    return FileResponse(path, headers=headers, media_type="application/octet-stream", background=task)


def about_response(**content: Any) -> Response:
    """Respond with what a page needs to know: ``content``, ``upload_bytes`` and the ``formats`` of exports by name.

    Of a format, ``quality`` is the default quality, None if it is lossless; ``bits`` the maximum bits per channel;
    ``alpha`` whether it supports transparency.
    """
    formats = {name: format_for_output(f"photo{suffix}") for name, suffix in OUTPUT_SUFFIXES.items()}
    described = {name: {"quality": f.quality, "bits": f.bits, "alpha": f.alpha} for name, f in formats.items()}
    return JSONResponse({**content, "formats": described, "upload_bytes": UPLOAD_BYTES})


def parse_output_options(content: Any) -> tuple[str | None, dict[str, Any]]:
    """Parse the options of an export: the suffix, None for that of the photo, and fields of :class:`PhotoOptions`.

    Raises:
        ValueError: If an option is unknown.
    """
    if not isinstance(content, dict):
        raise ValueError("options must be an object")
    suffix, quality, strip = content.get("format"), content.get("quality"), content.get("strip")
    if suffix is not None and not (isinstance(suffix, str) and suffix in OUTPUT_SUFFIXES):
        raise ValueError(f"unknown format {truncate(str(suffix))}; choose from {', '.join(OUTPUT_SUFFIXES)}")
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
