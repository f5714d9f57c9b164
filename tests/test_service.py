"""The service's routes: what each gives is what the collection gives, and every error is one line."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import asdict, fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import speech, wav_bytes
from numpy.typing import NDArray

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient
from pydantic import TypeAdapter
from small_collection import SAID, make_collection

import e2vsearch
from e2vsearch import audio
from e2vsearch.catalog import listing
from e2vsearch.collection.recalling import recall
from e2vsearch.collection.results import QueryResult
from e2vsearch.encoders import Encoder, Head
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import BadSignal
from e2vsearch.ingest import Collection
from e2vsearch.service import ServiceOptions, create_app, examples, page
from e2vsearch.service.batching import BatchedEncoder
from e2vsearch.service.wav import Unsatisfiable, VirtualWav, asked_range

LOCAL = "http://127.0.0.1:8080"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="module")
def collection(place: Path) -> Iterator[Collection]:
    with e2vsearch.open(place, encoder="fake") as collection:
        yield collection


@pytest.fixture(scope="module")
def client(collection: Collection, place: Path) -> Iterator[TestClient]:
    app = create_app(collection, ServiceOptions(roots=(place.parent / "calls",)))
    with TestClient(app, base_url=LOCAL) as client:
        yield client


def ask(client: TestClient, path: str, **body: Any) -> Any:
    response = client.post(path, json=body)
    assert response.status_code == 200, response.text
    return response.json()


def said(response: Any, status: int, reason: str) -> str:
    """The message of an error, which must be one line under that status and reason."""
    assert response.status_code == status, response.text
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert set(error) == {"reason", "message"}
    assert error["reason"] == reason
    assert error["message"]
    assert "\n" not in error["message"]
    return str(error["message"])


# --- asking


@pytest.mark.parametrize(
    "asked",
    [
        {"references": ["seg:1"]},
        {"references": ["call:2", "seg:1"], "k": 2, "by": "segment"},
        {"references": ["seg:1"], "where": "queue = billing", "include_self": True},
        {"references": ["seg:1"], "text": "refund", "exact": True},
        {"references": ["emotion:low"], "k": 1},
        {"references": [[0.5] * 16]},
    ],
    ids=lambda asked: json.dumps(asked)[:60],
)
def test_query_is_the_collections(client: TestClient, collection: Collection, asked: dict[str, Any]) -> None:
    options = {name: value for name, value in asked.items() if name != "references"}
    expected = collection.query(*asked["references"], **options)
    found = TypeAdapter(QueryResult).validate_python(ask(client, "/query", **asked))
    assert len(found) > 0
    assert found.hits == expected.hits
    assert (found.searched, found.total, found.where, found.text) == (
        expected.searched, expected.total, expected.where, expected.text,
    )  # fmt: skip


def test_a_played_moment_finds_itself(client: TestClient, collection: Collection) -> None:
    clip = client.get("/segments/seg:4/audio").content
    response = client.post(
        "/query/upload", files={"file": ("my moment.wav", clip, "audio/wav")}, data={"k": "2", "by": "segment"}
    )
    assert response.status_code == 200, response.text
    result = response.json()
    assert result["reference"] == ["my moment.wav"]
    assert len(result["hits"]) == 2
    assert result["hits"][0]["segment"] == "seg:4"
    assert result["hits"][0]["score"] > 0.99


def test_an_upload_is_filtered(client: TestClient) -> None:
    files = {"file": ("a.wav", wav_bytes(speech(2.0)), "audio/wav")}
    found = client.post("/query/upload", files=files, data={"where": "queue = billing", "text": "refund"}).json()
    assert {hit["text"] for hit in found["hits"]} == {SAID}
    assert (found["where"], found["text"]) == ("queue = billing", "refund")


def test_a_file_in_a_root_is_named_as_the_client_does(client: TestClient, place: Path) -> None:
    calls = place.parent / "calls"
    for name in ("bela.wav", str(calls / "bela.wav"), (calls / "bela.wav").as_uri()):
        result = ask(client, "/query", references=[name], k=1)
        assert result["reference"] == [name]
        assert result["hits"][0]["name"] == "bela"


@pytest.mark.parametrize(
    "name",
    [
        "../index/catalog.db",
        "/etc/passwd",
        "nothing.wav",
        "x" * 1000,
        ".",
        "file:///etc/passwd",
        "~/.bashrc",
    ],
)
def test_a_path_outside_the_roots_is_forbidden(client: TestClient, name: str) -> None:
    for path, body in (
        ("/query", {"references": [name]}),
        ("/embed", {"reference": name}),
        ("/compare", {"a": "seg:1", "b": name}),
        ("/classify", {"reference": name}),
    ):
        said(client.post(path, json=body), 403, "path-forbidden")


def test_a_link_out_of_a_root_is_forbidden(client: TestClient, place: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav_bytes(speech(2.0)))
    link = place.parent / "calls" / "link.wav"
    link.symlink_to(secret)
    try:
        said(client.post("/query", json={"references": ["link.wav"]}), 403, "path-forbidden")
    finally:
        link.unlink()


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"references": ["seg:999"]}, 404, "not-stored"),
        ({"references": ["seg:x"]}, 404, "not-stored"),
        ({"references": ["seg:²"]}, 404, "not-stored"),
        ({"references": ["call:99999999999999999999"]}, 404, "not-stored"),
        ({"references": ["emotion:jolly"]}, 404, "not-stored"),
        ({"references": ["https://example.org/a.wav"]}, 400, "query"),
        ({"references": [[1.0, 2.0]]}, 400, "query"),
        ({"references": [[0.0] * 16]}, 400, "query"),
        ({"references": ["seg:1"], "where": "nothing = 1"}, 400, "bad-filter"),
        ({"references": ["seg:1"], "where": "channel ="}, 400, "bad-filter"),
        ({"references": ["seg:1"], "where": "segment = 99999999999999999999"}, 400, "bad-filter"),
        ({"references": ["seg:1"], "where": "channel = 1e400"}, 400, "bad-filter"),
        ({"references": ["seg:1"], "where": "date = 9999-12-31"}, 400, "bad-filter"),
        ({"references": ["seg:1"], "where": "(" * 900 + "channel = 1" + ")" * 900}, 400, "bad-filter"),
        ({"references": ["seg:1"], "k": 0}, 422, "invalid"),
        ({"references": ["seg:1"], "k": 1001}, 422, "invalid"),
        ({"references": ["seg:1"], "k": "5"}, 422, "invalid"),
        ({"references": ["seg:1"], "by": "agent"}, 422, "invalid"),
        ({"references": ["seg:1"], "kk": 3}, 422, "invalid"),
        ({"references": []}, 422, "invalid"),
        ({"references": ["a\0b"]}, 422, "invalid"),
        ({"references": ["seg:1"] * 17}, 422, "invalid"),
        ({"references": [[0.1] * 5000]}, 422, "invalid"),
        ({}, 422, "invalid"),
    ],
    ids=lambda value: json.dumps(value)[:50] if isinstance(value, dict) else None,
)
def test_a_wrong_query_is_told(client: TestClient, body: dict[str, Any], status: int, reason: str) -> None:
    said(client.post("/query", json=body), status, reason)


def test_what_is_no_number_is_refused(client: TestClient) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        body = f'{{"references": [[{", ".join([number] * 16)}]]}}'
        said(client.post("/query", content=body, headers={"Content-Type": "application/json"}), 422, "invalid")


def test_compare_of_what_is_stored(client: TestClient) -> None:
    same = ask(client, "/compare", a="seg:1", b="seg:1")
    assert same["score"] == pytest.approx(1.0)
    assert (same["a"]["name"], same["a"]["segments"]) == ("seg:1", 1)
    other = ask(client, "/compare", a="call:1", b="call:4")
    assert other["score"] < 1.0
    assert other["b"]["segments"] == 3
    said(client.post("/compare", json={"a": "seg:1", "b": "emotion:low"}), 400, "query")


def test_compare_goes_through_the_projection_in_use(collection: Collection, client: TestClient) -> None:
    from e2vsearch.catalog import projections
    from e2vsearch.projections.parts import Parts

    rng = np.random.default_rng(0)
    parts = Parts("fitted", "turned", rng.random(16, np.float32), rng.standard_normal((16, 3)).astype("f4"),
                  np.empty((16, 0), np.float32), 0.0)  # fmt: skip
    stored = projections.StoredProjection("turned", "fitted", parts.revision, parts.pack(), {}, projections.now())
    raw = ask(client, "/compare", a="call:1", b="call:4")
    assert raw["space"]["projection"] == "raw"
    projections.put(collection.catalog, stored)
    projections.use(collection.catalog, "turned")
    try:
        turned = ask(client, "/compare", a="call:1", b="call:4")
        assert turned["space"]["projection"] == f"turned@{parts.revision[:12]}"
        assert abs(turned["score"] - raw["score"]) > 1e-3
        sides = ((name, recall(collection, name)) for name in ("call:1", "call:4"))
        assert turned["score"] == collection.compare_heard(*sides).score
        clip = wav_bytes(speech(2.0, seed=1))
        sent = client.post("/compare/upload", files={"a": ("one.wav", clip), "b": ("two.wav", clip)}).json()
        assert sent["space"]["projection"] == turned["space"]["projection"]
    finally:
        projections.drop(collection.catalog, "turned")


def test_a_shared_encoder_hides_nothing() -> None:
    """All that an encoder has is there, and the same, behind the queue of all requests."""

    class Headed(FakeEncoder):
        def head(self) -> Head:
            return Head(np.ones((2, 16), np.float32), np.zeros(2, np.float32))

        def projection(self) -> bytes:
            return b"packed"

        def _frames(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.full((3, 16), signal.size, np.float32)

    encoder = Headed()
    encoder.min_samples, encoder.frame_rate_hz, encoder.opened_by = 640, 12.5, "/models/mine"
    encoder.calls_at_once = 7
    batched = BatchedEncoder(encoder)
    signal = speech(1.0)
    asked = {"encode": ([signal],), "frames": (signal,), "head": (), "projection": ()}
    seen = {name for name in (*vars(Encoder), *Encoder.__annotations__) if not name.startswith("_")}
    # a new one is to be passed on, too
    assert seen == {"space", "min_samples", "frame_rate_hz", "opened_by", "calls_at_once", *asked}
    for name in seen:
        own, shared = getattr(encoder, name), getattr(batched, name)
        if name in asked:
            own, shared = own(*asked[name]), shared(*asked[name])
        for one, other in zip(parts_of(own), parts_of(shared), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
    with pytest.raises(BadSignal, match="640"):
        batched.encode([signal[:500]])
    batched.close()
    assert batched.head() is not None
    headless = BatchedEncoder(FakeEncoder())
    assert headless.head() is None
    headless.close()


def parts_of(value: Any) -> list[Any]:
    """Its arrays, where it is made of some."""
    return [getattr(value, each.name) for each in fields(value)] if is_dataclass(value) else [value]


def test_compare_of_clips_is_the_collections(client: TestClient, collection: Collection) -> None:
    a, b = (wav_bytes(speech(2.0, seed=seed, pitch_hz=pitch)) for seed, pitch in ((1, 110.0), (2, 180.0)))
    found = client.post("/compare/upload", files={"a": ("one.wav", a), "b": ("two.wav", b)}).json()
    expected = collection.compare(a, b)
    assert (found["score"], found["best"]) == (expected.score, expected.best)
    assert (found["a"]["name"], found["b"]["name"]) == ("one.wav", "two.wav")


def test_embed_gives_the_stored_vectors(client: TestClient, collection: Collection) -> None:
    found = ask(client, "/embed", reference="call:2")
    ids, _ = collection.catalog.segments_of([2])
    assert np.array_equal(np.array([moment["vector"] for moment in found["moments"]], np.float32),
                          collection.feed().fetch(ids).vectors)  # fmt: skip
    assert found["dim"] == 16
    segment = collection.segments("call:2")[0]
    first = found["moments"][0]
    assert (first["start_s"], first["end_s"], first["emotion"]) == (segment.start_s, segment.end_s, segment.emotion)


def test_embed_of_a_clip_and_of_a_file_are_the_same(client: TestClient, place: Path) -> None:
    data = (place.parent / "calls" / "cora.wav").read_bytes()
    uploaded = client.post("/embed/upload", files={"file": ("cora.wav", data)}).json()
    assert uploaded == ask(client, "/embed", reference="cora.wav")
    assert len(uploaded["moments"]) == 3


def test_silence_has_nothing_to_embed(client: TestClient) -> None:
    silent = wav_bytes(np.zeros(32_000, np.float32))
    for path in ("/embed/upload", "/query/upload"):
        message = said(client.post(path, files={"file": ("quiet.wav", silent)}), 400, "query")
        assert "quiet.wav" in message


# --- what is stored


def test_recordings_page_by_page(client: TestClient, collection: Collection) -> None:
    seen, after = [], None
    for _ in range(5):
        page_of = client.get("/recordings", params={"limit": 3, **({"after": after} if after else {})}).json()
        seen += [recording["id"] for recording in page_of["recordings"]]
        after = page_of["next"]
        if after is None:
            break
    assert seen == ["call:1", "call:2", "call:3", "call:4"]
    assert client.get("/recordings", params={"limit": 4}).json()["next"] is None


def test_recordings_that_meet_a_filter(client: TestClient) -> None:
    found = client.get("/recordings", params={"where": "queue = billing and wait > 5"}).json()["recordings"]
    assert [recording["name"] for recording in found] == ["cora", "dora"]
    assert found[0]["metadata"] == {"agent": "cora", "queue": "billing", "wait": "10"}
    said(client.get("/recordings", params={"where": "queue"}), 400, "bad-filter")
    said(client.get("/recordings", params={"limit": 0}), 422, "invalid")
    said(client.get("/recordings", params={"after": "x"}), 422, "invalid")


def test_pages_and_values_of_both_databases(database_url: str, place: Path) -> None:
    with e2vsearch.open(database_url, encoder="fake") as collection:
        collection.ingest(place.parent / "calls", meta=place.parent / "calls.csv", workers=1)
        catalog = collection.catalog
        assert [found.name for found in listing.page(catalog, 2)] == ["anna", "bela"]
        assert [found.name for found in listing.page(catalog, 9, 2)] == ["cora", "dora"]
        assert [found.name for found in listing.page(catalog, 1, where="queue = billing")] == ["bela"]
        assert listing.page(catalog, 9, 4) == []
        values = listing.metadata_values(catalog, 2)
        assert values == {"agent": ["anna", "bela"], "queue": ["billing"], "wait": ["0", "10"]}


def test_one_recording_and_one_segment(client: TestClient) -> None:
    whole = client.get("/recordings/2").json()
    assert whole == client.get("/recordings/call:2").json()
    assert whole["recording"]["name"] == "bela"
    assert [segment["text"] for segment in whole["segments"]] == [SAID] * 3
    one = client.get(f"/segments/{whole['segments'][1]['id']}").json()
    assert one == {"segment": whole["segments"][1], "recording": whole["recording"]}


@pytest.mark.parametrize("path", ["/map/none", "/map/none/points"])
def test_an_unknown_map_is_404(client: TestClient, path: str) -> None:
    said(client.get(path), 404, "not-stored")


@pytest.mark.parametrize("kind", ["recordings", "segments"])
@pytest.mark.parametrize("of_it", ["", "/audio", "/peaks"])
def test_what_is_not_stored_is_404(client: TestClient, kind: str, of_it: str) -> None:
    said(client.get(f"/{kind}/99{of_it}"), 404, "not-stored")


@pytest.mark.parametrize("identifier", ["seg:1", "x", "-1", "1" * 30, "1.5"])
def test_an_id_of_another_kind_is_refused(client: TestClient, identifier: str) -> None:
    said(client.get(f"/recordings/{identifier}"), 422, "invalid")


def test_filters_name_what_can_be_asked(client: TestClient) -> None:
    found = client.get("/filters").json()
    assert {"emotion", "label", "date", "channel"} <= set(found["fields"])
    assert found["metadata"]["queue"] == ["billing"]
    assert found["metadata"]["agent"] == ["anna", "bela", "cora", "dora"]
    assert found["emotions"] == ["low", "high"]
    for field in found["fields"]:
        assert client.get("/recordings", params={"where": f"{field} is not null"}).status_code == 200


def test_status_is_the_collections(client: TestClient, collection: Collection) -> None:
    found = client.get("/status").json()
    assert found["collection"] == collection.catalog.collection_id
    assert found["counts"]["segments"] == 12
    assert found["space"]["encoder"] == "fake"


# --- sound


def test_a_segments_sound_is_its_clip(client: TestClient, collection: Collection) -> None:
    response = client.get("/segments/seg:5/audio")
    assert response.headers["content-type"] == "audio/wav"
    assert response.headers["cache-control"].startswith("private")
    assert response.content == audio.encode(collection.clip("seg:5"))
    wider = client.get("/segments/5/audio", params={"context_s": 0.5}).content
    assert len(wider) == len(response.content) + 2 * 16_000
    again = client.get("/segments/5/audio", headers={"If-None-Match": response.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    said(client.get("/segments/5/audio", params={"context_s": 31}), 422, "invalid")


@pytest.fixture(scope="module")
def whole(collection: Collection) -> bytes:
    return audio.encode(audio.read(collection.recording("call:3").uri))


def test_a_whole_recordings_sound(client: TestClient, whole: bytes) -> None:
    assert client.get("/recordings/call:3/audio").content == whole
    head = client.head("/recordings/call:3/audio")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(whole)
    assert head.headers["accept-ranges"] == "bytes"


@pytest.mark.parametrize(
    "wanted", ["0-0", "0-43", "40-60", "44-44", "45-47", "1001-3000", "50000-", "-1", "-1000", "7-999999999"]
)
def test_any_range_of_it(client: TestClient, whole: bytes, wanted: str) -> None:
    response = client.get("/recordings/call:3/audio", headers={"Range": f"bytes={wanted}"})
    first, end = asked_range(f"bytes={wanted}", len(whole)) or (0, 0)
    assert response.status_code == 206
    assert response.headers["content-range"] == f"bytes {first}-{end - 1}/{len(whole)}"
    assert response.content == whole[first:end]


@pytest.mark.parametrize("header", ["bytes=5-2", "bytes=0-1,5-9", "lines=1-2", "bytes=-", "bytes=a-b", ""])
def test_a_range_that_is_none_is_passed_over(client: TestClient, whole: bytes, header: str) -> None:
    response = client.get("/recordings/call:3/audio", headers={"Range": header})
    assert (response.status_code, response.content) == (200, whole)


def test_a_range_after_the_end(client: TestClient, whole: bytes) -> None:
    response = client.get("/recordings/call:3/audio", headers={"Range": f"bytes={len(whole)}-"})
    said(response, 416, "range")
    assert response.headers["content-range"] == f"bytes */{len(whole)}"
    with pytest.raises(Unsatisfiable):
        asked_range("bytes=-0", 10)


def test_a_range_of_an_older_file_gives_all_of_the_new_one(client: TestClient, whole: bytes) -> None:
    tag = client.head("/recordings/call:3/audio").headers["etag"]
    ranged = {"Range": "bytes=0-9"}
    assert client.get("/recordings/call:3/audio", headers={**ranged, "If-Range": tag}).status_code == 206
    assert client.get("/recordings/call:3/audio", headers={**ranged, "If-Range": '"other"'}).content == whole


def test_long_sound_comes_in_bounded_pieces(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    path.write_bytes(wav_bytes(np.resize(speech(10.0), 16_000 * 600)))
    wav = VirtualWav(str(path), 1, None, 0, 16_000 * 600)
    pieces = list(wav.pieces(0, wav.size))
    assert max(len(piece) for piece in pieces) <= 120 * 32_000
    assert b"".join(pieces) == audio.encode(audio.read(path))


def test_a_file_that_became_shorter_keeps_its_promised_size(tmp_path: Path) -> None:
    path = tmp_path / "short.wav"
    path.write_bytes(wav_bytes(speech(1.0)))
    wav = VirtualWav(str(path), 1, None, 0, 32_000)
    data = b"".join(wav.pieces(0, wav.size))
    assert len(data) == wav.size
    assert not any(data[-30_000:])


def test_peaks_draw_the_sound(client: TestClient, collection: Collection) -> None:
    drawn = client.get("/recordings/call:3/peaks", params={"n": 50}).json()
    assert (drawn["channels"], len(drawn["peaks"]), len(drawn["peaks"][0])) == (1, 1, 50)
    expected = audio.peaks(audio.read(collection.recording("call:3").uri), 50)
    assert np.median(np.abs(np.array(drawn["peaks"]) - expected)) < 0.01
    one = client.get("/segments/seg:1/peaks").json()
    assert len(one["peaks"]) == 200
    assert 0 < max(one["peaks"]) <= 1


def test_a_file_that_is_gone_is_410(client: TestClient, collection: Collection, tmp_path: Path) -> None:
    uri = Path(collection.recording("call:4").uri)
    aside = uri.rename(tmp_path / uri.name)
    try:
        for path in ("/recordings/4/audio", "/recordings/4/peaks", "/segments/12/audio", "/segments/12/peaks"):
            assert "does not exist" in said(client.get(path), 410, "missing")
        assert client.head("/recordings/4/audio").status_code == 410
    finally:
        aside.rename(uri)
    assert client.get("/segments/12/audio").status_code == 200


# --- findings


def test_labels_are_given_and_taken_back(client: TestClient) -> None:
    report = ask(client, "/labels", label="hesitant", segments=["seg:1", "seg:2"])
    assert (report["label"], report["added"]) == ("hesitant", 2)
    (counted,) = client.get("/labels").json()["labels"]
    assert (counted["name"], counted["examples"]) == ("hesitant", 2)
    assert client.get("/filters").json()["labels"] == ["hesitant"]
    assert client.get("/segments/1").json()["segment"]["label"] == "hesitant"
    assert client.delete("/labels/hesitant", params={"segment": "seg:1"}).json() == {"removed": 1}
    assert client.delete("/labels/hesitant").json() == {"removed": 1}
    said(client.delete("/labels/hesitant"), 404, "not-stored")
    said(client.post("/labels", json={"label": "x", "segments": ["call:1"]}), 422, "invalid")


def test_classify_with_a_classifier_of_ones_own(client: TestClient, collection: Collection) -> None:
    pytest.importorskip("sklearn", reason="training needs the 'labels' extra")
    from e2vsearch.analysis import labels

    said(client.post("/classify", json={"reference": "seg:1"}), 404, "not-stored")
    for name, segments in (("deep", range(1, 7)), ("clear", range(7, 13))):
        ask(client, "/labels", label=name, segments=[f"seg:{number}" for number in segments])
    labels.train(collection, "voices")
    found = ask(client, "/classify", reference="call:1", classifier="voices")["moments"]
    assert [moment["label"] for moment in found] == ["deep"] * 3
    assert sum(found[0]["probabilities"].values()) == pytest.approx(1.0)
    clip = client.get("/segments/12/audio").content
    files = {"file": ("a.wav", clip)}
    (moment,) = client.post("/classify/upload", files=files, data={"classifier": "voices"}).json()["moments"]
    assert moment["label"] == "clear"
    (report,) = client.get("/labels").json()["classifiers"]
    assert report["name"] == "voices"


def test_maps(client: TestClient, collection: Collection) -> None:
    """A map as the analysis keeps it, put there without the layout, which takes ten seconds of compiling."""
    from e2vsearch.analysis import maps
    from e2vsearch.catalog import maps as rows

    assert client.get("/map").json() == {"maps": []}
    options = {"options": asdict(maps.MapOptions(min_cluster_size=5)), "versions": {}}
    ids = np.arange(1, 13)
    cluster = np.where(ids < 8, 0, -1).astype(np.int32)
    at = np.linspace(-1, 1, 12, dtype=np.float32)
    points = rows.Points(ids, at, -at, cluster, np.ones(12, np.float32), np.zeros(12, np.bool_))
    described = json.loads(json.dumps(asdict(replace(examples.MAP.clusters[0], moments=()))))
    run = rows.StoredMap("moods", "segment", None, options, [described], datetime(2024, 3, 1, tzinfo=UTC))
    rows.save(collection.catalog, run, points)
    assert [each["name"] for each in client.get("/map").json()["maps"]] == ["moods"]
    whole = client.get("/map/moods").json()
    assert (whole["points"], whole["none"], whole["by"]) == (12, 5, "segment")
    assert whole["clusters"] == [{**described, "size": 7, "share": 7 / 12, "calls": 3}]
    found = client.get("/map/moods/points").json()
    assert found["segments"] == ids.tolist()
    assert found["calls"] is None
    assert found["x"] == pytest.approx(at.tolist())
    assert found["cluster"] == cluster.tolist()


# --- the service itself


def test_health_and_metrics(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    ask(client, "/query", references=["seg:1"])
    client.post("/query/upload", files={"file": ("a.wav", wav_bytes(speech(2.0)))})
    text = client.get("/metrics").text
    counted = dict(re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE))
    assert float(counted['e2vsearch_requests_total{method="POST",route="/query",status="200"}']) >= 1
    assert float(counted["e2vsearch_searches_total"]) >= 2
    assert float(counted["e2vsearch_batch_clips_count"]) >= 1
    assert float(counted["e2vsearch_encoder_seconds_total"]) > 0
    assert float(counted['e2vsearch_waiting{lane="listening"}']) == 0
    assert float(counted["e2vsearch_index_tail_segments"]) == 12
    assert "seg:" not in text


def test_the_log_tells_routes_and_nothing_of_anybody(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "e2vsearch.service"):
        client.get("/segments/seg:3/audio")
        client.get("/recordings", params={"where": "agent = anna"})
        client.get("/no/such/path")
    told = [record.getMessage() for record in caplog.records]
    assert [re.sub(r"\d+ ms", "N ms", line) for line in told] == [
        "GET /segments/{id}/audio 200 N ms",
        "GET /recordings 200 N ms",
        "GET - 404 N ms",
    ]


def test_every_answer_has_the_safe_headers(client: TestClient) -> None:
    for response in (client.get("/"), client.get("/docs"), client.get("/status"), client.get("/nothing"),
                     client.post("/query", json={}), client.get("/segments/1/audio")):  # fmt: skip
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["content-security-policy"].startswith("default-src 'none'")
        assert "unsafe" not in response.headers["content-security-policy"]
        embedded = "/audio" in str(response.url)
        assert response.headers["cross-origin-resource-policy"] == ("cross-origin" if embedded else "same-origin")
        assert response.headers["cache-control"]
    assert client.get("/status").headers["cache-control"] == "no-store"


def test_a_method_that_is_not_there_is_told_which_are(client: TestClient) -> None:
    response = client.put("/labels")
    said(response, 405, "method")
    assert response.headers["allow"] == "GET, POST"
    said(client.get("/nothing"), 404, "no-route")


def test_the_document_is_complete(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names)) > 20
    tags = {tag["name"] for tag in document["tags"]}
    for operation in operations:
        assert operation["summary"]
        assert operation["description"]
        assert set(operation["tags"]) <= tags
        if operation["operationId"] != "get_health":
            assert {"401", "403", "503", "504"} <= operation["responses"].keys()
        for status, response in operation["responses"].items():
            assert response["description"]
            content = response.get("content", {})
            if status == "200" and "application/json" in content:
                assert "example" in content["application/json"], operation["operationId"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_docs_need_no_script_and_nothing_from_elsewhere(client: TestClient) -> None:
    text = client.get("/docs").text
    assert "POST /query" in text
    assert "<script" not in text
    assert re.findall(r"https?://(?!example)", text) == []


def test_the_page_is_served_file_by_file(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_text("<!doctype html><p>hello")
    (tmp_path / "assets" / "main-1a2b.js").write_text("1")
    (tmp_path.parent / "beside.txt").write_text("secret")
    monkeypatch.setattr(page.add, "__defaults__", (tmp_path,))
    client = TestClient(create_app(collection), base_url=LOCAL)
    assert client.get("/").text.endswith("hello")
    assert client.get("/").headers["cache-control"] == "no-cache"
    assert "script-src 'self'" in client.get("/").headers["content-security-policy"]
    script = client.get("/assets/main-1a2b.js")
    assert script.headers["content-type"].startswith("text/javascript")
    assert "immutable" in script.headers["cache-control"]
    for path in ("/../beside.txt", "/%2e%2e/beside.txt", "/assets/../../beside.txt", "/assets/"):
        assert client.get(path).status_code == 404


def test_where_the_page_is_not_built_it_says_so(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page.add, "__defaults__", (tmp_path / "none",))
    answer = TestClient(create_app(collection), base_url=LOCAL).get("/")
    assert answer.status_code == 200
    assert 'href="/docs"' in answer.text
    assert answer.text.count("<p>") == 1


def test_a_collection_without_recordings_says_what_to_do(tmp_path: Path) -> None:
    with (
        e2vsearch.open(tmp_path / "empty", encoder="fake") as collection,
        TestClient(create_app(collection), base_url=LOCAL) as client,
    ):
        assert "ingest" in said(client.post("/query", json={"references": ["seg:1"]}), 409, "no-collection")
        assert client.get("/recordings").json() == {"recordings": [], "next": None}
        assert client.get("/status").json()["space"] is None
        assert client.get("/metrics").status_code == 200


def test_a_collection_of_saved_vectors_answers_ids(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    for number in range(3):
        np.save(folder / f"{number}.npy", np.random.default_rng(number).standard_normal(8).astype(np.float32))
    with e2vsearch.open(tmp_path / "index", encoder="saved") as collection:
        collection.ingest(folder)
    with (
        e2vsearch.open(tmp_path / "index") as collection,
        TestClient(create_app(collection), base_url=LOCAL) as client,
    ):
        assert len(ask(client, "/query", references=["seg:1"])["hits"]) == 2
        files = {"file": ("a.wav", wav_bytes(speech(2.0)))}
        assert "saved vectors" in said(client.post("/query/upload", files=files), 409, "encoder")


def test_the_bytes_of_a_clip_may_be_any_format(client: TestClient) -> None:
    import soundfile

    ogg = io.BytesIO()
    soundfile.write(ogg, speech(3.0), 16_000, format="OGG", subtype="OPUS")
    found = client.post("/query/upload", files={"file": ("no suffix", ogg.getvalue())})
    assert found.status_code == 200, found.text
