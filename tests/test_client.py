"""The client of the service: its answers are the collection's own, sync over a socket and async inside this process."""

from __future__ import annotations

import asyncio
import importlib
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import save, silence, speech, wav_bytes
from small_collection import make_collection

pytest.importorskip("httpx", reason="the 'client' extra is not installed")
pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")

import httpx
from socket_service import serving

import e2vsearch
from e2vsearch.client import AsyncClient, Client
from e2vsearch.client.rebuild import error_of, rebuild
from e2vsearch.collection import Collection
from e2vsearch.errors import (
    AudioNotFound,
    AudioTooLong,
    AudioUnreadable,
    BadFilter,
    E2vsearchError,
    MissingExtra,
    NotStored,
    Overloaded,
    QueryError,
    ServiceError,
    SettingsError,
    TooSlow,
)
from e2vsearch.search.query import Query, Reference
from e2vsearch.server import create_app
from e2vsearch.server.options import ServiceOptions
from e2vsearch.types import Status

KEY = "a key that is long enough"
LOCAL = "http://127.0.0.1:8080"
CLIP = np.concatenate([speech(1.7, seed=91, pitch_hz=210.0), silence(1.2), speech(1.4, seed=92)])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def collection(place: Path) -> Iterator[Collection]:
    with e2vsearch.open(place, encoder="fake") as collection:
        yield collection


@pytest.fixture(scope="module")
def clip(place: Path) -> Path:
    return save(place.parent / "angry.wav", CLIP)


@pytest.fixture(scope="module")
def app(collection: Collection) -> Iterator[Any]:
    app = create_app(collection, ServiceOptions(api_key=KEY, max_audio_s=10, timeout_s=20))
    yield app
    app.state.server.close()


@pytest.fixture(scope="module")
def client(collection: Collection) -> Iterator[Client]:
    """The sync client, and a service of its own behind a socket."""
    with (
        serving(collection, api_key=KEY, max_audio_s=10, timeout_s=20) as address,
        Client(address, api_key=KEY) as client,
    ):
        yield client


@pytest.fixture
async def inside(app: Any) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(LOCAL, api_key=KEY, transport=httpx.ASGITransport(app)) as client:
        yield client


@pytest.mark.slow
async def test_a_query_is_the_collections(
    client: Client, inside: AsyncClient, collection: Collection, clip: Path
) -> None:
    samples = CLIP.astype(np.float32)
    vector = collection.embed(clip).segments[0].vector
    hit = collection.query("seg:1")[0]
    asked: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("seg:1",), {"k": 2, "by": "segment", "explain": True}),
        ((clip,), {"explain": True, "where": "queue = billing", "group_by": "queue", "group_size": 2}),
        ((str(clip),), {"by": "segment", "emotion": {"low": 0.5}, "avoid": ["seg:3"], "include_self": True}),
        ((wav_bytes(CLIP),), {}),
        ((samples,), {"explain": True}),
        ((vector,), {"by": "segment"}),
        ((vector.tolist(), "seg:4"), {}),
        ((hit, collection.recordings()[1]), {}),
        ((Reference("seg:1", 2.0), Reference("seg:5", 0.5)), {"avoid": [Reference("emotion:low", 0.2), "seg:3"]}),
        ((), {"trajectory": clip, "consistency": "any"}),
        ((), {"trajectory": ["emotion:low", "seg:5"]}),
        ((), {"emotion": "low", "min_probability": 0.1}),
        ((), {"where": "queue = billing", "text": "refund"}),
        ((Query((Reference("seg:2"),), exact=True),), {}),
    ]
    for references, fields in asked:
        wanted = collection.query(*references, **fields)
        for found in (client.query(*references, **fields), await inside.query(*references, **fields)):
            assert len(found) > 0
            assert {**asdict(found), "seconds": 0} == {**asdict(wanted), "seconds": 0}
            assert found == wanted
            assert found[0].metadata == wanted[0].metadata
    with pytest.raises(TypeError, match="no field kk"):
        client.query("seg:1", kk=2)


async def test_what_is_stored_comes_back_as_it_is(client: Client, inside: AsyncClient, collection: Collection) -> None:
    stored = collection.recordings()
    page = client.recordings(limit=3)
    assert page.recordings == list(stored[:3])
    assert client.recordings(limit=3, after=page.next).recordings == list(stored[3:])
    assert client.recordings(where="queue = billing", order="newest") == await inside.recordings(
        where="queue = billing", order="newest"
    )
    for of in (stored[1], stored[1].id, collection.segments(stored[1].id)[0]):
        found = client.recording(of)
        assert (found.recording, found.segments) == (stored[1], list(collection.segments(stored[1].id)))
        assert client.timeline(of) == collection.timeline(stored[1].id) == await inside.timeline(of)
    hit = collection.query("seg:1")[0]
    assert client.segment(hit).segment == collection.segments(hit.segment)[0] == (await inside.segment(hit)).segment
    assert client.status() == collection.status() == await inside.status()
    assert client.filters().metadata["queue"] == ["billing"]
    assert await inside.filters() == client.filters()
    assert await inside.recording("call:2") == client.recording("call:2")


async def test_clips_are_embedded_and_compared(
    client: Client, inside: AsyncClient, collection: Collection, clip: Path
) -> None:
    wanted = collection.embed(clip)
    for found in (client.embed(clip), await inside.embed(clip)):
        assert [each.vector for each in found.segments] == [each.vector.tolist() for each in wanted.segments]
    assert [each.vector for each in client.embed("seg:2").segments] == [
        each.vector for each in client.embed("call:1").segments[1:2]
    ]
    other = wav_bytes(speech(2.0, seed=93))
    for a, b in (("call:1", "seg:5"), (clip, other)):
        expected = asdict(collection.compare(a, b))
        for compared in (asdict(client.compare(a, b)), asdict(await inside.compare(a, b))):
            for side in "ab":
                compared[side].pop("name")
                expected[side].pop("name", None)
            assert compared == expected


async def test_labels_are_given_and_taken(client: Client, inside: AsyncClient, collection: Collection) -> None:
    report = client.add_label("hesitant", "seg:1", "seg:5", collection.segments("seg:9")[0])
    assert (report.added, set(report.examples)) == (3, {"seg:1", "seg:5", "seg:9"})
    assert (await inside.add_label("calm", "seg:3", "seg:4", "seg:8")).added == 3
    assert client.labels() == await inside.labels()
    assert client.labels().labels == list(collection.labels.list())
    suggested = client.suggest_labels(2)
    assert suggested.suggestions == list(collection.labels.suggest(2))
    assert await inside.suggest_labels(2) == suggested
    with pytest.raises(E2vsearchError, match="classif"):
        client.classify("seg:1")
    with pytest.raises(E2vsearchError, match="classif"):
        await inside.classify("seg:1", "none")
    assert client.remove_label("hesitant", "seg:1").removed == 1
    assert (await inside.remove_label("calm")).removed == 3
    assert client.remove_label("hesitant").removed == 2


def test_errors_are_the_library_s(client: Client, clip: Path, place: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"no sound at all, but some text")
    long = save(tmp_path / "long.wav", speech(11.0))
    refused: list[tuple[Callable[[], Any], type[E2vsearchError], str]] = [
        (lambda: client.query("seg:999"), NotStored, "seg:999"),
        (lambda: client.query("seg:1", where="nothing = 1"), BadFilter, "nothing"),
        (lambda: client.query("seg:1", k=1001), QueryError, "k: Input should be"),
        (lambda: client.query("nothing.wav"), AudioNotFound, "nothing.wav is no file here"),
        (lambda: client.query(broken), AudioUnreadable, str(broken)),
        (lambda: client.query(long), AudioTooLong, str(long)),
        (lambda: client.query(clip, "seg:1"), QueryError, "by HTTP a clip is the one reference"),
        (lambda: client.query("seg:1", avoid=[clip]), QueryError, "by HTTP a clip is the one reference"),
        (lambda: client.query(Reference(clip, 2.0)), QueryError, "by HTTP a clip is the one reference"),
        (lambda: client.query(clip, group_by=["queue", "day"]), QueryError, "by HTTP a clip is"),
        (lambda: client.query("seg:1", Reference("seg:2", 2.0)), QueryError, "all references have a weight"),
        (lambda: client.query(trajectory=[clip, "emotion:low"]), QueryError, "by HTTP a clip is"),
        (lambda: client.query(trajectory=np.ones((2, 16))), QueryError, "not of vectors"),
        (lambda: client.compare(clip, "seg:1"), QueryError, "two clips"),
        (lambda: client.embed(np.ones(16)), QueryError, "not vectors"),
        (lambda: client.recording("call:99"), NotStored, "call:99"),
        (lambda: client.recording("../status"), NotStored, "no id"),
        (lambda: client.remove_label("b?x=1"), NotStored, "b?x=1"),
    ]
    for ask, kind, message in refused:
        with pytest.raises(kind) as raised:
            ask()
        assert message in str(raised.value)
        assert "\n" not in str(raised.value)


def answering(status: int, **body: Any) -> Client:
    return Client(LOCAL, transport=httpx.MockTransport(lambda _: httpx.Response(status, **body)))


def test_what_is_no_answer_is_told() -> None:
    with pytest.raises(ServiceError, match="404 without a reason"):
        answering(404, text="<h1>not here</h1>").status()
    with pytest.raises(ServiceError, match="no Status"):
        answering(200, json={"status": "ok"}).status()
    with pytest.raises(ServiceError, match="is this the address"):
        answering(200, text="hello").status()
    with pytest.raises(Overloaded, match="come again"):
        answering(503, json={"error": {"reason": "overloaded", "message": "come again"}}).status()
    for url in ("", "127.0.0.1:8080", "ftp://127.0.0.1"):
        with pytest.raises(SettingsError, match="no address"):
            Client(url)
    with pytest.raises(SettingsError, match="timeout_s"):
        Client(LOCAL, timeout_s=0)


async def test_a_service_that_is_not_there(app: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    with Client(url, timeout_s=5) as client, pytest.raises(ServiceError, match="is e2vsearch serve running"):
        client.status()
    with (
        socket.create_server(("127.0.0.1", 0)) as mute,
        Client(f"http://127.0.0.1:{mute.getsockname()[1]}", timeout_s=0.05) as client,
        pytest.raises(TooSlow, match="raise timeout_s"),
    ):
        client.status()
    async with AsyncClient(LOCAL, api_key="wrong", transport=httpx.ASGITransport(app)) as wrong:
        with pytest.raises(ServiceError, match="key"):
            await wrong.status()
        assert len(await asyncio.gather(*(wrong.status() for _ in range(3)), return_exceptions=True)) == 3


def test_every_reason_is_a_kind() -> None:
    kinds = [each for each in vars(e2vsearch.errors).values() if isinstance(each, type) and hasattr(each, "reason")]
    assert len(kinds) > 30
    for kind in kinds:
        found = error_of(400, {"error": {"reason": kind.reason, "message": "why - cure"}})
        assert (type(found), str(found)) == (kind, "why - cure")


def test_fields_of_another_version_are_passed_over(collection: Collection) -> None:
    from pydantic import TypeAdapter

    status = TypeAdapter(Status).dump_python(collection.status(), mode="json")
    assert rebuild(Status, status | {"new": 1}) == collection.status()
    del status["named_vectors"]
    assert rebuild(Status, status).named_vectors == ()
    others: list[Any] = [[], "text", {"place": 1}, status | {"counts": []}]
    for wrong in others:
        with pytest.raises(ServiceError, match="no Status"):
            rebuild(Status, wrong)


def test_neither_key_nor_name_is_given_away(clip: Path) -> None:
    sent: list[httpx.Request] = []

    def keep(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(503, json={"error": {"reason": "overloaded", "message": "later"}})

    with Client(LOCAL, api_key=KEY, transport=httpx.MockTransport(keep)) as client:
        with pytest.raises(Overloaded):
            client.query(clip)
        assert KEY not in repr(client)
    (request,) = sent  # once: what was sent is not sent again
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert b"angry" not in request.read()


def test_without_httpx_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("e2vsearch.client")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtra, match=r"e2vsearch\[client\]"):
        importlib.import_module("e2vsearch.client")


@pytest.mark.slow
def test_it_needs_nothing_of_the_service_s() -> None:
    code = (
        "import sys\n"
        "sys.modules |= dict.fromkeys(('fastapi', 'starlette', 'pydantic', 'uvicorn', 'prometheus_client'))\n"
        "from e2vsearch.client import calls\n"
        "made = calls.embed('seg:1'), calls.labels(), calls.timeline('call:1'), calls.recording('call:1')\n"
        "print(*(call.returns.__name__ for call in made))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["Embedding", "Labels", "Timeline", "RecordingSegments"], done.stderr
