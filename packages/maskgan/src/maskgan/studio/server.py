"""The Edit tool of the studio: its page's requests, below ``/edit``.

    GET  /api/about                   classes, colours, components, sizes
    POST /api/photos?name=&aligned=   a photo's file -> its description; ?file=ID: a photo of another tool
    GET  /api/photos/ID/face.png      the face
    GET  /api/photos/ID/labels        its mask, a byte per pixel
    POST /api/photos/ID/faces/INDEX   -> the description of a new entry of the photo, with another of its faces
    POST /api/photos/ID/labels        a corrected mask -> the description of a new entry of the photo
    POST /api/photos/ID/adapt?steps=  -> lines of JSON: steps taken, finally the description of a new entry
    POST /api/render                  an edit (JSON) -> image and warnings (JSON)
    POST /api/export/photo            an edit (JSON) with options -> a file
    POST /api/export/change           an edit (JSON) -> the change alone, TIFF
    POST /api/export/face             an edit (JSON) -> the aligned face, PNG
    POST /api/labels/encode           a mask, a byte per pixel -> a PNG with a palette
    POST /api/labels/decode?name=     a PNG -> a mask, a byte per pixel

An edit is {"photo": ID, "labels": base64, "parts": {component: {"photo": ID, "amount": 0..1}}, "view": "photo" or
"network"}. Errors are {"error": one line}, with "aligned": true where a photo could be opened as an aligned face.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from retouch_common.errors import error_line
from retouch_common.parsing.labels import CLASSES, COLOURS, NUM_CLASSES, decode_labels, encode_labels
from retouch_common.studio.files import UnknownPhotoError, describe_photo
from retouch_common.studio.requests import (
    about_response,
    attachment,
    export_response,
    failure_line,
    json_handler,
    open_photo,
    parse_output_options,
    read_body,
    safe_filename,
    truncate,
)
from retouch_common.studio.tools import Lazy, Tool, ToolContext
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from maskgan.config import COMPONENT_NAMES
from maskgan.edit_files import EditOptions
from maskgan.studio.session import Edit, EditSession, OpenPhoto, encode_png

PAGE = Path(__file__).parent / "page"
EDIT_BYTES = 4_000_000
LABEL_BYTES = 8_000_000
MAX_STEPS = 1000


def edit_tool(context: ToolContext, *, weights: str = "small", parser: str = "small") -> Tool:
    """Create the Edit tool."""

    def load() -> EditSession:
        from maskgan.editor import Editor

        return EditSession(Editor(weights, parser=parser, device=context.device))

    return create_tool(load, context)


def create_tool(load: Callable[[], EditSession], context: ToolContext) -> Tool:
    """Create the Edit tool; ``load`` returns its session, at the first use."""
    handlers = _Handlers(Lazy(load), context)
    edits = {
        "render": handlers.render,
        "export/photo": handlers.export_photo,
        "export/change": handlers.export_change,
        "export/face": handlers.export_face,
    }
    routes = [
        Route("/api/about", handlers.about),
        Route("/api/photos", handlers.upload, methods=["POST"]),
        Route("/api/photos/{id}/face.png", handlers.face),
        Route("/api/photos/{id}/faces/{index:int}", handlers.open_face, methods=["POST"]),
        Route("/api/photos/{id}/labels", handlers.labels),
        Route("/api/photos/{id}/labels", handlers.reencode, methods=["POST"]),
        Route("/api/photos/{id}/adapt", handlers.adapt, methods=["POST"]),
        Route("/api/labels/encode", handlers.encode, methods=["POST"]),
        Route("/api/labels/decode", handlers.decode, methods=["POST"]),
        *(Route(f"/api/{name}", json_handler(EDIT_BYTES, run), methods=["POST"]) for name, run in edits.items()),
    ]
    return Tool(name="edit", title="Edit", page=PAGE, routes=routes, prepare=handlers.prepare, order=3)


class _Handlers:
    """Handlers of the page's requests."""

    def __init__(self, session: Lazy[EditSession], context: ToolContext) -> None:
        self._get_session, self._context = session, context

    @property
    def _session(self) -> EditSession:
        return self._get_session()

    def prepare(self) -> None:
        """Load the networks."""
        self._session.prepare()

    def about(self, request: Request) -> Response:
        return about_response(
            size=self._session.size, classes=CLASSES, colours=COLOURS.tolist(), components=COMPONENT_NAMES
        )

    async def upload(self, request: Request) -> Response:
        aligned = request.query_params.get("aligned") == "1"
        opened = await open_photo(request, self._context, lambda file: self._session.open(file, aligned=aligned))
        return JSONResponse(_description(opened))

    def face(self, request: Request) -> Response:
        return Response(encode_png(self._photo(request).view), media_type="image/png")

    def open_face(self, request: Request) -> Response:
        return JSONResponse(
            _description(self._session.open_face(request.path_params["id"], request.path_params["index"]))
        )

    def labels(self, request: Request) -> Response:
        return _labels_response(self._photo(request).portrait.labels)

    async def reencode(self, request: Request) -> Response:
        labels = self._parse_labels(await read_body(request, LABEL_BYTES))
        opened = await run_in_threadpool(self._session.reencode, request.path_params["id"], labels)
        return JSONResponse(_description(opened))

    def adapt(self, request: Request) -> Response:
        """Stream a line of JSON per step; disconnecting cancels."""
        opened = self._photo(request)
        text = request.query_params.get("steps", "")
        if not re.fullmatch("[0-9]{1,9}", text) or not 1 <= int(text) <= MAX_STEPS:
            raise ValueError(f"steps must be a whole number from 1 to {MAX_STEPS}, not {truncate(text)!r}")
        return StreamingResponse(
            _progress_lines(self._session, opened.id, int(text)), media_type="application/x-ndjson"
        )

    def render(self, content: dict[str, Any]) -> Response:
        edit, view = self._parse_edit(content)
        start = time.perf_counter()
        image, warnings = self._session.render(edit, view)
        return JSONResponse(
            {
                "image": base64.b64encode(image).decode(),
                "warnings": warnings,
                "milliseconds": round(1000 * (time.perf_counter() - start)),
            }
        )

    def export_photo(self, content: dict[str, Any]) -> Response:
        edit, _ = self._parse_edit(content)
        suffix, options = parse_output_options(content.get("options", {}))
        args = (edit, self._context.folder, suffix, EditOptions(**options))
        return export_response(self._session.export_photo, *args)

    def export_change(self, content: dict[str, Any]) -> Response:
        edit, _ = self._parse_edit(content)
        return export_response(self._session.export_change, edit, self._context.folder)

    def export_face(self, content: dict[str, Any]) -> Response:
        data, name = self._session.export_face(*self._parse_edit(content))
        return Response(data, headers=attachment(name), media_type="image/png")

    async def encode(self, request: Request) -> Response:
        labels = self._parse_labels(await read_body(request, LABEL_BYTES))
        return Response(encode_labels(labels), media_type="image/png")

    async def decode(self, request: Request) -> Response:
        name = safe_filename(request.query_params.get("name", ""))
        data = await read_body(request, LABEL_BYTES, name)
        size = self._session.size
        shape = _png_shape(data)  # first, since a file of a few kilobytes can declare a huge image
        if shape in (None, (size, size)):
            labels = decode_labels(data, name)
            if labels.shape == (size, size):
                return _labels_response(labels)
            shape = labels.shape[::-1]
        raise ValueError(f"{name}: has {shape[0]}x{shape[1]} pixels; a mask for this page has {size}x{size}")

    def _photo(self, request: Request) -> OpenPhoto:
        return self._session.photo(request.path_params["id"])

    def _parse_labels(self, data: bytes) -> np.ndarray:
        size = self._session.size
        if len(data) != size * size:
            raise ValueError(f"the mask has {len(data)} pixels; {size}x{size} are needed")
        labels = np.frombuffer(bytearray(data), np.uint8).reshape(size, size)
        if labels.max() >= NUM_CLASSES:
            raise ValueError(f"the mask holds the label {labels.max()}; classes go from 0 to {NUM_CLASSES - 1}")
        return labels

    def _parse_edit(self, content: dict[str, Any]) -> tuple[Edit, Any]:
        """Return the edit and the view of a request."""
        try:
            labels = base64.b64decode(content["labels"], validate=True)
            parts = {
                str(name): (str(part["photo"]), float(part["amount"]))
                for name, part in content.get("parts", {}).items()
            }
            photo, view = str(content["photo"]), content.get("view", "photo")
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError("the request is not an edit") from error
        for name, (_, amount) in parts.items():
            if name not in COMPONENT_NAMES:
                raise ValueError(f"unknown component {truncate(name)}; choose from {', '.join(COMPONENT_NAMES)}")
            if not 0 <= amount <= 1:
                raise ValueError(f"the amount of {name} must lie between 0 and 1, not {amount:g}")
        if view not in ("photo", "network"):
            raise ValueError(f"view must be photo or network, not {truncate(str(view))}")
        return Edit(photo, self._parse_labels(labels), parts), view


def _progress_lines(session: EditSession, id: str, steps: int) -> Iterator[bytes]:
    try:
        for taken, opened in session.adapt(id, steps):
            progress = {"taken": taken, "steps": steps}
            yield json.dumps(progress | ({"photo": _description(opened)} if opened else {})).encode() + b"\n"
    except Exception as error:  # after the status was sent
        yield json.dumps({"error": failure_line(error)}).encode() + b"\n"
        if error_line(error) is None and not isinstance(error, UnknownPhotoError):
            raise


def _description(opened: OpenPhoto) -> dict[str, Any]:
    return {
        "id": opened.id,
        **describe_photo(opened.photo, opened.file),
        "faces": len(opened.squares),
        "face": opened.face,
        "present": {name: opened.portrait.codes.shows(name) for name in COMPONENT_NAMES},
    }


def _png_shape(data: bytes) -> tuple[int, int] | None:
    """Return the width and height that a PNG file declares, None if it is not one."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or len(data) < 24:
        return None
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def _labels_response(labels: np.ndarray) -> Response:
    return Response(np.ascontiguousarray(labels, np.uint8).tobytes(), media_type="application/octet-stream")
