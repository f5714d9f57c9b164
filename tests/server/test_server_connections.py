"""Clients that are slow, silent or many: deadlines of headers and reading, and caps of connections."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

pytest.importorskip("uvicorn", reason="the 'serve' extra is not installed")

import uvicorn

from e2vsearch.connections import ConnectionLimits, Connections, allow_open_files

PATIENCE_S = 20.0  # for what must happen; nothing waits so long unless it is broken
GET = b"GET /work HTTP/1.1\r\nHost: localhost\r\n\r\n"
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Service:
    """A server on a port of loopback, whose requests are answered once they may be."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self.free = asyncio.Event()
        self.size = 2
        self.entered = self.ended = 0
        self.address = ("", 0)
        self._clients: list[asyncio.StreamWriter] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.entered += 1
        try:
            if scope["path"] == "/work":
                await self.free.wait()
            while (await receive()).get("more_body"):
                pass
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % self.size)]}
            )
            await send({"type": "http.response.body", "body": bytes(self.size)})
        finally:
            self.ended += 1

    async def connect(self, sent: bytes = b"") -> Client:
        reader, writer = await asyncio.open_connection(*self.address)
        self._clients.append(writer)
        writer.write(sent)
        return reader, writer

    def close(self) -> None:
        for writer in self._clients:
            writer.transport.abort()


@contextlib.asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Service]:
    connections = Connections(ConnectionLimits(always=frozenset(("/healthz",)), **limits))
    service = Service(connections)
    protocol = cast("type[asyncio.Protocol]", connections.protocol)
    server = uvicorn.Server(uvicorn.Config(service, http=protocol, lifespan="off", log_config=None, ws="none"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        service.address = listener.getsockname()
        running = asyncio.create_task(server.serve([listener]))
        await until(lambda: server.started)
        try:
            yield service
        finally:
            service.free.set()
            service.close()
            server.should_exit = True
            await running


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.001)


async def ended(client: Client) -> bytes:
    """What a client is told before its connection ends."""
    async with asyncio.timeout(PATIENCE_S):
        try:
            return await client[0].read()
        except ConnectionResetError:
            return b""


async def status(client: Client) -> int:
    async with asyncio.timeout(PATIENCE_S):
        return int((await client[0].readline()).split()[1])


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\n"])
async def test_a_header_that_does_not_come_to_its_end(sent: bytes) -> None:
    async with serving(header_s=0.05) as service:
        assert await ended(await service.connect(sent)) == b""
        assert service.entered == 0


@pytest.mark.parametrize(
    "sent",
    [
        GET.replace(b"/work", b"/") + b"GET /",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n1",  # answered before its body is whole
    ],
)
async def test_what_comes_after_a_response_has_a_deadline_too(sent: bytes) -> None:
    async with serving(header_s=0.05) as service:
        service.free.set()
        client = await service.connect(sent)
        if b"POST" in sent:
            client[1].write_eof()
        assert (await ended(client)).count(b"HTTP/1.1 200") <= 1
        assert not service.connections._clients


async def test_a_request_in_work_has_none() -> None:
    async with serving(header_s=0.05) as service:
        client = await service.connect(GET)
        await until(lambda: service.entered)
        await ended(await service.connect())  # whose header had as long
        service.free.set()
        assert await status(client) == 200


async def test_who_sends_nothing_makes_room_for_who_asks() -> None:
    async with serving(total=10, per_client=10) as service:
        service.free.set()
        silent = [await service.connect(b"GET / HT") for _ in range(30)]
        assert await status(await service.connect(GET)) == 200
        await asyncio.gather(*(ended(client) for client in silent[:20]))  # the longest waiting
        assert len(service.connections._clients) <= 10
        assert not any(client[0].at_eof() for client in silent[21:])


async def test_a_client_with_too_many_requests_and_whoever_monitors() -> None:
    async with serving(per_client=2) as service:
        work = [await service.connect(GET) for _ in range(2)]
        await until(lambda: service.entered == 2)
        refused = (await ended(await service.connect(GET))).decode()
        head, _, body = refused.partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 503")
        assert "retry-after: 2" in head.lower()
        assert json.loads(body)["error"]["reason"] == "overloaded"
        assert await status(await service.connect(GET.replace(b"/work", b"/healthz"))) == 200
        service.free.set()
        assert [await status(client) for client in work] == [200, 200]
        await until(lambda: service.ended == 3)


def test_clients_are_told_apart_by_address() -> None:
    connections = Connections(ConnectionLimits(per_client=2, total=5))
    hosts = ["::1", "::1", "::2", "2001:db8::1", "192.0.2.1", "::ffff:192.0.2.1"]  # ::1 and ::2 are of one network
    made: list[Any] = [object() for _ in hosts]
    within = [connections.add(each, host) for each, host in zip(made, hosts, strict=True)]
    assert within == [True, True, False, True, True, False]
    assert dict(connections._counts) == {"::/64": 3, "2001:db8::/64": 1, "192.0.2.1": 2}
    for each in made:
        connections.remove(each)
    assert not connections._counts


async def test_a_response_that_is_not_read() -> None:
    async with serving(unread_s=0.05) as service:
        service.free.set()
        service.size = 50_000_000
        _, writer = client = await service.connect()
        client[0]._transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(GET)
        await until(lambda: service.ended)
        await until(lambda: not service.connections._clients)


async def test_a_body_in_crumbs() -> None:
    async with serving() as service:
        head = b"POST /work HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
        client = await service.connect(head + b"1\r\nx\r\n" * 5000)
        assert await status(client) == 400
        service.free.set()
        whole = await service.connect(head + b"3e8\r\n" + bytes(1000) + b"\r\n" + b"1\r\nx\r\n" * 900 + b"0\r\n\r\n")
        assert await status(whole) == 200


def test_open_files_are_allowed_as_far_as_the_system_lets_us() -> None:
    resource = pytest.importorskip("resource", reason="limits of open files are POSIX")
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert allow_open_files(10) == 10
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
        hard = before[1]
        if hard != resource.RLIM_INFINITY:
            assert allow_open_files(hard + 1000) == max(hard - 500, hard // 2)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
