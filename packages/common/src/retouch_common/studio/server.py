"""The studio's web application: a page for every tool, in a common shell.

    GET  /                 redirects to the first tool
    GET  /shell/FILE       scripts, styles and images that tools share
    GET  /TOOL/            the page of a tool, and its files
         /TOOL/...         its requests, see the tool's server module

Errors are {"error": one line} and, for some, further fields for the page.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from retouch_common.studio.files import PHOTO_SUFFIXES, StoredFile, UnknownPhotoError
from retouch_common.studio.guard import Guard
from retouch_common.studio.requests import BodyTooLargeError, failure_line
from retouch_common.studio.tools import Tool, ToolContext

SHELL = Path(__file__).parent / "page"
# Not from the system's MIME types, where .js may be text/plain, which browsers do not run.
_PLACEHOLDER = re.compile("<!-- ([a-z-]+) -->")
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


def create_app(
    tools: Sequence[Tool],
    context: ToolContext,
    token: str,
    *,
    one_time_token: str | None = None,
    first: str | None = None,
    start: StoredFile | None = None,
) -> ASGIApp:
    """Create the application.

    Args:
        tools: Tools in their order on the page.
        context: What the tools share.
        token: Access token, see :class:`retouch_common.studio.guard.Guard`.
        one_time_token: Access token that is valid once; None for none.
        first: Name of the tool that the page opens with.
        start: Photo that the page opens with.
    """
    query = f"?{urlencode({'file': context.files.add(start).id})}" if start is not None else ""

    def index(request: Request) -> Response:
        return RedirectResponse(f"/{first or tools[0].name}/{query}")

    routes: list[Any] = [Route("/", index), Mount("/shell", routes=_static_routes(SHELL))]
    for tool in tools:
        page = Route("/", _page_handler(tool, tools))
        routes.append(Mount(f"/{tool.name}", routes=[page, *_static_routes(tool.page), *tool.routes]))
    statuses = {
        BodyTooLargeError: 413, UnknownPhotoError: 404, ValueError: 422, TimeoutError: 408, OSError: 500,
        MemoryError: 507,
    }  # fmt: skip
    handlers: dict[Any, Any] = {kind: _error_handler(status, context.folder) for kind, status in statuses.items()}
    handlers |= {ClientDisconnect: _disconnected, 404: _not_found, Exception: _internal_error}
    # Not as middleware, which Starlette's own error responses bypass.
    app = Starlette(routes=routes, exception_handlers=handlers)
    app.state.start = start  # keeps its file
    return Guard(app, token, one_time_token=one_time_token)


def _static_routes(folder: Path) -> list[Route]:
    files = [file for file in sorted(folder.iterdir()) if file.suffix in TYPES]
    return [Route(f"/{file.name}", _file_handler(file)) for file in files]


def _file_handler(file: Path) -> Callable[[Request], Response]:
    def serve(request: Request) -> Response:
        return FileResponse(file, media_type=TYPES[file.suffix])

    return serve


def _page_handler(tool: Tool, tools: Sequence[Tool]) -> Callable[[Request], Response]:
    """Return the handler of a tool's page: the shell with the tool's parts filled in."""

    def link(other: Tool) -> str:
        current = ' aria-current="page"' if other is tool else ""
        return f'<a href="/{escape(other.name)}/"{current}>{escape(other.title)}</a>'

    def part(name: str) -> str:
        file = tool.page / name
        return file.read_text(encoding="utf-8") if file.is_file() else ""

    parts = {file.stem: file.read_text(encoding="utf-8").rstrip() for file in SHELL.glob("*.html")}
    parts |= {
        "title": escape(tool.title),
        "styles": "".join(f'<link rel="stylesheet" href="{escape(file.name)}">' for file in tool.page.glob("*.css")),
        "tabs": "".join(map(link, tools)) if len(tools) > 1 else "",
        "photo-suffixes": ",".join(PHOTO_SUFFIXES),
        "actions": part("actions.html"),
        "tool": part("tool.html"),
    }

    def fill(text: str) -> str:
        return _PLACEHOLDER.sub(lambda found: fill(parts.get(found[1], "")), text)

    page = fill(parts["shell"])

    def serve(request: Request) -> Response:
        return HTMLResponse(page)

    return serve


def _error_handler(status: int, folder: Path) -> Callable[[Request, Exception], Response]:
    """Return a handler that responds with an exception's message in one line."""

    def respond(request: Request, error: Exception) -> Response:
        line = failure_line(error).replace(f"{folder}/", "")
        return JSONResponse({"error": line, **getattr(error, "hints", {})}, status_code=status)

    return respond


def _not_found(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"there is nothing at {request.url.path}"}, status_code=404)


def _disconnected(request: Request, error: Exception) -> Response:
    return Response(status_code=499)  # the client is gone


def _internal_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": failure_line(error)}, status_code=500)
