"""The middleware admits who has the key, or without a key this machine's user, and no page from elsewhere.

Starlette's `TrustedHostMiddleware` takes names one by one, and loopback is all of 127.0.0.0/8.
"""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from e2vsearch.access import refusal
from e2vsearch.server.page import is_open
from e2vsearch.server.responses import error_response


class AuthMiddleware:
    """ASGI middleware that admits or refuses a request by its headers, before anything of its body is read."""

    def __init__(self, app: ASGIApp, key: str | None, open_paths: Iterable[str]) -> None:
        """Wrap an application.

        Args:
            app: what is protected.
            key: None for none.
            open_paths: paths that need no key, and that any page may link to.
        """
        self._app = app
        self._key = key
        self._open = frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            opened, is_public = is_open(scope["path"], self._open), _is_played_by_a_map(scope)
            refused = refusal(Headers(scope=scope), self._key, is_open=opened, is_public=is_public)
            if refused is not None:
                headers = {"WWW-Authenticate": "Bearer"} if refused.status == 401 else {}
                await error_response(refused.status, refused.reason, refused.message, headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_played_by_a_map(scope: Scope) -> bool:
    """Whether a sound is asked for by the hash of its recording, which only who has the collection can know.

    The route compares it.
    """
    query = parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True)
    return scope["method"] in ("GET", "HEAD") and scope["path"].endswith("/audio") and "sha256" in query
