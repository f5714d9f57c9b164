"""The middleware bounds the bodies of requests: in bytes, in seconds, in structure, and all of them together.

Counting what is on its way in bounds memory and disk, and not the number of requests: whoever sends nothing takes
nothing from others, and is refused once it is slower than `LEAST_BYTES_PER_S`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from e2vsearch.server.page import is_open
from e2vsearch.server.responses import OPENAI_PREFIX, RequestError, error_response

EMBEDDINGS = f"{OPENAI_PREFIX}embeddings"
"""Audio in base64 inside of JSON: as large as an upload."""

MAX_JSON_BYTES = 1_000_000
MAX_VECTORS_BYTES = 4_000_000
"""Of ``/query``: forty vectors of 4096 numbers take 3.5 MB as JSON."""

LEAST_BYTES_PER_S = 10_000
"""On average, after `ServiceOptions.body_s`: a fifth of what a telephone line's modem could."""

_MAX_FIELDS, _MAX_LISTS = 4000, 1000  # colons, brackets; those in text count: a filter has 2,000 characters at most
_MAX_ITEMS = {MAX_JSON_BYTES: 20_000, MAX_VECTORS_BYTES: 200_000}  # commas
_JSON_AT_ONCE_BYTES = 64_000_000
_ENCODED_AT_ONCE = 4  # of the largest bodies of audio in base64: forms go to disk, these stay in memory, thrice


class BodyMiddleware:
    """ASGI middleware that hands on whole JSON bodies, and forms of files as they come in."""

    def __init__(
        self,
        app: ASGIApp,
        open_paths: Iterable[str],
        body_s: float,
        timeout_s: float,
        max_upload_bytes: int,
        uploads: int,
    ) -> None:
        """Wrap an application.

        Args:
            app: what is protected.
            open_paths: paths whose routes read no body.
            body_s: from the header of a request until its body must have come at `LEAST_BYTES_PER_S`.
            timeout_s: from there until all of it must have come.
            max_upload_bytes: of the body of a request to a path that ends in ``/upload``, or to `EMBEDDINGS`.
            uploads: so many of the largest may be on their way in at a time.
        """
        self._app = app
        self._open = frozenset(open_paths)
        self._body_s = body_s
        self._timeout_s = timeout_s
        self._max_upload_bytes = max_upload_bytes
        self._uploads = _Budget(uploads * max_upload_bytes)
        self._encoded = _Budget(_ENCODED_AT_ONCE * max_upload_bytes)
        self._json = _Budget(_JSON_AT_ONCE_BYTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or is_open(scope["path"], self._open):
            await self._app(scope, receive, send)
            return
        encoded = scope["path"] == EMBEDDINGS
        upload = encoded or scope["path"].endswith("/upload")
        limit = MAX_VECTORS_BYTES if scope["path"] == "/query" else MAX_JSON_BYTES
        limit = self._max_upload_bytes if upload else limit
        now = asyncio.get_running_loop().time()
        until = math.inf if upload else now + self._timeout_s  # of an upload its route sees to that
        budget = self._encoded if encoded else self._uploads if upload else self._json
        body = _Body(receive, limit, now + self._body_s, until, budget)
        try:
            stated = Headers(scope=scope).get("content-length", "")
            body.check(int(stated) if stated.isdecimal() else 0)
            if upload:
                await self._app(scope, body.receive, send)
            else:
                whole = await body.whole()
                check_structure(whole, _MAX_ITEMS[limit])
                await self._app(scope, _replayed(whole, receive), send)
        except RequestError as error:
            response = error_response(error.status_code, error.reason, error.detail, dict(error.headers or {}))
            await response(scope, receive, send)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        finally:
            body.close()


class _Budget:
    def __init__(self, most: int) -> None:
        self.most = most
        self.held = 0


class _Body:
    def __init__(self, receive: Receive, limit: int, due: float, until: float, budget: _Budget) -> None:
        self._receive = receive
        self._limit = limit
        self._budget = budget
        self._received = 0
        self._whole = False
        self._due, self._until = due, until

    def check(self, size: int) -> None:
        if size > self._limit:
            message = f"this takes at most {self._limit / 1e6:g} MB a request - send less, or in parts"
            raise RequestError(413, "too-large", message)

    async def receive(self) -> Message:
        if self._whole:  # what comes now is that the client has gone away
            return await self._receive()
        try:
            async with asyncio.timeout_at(min(self._due + self._received / LEAST_BYTES_PER_S, self._until)):
                message = await self._receive()
        except TimeoutError as error:
            text = f"the body came in at less than {LEAST_BYTES_PER_S / 1000:g} kB a second - send it faster"
            raise RequestError(408, "too-slow", text, {"Connection": "close"}) from error
        size = len(message.get("body", b""))
        self._received += size
        self._budget.held += size
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        self.check(self._received)
        if self._budget.held > self._budget.most:
            raise RequestError(503, "overloaded", "too much is being sent at once - send it again in a few seconds")
        return message

    async def whole(self) -> bytes:
        parts = bytearray()
        while not self._whole:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            parts += message.get("body", b"")
        return bytes(parts)

    def close(self) -> None:
        self._budget.held -= self._received
        self._received = 0


def check_structure(body: bytes, items: int) -> None:
    """See that a JSON body has no more fields, lists and items than any request, before it is parsed.

    A validator names each field that is wrong, and 280,000 of them took it seconds in which nothing else was answered.

    Raises:
        RequestError: it has more.
    """
    fields, lists = body.count(b":"), body.count(b"[") + body.count(b"{")
    if fields > _MAX_FIELDS or lists > _MAX_LISTS or body.count(b",") > items:
        raise RequestError(422, "invalid", "the body has more fields or items than a request may - send fewer")


def _replayed(body: bytes, receive: Receive) -> Receive:
    sent = False

    async def replay() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
