"""The middleware admits who has the key, or without a key this machine's user, and limits how much they may send.

Without a key the service is bound to loopback, and answers only under a loopback name: a page from elsewhere can point
a name of its own there (DNS rebinding), but cannot change the Host and Origin that a browser sends. Starlette's
`TrustedHostMiddleware` takes names one by one, and loopback is all of 127.0.0.0/8. With a key any name will do: no
page knows the key.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from e2vsearch.access import has_key, is_loopback
from e2vsearch.server.responses import RequestError, error_response

MAX_JSON_BYTES = 4_000_000
"""Sixteen vectors of 4096 numbers take 1.4 MB as JSON."""


class AuthMiddleware:
    """ASGI middleware that admits or refuses a request by its headers, before anything of its body is read."""

    def __init__(self, app: ASGIApp, key: str | None, open_paths: Iterable[str], max_upload_bytes: int) -> None:
        """Wrap an application.

        Args:
            app: what is protected.
            key: None for none.
            open_paths: paths that need no key.
            max_upload_bytes: of the body of a request to a path that ends in ``/upload``.
        """
        self._app = app
        self._key = key
        self._open = frozenset(open_paths)
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._max_upload_bytes if scope["path"].endswith("/upload") else MAX_JSON_BYTES
        received = 0

        def check(size: int) -> None:
            if size > limit:
                message = f"this takes at most {limit / 1e6:g} MB a request - send less, or in parts"
                raise RequestError(413, "too-large", message)

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            check(received)
            return message

        try:
            self._admit(scope["path"], headers)
            stated = headers.get("content-length", "")
            check(int(stated) if stated.isdecimal() else 0)
        except RequestError as error:
            response = error_response(error.status_code, error.reason, error.detail, dict(error.headers or {}))
            await response(scope, receive, send)
            return
        await self._app(scope, counted, send)

    def _admit(self, path: str, headers: Headers) -> None:
        if self._key is not None:
            if path not in self._open and not has_key(headers, self._key):
                message = "this service has a key - send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
                raise RequestError(401, "key", message, {"WWW-Authenticate": "Bearer"})
            return
        if not is_loopback(_hostname(f"//{headers.get('host', '')}")):
            raise RequestError(403, "host", "without a key this service answers only under localhost or 127.0.0.1")
        origin = headers.get("origin")
        if origin is not None and not is_loopback(_hostname(origin)):
            raise RequestError(403, "origin", "without a key this service answers no page but its own")


def _hostname(url: str) -> str:
    """Return the name or address in a URL or an ``Origin``; "" of one that has none, such as ``null``.

    >>> _hostname("//[::1]:8080"), _hostname("//127.0.0.1:80.evil"), _hostname("null")
    ('::1', '', '')
    """
    try:
        parts = urlsplit(url)
        _ = parts.port  # a ValueError if it is no number
        return parts.hostname or ""
    except ValueError:
        return ""
