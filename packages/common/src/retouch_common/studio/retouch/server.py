"""Requests of the Retouch tool's page, below ``/retouch``.

    GET  /api/about                     networks and their overlays, formats, limits
    POST /api/photos?name=              a photo's file -> its description; with ?file=ID one that another tool shows
    GET  /api/photos/ID/faces           the boxes of its faces
    POST /api/photos/ID/recipe?name=    a recipe's file -> the description of another entry
    GET  /api/photos/ID/before          ?x=&y=&w=&h=&width=&height= -> a part of the photo, JPEG
    POST /api/state                     a request -> strength, faces, blemishes, sizes
    POST /api/view                      a request with window and size -> a part of the result, JPEG
    POST /api/overlay                   a request with name -> parts: box, PNG as base64
    POST /api/export                    a request with options -> a file
    POST /api/export/change             a request -> the change alone, TIFF
    POST /api/recipe                    a request -> the recipe; {"saved": file} if it was written beside the photo

A request is {"photo": ID, "network": name, "steps": [...], "time": ISO 8601}, see
:mod:`retouch_common.inference.recipe`.
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
from retouch_common.inference.recipe import MOST_BYTES, MOST_STEPS, Recipe
from retouch_common.studio.requests import (
    OUTPUTS,
    attachment,
    body,
    jpeg,
    json_body,
    output_options,
    plain_name,
    posted_view,
    queried_view,
    requested_file,
    temporary_file,
)
from retouch_common.studio.retouch import session
from retouch_common.studio.retouch.networks import installed_networks
from retouch_common.studio.retouch.session import OpenPhoto, Retouching
from retouch_common.studio.tools import Desk, Tool

PAGE = Path(__file__).parent / "page"


def retouch_tool(desk: Desk) -> Tool | None:
    """Make the Retouch tool; None without a network."""
    networks = installed_networks()
    return tool_of(Retouching(networks, desk.device), desk) if networks else None


def tool_of(retouching: Retouching, desk: Desk) -> Tool:
    """Make the Retouch tool of networks and open photos."""
    page = _Page(retouching, desk)
    routes = [
        Route("/api/about", page.about),
        Route("/api/photos", page.upload, methods=["POST"]),
        Route("/api/photos/{id}/faces", page.faces),
        Route("/api/photos/{id}/recipe", page.open_recipe, methods=["POST"]),
        Route("/api/photos/{id}/before", page.before),
        Route("/api/state", page.state, methods=["POST"]),
        Route("/api/view", page.view, methods=["POST"]),
        Route("/api/overlay", page.overlay, methods=["POST"]),
        Route("/api/export", page.export, methods=["POST"]),
        Route("/api/export/change", page.export_change, methods=["POST"]),
        Route("/api/recipe", page.recipe, methods=["POST"]),
    ]
    return Tool(name="retouch", title="Retouch", page=PAGE, routes=routes, prepare=retouching.prepare, order=1)


class _Page:
    """Handlers of the page's requests."""

    def __init__(self, retouching: Retouching, desk: Desk) -> None:
        self._retouching, self._desk = retouching, desk

    async def about(self, request: Request) -> Response:
        networks = [
            {"name": name, "title": network.title, "overlays": dict(network.overlays)}  # type: ignore[attr-defined]
            for name, network in self._retouching.networks.items()
        ]
        limit = self._retouching.limits.upload_bytes
        return JSONResponse({"networks": networks, "formats": list(OUTPUTS), "upload_bytes": limit})

    async def upload(self, request: Request) -> Response:
        async with requested_file(request, self._desk, self._retouching.limits.upload_bytes) as file:
            opened = await run_in_threadpool(self._retouching.open, file)
        return JSONResponse(_description(opened))

    async def faces(self, request: Request) -> Response:
        faces = await run_in_threadpool(self._retouching.faces, request.path_params["id"])
        return JSONResponse({"faces": [{"box": face.box, "on": True} for face in faces]})

    async def open_recipe(self, request: Request) -> Response:
        name = plain_name(request.query_params.get("name", ""))
        data = await body(request, MOST_BYTES, name)
        try:
            recipe = Recipe.from_json(json.loads(data))
        except (ValueError, RecursionError) as error:
            reason = "is not JSON" if isinstance(error, json.JSONDecodeError | UnicodeDecodeError) else error
            raise ValueError(f"{name}: {reason}") from error
        opened = await run_in_threadpool(self._retouching.open_recipe, request.path_params["id"], recipe)
        return JSONResponse(_description(opened))

    async def before(self, request: Request) -> Response:
        window, size = queried_view(request)
        id = request.path_params["id"]
        return jpeg(await run_in_threadpool(self._retouching.before, id, window, *size))

    async def state(self, request: Request) -> Response:
        asked, _ = await self._request(request)
        return JSONResponse(await run_in_threadpool(self._retouching.describe, asked))

    async def view(self, request: Request) -> Response:
        asked, content = await self._request(request)
        window, size = posted_view(content)
        return jpeg(await run_in_threadpool(self._retouching.view, asked, window, *size))

    async def overlay(self, request: Request) -> Response:
        asked, content = await self._request(request)
        parts = await run_in_threadpool(self._retouching.overlay, asked, str(content.get("name", "")))
        encoded = [(part.box, base64.b64encode(session.encode_overlay(part.image)).decode()) for part in parts]
        return JSONResponse({"parts": [{"box": box, "image": image} for box, image in encoded]})

    async def export(self, request: Request) -> Response:
        asked, content = await self._request(request)
        suffix, chosen = output_options(content.get("options", {}))
        how = (self._desk.folder, suffix, PhotoOptions(**chosen))
        return temporary_file(*await run_in_threadpool(self._retouching.export, asked, *how))

    async def export_change(self, request: Request) -> Response:
        asked, _ = await self._request(request)
        return temporary_file(*await run_in_threadpool(self._retouching.export_change, asked, self._desk.folder))

    async def recipe(self, request: Request) -> Response:
        asked, _ = await self._request(request)
        saved, name, recipe = await run_in_threadpool(self._retouching.save_recipe, asked)
        if saved is not None:
            return JSONResponse({"saved": str(saved)})
        return Response(recipe.to_json(), headers=attachment(name), media_type="application/octet-stream")

    async def _request(self, request: Request) -> tuple[session.Request, dict[str, Any]]:
        """Parse what a page has done, and what else it says."""
        content = await json_body(request, MOST_BYTES)
        steps, time = content.get("steps", []), content.get("time")
        if not isinstance(steps, list) or len(steps) > MOST_STEPS:
            raise ValueError(f"steps must be a list of at most {MOST_STEPS}")
        photo, network = str(content.get("photo", "")), str(content.get("network", ""))
        asked = session.Request(
            photo=photo, network=network, steps=tuple(steps), time=None if time is None else str(time)[:40]
        )
        return asked, content


def _description(opened: OpenPhoto) -> dict[str, Any]:
    recipe = opened.recipe
    return {
        "id": opened.id,
        **opened.shown.describe(),
        "recipe": None if recipe is None else {"network": recipe.network, "steps": list(recipe.steps)},
        "beside": not opened.file.ours,
    }
