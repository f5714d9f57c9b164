"""Who may ask, and how much they may send. Knows headers, nothing of what is asked.

Without a key only the user's own machine may ask: the service is bound to loopback, and answers only under a loopback
name, since a page from elsewhere can point a name of its own there (DNS rebinding) but not change the Host and Origin
that a browser sends. With a key, who has it may ask, under any name: no page can know it.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from e2vsearch.access import has_key, is_loopback
from e2vsearch.server.responses import Refused, refusal

MAX_JSON_BYTES = 4_000_000
"""Sixteen vectors of 4096 numbers take 1.4 MB as JSON."""

_POLICY = "default-src 'none'; media-src 'self'; frame-ancestors 'none'"

HEADERS = (
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Resource-Policy", "same-origin"),  # no page from elsewhere embeds these voices
    ("Content-Security-Policy", _POLICY),
    ("Cache-Control", "no-store"),  # people's voices and moods
)
"""What every answer says, unless it says something else under that name."""


class AuthMiddleware:
    """An ASGI application that only those who may reach."""

    def __init__(self, app: ASGIApp, key: str | None, open_paths: Iterable[str], max_upload_bytes: int) -> None:
        """Remembers the key.

        Args:
            app: what is guarded.
            key: None for none.
            open_paths: paths that need no key.
            max_upload_bytes: of the body of a request to a path that ends in ``/upload``.
        """
        self._app = app
        self._key = key
        self._open = frozenset(open_paths)
        self._max_upload_bytes = max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit = self._max_upload_bytes if scope["path"].endswith("/upload") else MAX_JSON_BYTES
        try:
            self._admit(scope["path"], headers)
            stated = headers.get("content-length", "")
            if stated.isdecimal() and int(stated) > limit:
                raise _too_large(limit)
        except Refused as error:
            response = refusal(error.status_code, error.reason, error.detail, dict(error.headers or {}))
            await response(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise _too_large(limit)
            return message

        await self._app(scope, counted, send)

    def _admit(self, path: str, headers: Headers) -> None:
        if self._key is None:
            self._admit_local(headers)
        elif path not in self._open and not has_key(headers, self._key):
            raise Refused(
                401,
                "key",
                "this service has a key - send it as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'",
                {"WWW-Authenticate": "Bearer"},
            )

    def _admit_local(self, headers: Headers) -> None:
        if not is_loopback(_host(headers.get("host", ""))):
            raise Refused(403, "host", "without a key this service answers only under localhost or 127.0.0.1")
        origin = headers.get("origin")
        if origin is not None and not is_loopback(_host(urlsplit_netloc(origin))):
            raise Refused(403, "origin", "without a key this service answers no page but its own")


def urlsplit_netloc(origin: str) -> str:
    """The host and port of an ``Origin``; "" of one that has none, such as ``null``."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def _host(netloc: str) -> str:
    """``"[::1]:8080"`` → ``"::1"``."""
    if netloc.startswith("["):
        return netloc[1:].partition("]")[0]
    return netloc.partition(":")[0]


def _too_large(limit: int) -> Refused:
    return Refused(413, "too-large", f"this takes at most {limit / 1e6:g} MB a request - send less, or in parts")
