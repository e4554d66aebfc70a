"""Access control of the studio: its own page, on this computer, for the person who started it.

Any web page can send requests to a local port, and can point a host name at it ("DNS rebinding"). Therefore requests
must name this computer as their host, and a browser's must come from the studio's page; responses can neither be read
nor embedded by other pages. The page itself loads nothing from elsewhere.

Other users of this computer reach its ports as well. Therefore the terminal shows an address with a token, which the
browser exchanges for a cookie that all further requests need.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HOSTS = frozenset({"127.0.0.1", "localhost"})
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Guard:
    """Middleware that refuses foreign requests and adds security headers to every response.

    Args:
        app: The application.
        token: Token of the first visit's address, ``/?token=``.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._select(Request(scope))(scope, receive, protected)

    def _select(self, request: Request) -> ASGIApp:
        cookie = f"maskgan-studio-{request.scope['server'][1]}"  # cookies are shared by all ports of a host
        path = request.scope["path"]
        reason = refusal(request.headers)
        if reason is None and path == "/" and self._knows(request.query_params.get("token")):
            response = RedirectResponse("/", status_code=303)  # removes the token from the address bar
            response.set_cookie(cookie, self._token, httponly=True, samesite="strict")
            return response
        if reason is None and not self._knows(request.cookies.get(cookie)):
            reason = "this is not the studio's whole address: open the one that its terminal shows"
        if reason is None:
            return self._app
        if path == "/":
            return PlainTextResponse(reason, status_code=403)
        return JSONResponse({"error": reason}, status_code=403)

    def _knows(self, token: str | None) -> bool:
        return token is not None and secrets.compare_digest(token.encode(), self._token.encode())


def refusal(headers: Headers) -> str | None:
    """Return why a request with these headers is refused, or None."""
    host = headers.get("host", "")
    if _hostname(f"//{host}") not in HOSTS:
        return "the studio answers on this computer only, at http://127.0.0.1"
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return "requests from other pages are refused"
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):  # "none": typed or a bookmark
        return "requests from other pages are refused"
    return None


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
