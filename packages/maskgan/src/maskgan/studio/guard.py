"""Who may talk to the studio: pages it served itself, on this computer.

Any web page can send requests to a port of the computer it is shown on, and can point a name of its own at that
computer ("DNS rebinding"). So a request must name this computer as its host, and a browser's request must come from the
studio's page; what the studio answers, no other page may read or show. The page itself may load nothing from elsewhere.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = frozenset({"127.0.0.1", "localhost"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses requests from elsewhere and gives every answer the headers that protect it.

    Args:
        app: What it stands before.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        reason = refusal(Headers(scope=scope))
        app = self._app if reason is None else JSONResponse({"error": reason}, status_code=403)
        await app(scope, receive, protected)


def refusal(headers: Headers) -> str | None:
    """Why a request is refused, None if it is not.

    Args:
        headers: The request's.
    """
    host = headers.get("host", "")
    if _hostname(f"//{host}") not in HOSTS:
        return "the studio answers on this computer only, at http://127.0.0.1"
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return "requests from other pages are refused"
    # "none" is a request by the person: an address typed or a bookmark
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return "requests from other pages are refused"
    return None


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
