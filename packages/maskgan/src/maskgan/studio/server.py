"""The studio's web application: its page and the page's requests.

    GET  /                            the page, and its files beside it
    GET  /api/about                   classes, colours, components, sizes, the photo given at start
    POST /api/photos?name=&aligned=   a photo's file -> its description
    GET  /api/photos/ID/face.png      the face
    GET  /api/photos/ID/labels        its mask, a byte per pixel
    POST /api/photos/ID/labels        a corrected mask -> the description of another entry
    POST /api/photos/ID/adapt?steps=  -> lines of JSON: steps taken, finally the description of another entry
    POST /api/render                  an edit (JSON) -> image and warnings (JSON)
    POST /api/export/photo|face       an edit (JSON) -> a file
    POST /api/labels/encode           a mask, a byte per pixel -> a PNG with a palette
    POST /api/labels/decode?name=     a PNG -> a mask, a byte per pixel

An edit is {"photo": ID, "labels": base64, "parts": {component: {"photo": ID, "amount": 0..1}}, "view": "photo" or
"network"}. Errors are {"error": one line}, with "aligned": true where a photo could be opened as an aligned face.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from anyio import fail_after
from retouch_common.errors import error_line
from retouch_common.parsing.labels import CLASSES, COLOURS, NUM_CLASSES, decode_labels, encode_labels
from retouch_common.photo.formats import SUFFIXES
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from maskgan.config import COMPONENT_NAMES
from maskgan.studio.guard import Guard
from maskgan.studio.session import Edit, NoFace, OpenPhoto, StoredFile, Studio, UnknownPhoto, encode_png

PAGE = Path(__file__).parent / "page"
# Not from the system, where .js may be text/plain, which browsers do not run.
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
EDIT_BYTES = 4_000_000
LABEL_BYTES = 8_000_000
LONGEST_NAME = 120
BLOCK_TIMEOUT = 30.0  # seconds between two blocks of a body
MOST_STEPS = 1000


class TooLarge(ValueError):
    """A request's body exceeds its limit."""


def create_app(
    studio: Studio, folder: Path, token: str, *, single: str | None = None, start: str | None = None
) -> ASGIApp:
    """Create the application.

    Args:
        studio: The network and the open photos.
        folder: For uploads and temporary exports; removed by the caller.
        token: Access token, see :class:`maskgan.studio.guard.Guard`.
        single: Access token that is valid once, see there.
        start: Id of the photo that a page shows first.
    """
    page = _Page(studio, folder, start)
    files = [file for file in sorted(PAGE.iterdir()) if file.suffix in TYPES]
    routes = [Route("/" if file.name == "index.html" else f"/{file.name}", _static(file)) for file in files]
    routes += [
        Route("/api/about", page.about),
        Route("/api/photos", page.upload, methods=["POST"]),
        Route("/api/photos/{id}/face.png", page.face),
        Route("/api/photos/{id}/labels", page.labels),
        Route("/api/photos/{id}/labels", page.reread, methods=["POST"]),
        Route("/api/photos/{id}/adapt", page.adapt, methods=["POST"]),
        Route("/api/render", page.render, methods=["POST"]),
        Route("/api/export/photo", page.export_photo, methods=["POST"]),
        Route("/api/export/face", page.export_face, methods=["POST"]),
        Route("/api/labels/encode", page.encode, methods=["POST"]),
        Route("/api/labels/decode", page.decode, methods=["POST"]),
    ]
    statuses = {
        TooLarge: 413, UnknownPhoto: 404, ValueError: 422, TimeoutError: 408, OSError: 500, MemoryError: 507,
    }  # fmt: skip
    handlers: dict[Any, Any] = {kind: page.failure(status) for kind, status in statuses.items()}
    handlers |= {ClientDisconnect: _disconnected, 404: _not_found, Exception: _internal_error}
    # Not as middleware, which Starlette's own error responses bypass.
    return Guard(Starlette(routes=routes, exception_handlers=handlers), token, single=single)


class _Page:
    """Handlers of the page's requests."""

    def __init__(self, studio: Studio, folder: Path, start: str | None) -> None:
        self._studio, self._folder, self._start = studio, folder, start

    async def about(self, request: Request) -> Response:
        start = None
        if self._start is not None:
            try:
                start = _description(self._studio.photo(self._start))
            except UnknownPhoto:
                self._start = None
        return JSONResponse(
            {
                "size": self._studio.size,
                "classes": CLASSES,
                "colours": COLOURS.tolist(),
                "components": list(COMPONENT_NAMES),
                "upload_bytes": self._studio.limits.upload_bytes,
                "photo": start,
            }
        )

    async def upload(self, request: Request) -> Response:
        name = _plain_name(request.query_params.get("name", ""))
        suffix = Path(name).suffix.lower()
        path = self._folder / f"{secrets.token_hex(8)}{suffix if suffix in SUFFIXES else ''}"
        file = StoredFile(path, name, ours=True)
        aligned = request.query_params.get("aligned") == "1"
        try:
            with open(path, "wb") as target:
                await _receive(request, self._studio.limits.upload_bytes, name, target.write)
            opened = await run_in_threadpool(self._studio.open, file, aligned=aligned)
        except BaseException as error:
            file.discard()
            if isinstance(error, TooLarge) or not isinstance(error, ValueError | OSError):
                raise
            line = (error_line(error) or str(error)).replace(str(path), name).replace(path.stem, Path(name).stem)
            line = line if line.startswith(name) else f"{name}: {line}"
            return JSONResponse({"error": line, "aligned": isinstance(error, NoFace)}, status_code=422)
        return JSONResponse(_description(opened))

    async def face(self, request: Request) -> Response:
        opened = self._photo(request)
        return Response(await run_in_threadpool(encode_png, opened.view), media_type="image/png")

    async def labels(self, request: Request) -> Response:
        return _bytes(self._photo(request).portrait.labels)

    async def reread(self, request: Request) -> Response:
        labels = self._labels(await _body(request, LABEL_BYTES))
        opened = await run_in_threadpool(self._studio.reread, request.path_params["id"], labels)
        return JSONResponse(_description(opened))

    async def adapt(self, request: Request) -> Response:
        """Stream a line per step to show progress; disconnecting cancels."""
        opened = self._photo(request)
        text = request.query_params.get("steps", "")
        if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= MOST_STEPS:
            raise ValueError(f"steps must be a whole number from 1 to {MOST_STEPS}, not {_shown(text)!r}")
        return StreamingResponse(_lines(self._studio, opened.id, int(text)), media_type="application/x-ndjson")

    async def render(self, request: Request) -> Response:
        edit, view = await self._edit(request)
        start = time.perf_counter()
        image, warnings = await run_in_threadpool(self._studio.render, edit, view)
        return JSONResponse(
            {
                "image": base64.b64encode(image).decode(),
                "warnings": warnings,
                "milliseconds": round(1000 * (time.perf_counter() - start)),
            }
        )

    async def export_photo(self, request: Request) -> Response:
        edit, _ = await self._edit(request)
        path, name = await run_in_threadpool(self._studio.export_photo, edit, self._folder)
        task = BackgroundTask(path.unlink, missing_ok=True)
        return FileResponse(path, headers=_attachment(name), media_type="application/octet-stream", background=task)

    async def export_face(self, request: Request) -> Response:
        edit, view = await self._edit(request)
        data, name = await run_in_threadpool(self._studio.export_face, edit, view)
        return Response(data, headers=_attachment(name), media_type="image/png")

    async def encode(self, request: Request) -> Response:
        labels = self._labels(await _body(request, LABEL_BYTES))
        return Response(encode_labels(labels), media_type="image/png")

    async def decode(self, request: Request) -> Response:
        name = _plain_name(request.query_params.get("name", ""))
        data = await _body(request, LABEL_BYTES, name)
        size = self._studio.size
        shape = _png_shape(data)  # first, since a file of a few kilobytes can declare a huge image
        if shape in (None, (size, size)):
            labels = decode_labels(data, name)
            if labels.shape == (size, size):
                return _bytes(labels)
            shape = labels.shape[::-1]
        raise ValueError(f"{name}: has {shape[0]}x{shape[1]} pixels; a mask for this page has {size}x{size}")

    def failure(self, status: int) -> Callable[[Request, Exception], Response]:
        """Return a handler that responds with an exception's line."""

        def respond(request: Request, error: Exception) -> Response:
            line = str(error) if isinstance(error, LookupError) else error_line(error)
            line = (line or type(error).__name__).replace(f"{self._folder}/", "")
            return JSONResponse({"error": line}, status_code=status)

        return respond

    def _photo(self, request: Request) -> OpenPhoto:
        return self._studio.photo(request.path_params["id"])

    def _labels(self, data: bytes) -> np.ndarray:
        size = self._studio.size
        if len(data) != size * size:
            raise ValueError(f"the mask has {len(data)} pixels; {size}x{size} are needed")
        labels = np.frombuffer(bytearray(data), np.uint8).reshape(size, size)
        if labels.max() >= NUM_CLASSES:
            raise ValueError(f"the mask holds the label {labels.max()}; classes go from 0 to {NUM_CLASSES - 1}")
        return labels

    async def _edit(self, request: Request) -> tuple[Edit, Any]:
        """Parse the edit and the view of a request."""
        try:
            data = json.loads(await _body(request, EDIT_BYTES))
            labels = base64.b64decode(data["labels"], validate=True)
            parts = {
                str(name): (str(part["photo"]), float(part["amount"])) for name, part in data.get("parts", {}).items()
            }
            photo, view = str(data["photo"]), data.get("view", "photo")
        except TooLarge:
            raise
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError) as error:
            raise ValueError("the request is not an edit") from error
        for name, (_, amount) in parts.items():
            if name not in COMPONENT_NAMES:
                raise ValueError(f"no component {_shown(name)}; there are {', '.join(COMPONENT_NAMES)}")
            if not 0 <= amount <= 1:
                raise ValueError(f"the amount of {name} must lie between 0 and 1, not {amount:g}")
        if view not in ("photo", "network"):
            raise ValueError(f"view must be photo or network, not {_shown(str(view))}")
        return Edit(photo, self._labels(labels), parts), view


def _lines(studio: Studio, id: str, steps: int) -> Iterator[bytes]:
    try:
        for taken, opened in studio.adapt(id, steps):
            progress = {"taken": taken, "steps": steps}
            yield json.dumps(progress | ({"photo": _description(opened)} if opened else {})).encode() + b"\n"
    except (LookupError, MemoryError, ValueError) as error:  # after the status was sent
        yield json.dumps({"error": error_line(error) or str(error)}).encode() + b"\n"


def _description(opened: OpenPhoto) -> dict[str, Any]:
    return {
        "id": opened.id,
        "name": Path(opened.file.name).name,
        "width": opened.photo.width,
        "height": opened.photo.height,
        "present": {name: opened.portrait.codes.shows(name) for name in COMPONENT_NAMES},
    }


async def _receive(request: Request, limit: int, name: str, write: Callable[[bytes], Any]) -> None:
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


async def _body(request: Request, limit: int, name: str = "the request") -> bytes:
    data = bytearray()
    await _receive(request, limit, name, data.extend)
    return bytes(data)


def _plain_name(name: str) -> str:
    """Return a file's name without folders and unprintable characters."""
    name = "".join(letter for letter in name.replace("\\", "/") if letter.isprintable()).rpartition("/")[2]
    return name.strip().lstrip(".")[-LONGEST_NAME:] or "photo"


def _shown(text: str) -> str:
    """Return text of a request for a message: short, and without what UTF-8 cannot encode."""
    text = text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}…"
    return text.encode("utf-8", "replace").decode()


def _png_shape(data: bytes) -> tuple[int, int] | None:
    """Return the width and height that a PNG file declares, None if it is not one."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _bytes(labels: np.ndarray) -> Response:
    return Response(np.ascontiguousarray(labels, np.uint8).tobytes(), media_type="application/octet-stream")


def _attachment(name: str) -> dict[str, str]:
    return {"Content-Disposition": f"attachment; filename*=UTF-8''{quote(name)}"}


def _static(file: Path) -> Callable[[Request], Response]:
    def serve(request: Request) -> Response:
        return FileResponse(file, media_type=TYPES[file.suffix])

    return serve


def _not_found(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"there is nothing at {request.url.path}"}, status_code=404)


def _disconnected(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it


def _internal_error(request: Request, error: Exception) -> Response:
    line = error_line(error) or f"the studio failed: {type(error).__name__}; its terminal says where"
    return JSONResponse({"error": line}, status_code=500)
