"""Requests of the Restore tool's page, below ``/restore``.

    GET  /api/about                the caution, operations, formats, limits
    POST /api/photos?name=         a photo's file -> its description; with ?file=ID one that another tool shows
    GET  /api/photos/ID/before     ?x=&y=&w=&h=&width=&height= -> a part of the photo, JPEG
    POST /api/state                a request -> strength, and for each face what was found and is undone
    POST /api/view                 a request with window and size -> a part of the result, JPEG
    POST /api/export               a request with options -> a file

A request is {"photo": ID, "steps": [...]}; steps are {"step": "share", "face": index, "name": operation, "value": 0..1}
and {"step": "strength", "value": 0..1}.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from retouch_common.studio.requests import (
    OUTPUTS,
    jpeg,
    json_body,
    output_options,
    posted_view,
    queried_view,
    requested_file,
    temporary_file,
)
from retouch_common.studio.tools import Desk, Lazy, Tool
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from mofrr.restore import CAUTION, RestoreOptions
from mofrr.studio.session import UPLOAD_BYTES, Restoring

PAGE = Path(__file__).parent / "page"
REQUEST_BYTES = 2_000_000
MOST_STEPS = 10_000
TITLES = {"white": "Whitening", "smooth": "Smoothing", "lift": "Face lifting", "eye": "Eye enlarging"}


def restore_tool(desk: Desk) -> Tool:
    """Make the Restore tool."""

    def load() -> Restoring:
        from mofrr.restore import Restorer

        return Restoring(Restorer("small", device=desk.device))

    return tool_of(load, desk)


def tool_of(load: Callable[[], Restoring], desk: Desk) -> Tool:
    """Make the Restore tool; ``load`` returns the network and its open photos."""
    page = _Page(Lazy(load), desk)
    routes = [
        Route("/api/about", page.about),
        Route("/api/photos", page.upload, methods=["POST"]),
        Route("/api/photos/{id}/before", page.before),
        Route("/api/state", page.state, methods=["POST"]),
        Route("/api/view", page.view, methods=["POST"]),
        Route("/api/export", page.export, methods=["POST"]),
    ]
    return Tool(name="restore", title="Restore", page=PAGE, routes=routes, prepare=page.load, order=2)


class _Page:
    """Handlers of the page's requests."""

    def __init__(self, restoring: Lazy[Restoring], desk: Desk) -> None:
        self._lazy, self._desk = restoring, desk

    @property
    def _restoring(self) -> Restoring:
        return self._lazy()

    def load(self) -> None:
        """Load the network."""
        self._lazy()

    async def about(self, request: Request) -> Response:
        await run_in_threadpool(self.load)
        operations = [{"name": name, "title": TITLES.get(name, name)} for name in self._restoring.operations]
        content = {"caution": CAUTION, "operations": operations, "formats": list(OUTPUTS), "upload_bytes": UPLOAD_BYTES}
        return JSONResponse(content)

    async def upload(self, request: Request) -> Response:
        await run_in_threadpool(self.load)
        async with requested_file(request, self._desk, UPLOAD_BYTES) as file:
            opened = await run_in_threadpool(self._restoring.open, file)
        return JSONResponse({"id": opened.id, **opened.shown.describe()})

    async def before(self, request: Request) -> Response:
        window, size = queried_view(request)
        id = request.path_params["id"]
        return jpeg(await run_in_threadpool(self._restoring.before, id, window, *size))

    async def state(self, request: Request) -> Response:
        id, steps, _ = await _request(request)
        return JSONResponse(await run_in_threadpool(self._restoring.describe, id, steps))

    async def view(self, request: Request) -> Response:
        id, steps, content = await _request(request)
        window, size = posted_view(content)
        return jpeg(await run_in_threadpool(self._restoring.view, id, steps, window, *size))

    async def export(self, request: Request) -> Response:
        id, steps, content = await _request(request)
        suffix, chosen = output_options(content.get("options", {}))
        how = (self._desk.folder, suffix, RestoreOptions(**chosen))
        return temporary_file(*await run_in_threadpool(self._restoring.export, id, steps, *how))


async def _request(request: Request) -> tuple[str, list[Any], dict[str, Any]]:
    content = await json_body(request, REQUEST_BYTES)
    steps = content.get("steps", [])
    if not isinstance(steps, list) or len(steps) > MOST_STEPS:
        raise ValueError(f"steps must be a list of at most {MOST_STEPS}")
    return str(content.get("photo", "")), steps, content
