"""Connections of the HTTP servers have a deadline for each header, and are capped for each client and in all.

uvicorn waits for the rest of a header for ever, and refuses everybody once a thousand clients wait so. Here the oldest
connection that waits for a header makes room for a new one, so that whoever sends a whole request gets in, and what
monitors a service is answered beyond the caps. This does not replace a reverse proxy: many addresses together still
take every place.
"""

from __future__ import annotations

import ipaddress
import json
import os
from asyncio import AbstractEventLoop, TimerHandle, Transport
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_RESERVED_FILES = 500  # descriptors for the database, the index, recordings and models
_PIECES, _LEAST_PIECE_BYTES = 1000, 64  # so many parts of a body may be smaller: parsing each costs some 10 µs

_App = Callable[[MutableMapping[str, Any], Any, Any], Awaitable[None]]

_BUSY = {
    "error": {
        "reason": "overloaded",
        "message": "too many connections are open - close some, or come again in a few seconds",
    }
}


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """The limits of a server's connections."""

    header_s: float = 10.0  # from the connection, or the response before, to the end of a request's header
    unread_s: float = 300.0  # without a byte of a response read; a player that is paused asks again with `Range`
    per_client: int = 250  # connections of one address, or of one IPv6 network of 64 bits
    total: int = 1000
    always: frozenset[str] = frozenset()  # paths that are answered beyond the caps


class Connections:
    """The connections of one server, within its limits."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self.limits = limits
        self._clients: dict[LimitedProtocol, str] = {}
        self._counts: Counter[str] = Counter()
        self._waiting: dict[LimitedProtocol, None] = {}  # for a header, the longest first

    def protocol(self, *arguments: Any, **named: Any) -> LimitedProtocol:
        """Return the protocol of one connection, with what uvicorn gives to each."""
        return LimitedProtocol(self, *arguments, **named)

    def add(self, connection: LimitedProtocol, host: str) -> bool:
        """Count a connection, close the longest waiting one where that makes one too many; whether it is within."""
        client = _client(host)
        within = self._make_room(len(self._clients), self.limits.total, None)
        within &= self._make_room(self._counts[client], self.limits.per_client, client)
        self._clients[connection] = client
        self._counts[client] += 1
        return within

    def remove(self, connection: LimitedProtocol) -> None:
        """Count a connection no more."""
        client = self._clients.pop(connection, None)
        self._waiting.pop(connection, None)
        if client is not None:
            self._counts[client] -= 1
            if not self._counts[client]:
                del self._counts[client]

    def waits(self, connection: LimitedProtocol) -> None:
        """Note that a connection waits for a header."""
        self._waiting[connection] = None

    def works(self, connection: LimitedProtocol) -> None:
        """Note that it has got one."""
        self._waiting.pop(connection, None)

    def _make_room(self, count: int, cap: int, client: str | None) -> bool:
        if count < cap:
            return True
        longest = next((each for each in self._waiting if client in (None, self._clients.get(each))), None)
        if longest is None:
            return False
        self.remove(longest)
        longest.transport.abort()
        return True


class LimitedProtocol(H11Protocol):
    """uvicorn's HTTP/1.1 on h11, with deadlines; the class that it offers for this has no other way in."""

    def __init__(self, connections: Connections, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = _PieceCountingConnection(h11.SERVER)
        self._connections = connections
        self._limits = connections.limits
        self._header = _Timer(self.loop, self._limits.header_s)
        self._unread = _Timer(self.loop, self._limits.unread_s)

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for a header."""
        super().connection_made(transport)
        if not self._connections.add(self, self.client[0] if self.client else ""):
            self.app = _busy(self.app, self._limits.always)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._connections.remove(self)
        self._header.cancel()
        self._unread.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle what was received."""
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._header.cancel()
            self._connections.works(self)

    def on_response_complete(self) -> None:
        """Begin to wait for the next header; what is left of this request's body has as long."""
        self._wait()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Begin to wait for the client to read."""
        super().pause_writing()
        self._unread.start(self.transport.abort)

    def resume_writing(self) -> None:
        """Wait no more."""
        super().resume_writing()
        self._unread.cancel()

    def send_400_response(self, msg: str) -> None:
        """Refuse a request that cannot be parsed, or break off a response that has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()

    def _wait(self) -> None:
        self._header.start(self._too_late)
        self._connections.waits(self)

    def _too_late(self) -> None:
        if self.transport.get_write_buffer_size():  # of a response that is still being read
            self._unread.start(self.transport.abort)
        self.transport.close()


class _Timer:
    """A call that comes after a while, unless it is cancelled or started again."""

    def __init__(self, loop: AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        self._seconds = seconds
        self._handle: TimerHandle | None = None

    def start(self, function: Callable[[], object]) -> None:
        self.cancel()
        self._handle = self._loop.call_later(self._seconds, function)

    def cancel(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None


class _PieceCountingConnection(h11.Connection):
    """h11's side of a connection, which takes no body in crumbs."""

    _pieces = _bytes = 0

    def next_event(self) -> Any:
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = self._bytes = 0
        elif isinstance(event, h11.Data):
            self._pieces += 1
            self._bytes += len(event.data)
            if self._pieces > _PIECES and self._bytes < self._pieces * _LEAST_PIECE_BYTES:
                raise h11.RemoteProtocolError("the body comes in pieces that are too small")
        return event


def allow_open_files(connections: int) -> int:
    """Have the system allow so many connections, as far as it lets us; return how many it does."""
    if os.name != "posix":
        return connections
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + _RESERVED_FILES
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return connections
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return max(allowed - _RESERVED_FILES, allowed // 2)


def _client(host: str) -> str:
    """Return the address that connections are counted by: an IPv6 client has 64 bits of them to itself.

    >>> _client("192.0.2.1"), _client("::ffff:192.0.2.1"), _client("2001:db8::17"), _client("")
    ('192.0.2.1', '192.0.2.1', '2001:db8::/64', '')
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    return str(address.ipv4_mapped or ipaddress.ip_network((int(address), 64), strict=False))


def _busy(app: _App, always: frozenset[str]) -> _App:
    """Return an application that answers these paths alone, and has every other request come again."""
    body = json.dumps(_BUSY).encode()
    headers = [(b"content-type", b"application/json"), (b"retry-after", b"2"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(body)).encode()))

    async def answer(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope.get("path") in always:
            await app(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 503, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return answer
