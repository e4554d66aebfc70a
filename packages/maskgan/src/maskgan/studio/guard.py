"""Who may talk to the studio: pages it served itself, on this computer, to the person who started it.

Any web page can send requests to a port of the computer it is shown on, and can point a name of its own at that
computer ("DNS rebinding"). So a request must name this computer as its host, and a browser's request must come from the
studio's page; what the studio answers, no other page may read or show. The page itself may load nothing from elsewhere.

Other users of this computer reach its ports as well. So the terminal shows an address with a token, which the browser
exchanges for a cookie that every further request must bring.
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
    """Refuses requests from elsewhere and gives every answer the headers that protect it.

    Args:
        app: What it stands before.
        token: What the first visit's address says, ``/?token=``.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._answering(Request(scope))(scope, receive, protected)

    def _answering(self, request: Request) -> ASGIApp:
        cookie = f"maskgan-studio-{request.scope['server'][1]}"  # a browser sends all ports of a host the same cookies
        path = request.scope["path"]
        reason = refusal(request.headers)
        if reason is None and path == "/" and self._knows(request.query_params.get("token")):
            answer = RedirectResponse("/", status_code=303)  # or the address bar would go on to show the token
            answer.set_cookie(cookie, self._token, httponly=True, samesite="strict")
            return answer
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
