"""Requests of the Restore tool's page, below ``/restore``.

    GET  /api/about                the caution, operations, formats, limits
    POST /api/photos?name=         a photo's file -> its description; ?file=ID: a photo of another tool
    GET  /api/photos/ID/before     ?x=&y=&w=&h=&width=&height= -> a crop of the photo, JPEG
    POST /api/state                a request -> strength; per face and operation the probability, degree and share
    POST /api/view                 a request with window and size -> a crop of the result, JPEG
    POST /api/export               a request with options -> a file
    POST /api/export/change        a request -> the change alone, TIFF

A request is {"photo": ID, "steps": [...]}; steps are {"step": "share", "face": index, "name": operation, "value": 0..1}
and {"step": "strength", "value": 0..1}.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from retouch_common.studio.requests import (
    export_formats,
    jpeg_response,
    parse_output_options,
    photo_file,
    read_json,
    temporary_file_response,
    view_from_body,
    view_from_query,
)
from retouch_common.studio.tools import Lazy, Tool, ToolContext
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mofrr.restore import CAUTION, RestoreOptions
from mofrr.studio.session import UPLOAD_BYTES, RestoreSession

PAGE = Path(__file__).parent / "page"
REQUEST_BYTES = 2_000_000
MAX_STEPS = 10_000
TITLES = {"white": "Whitening", "smooth": "Smoothing", "lift": "Face lifting", "eye": "Eye enlarging"}


def restore_tool(context: ToolContext) -> Tool:
    """Create the Restore tool."""

    def load() -> RestoreSession:
        from mofrr.restore import Restorer

        return RestoreSession(Restorer("small", device=context.device))

    return create_tool(load, context)


def create_tool(load: Callable[[], RestoreSession], context: ToolContext) -> Tool:
    """Create the Restore tool; ``load`` returns its session, at the first use."""
    handlers = _Handlers(Lazy(load), context)
    routes = [
        Route("/api/about", handlers.about),
        Route("/api/photos", handlers.upload, methods=["POST"]),
        Route("/api/photos/{id}/before", handlers.before),
        Route("/api/state", handlers.state, methods=["POST"]),
        Route("/api/view", handlers.view, methods=["POST"]),
        Route("/api/export", handlers.export, methods=["POST"]),
        Route("/api/export/change", handlers.export_change, methods=["POST"]),
    ]
    return Tool(name="restore", title="Restore", page=PAGE, routes=routes, prepare=handlers.load, order=2)


class _Handlers:
    """Handlers of the page's requests."""

    def __init__(self, session: Lazy[RestoreSession], context: ToolContext) -> None:
        self._lazy, self._context = session, context

    @property
    def _session(self) -> RestoreSession:
        return self._lazy()

    def load(self) -> None:
        """Load the network."""
        self._lazy()

    async def about(self, request: Request) -> Response:
        await run_in_threadpool(self.load)
        operations = [{"name": name, "title": TITLES.get(name, name)} for name in self._session.operations]
        content = {
            "caution": CAUTION,
            "operations": operations,
            "formats": export_formats(),
            "upload_bytes": UPLOAD_BYTES,
        }
        return JSONResponse(content)

    async def upload(self, request: Request) -> Response:
        await run_in_threadpool(self.load)
        async with photo_file(request, self._context, UPLOAD_BYTES) as file:
            opened = await run_in_threadpool(self._session.open, file)
        return JSONResponse({"id": opened.id, **opened.preview.describe()})

    async def before(self, request: Request) -> Response:
        window, size = view_from_query(request)
        id = request.path_params["id"]
        return jpeg_response(await run_in_threadpool(self._session.before, id, window, *size))

    async def state(self, request: Request) -> Response:
        id, steps, _ = await _parse_request(request)
        return JSONResponse(await run_in_threadpool(self._session.describe, id, steps))

    async def view(self, request: Request) -> Response:
        id, steps, content = await _parse_request(request)
        window, size = view_from_body(content)
        return jpeg_response(await run_in_threadpool(self._session.view, id, steps, window, *size))

    async def export(self, request: Request) -> Response:
        id, steps, content = await _parse_request(request)
        suffix, options = parse_output_options(content.get("options", {}))
        args = (id, steps, self._context.folder, suffix, RestoreOptions(**options))
        return temporary_file_response(*await run_in_threadpool(self._session.export, *args))

    async def export_change(self, request: Request) -> Response:
        id, steps, _ = await _parse_request(request)
        args = (id, steps, self._context.folder)
        return temporary_file_response(*await run_in_threadpool(self._session.export_change, *args))


async def _parse_request(request: Request) -> tuple[str, list[Any], dict[str, Any]]:
    content = await read_json(request, REQUEST_BYTES)
    steps = content.get("steps", [])
    if not isinstance(steps, list) or len(steps) > MAX_STEPS:
        raise ValueError(f"steps must be a list of at most {MAX_STEPS}")
    return str(content.get("photo", "")), steps, content
