"""How many requests a service takes at a time and for how long: queues, patience, clients that go away."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi import FastAPI
from gated_service import CLIP, PATIENCE_S, Gate, Made, client_of, entered, leftovers, send_clip, until

from e2vsearch.encoders.batcher import BatchedEncoder
from e2vsearch.errors import Cancelled, Overloaded, TooSlow
from e2vsearch.server.executor import BoundedExecutor, ClientDisconnected, stop_requested

# --- how many at a time, and for how long


@pytest.mark.slow
async def test_a_full_queue_says_when_to_come_again(served: Made, gate: Gate) -> None:
    app = served(threads=1, queue=1)
    async with client_of(app) as client:
        first = asyncio.create_task(send_clip(client))
        await entered(gate)
        second = asyncio.create_task(send_clip(client))
        await until(lambda: app.state.server.embedding.waiting == 1)
        third = await send_clip(client)
        assert (third.status_code, third.json()["error"]["reason"]) == (503, "overloaded")
        assert int(third.headers["retry-after"]) >= 1
        # what is stored is read by other threads
        assert (await client.post("/query", json={"references": ["seg:1"]})).status_code == 200
        gate.open.set()
        assert [(await each).status_code for each in (first, second)] == [200, 200]
        assert (await send_clip(client)).status_code == 200
    assert leftovers(app) == []


@pytest.mark.slow
async def test_a_request_that_takes_too_long(served: Made, gate: Gate) -> None:
    app = served(threads=1, queue=0, timeout_s=2.0)
    async with client_of(app) as client:
        response = await send_clip(client)
        assert (response.status_code, response.json()["error"]["reason"]) == (504, "too-slow")
        assert (await send_clip(client)).status_code == 503  # its thread is still at work, so its place is not free
        gate.open.set()
        await until(lambda: app.state.server.embedding._held == 0)
        assert (await send_clip(client)).status_code == 200
    assert leftovers(app) == []


async def test_an_upload_that_never_ends_is_too_slow(served: Made) -> None:
    app = served(timeout_s=0.2)
    never = asyncio.Event()

    async def stalled() -> AsyncIterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF'
        await never.wait()

    async with client_of(app) as client:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        response = await client.post("/query/upload", content=stalled(), headers=headers)
    assert response.status_code == 504
    assert leftovers(app) == []
    assert app.state.server.embedding.waiting == 0


class LeavingClient:
    """One request made by hand, whose client goes away when it is told to."""

    def __init__(self, app: FastAPI, path: str, body: bytes, kind: str) -> None:
        self._app = app
        self._body = body
        self._sent = False
        self.leave = asyncio.Event()
        self.messages: list[Any] = []
        headers = [(b"host", b"localhost"), (b"content-type", kind.encode())]
        self._scope = {
            "type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "http_version": "1.1", "method": "POST",
            "scheme": "http", "path": path, "raw_path": path.encode(), "root_path": "", "query_string": b"",
            "headers": headers, "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip

    async def run(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> Any:
        if not self._sent:
            self._sent = True
            return {"type": "http.request", "body": self._body, "more_body": False}
        await self.leave.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self.messages.append(message)


def leaving_clip(app: FastAPI) -> LeavingClient:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + CLIP + b"\r\n--b--\r\n"
    return LeavingClient(app, "/query/upload", body, "multipart/form-data; boundary=b")


async def test_a_client_that_goes_away_leaves_the_queue(served: Made, gate: Gate) -> None:
    app = served(threads=1, queue=1)
    lane: BoundedExecutor = app.state.server.embedding
    async with client_of(app) as client:
        first = asyncio.create_task(send_clip(client))
        await entered(gate)
        left = leaving_clip(app)
        gone = asyncio.create_task(left.run())
        await until(lambda: lane.waiting == 1 and len(leftovers(app)) == 2)
        left.leave.set()
        await gone
        assert left.messages[0]["status"] == 499
        assert lane._held == 1
        gate.open.set()
        assert (await first).status_code == 200
    assert gate.calls == [1]  # what waited was never listened to
    assert leftovers(app) == []


async def test_a_client_that_goes_away_stops_the_work(served: Made, gate: Gate, place: Path) -> None:
    app = served(threads=2, queue=0)
    lane: BoundedExecutor = app.state.server.embedding
    async with client_of(app) as client:
        first = asyncio.create_task(send_clip(client))
        await entered(gate)
        left = leaving_clip(app)
        gone = asyncio.create_task(left.run())
        batched: BatchedEncoder = app.state.server.embedder.encoder()
        await until(lambda: batched.waiting == 1)
        left.leave.set()
        await gone
        gate.open.set()
        assert (await first).status_code == 200
        await until(lambda: lane._held == 0)
    assert gate.calls == [1]  # it had been decoded, and was passed over by the encoder


# --- lanes


async def never() -> None:
    await asyncio.Event().wait()


async def test_a_turn_gives_back_its_place_whatever_happens() -> None:
    lane = BoundedExecutor("test", 1, 0)

    def fail() -> None:
        raise ValueError("no")

    for _ in range(3):
        with pytest.raises(ValueError, match="no"), lane.ticket(PATIENCE_S) as ticket:
            await ticket.run(fail, never)
    with lane.ticket(PATIENCE_S) as ticket:
        assert await ticket.run(lambda: 5, never) == 5
        with pytest.raises(Overloaded), lane.ticket(PATIENCE_S):
            pass
    assert lane._held == 0
    lane.close()


async def test_work_learns_that_it_should_stop() -> None:
    lane = BoundedExecutor("test", 1, 1)
    begun, seen = threading.Event(), threading.Event()

    def work() -> None:
        stop = stop_requested()
        begun.set()
        until = time.monotonic() + PATIENCE_S
        while not stop() and time.monotonic() < until:
            pass
        seen.set()
        raise Cancelled

    async def leaves() -> None:
        assert await asyncio.to_thread(begun.wait, PATIENCE_S)

    with pytest.raises(ClientDisconnected), lane.ticket(PATIENCE_S) as ticket:
        await ticket.run(work, leaves)
    assert await asyncio.to_thread(seen.wait, PATIENCE_S)
    begun.clear()
    with pytest.raises(TooSlow), lane.ticket(0.05) as ticket:
        await ticket.run(work, never)
    lane.close()
    assert lane._held == 0
    assert not stop_requested()()


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux alone")
def test_threads_step_back_and_no_others() -> None:
    def priority() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    own = priority()
    for nice in (0, own + 1):
        lane = BoundedExecutor("test", 2, 1, nice)
        assert {each.result(PATIENCE_S) for each in [lane.submit(priority) for _ in range(4)]} == {max(own, nice)}
        lane.close()
    assert priority() == own
