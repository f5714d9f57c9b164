"""uvicorn serves the application until SIGTERM or Ctrl-C, and answers what was accepted until then.

A second Ctrl-C or SIGTERM ends the process at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from types import FrameType
from typing import cast

import uvicorn

from e2vsearch.collection import Collection
from e2vsearch.connections import ConnectionLimits, Connections, allow_open_files
from e2vsearch.errors import ServiceError
from e2vsearch.server import create_app
from e2vsearch.server.options import ServiceOptions

_PORTS = 50  # tried one after another, with auto_port
_ALWAYS = frozenset(("/healthz", "/metrics"))  # so that an overload is seen from outside


def bind(host: str, port: int, *, auto_port: bool = False) -> socket.socket:
    """Return a socket bound to that address; with `auto_port` to the next port that is free.

    Raises:
        ServiceError: there is none.
    """
    last = min(65_535, port + _PORTS) if auto_port and port else port
    for candidate in range(port, last + 1):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(host, candidate, type=socket.SOCK_STREAM)[0]
        except OSError as error:
            raise ServiceError(f"{host} is no address of this machine: {error.strerror or error}") from error
        opened = socket.socket(family, kind, protocol)
        if os.name == "posix":  # elsewhere this would let two services share a port
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(address)
        except OSError as error:
            opened.close()
            if candidate == last:
                why = error.strerror or str(error)
                cure = "name another --port, or use --auto-port" if not auto_port else "name another --port"
                raise ServiceError(f"port {port} of {host} cannot be used ({why}) - {cure}") from error
        else:
            return opened
    raise ServiceError(f"{port} is no port - name one from 1 to 65535")


def address_of(opened: socket.socket) -> str:
    """Return the URL of a service behind a bound socket."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def limits_of(options: ServiceOptions) -> ConnectionLimits:
    """Return the limits of connections: one client may fill both queues, and four such the service."""
    per_client = 2 * (options.queue + options.thread_count) + 100
    total = allow_open_files(max(1000, 4 * per_client))
    return ConnectionLimits(options.header_s, per_client=min(per_client, total), total=total, always=_ALWAYS)


def run(
    collection: Collection, options: ServiceOptions, opened: socket.socket, ready: Callable[[], None] = lambda: None
) -> None:
    """Serve until SIGTERM or Ctrl-C, and answer what was accepted until then.

    Args:
        collection: stays the caller's to close.
        options: its limits.
        opened: a bound socket, see `bind`.
        ready: called once requests are answered.

    Raises:
        ServiceError: it could not start; the log says why.
    """
    app = create_app(collection, options)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,  # ours has no paths, which hold ids and filters
        server_header=False,
        proxy_headers=False,
        http=cast("type[asyncio.Protocol]", Connections(limits_of(options)).protocol),
        ws="none",
        lifespan="on",
        # every request ends within its timeout; what still hangs then is a player that was paused
        timeout_graceful_shutdown=int(options.timeout_s) + 5,
    )
    server = _Server(config, ready, app.state.server.uploads.close)
    try:
        server.run([opened])
    except SystemExit as error:  # how uvicorn says that the lifespan failed
        raise ServiceError("the service could not start - its log says why") from error


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], clean_up: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready
        self._clean_up = clean_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # uvicorn closes every connection that has no request yet: one whose request is on its way in gets a moment
        await asyncio.sleep(0)
        for server in self.servers:
            server.close()
        await asyncio.sleep(0.1)
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        # not passed on when all is done, as uvicorn would: an orderly end is exit code 0
        if self.should_exit:
            self._clean_up()
            os._exit(128 + sig)  # as a shell reports it
        self.should_exit = True
