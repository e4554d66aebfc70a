"""Requests that tools for whole photos share; their pages send them by ``page/photos.js``.

    GET  /api/about               what the page needs to know, formats, limits
    POST /api/photos?name=        a photo's file -> its description; ?file=ID: a photo of another tool
    GET  /api/photos/ID/before    ?x=&y=&w=&h=&width=&height= -> a crop of the photo, JPEG
    POST /api/state               a request -> the state after its steps
    POST /api/view                a request with window and size -> a crop of the result, JPEG
    POST /api/export              a request with options -> a file
    POST /api/export/change       a request -> the change alone, TIFF

A request is {"photo": ID, "steps": [...]}, with further fields of the tool.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from retouch_common.inference.photos import PhotoOptions
from retouch_common.inference.recipe import MAX_BYTES, MAX_STEPS
from retouch_common.studio.requests import (
    about_response,
    export_response,
    json_handler,
    open_photo,
    parse_output_options,
)
from retouch_common.studio.tools import ToolContext
from retouch_common.studio.views import parse_view


class PhotoHandlers(ABC):
    """Base of the handlers of a tool's requests.

    Args:
        session: Returns the session of the tool, with the methods ``open`` and ``photo``, and ``describe``, ``view``,
            ``export`` and ``export_change``, which take what :meth:`parse` returns.
        context: What the studio provides.
    """

    options: ClassVar[type[PhotoOptions]] = PhotoOptions
    """Options of an export."""

    def __init__(self, session: Callable[[], Any], context: ToolContext) -> None:
        self._get_session, self._context = session, context

    @property
    def _session(self) -> Any:
        return self._get_session()

    @abstractmethod
    def about(self) -> dict[str, Any]:
        """Return what the page needs to know of the tool."""

    @abstractmethod
    def parse(self, content: dict[str, Any]) -> tuple[Any, ...]:
        """Return the leading arguments of the session's methods."""

    def description(self, opened: Any) -> dict[str, Any]:
        """Return the description of an open photo for the page."""
        return {"id": opened.id, **opened.preview.describe()}

    @property
    def routes(self) -> list[Route]:
        """Routes of the requests."""
        posts = {
            "state": self._state,
            "view": self._view,
            "export": self._export,
            "export/change": self._export_change,
        }
        return [
            Route("/api/about", self._about),
            Route("/api/photos", self._upload, methods=["POST"]),
            Route("/api/photos/{id}/before", self._before),
            *(
                Route(f"/api/{name}", json_handler(MAX_BYTES, handle), methods=["POST"])
                for name, handle in posts.items()
            ),
        ]

    def _about(self, request: Request) -> Response:
        return about_response(**self.about())

    async def _upload(self, request: Request) -> Response:
        opened = await open_photo(request, self._context, lambda file: self._session.open(file))
        return JSONResponse(self.description(opened))

    def _before(self, request: Request) -> Response:
        window, size = parse_view([request.query_params.get(name) for name in ("x", "y", "w", "h", "width", "height")])
        photo = self._session.photo(request.path_params["id"])
        return Response(photo.preview.view(window, size), media_type="image/jpeg")

    def _state(self, content: dict[str, Any]) -> Response:
        return JSONResponse(self._session.describe(*self.parse(content)))

    def _view(self, content: dict[str, Any]) -> Response:
        parts = (content.get(name) for name in ("window", "size"))
        window, size = parse_view([value for part in parts if isinstance(part, list) for value in part])
        return Response(self._session.view(*self.parse(content), window, size), media_type="image/jpeg")

    def _export(self, content: dict[str, Any]) -> Response:
        suffix, options = parse_output_options(content.get("options", {}))
        args = (*self.parse(content), self._context.folder, suffix, self.options(**options))
        return export_response(self._session.export, *args)

    def _export_change(self, content: dict[str, Any]) -> Response:
        return export_response(self._session.export_change, *self.parse(content), self._context.folder)


def parse_steps(content: dict[str, Any]) -> tuple[str, list[Any]]:
    """Return the photo's id and the steps of a request.

    Raises:
        ValueError: If the steps are not a list, or too many.
    """
    steps = content.get("steps", [])
    if not isinstance(steps, list) or len(steps) > MAX_STEPS:
        raise ValueError(f"steps must be a list of at most {MAX_STEPS}")
    return str(content.get("photo", "")), steps
