"""Who may ask a service, how much, and for how long: guard, uploads, batching, lanes."""

from __future__ import annotations

import asyncio
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import save_av, silence, speech, wav_bytes
from numpy.typing import NDArray

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

import httpx
from fastapi import FastAPI
from small_collection import make_collection

import e2vsearch
from e2vsearch import encoders
from e2vsearch.collection import golden
from e2vsearch.collection.hearing import Stopped, hear
from e2vsearch.encoders import Embeddings
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import AudioTooLong, EncoderError, MissingExtra, Overloaded, SettingsError, TooSlow
from e2vsearch.service import ServiceOptions, create_app, require_packages
from e2vsearch.service.batching import Batch, BatchedEncoder, BatchOptions
from e2vsearch.service.context import Service
from e2vsearch.service.work import ClientGone, Lane, asked_to_stop

LOCAL = "http://127.0.0.1:8080"
CLIP = wav_bytes(speech(2.0))
PATIENCE_S = 20.0  # for what must happen; nothing waits so long unless it is broken


class Gate(FakeEncoder):
    """A fake encoder that waits to be let through, and remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)
        self.calls: list[int] = []

    def _encode(self, signals: Any) -> Embeddings:
        if np.array_equal(signals[0], golden.clip()):  # the check of every encoder that is opened for a collection
            return super()._encode(signals)
        self.calls.append(len(signals))
        self.entered.release()
        assert self.open.wait(PATIENCE_S)
        return super()._encode(signals)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("served"))


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture(scope="module")
def standing(place: Path) -> Iterator[dict[str, FastAPI]]:
    """Two applications that are only ever asked who may ask them."""
    with e2vsearch.open(place, encoder="fake") as collection:
        apps = {key: create_app(collection, ServiceOptions(api_key=key or None)) for key in ("", "secret key")}
        yield apps
        for app in apps.values():
            app.state.service.reading.close()


Made = Callable[..., FastAPI]


@pytest.fixture
async def served(place: Path, gate: Gate) -> AsyncIterator[Made]:
    """Makes applications over one collection, whose encoder is the gate unless it is open."""
    apps: list[FastAPI] = []
    with e2vsearch.open(place, encoder=gate) as collection:

        def make(**options: Any) -> FastAPI:
            apps.append(create_app(collection, ServiceOptions(**options)))
            return apps[-1]

        yield make
        gate.open.set()
        for app in apps:
            service: Service = app.state.service
            for part in (service.listening, service.reading, service.collection, service.uploads):
                await asyncio.to_thread(part.close)


def client_of(app: FastAPI, base_url: str = LOCAL) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=base_url)


async def send_clip(client: httpx.AsyncClient, data: bytes = CLIP, name: str = "clip.wav") -> httpx.Response:
    return await client.post("/query/upload", files={"file": (name, data)})


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.acquire, timeout=PATIENCE_S)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


def leftovers(app: FastAPI) -> list[str]:
    folder = app.state.service.uploads._folder
    return [path.name for path in folder.iterdir() if path.name != ".lock"] if folder is not None else []


# --- who may ask


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8080", None, 200),
        ("localhost", None, 200),
        ("LOCALHOST:80", None, 200),
        ("[::1]:8080", None, 200),
        ("127.8.9.1", None, 200),
        ("localhost:8080", "http://localhost:8080", 200),
        ("localhost:8080", "http://127.0.0.1:5173", 200),
        ("evil.example", None, 403),
        ("127.0.0.1.evil.example:8080", None, 403),
        ("0.0.0.0:8080", None, 403),
        ("192.168.1.5:8080", None, 403),
        ("", None, 403),
        ("[::1", None, 200),
        ("[:", None, 403),
        ("localhost:8080", "https://evil.example", 403),
        ("localhost:8080", "http://localhost.evil.example", 403),
        ("localhost:8080", "null", 403),
        ("localhost:8080", "http://[", 403),
        ("localhost:8080", "", 403),
    ],
)
async def test_without_a_key_only_this_machine_may_ask(
    served: Made, host: str, origin: str | None, status: int
) -> None:
    headers = {"Host": host, **({"Origin": origin} if origin is not None else {})}
    async with client_of(served()) as client:
        for path in ("/status", "/healthz", "/"):
            assert (await client.get(path, headers=headers)).status_code == status


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer secret key"}, 200),
        ({"Authorization": "bearer secret key"}, 200),
        ({"X-API-Key": "secret key"}, 200),
        ({"Authorization": "Bearer secret"}, 401),
        ({"Authorization": "Basic secret key"}, 401),
        ({"Authorization": "secret key"}, 401),
        ({"X-API-Key": "secret key "}, 200),  # white space around a header's value is not part of it
        ({"X-API-Key": ""}, 401),
        ({"X-API-Key": "Secret key"}, 401),
        ({"X-API-Key": "secret keyé".encode("latin-1").decode("latin-1")}, 401),
    ],
)
async def test_with_a_key_who_has_it_may_ask(
    standing: dict[str, FastAPI], headers: dict[str, str], status: int
) -> None:
    encoded = {name: value.encode("latin-1") for name, value in headers.items()}
    async with client_of(standing["secret key"], "http://calls.example.org") as client:
        response = await client.get("/status", headers=encoded)
        assert response.status_code == status
        if status == 401:
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.json()["error"]["reason"] == "key"


async def test_with_a_key_only_the_page_and_health_are_open(standing: dict[str, FastAPI]) -> None:
    async with client_of(standing["secret key"], "http://calls.example.org") as client:
        for path in ("/", "/healthz", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        document = (await client.get("/openapi.json")).json()
        for path, operations in document["paths"].items():
            for method in operations:
                response = await client.request(method, path.replace("{id}", "1"))
                assert response.status_code == (200 if path == "/healthz" else 401), path
        for path in ("/nothing", "/healthz/", "/status?/healthz"):
            assert (await client.get(path)).status_code == 401
        assert document["security"] == [{"bearer": []}, {"key": []}]


def test_the_key_is_not_shown() -> None:
    assert "secret" not in repr(ServiceOptions(api_key="secret key"))


@pytest.mark.parametrize(
    "options",
    [{"api_key": " "}, {"max_upload_mb": 0}, {"max_audio_s": float("nan")}, {"timeout_s": float("inf")}, {"queue": -1},
     {"threads": -1}],
)  # fmt: skip
def test_options_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        ServiceOptions(**options)


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client", "python_multipart"])
def test_a_missing_package_is_named_with_its_cure(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"pip install 'e2vsearch\[serve\]'"):
        require_packages()


# --- how much may be sent


async def test_an_upload_that_says_it_is_too_large(served: Made) -> None:
    app = served(max_upload_mb=0.05)
    async with client_of(app) as client:
        response = await send_clip(client)
    assert (response.status_code, response.json()["error"]["reason"]) == (413, "too-large")
    assert "0.05 MB" in response.json()["error"]["message"]


async def test_an_upload_without_a_length_is_stopped_on_the_way(served: Made) -> None:
    app = served(max_upload_mb=1)
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        while sent < 100_000_000:
            sent += 65_536
            yield bytes(65_536)

    async with client_of(app) as client:
        headers = {"Content-Type": "multipart/form-data; boundary=b"}
        response = await client.post("/query/upload", content=endless(), headers=headers)
    assert response.status_code == 413
    assert sent < 1_200_000
    assert leftovers(app) == []


async def test_a_body_that_is_no_upload_is_smaller_still(served: Made) -> None:
    async with client_of(served()) as client:
        response = await client.post("/query", content=b" " * 4_000_001, headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["error"]["reason"]) == (413, "too-large")


PART = 'Content-Disposition: form-data; name="{}"\r\n\r\n{}\r\n'


@pytest.mark.parametrize(
    ("kind", "body", "status", "reason"),
    [
        ("application/json", "{}", 415, "not-a-form"),
        ("multipart/form-data", "", 415, "not-a-form"),
        ("multipart/form-data; boundary=b", "", 400, "bad-form"),
        ("multipart/form-data; boundary=b", "nonsense", 400, "bad-form"),
        ("multipart/form-data; boundary=b", "--b\r\n" + PART.format("file", "x"), 400, "bad-form"),
        ("multipart/form-data; boundary=b", "--b\r\n" + PART.format("k", "5") + "--b--\r\n", 422, "invalid"),
        ("multipart/form-data; boundary=b", 2 * ("--b\r\n" + PART.format("file", "x")) + "--b--\r\n", 422, "invalid"),
        ("multipart/form-data; boundary=b", 2 * ("--b\r\n" + PART.format("k", "1")) + "--b--\r\n", 422, "invalid"),
        ("multipart/form-data; boundary=b", "--b\r\n" + PART.format("k", "1" * 20_000) + "--b--\r\n", 422, "invalid"),
        (
            "multipart/form-data; boundary=b",
            "".join("--b\r\n" + PART.format(f"f{number}", "x") for number in range(20)) + "--b--\r\n",
            422,
            "invalid",
        ),
        (
            "multipart/form-data; boundary=b",
            "--b\r\n" + PART.format("file", "x") + "--b\r\n" + PART.format("kk", "1") + "--b--\r\n",
            422,
            "invalid",
        ),
        (
            "multipart/form-data; boundary=b",
            "--b\r\n" + PART.format("file", "x") + "--b\r\n" + PART.format("k", "many") + "--b--\r\n",
            422,
            "invalid",
        ),
        ("multipart/form-data; boundary=b", "--b\r\n" + PART.format("file", "") + "--b--\r\n", 422, "empty"),
        ("multipart/form-data; boundary=b", "--b\r\n" + PART.format("file", "words") + "--b--\r\n", 415, "not-audio"),
    ],
)
async def test_a_form_that_is_none(served: Made, kind: str, body: str, status: int, reason: str) -> None:
    app = served()
    async with client_of(app) as client:
        response = await client.post("/query/upload", content=body.encode(), headers={"Content-Type": kind})
    assert (response.status_code, response.json()["error"]["reason"]) == (status, reason), response.text
    assert leftovers(app) == []


async def test_messages_name_an_upload_as_its_client_does(served: Made) -> None:
    app = served()
    async with client_of(app) as client:
        response = await send_clip(client, CLIP[:2000], "C:\\calls\\my cut.wav")
    message = response.json()["error"]["message"]
    assert (response.status_code, response.json()["error"]["reason"]) == (422, "truncated")
    assert message.startswith("my cut.wav ")
    assert "uploads" not in message


# --- how long audio may be


def flac_bomb(seconds: int, stated: int) -> bytes:
    """Silence in FLAC: a frame of 65,535 samples is 15 bytes (RFC 9639: a constant subframe)."""

    def crc(data: bytes, width: int, polynomial: int) -> int:
        value = 0
        for byte in data:
            value ^= byte << (width - 8)
            for _ in range(8):
                value = (value << 1) ^ (polynomial if value >> (width - 1) else 0)
                value &= (1 << width) - 1
        return value

    def utf8(number: int) -> bytes:
        return chr(number).encode()

    size = 65_535
    info = struct.pack(">HH", size, size) + bytes(6)
    info += ((8_000 << 44) | (0 << 41) | (15 << 36) | stated).to_bytes(8, "big") + bytes(16)
    frames = []
    for number in range(seconds * 8_000 // size):
        # fixed block size in 16 bits, 8 kHz, mono, 16 bit; the number of the frame; size - 1
        head = b"\xff\xf8\x74\x08" + utf8(number) + struct.pack(">H", size - 1)
        head += bytes([crc(head, 8, 0x07)])
        frame = head + b"\x00\x00\x00"
        frames.append(frame + struct.pack(">H", crc(frame, 16, 0x8005)))
    return b"fLaC\x80\x00\x00\x22" + info + b"".join(frames)


@pytest.mark.parametrize("stated", ["nothing", "little", "the truth"])
async def test_a_small_file_of_many_hours_is_stopped(served: Made, gate: Gate, stated: str) -> None:
    gate.open.set()
    hours = 40
    bomb = flac_bomb(3600 * hours, {"nothing": 0, "little": 16_000, "the truth": 3600 * hours * 8_000}[stated])
    assert len(bomb) < 400_000
    app = served(max_audio_s=60)
    started = time.perf_counter()
    async with client_of(app) as client:
        response = await send_clip(client, bomb, "bomb.flac")
    if stated == "little":  # the decoder stops where the header says, after two seconds of silence
        assert (response.status_code, response.json()["error"]["reason"]) == (400, "query")
    else:
        assert (response.status_code, response.json()["error"]["reason"]) == (413, "too-long")
    assert time.perf_counter() - started < 5  # hours are decoded at some 1,000 times real time: 40 would take 140 s
    assert leftovers(app) == []


async def test_a_stream_without_a_length_is_stopped(served: Made, tmp_path: Path) -> None:
    long = save_av(tmp_path / "long.webm", silence(120.0), "libopus", options={"live": "1"}).read_bytes()
    async with client_of(served(max_audio_s=30)) as client:
        response = await send_clip(client, long, "long.webm")
    assert (response.status_code, response.json()["error"]["reason"]) == (413, "too-long")


async def test_a_recording_as_long_as_allowed_is_heard(served: Made, gate: Gate) -> None:
    gate.open.set()
    app = served(max_audio_s=3)
    async with client_of(app) as client:
        assert (await send_clip(client, wav_bytes(speech(3.0)))).status_code == 200
        response = await send_clip(client, wav_bytes(speech(3.1)), "long.wav")
    assert (response.status_code, response.json()["error"]["reason"]) == (413, "too-long")


def test_hearing_counts_what_a_header_does_not_say() -> None:
    with pytest.raises(AudioTooLong, match="goes on after"):
        hear(flac_bomb(600, 0), FakeEncoder(), longest_s=30)


async def test_more_channels_than_calls_have(served: Made) -> None:
    app = served()
    async with client_of(app) as client:
        response = await send_clip(client, wav_bytes(np.zeros((9, 16_000), np.float32)))
    assert (response.status_code, response.json()["error"]["reason"]) == (422, "invalid-samples")


# --- how many at a time, and for how long


async def test_a_full_queue_says_when_to_come_again(served: Made, gate: Gate) -> None:
    app = served(threads=1, queue=1)
    async with client_of(app) as client:
        first = asyncio.create_task(send_clip(client))
        await entered(gate)
        second = asyncio.create_task(send_clip(client))
        await until(lambda: app.state.service.listening.waiting == 1)
        third = await send_clip(client)
        assert (third.status_code, third.json()["error"]["reason"]) == (503, "overloaded")
        assert int(third.headers["retry-after"]) >= 1
        # what is stored is read by other threads
        assert (await client.post("/query", json={"references": ["seg:1"]})).status_code == 200
        gate.open.set()
        assert [(await each).status_code for each in (first, second)] == [200, 200]
        assert (await send_clip(client)).status_code == 200
    assert leftovers(app) == []


async def test_a_request_that_takes_too_long(served: Made, gate: Gate) -> None:
    app = served(threads=1, queue=0, timeout_s=0.2)
    async with client_of(app) as client:
        response = await send_clip(client)
        assert (response.status_code, response.json()["error"]["reason"]) == (504, "too-slow")
        assert (await send_clip(client)).status_code == 503  # its thread is still at work, so its place is not free
        gate.open.set()
        await until(lambda: app.state.service.listening._held == 0)
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
    assert app.state.service.listening.waiting == 0


class Impatient:
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


def impatient_clip(app: FastAPI) -> Impatient:
    body = b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + CLIP + b"\r\n--b--\r\n"
    return Impatient(app, "/query/upload", body, "multipart/form-data; boundary=b")


async def test_a_client_that_goes_away_leaves_the_queue(served: Made, gate: Gate) -> None:
    app = served(threads=1, queue=1)
    lane: Lane = app.state.service.listening
    async with client_of(app) as client:
        first = asyncio.create_task(send_clip(client))
        await entered(gate)
        left = impatient_clip(app)
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
    lane: Lane = app.state.service.listening
    async with client_of(app) as client:
        first = asyncio.create_task(send_clip(client))
        await entered(gate)
        left = impatient_clip(app)
        gone = asyncio.create_task(left.run())
        batched: BatchedEncoder = app.state.service.collection.encoder()
        await until(lambda: batched._jobs.qsize() == 1)
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
    lane = Lane("test", 1, 0)

    def fail() -> None:
        raise ValueError("no")

    for _ in range(3):
        with pytest.raises(ValueError, match="no"), lane.turn(PATIENCE_S) as turn:
            await turn.run(fail, never)
    with lane.turn(PATIENCE_S) as turn:
        assert await turn.run(lambda: 5, never) == 5
        with pytest.raises(Overloaded), lane.turn(PATIENCE_S):
            pass
    assert lane._held == 0
    lane.close()


async def test_work_learns_that_it_should_stop() -> None:
    lane = Lane("test", 1, 1)
    begun, seen = threading.Event(), threading.Event()

    def work() -> None:
        stop = asked_to_stop()
        begun.set()
        until = time.monotonic() + PATIENCE_S
        while not stop() and time.monotonic() < until:
            pass
        seen.set()
        raise Stopped

    async def leaves() -> None:
        assert await asyncio.to_thread(begun.wait, PATIENCE_S)

    with pytest.raises(ClientGone), lane.turn(PATIENCE_S) as turn:
        await turn.run(work, leaves)
    assert await asyncio.to_thread(seen.wait, PATIENCE_S)
    begun.clear()
    with pytest.raises(TooSlow), lane.turn(0.05) as turn:
        await turn.run(work, never)
    lane.close()
    assert lane._held == 0
    assert not asked_to_stop()()


# --- one encoder for all


def clips(count: int) -> list[NDArray[np.float32]]:
    return [speech(1.0 + 0.13 * number, seed=number, pitch_hz=90.0 + 10 * number) for number in range(count)]


@pytest.mark.parametrize("name", ["fake", "light"])
def test_batched_vectors_are_the_same_bits(name: str) -> None:
    encoder = encoders.open(name)
    signals = clips(8)
    expected = [encoder.encode([signal]) for signal in signals]
    batches: list[Batch] = []
    batched = BatchedEncoder(encoder, BatchOptions(wait_s=0.05), batches.append)
    assert (batched.space, batched.min_samples) == (encoder.space, encoder.min_samples)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for made, alone in zip(pool.map(lambda one: batched.encode([one]), signals), expected, strict=True):
                assert np.array_equal(made.vectors, alone.vectors)
                assert made.scores is not None
                assert alone.scores is not None
                assert np.array_equal(made.scores, alone.scores)
    batched.close()
    assert max(batch.requests for batch in batches) > 1
    assert sum(batch.clips for batch in batches) == 24


def test_what_waits_is_encoded_in_one_call() -> None:
    gate = Gate()
    batched = BatchedEncoder(gate, BatchOptions(max_clips=5))
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batched.encode, clips(1))
        assert gate.entered.acquire(timeout=PATIENCE_S)
        rest = [pool.submit(batched.encode, clips(2)) for _ in range(4)]
        while batched._jobs.qsize() < 4:
            pass
        gate.open.set()
        assert [len(each.result(PATIENCE_S).vectors) for each in (first, *rest)] == [1, 2, 2, 2, 2]
    batched.close()
    assert gate.calls == [1, 4, 4]  # a third pair would be six clips


def test_a_bad_signal_harms_nobody_else() -> None:
    class Brittle(Gate):
        def _encode(self, signals: Any) -> Embeddings:
            if any(signal[0] == 0.5 for signal in signals):
                self.calls.append(len(signals))
                raise RuntimeError("cannot")
            return super()._encode(signals)

    gate = Brittle()
    batched = BatchedEncoder(gate)
    bad = speech(1.0)
    bad[0] = 0.5
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batched.encode, clips(1))
        assert gate.entered.acquire(timeout=PATIENCE_S)
        good, wrong = pool.submit(batched.encode, clips(1)), pool.submit(batched.encode, [bad])
        while batched._jobs.qsize() < 2:
            pass
        gate.open.set()
        assert first.result(PATIENCE_S).vectors.shape == good.result(PATIENCE_S).vectors.shape == (1, 16)
        with pytest.raises(RuntimeError, match="cannot"):
            wrong.result(PATIENCE_S)
        assert batched.encode(clips(2)).vectors.shape == (2, 16)  # its thread lives
    batched.close()


def test_a_full_encoder_queue_and_a_closed_one() -> None:
    gate = Gate()
    batched = BatchedEncoder(gate, BatchOptions(queue=1))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batched.encode, clips(1))
        assert gate.entered.acquire(timeout=PATIENCE_S)
        second = pool.submit(batched.encode, clips(1))
        while batched._jobs.qsize() < 1:
            pass
        with pytest.raises(Overloaded):
            batched.encode(clips(1))
        gate.open.set()
        assert first.result(PATIENCE_S).vectors.shape == second.result(PATIENCE_S).vectors.shape
    batched.close()
    with pytest.raises(EncoderError):
        batched.encode(clips(1))


def test_an_upload_folder_is_private_and_goes_away() -> None:
    from e2vsearch.service.uploads import Uploads

    uploads = Uploads()
    folder = uploads._made()
    assert folder.stat().st_mode & 0o077 == 0
    (folder / "left").write_bytes(b"x")
    uploads.close()
    assert not folder.exists()
