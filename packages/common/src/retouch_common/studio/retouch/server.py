"""Requests of the Retouch tool's page, below ``/retouch``, in addition to those of :mod:`retouch_common.studio.photos`.

    GET  /api/photos/ID/faces           the boxes of its faces
    POST /api/photos/ID/recipe?name=    a recipe's file -> the description of a new entry of the photo
    POST /api/overlay                   a request with name -> parts: box, PNG as base64
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

from retouch_common.inference.recipe import MAX_BYTES, Recipe
from retouch_common.studio.files import displayed
from retouch_common.studio.photos import PhotoHandlers, parse_steps
from retouch_common.studio.requests import attachment, json_handler, read_body, safe_filename
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
    handlers = _Handlers(lambda: session, context)
    routes = [
        Route("/api/photos/{id}/faces", handlers.faces),
        Route("/api/photos/{id}/recipe", handlers.open_recipe, methods=["POST"]),
        Route("/api/overlay", json_handler(MAX_BYTES, handlers.overlay), methods=["POST"]),
        Route("/api/recipe", json_handler(MAX_BYTES, handlers.recipe), methods=["POST"]),
        *handlers.routes,
    ]
    return Tool(name="retouch", title="Retouch", page=PAGE, routes=routes, prepare=session.prepare, order=1)


class _Handlers(PhotoHandlers):
    """Handlers of the page's requests."""

    def parse(self, content: dict[str, Any]) -> tuple[RetouchRequest]:
        photo, steps = parse_steps(content)
        network, time = str(content.get("network", "")), content.get("time")
        time = None if time is None else str(time)[:40]
        return (RetouchRequest(photo=photo, network=network, steps=tuple(steps), time=time),)

    def about(self) -> dict[str, Any]:
        networks = [
            {
                "name": name,
                "title": network.title,
                "overlays": dict(network.overlays),
                "whole_photo": hasattr(network, "photo_change"),
            }
            for name, network in self._session.networks.items()
        ]
        return {"networks": networks}

    def description(self, opened: OpenPhoto) -> dict[str, Any]:
        recipe = opened.recipe and {name: getattr(opened.recipe, name) for name in ("network", "steps", "time")}
        described = super().description(opened)
        return {**described, "recipe": recipe, "notice": opened.notice, "beside": not opened.file.owned}

    def faces(self, request: Request) -> Response:
        faces = self._session.faces(request.path_params["id"])
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
        return JSONResponse(self.description(opened))

    def overlay(self, content: dict[str, Any]) -> Response:
        parts = self._session.overlay(*self.parse(content), str(content.get("name", "")))
        encoded = [(part.box, base64.b64encode(encode_overlay(part.image)).decode()) for part in parts]
        return JSONResponse({"parts": [{"box": box, "image": image} for box, image in encoded]})

    def recipe(self, content: dict[str, Any]) -> Response:
        saved, name, recipe = self._session.save_recipe(*self.parse(content))
        if saved is not None:
            return JSONResponse({"saved": displayed(saved)})
        return Response(recipe.to_json(), headers=attachment(name), media_type="application/octet-stream")
