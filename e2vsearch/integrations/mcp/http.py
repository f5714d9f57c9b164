"""The server over HTTP: where it listens, and who may ask. Knows addresses, headers and keys, nothing of tools."""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from e2vsearch.errors import ServiceError, SettingsError
from e2vsearch.integrations.mcp.tools import MAX_CLIP_BYTES

PATH = "/mcp"
KEY_VARIABLE = "E2VSEARCH_API_KEY"
_LOOPBACK_NAMES = ("127.0.0.1", "localhost", "[::1]")

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Where the server listens, and who may ask it."""

    host: str = "127.0.0.1"
    port: int = 8766  # 0: one that is free
    key: str | None = field(default=None, repr=False)  # None: none, and for this machine alone


def read_key(path: Path | None) -> str | None:
    """The API key of a file, else of the environment's `E2VSEARCH_API_KEY`; None if there is neither.

    Raises:
        SettingsError: a file that cannot be read, or that holds no key.
    """
    if path is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read for the API key: {error}") from error
    if not key or "\n" in key or not key.isascii():
        raise SettingsError(f"{path} holds no key - write one into it, in one line of ASCII")
    return key


def application(server: MCPServer[Any], options: HttpOptions) -> _App:
    """The server as an ASGI application. Without a key it answers only this machine, and only under a loopback name.

    A page on the web can point a name of its own to 127.0.0.1 (DNS rebinding), but not change the Host and Origin that
    a browser sends; a key it cannot know, so with one any name will do.

    Raises:
        SettingsError: an address beyond this machine without a key.
    """
    if not is_loopback(options.host) and options.key is None:
        raise SettingsError(
            f"{options.host} can be reached from other machines, so it needs a key - set {KEY_VARIABLE} or name a file "
            "with --api-key-file"
        )
    hosts = [each for name in _LOOPBACK_NAMES for each in (name, f"{name}:*")]
    security = TransportSecuritySettings(
        enable_dns_rebinding_protection=options.key is None,
        allowed_hosts=hosts,
        allowed_origins=[f"{scheme}://{host}" for scheme in ("http", "https") for host in hosts],
    )
    app: _App = server.streamable_http_app(
        streamable_http_path=PATH,
        host=options.host,
        transport_security=security,
        max_request_body_size=MAX_CLIP_BYTES * 4 // 3 + 2**16,  # a clip in base64, and what is around it
    )
    return app if options.key is None else _Keyed(app, options.key)


def serve(server: MCPServer[Any], options: HttpOptions, listening: Callable[[str], None] = lambda _: None) -> None:
    """Answer until interrupted.

    Args:
        server: what answers.
        options: where it listens, and who may ask.
        listening: called with its URL once it accepts connections.

    Raises:
        SettingsError: see `application`.
        ServiceError: the address cannot be listened on.
    """
    app = application(server, options)
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    try:
        listener = socket.create_server((options.host, options.port), family=family, reuse_port=False)
    except OSError as error:
        raise ServiceError(
            f"{options.host}:{options.port} cannot be listened on ({error.strerror or error}) - choose another --port"
        ) from error
    host = f"[{options.host}]" if ":" in options.host else options.host
    with listener:
        listening(f"http://{host}:{listener.getsockname()[1]}{PATH}")
        config = uvicorn.Config(app, log_level="warning", access_log=False, ws="none")
        uvicorn.Server(config).run(sockets=[listener])


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own, which nobody else can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Keyed:
    """Lets requests through that carry the key, as ``Authorization: Bearer KEY`` or ``X-API-Key: KEY``."""

    def __init__(self, app: _App, key: str) -> None:
        self._app = app
        self._key = key.encode()

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        if scope["type"] != "http" or self._known(dict(scope["headers"])):
            await self._app(scope, receive, send)
            return
        body = b'{"error": {"reason": "key", "message": "send the API key as Authorization: Bearer KEY"}}'
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _known(self, headers: dict[bytes, bytes]) -> bool:
        scheme, _, bearer = headers.get(b"authorization", b"").partition(b" ")
        given = bearer.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        return hmac.compare_digest(given, self._key)  # in time that does not tell how much of it was right
