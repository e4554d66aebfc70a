"""Requests of the Retouch tool's page, below ``/retouch``.

    GET  /api/about                     networks and their overlays, formats, limits
    POST /api/photos?name=              a photo's file -> its description; ?file=ID: a photo of another tool
    GET  /api/photos/ID/faces           the boxes of its faces
    POST /api/photos/ID/recipe?name=    a recipe's file -> the description of a new entry of the photo
    GET  /api/photos/ID/before          ?x=&y=&w=&h=&width=&height= -> a crop of the photo, JPEG
    POST /api/state                     a request -> strength, region, faces, blemishes, sizes
    POST /api/view                      a request with window and size -> a crop of the result, JPEG
    POST /api/overlay                   a request with name -> parts: box, PNG as base64
    POST /api/export                    a request with options -> a file
    POST /api/export/change             a request -> the change alone, TIFF
    POST /api/recipe                    a request -> the recipe; {"saved": file} if it was written beside the photo

A request is {"photo": ID, "network": name, "steps": [...], "time": ISO 8601}, see
:mod:`retouch_common.inference.recipe_steps`.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from retouch_common.inference.photos import PhotoOptions
from retouch_common.inference.recipe import MAX_BYTES, MAX_STEPS, Recipe
from retouch_common.studio.files import displayed
from retouch_common.studio.requests import (
    attachment,
    export_formats,
    jpeg_response,
    parse_output_options,
    photo_file,
    read_body,
    read_json,
    safe_filename,
    temporary_file_response,
    view_from_body,
    view_from_query,
)
from retouch_common.studio.retouch.networks import installed_networks
from retouch_common.studio.retouch.session import OpenPhoto, RetouchRequest, RetouchSession, encode_overlay
from retouch_common.studio.tools import Tool, ToolContext

PAGE = Path(__file__).parent / "page"


def retouch_tool(context: ToolContext) -> Tool | None:
    """Create the Retouch tool with the installed networks; None without any."""
    networks = installed_networks()
    return create_tool(RetouchSession(networks, context.device), context) if networks else None


def create_tool(session: RetouchSession, context: ToolContext) -> Tool:
    """Create the Retouch tool of a session."""
    handlers = _Handlers(session, context)
    routes = [
        Route("/api/about", handlers.about),
        Route("/api/photos", handlers.upload, methods=["POST"]),
        Route("/api/photos/{id}/faces", handlers.faces),
        Route("/api/photos/{id}/recipe", handlers.open_recipe, methods=["POST"]),
        Route("/api/photos/{id}/before", handlers.before),
        Route("/api/state", handlers.state, methods=["POST"]),
        Route("/api/view", handlers.view, methods=["POST"]),
        Route("/api/overlay", handlers.overlay, methods=["POST"]),
        Route("/api/export", handlers.export, methods=["POST"]),
        Route("/api/export/change", handlers.export_change, methods=["POST"]),
        Route("/api/recipe", handlers.recipe, methods=["POST"]),
    ]
    return Tool(name="retouch", title="Retouch", page=PAGE, routes=routes, prepare=session.prepare, order=1)


class _Handlers:
    """Handlers of the page's requests."""

    def __init__(self, session: RetouchSession, context: ToolContext) -> None:
        self._session, self._context = session, context

    async def about(self, request: Request) -> Response:
        networks = [
            {
                "name": name,
                "title": network.title,  # type: ignore[attr-defined]
                "overlays": dict(network.overlays),  # type: ignore[attr-defined]
                "whole_photo": hasattr(network, "photo_change"),
            }
            for name, network in self._session.networks.items()
        ]
        limit = self._session.limits.upload_bytes
        return JSONResponse({"networks": networks, "formats": export_formats(), "upload_bytes": limit})

    async def upload(self, request: Request) -> Response:
        async with photo_file(request, self._context, self._session.limits.upload_bytes) as file:
            opened = await run_in_threadpool(self._session.open, file)
        return JSONResponse(_description(opened))

    async def faces(self, request: Request) -> Response:
        faces = await run_in_threadpool(self._session.faces, request.path_params["id"])
        return JSONResponse({"faces": [{"box": face.box, "on": True} for face in faces]})

    async def open_recipe(self, request: Request) -> Response:
        name = safe_filename(request.query_params.get("name", ""))
        data = await read_body(request, MAX_BYTES, name)
        try:
            recipe = Recipe.from_json(json.loads(data))
        except (ValueError, RecursionError) as error:
            reason = "is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else error
            raise ValueError(f"{name}: {reason}") from error
        opened = await run_in_threadpool(self._session.open_recipe, request.path_params["id"], recipe)
        return JSONResponse(_description(opened))

    async def before(self, request: Request) -> Response:
        window, size = view_from_query(request)
        id = request.path_params["id"]
        return jpeg_response(await run_in_threadpool(self._session.before, id, window, *size))

    async def state(self, request: Request) -> Response:
        retouch_request, _ = await _parse_request(request)
        return JSONResponse(await run_in_threadpool(self._session.describe, retouch_request))

    async def view(self, request: Request) -> Response:
        retouch_request, content = await _parse_request(request)
        window, size = view_from_body(content)
        return jpeg_response(await run_in_threadpool(self._session.view, retouch_request, window, *size))

    async def overlay(self, request: Request) -> Response:
        retouch_request, content = await _parse_request(request)
        parts = await run_in_threadpool(self._session.overlay, retouch_request, str(content.get("name", "")))
        encoded = [(part.box, base64.b64encode(encode_overlay(part.image)).decode()) for part in parts]
        return JSONResponse({"parts": [{"box": box, "image": image} for box, image in encoded]})

    async def export(self, request: Request) -> Response:
        retouch_request, content = await _parse_request(request)
        suffix, options = parse_output_options(content.get("options", {}))
        args = (retouch_request, self._context.folder, suffix, PhotoOptions(**options))
        return temporary_file_response(*await run_in_threadpool(self._session.export, *args))

    async def export_change(self, request: Request) -> Response:
        retouch_request, _ = await _parse_request(request)
        return temporary_file_response(
            *await run_in_threadpool(self._session.export_change, retouch_request, self._context.folder)
        )

    async def recipe(self, request: Request) -> Response:
        retouch_request, _ = await _parse_request(request)
        saved, name, recipe = await run_in_threadpool(self._session.save_recipe, retouch_request)
        if saved is not None:
            return JSONResponse({"saved": displayed(saved)})
        return Response(recipe.to_json(), headers=attachment(name), media_type="application/octet-stream")


async def _parse_request(request: Request) -> tuple[RetouchRequest, dict[str, Any]]:
    """Parse the body of a request; return it and its JSON, which may hold further fields."""
    content = await read_json(request, MAX_BYTES)
    steps, time = content.get("steps", []), content.get("time")
    if not isinstance(steps, list) or len(steps) > MAX_STEPS:
        raise ValueError(f"steps must be a list of at most {MAX_STEPS}")
    photo, network = str(content.get("photo", "")), str(content.get("network", ""))
    retouch_request = RetouchRequest(
        photo=photo, network=network, steps=tuple(steps), time=None if time is None else str(time)[:40]
    )
    return retouch_request, content


def _description(opened: OpenPhoto) -> dict[str, Any]:
    recipe = opened.recipe
    return {
        "id": opened.id,
        **opened.preview.describe(),
        "recipe": None if recipe is None else {name: getattr(recipe, name) for name in ("network", "steps", "time")},
        "notice": opened.notice,
        "beside": not opened.file.owned,
    }
