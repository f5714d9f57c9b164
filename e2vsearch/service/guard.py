"""Who may ask, and how much they may send. Knows headers, nothing of what is asked.

Without a key only the user's own machine may ask: the service is bound to loopback, and answers only under a loopback
name, since a page from elsewhere can point a name of its own there (DNS rebinding) but not change the Host and Origin
that a browser sends. With a key, who has it may ask, under any name: no page can know it.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from e2vsearch.service.answers import Refused, refusal

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


class Guard:
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
        self._key = key.strip().encode() if key is not None else None
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
        elif path not in self._open and not self._has_key(headers):
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

    def _has_key(self, headers: Headers) -> bool:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        given = token if scheme.lower() == "bearer" else headers.get("x-api-key", "")
        return self._key is not None and hmac.compare_digest(given.strip().encode("latin-1"), self._key)


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own and nobody else's.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "127.0.0.1.example.org", "")]
    [True, True, True, False, False, False]
    """
    if host.lower() in ("localhost", "localhost."):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


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
