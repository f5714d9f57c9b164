"""Bodies that are slow, huge inside or in crumbs: refused early, and in nobody's way."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from gated_service import CLIP, Gate, Made, client_of, entered, leftovers, send_clip, until
from pydantic import ValidationError
from service_client import error_of

from e2vsearch.server import bodies
from e2vsearch.server.schemas import QueryRequest

FORM = {"Content-Type": "multipart/form-data; boundary=b"}
JSON = {"Content-Type": "application/json"}
BEGUN = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + CLIP[:1000]
REST = CLIP[1000:] + b"\r\n--b--\r\n"


class Sender:
    """A body that is sent when it is told to be."""

    def __init__(self, *parts: bytes) -> None:
        self._parts = parts
        self.go = asyncio.Event()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self._parts:
            yield part
            await self.go.wait()


async def test_uploads_that_send_nothing_take_no_place(served: Made, gate: Gate) -> None:
    gate.open.set()
    app = served(threads=1, queue=0)
    uploads = app.state.server.uploads
    silent = [Sender(BEGUN, REST) for _ in range(70)]
    async with client_of(app) as client:
        sent = [asyncio.create_task(client.post("/query/upload", content=each, headers=FORM)) for each in silent]
        await until(lambda: uploads.receiving == 70)
        assert (await send_clip(client)).status_code == 200
        assert "e2vsearch_receiving 70.0" in (await client.get("/metrics")).text
        silent[0].go.set()
        assert (await sent[0]).status_code == 200
        for task in sent[1:]:
            task.cancel()
        await asyncio.gather(*sent, return_exceptions=True)
    assert uploads.receiving == 0
    assert leftovers(app) == []


async def test_an_upload_is_refused_before_it_is_sent_where_nothing_is_free(served: Made, gate: Gate) -> None:
    app = served(threads=1, queue=0)
    body = Sender(BEGUN, REST)
    async with client_of(app) as client:
        first = asyncio.create_task(send_clip(client))
        await entered(gate)
        error_of(await client.post("/query/upload", content=body, headers=FORM), 503, "overloaded")
        gate.open.set()
        assert (await first).status_code == 200


@pytest.mark.parametrize(("path", "kind"), [("/query/upload", FORM), ("/query", JSON), ("/labels", JSON)])
async def test_a_body_that_comes_too_slowly(served: Made, path: str, kind: dict[str, str]) -> None:
    app = served(body_s=0.05)
    async with client_of(app) as client:
        response = await client.post(path, content=Sender(BEGUN if kind is FORM else b"{", REST), headers=kind)
    assert "10 kB a second" in error_of(response, 408, "too-slow")
    assert response.headers["connection"] == "close"
    assert leftovers(app) == []


async def test_a_body_that_comes_fast_enough_gets_its_time(served: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "LEAST_BYTES_PER_S", 10)
    async with client_of(served(body_s=0.05)) as client:
        body = Sender(b'{"references": ["seg:1"], ', b'"k": 1}')  # 26 bytes are good for 2.6 s
        asyncio.get_running_loop().call_later(0.2, body.go.set)
        assert (await client.post("/query", content=body, headers=JSON)).status_code == 200


async def test_what_is_on_its_way_in_is_bounded_all_together(served: Made) -> None:
    app = served(threads=1, queue=0, max_upload_mb=0.01)
    async with client_of(app) as client:
        first = Sender(BEGUN + bytes(5000))
        held = asyncio.create_task(client.post("/query/upload", content=first, headers=FORM))
        await until(lambda: app.state.server.uploads.receiving == 1)
        await asyncio.sleep(0)
        error_of(await client.post("/query/upload", content=BEGUN + bytes(5000), headers=FORM), 503, "overloaded")
        held.cancel()
        await asyncio.gather(held, return_exceptions=True)
        response = await client.post("/query/upload", content=BEGUN + bytes(5000), headers=FORM)
        error_of(response, 400, "bad-form")  # there is room again


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b",".join(b'"%d":1' % number for number in range(280_000)) + b"}",
        b'{"emotion": {' + b",".join(b'"%d":"x"' % number for number in range(280_000)) + b"}}",
        b'{"references": [' + b",".join([b"[]"] * 1_000_000) + b"]}",
        b'{"references": [[' + b",".join([b"null"] * 700_000) + b"]]}",
        b"[" * 3_000_000,
        json.dumps({str(number): 1 for number in range(5000)}).encode("utf-16"),
    ],
    ids=["unknown keys", "emotions", "lists", "items", "depth", "UTF-16"],
)
async def test_a_body_with_more_in_it_than_any_request(served: Made, body: bytes) -> None:
    assert len(body) < bodies.MAX_VECTORS_BYTES
    async with client_of(served()) as client:
        error_of(await client.post("/query", content=body, headers=JSON), 422, "invalid")


async def test_the_largest_request_is_taken(served: Made) -> None:
    vectors = [[-0.12345678901234567] * 4096] * 40
    body = {"references": vectors[:16], "avoid": vectors[16:32], "where": 'a = ":,[{"', "named_vectors": {}}
    for number, vector in enumerate(vectors[32:]):
        body["named_vectors"][f"model {number}"] = {"weight": 1, "reference": vector}  # type: ignore[index]
    encoded = json.dumps(body, separators=(",", ":")).encode()
    assert 3_000_000 < len(encoded) < bodies.MAX_VECTORS_BYTES
    bodies.check_structure(encoded, 200_000)
    QueryRequest.model_validate(body)


async def test_only_a_query_may_hold_vectors(served: Made) -> None:
    spaces = b" " * 1_000_001
    async with client_of(served()) as client:
        assert (await client.post("/query", content=spaces, headers=JSON)).status_code == 422
        for path in ("/embed", "/compare", "/labels"):
            assert "1 MB" in error_of(await client.post(path, content=spaces, headers=JSON), 413, "too-large")


@pytest.mark.parametrize(
    "body",
    [
        {"x" * 900_000: 1},
        {f"{number}" * 50: 1 for number in range(3000)},
        {"references": [[None] * 4096] * 16, "avoid": [["a"] * 4096] * 16},
        {"references": [{"a": 1}] * 500},
        {"trajectory": [1] * 190_000},
        {"references": ["seg:1"], "group_size": ["x"] * 190_000},
    ],
    ids=["a long name", "many names", "vectors of nothing", "many references", "trajectory", "group sizes"],
)
async def test_what_is_wrong_is_named_in_few_words(served: Made, body: Any) -> None:
    with pytest.raises(ValidationError) as wrong:
        QueryRequest.model_validate(body)
    assert wrong.value.error_count() <= 4000  # each costs some 10 µs, in which nothing else is answered
    async with client_of(served()) as client:
        response = await client.post("/query", json=body)
    assert len(error_of(response, 422, "invalid")) < 2000


async def test_a_client_that_goes_away_while_it_sends(served: Made) -> None:
    app = served()
    messages = iter(
        [{"type": "http.request", "body": b'{"label": "x"', "more_body": True}, {"type": "http.disconnect"}]
    )

    async def receive() -> Any:
        return next(messages)

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http",
        "path": "/labels", "raw_path": b"/labels", "root_path": "", "query_string": b"", "client": ("127.0.0.1", 1),
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json")], "server": ("127.0.0.1", 80),
    }  # fmt: skip
    await app(scope, receive, send)
    assert sent == []
