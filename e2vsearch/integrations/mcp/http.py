"""The MCP server over HTTP: its address, and the key and headers that let a request in."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, cast

import uvicorn
from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings

from e2vsearch.access import check_address, refusal
from e2vsearch.connections import ConnectionLimits, Connections, allow_open_files
from e2vsearch.errors import ServiceError
from e2vsearch.integrations.mcp.tools import MAX_CLIP_BYTES

PATH = "/mcp"
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]
_App = Callable[[_Message, _Receive, _Send], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Where the server listens, and the key that lets a request in."""

    host: str = "127.0.0.1"
    port: int = 8766  # 0: one that is free
    key: str | None = field(default=None, repr=False)  # None: none, and for this machine alone


def application(server: MCPServer[Any], options: HttpOptions) -> _App:
    """Return the server as an ASGI application; without a key it answers only this machine, under a loopback name.

    Raises:
        ServiceError: an address beyond this machine without a key.
    """
    check_address(options.host, options.key)
    app: _App = server.streamable_http_app(
        streamable_http_path=PATH,
        host=options.host,
        # its own check takes any text for a port, and pages of other services of this machine
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        max_request_body_size=MAX_CLIP_BYTES * 4 // 3 + 2**16,  # a clip in base64, and what is around it
    )
    return _Guarded(app, options.key)


def serve(server: MCPServer[Any], options: HttpOptions, listening: Callable[[str], None] = lambda _: None) -> None:
    """Answer requests until interrupted.

    Args:
        server: what answers.
        options: where it listens, and the key.
        listening: called with its URL once it accepts connections.

    Raises:
        ServiceError: see `application`, or the address cannot be listened on.
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
        limits = ConnectionLimits(total=allow_open_files(ConnectionLimits().total))
        protocol = cast("type[asyncio.Protocol]", Connections(limits).protocol)
        config = uvicorn.Config(app, http=protocol, log_level="warning", access_log=False, ws="none")
        uvicorn.Server(config).run(sockets=[listener])


class _Guarded:
    """Lets requests through that carry the key, or without one come from this machine and no page."""

    def __init__(self, app: _App, key: str | None) -> None:
        self._app = app
        self._key = key

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        refused = refusal(_text(scope["headers"]), self._key) if scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, send)
            return
        body = json.dumps({"error": {"reason": refused.reason, "message": refused.message}}).encode()
        headers = [(b"content-type", b"application/json")]
        headers += [(b"www-authenticate", b"Bearer")] if refused.status == 401 else []
        await send({"type": "http.response.start", "status": refused.status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def _text(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers}
