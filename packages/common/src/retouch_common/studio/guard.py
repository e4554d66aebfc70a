"""Access control of the studio: its own page, on this computer, for the person who started it.

Any web page can send requests to a local port, and can point a host name at it ("DNS rebinding"). Therefore requests
must name this computer as their host, and a browser's must come from the studio's page; responses can neither be read
nor embedded by other pages. The page itself loads nothing from elsewhere.

Other users of this computer reach its ports as well. Therefore the terminal shows an address with a token, which the
browser exchanges for a cookie that all further requests need. Since they can read the arguments of the browser's
command, too, it is given a file that only this user can read, which leads to an address with a token for a single use.
"""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse
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


# A page, not a redirect: browsers count a redirect from the file as a request of another page, without the cookie.
_REDIRECT_PAGE = """<!doctype html>
<meta charset="utf-8">
<meta http-equiv="refresh" content="0; url=/">
<link rel="icon" href="data:,">
"""


class Guard:
    """Middleware that refuses foreign requests and adds security headers to every response.

    Args:
        app: The application.
        token: Token of the address that the terminal shows, ``/?token=``.
        one_time_token: Token that is valid for one request; None for none.
    """

    def __init__(self, app: ASGIApp, token: str, *, one_time_token: str | None = None) -> None:
        self._app, self._token, self._one_time_token = app, token, one_time_token
        self._cookie = secrets.token_urlsafe()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self._app_for(Request(scope))(scope, receive, send_with_headers)

    def _app_for(self, request: Request) -> ASGIApp:
        cookie = f"retouch-studio-{request.scope['server'][1]}"  # cookies are shared by all ports of a host
        path = request.scope["path"]
        token = request.query_params.get("token") if path == "/" else None
        with_token = token is not None and request.headers.get("sec-fetch-mode") == "navigate"
        reason = refusal(request.headers, with_token=with_token)
        if reason is None and self._accepts(token):
            response = HTMLResponse(_REDIRECT_PAGE)  # removes the token from the address bar
            response.set_cookie(cookie, self._cookie, httponly=True, samesite="strict")
            return response
        if reason is None and not _equal(request.cookies.get(cookie), self._cookie):
            reason = "the access token is missing or wrong; open the full address that the terminal shows"
        if reason is None:
            return self._app
        if path == "/":
            return PlainTextResponse(reason, status_code=403)
        return JSONResponse({"error": reason}, status_code=403)

    def _accepts(self, token: str | None) -> bool:
        if _equal(token, self._one_time_token):
            self._one_time_token = None
            return True
        return _equal(token, self._token)


def _equal(given: str | None, secret: str | None) -> bool:
    return given is not None and secret is not None and secrets.compare_digest(given.encode(), secret.encode())


def refusal(headers: Headers, *, with_token: bool = False) -> str | None:
    """Return why a request with these headers is refused, or None.

    With ``with_token``, the request may come from another origin: from the file that the browser was given.
    """
    host = headers.get("host", "")
    if _hostname(f"//{host}") not in HOSTS:
        return "the studio answers on this computer only, at http://127.0.0.1"
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return "requests from other pages are refused"
    if not with_token and headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):  # typed, or a bookmark
        return "requests from other pages are refused"
    return None


def _hostname(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
