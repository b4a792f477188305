"""Who may see the dashboard, and what a browser may do with its pages.

On loopback nobody is asked, but the Host must be this machine's: a page of another origin cannot reach it by a name
that it has pointed here. Beyond loopback a token is required. Nothing is loaded or sent anywhere but here, no script is
inline. Knows nothing of what pages show.
"""

from __future__ import annotations

import hmac
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "driftline-token"
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")
MAX_URL = 2048

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Guard:
    """Middleware: refuses who may not see the dashboard, and gives every answer its headers."""

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message["headers"],
                    *((name.encode(), value.encode()) for name, value in HEADERS.items()),
                ]
            await send(message)

        refused = self._refused(HTTPConnection(scope))
        await (refused or self._app)(scope, receive, send_with_headers)

    def _refused(self, request: HTTPConnection) -> Response | None:
        if len(str(request.url)) > MAX_URL:
            return PlainTextResponse("This address is too long.", 414)
        if self._token is None:
            host = urlsplit(f"//{request.headers.get('host', '')}").hostname or ""
            return None if host in LOOPBACK else PlainTextResponse("This dashboard answers on this machine only.", 403)
        if request.url.path in ("/login", "/health") or request.url.path.startswith("/static/"):
            return None
        return None if self._knows(request) else RedirectResponse("/login", 303)

    def _knows(self, request: HTTPConnection) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = bearer if scheme.lower() == "bearer" else request.cookies.get(COOKIE, "")
        return is_token(self._token, given)


def is_token(token: str | None, given: str) -> bool:
    """Whether it is the token; takes as long for every wrong one."""
    return token is not None and hmac.compare_digest(token.encode(), given.encode(errors="replace"))


def from_here(request: HTTPConnection) -> bool:
    """Whether a page of this dashboard sent the request: no other site may have a browser send it."""
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc == request.headers.get("host")
