"""The service's routes that ask: what each gives is what the collection gives, and every error is one line."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import save, speech, wav_bytes

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient
from pydantic import TypeAdapter
from service_client import client_over, error_of, post
from shipped_head import knowing
from small_collection import SAID

import e2vsearch
from e2vsearch.collection import Collection
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.pipeline import embed_audio, stored_audio
from e2vsearch.projections import refit
from e2vsearch.search.compare import compare_audio, comparison_view
from e2vsearch.search.result import QueryResult
from e2vsearch.types import Comparison


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
    found = TypeAdapter(QueryResult).validate_python(post(client, "/query", **asked))
    assert len(found) > 0
    assert found.hits == expected.hits
    assert (found.searched, found.total, found.where, found.text) == (
        expected.searched, expected.total, expected.where, expected.text,
    )  # fmt: skip


def test_a_played_segment_finds_itself(client: TestClient, collection: Collection) -> None:
    clip = client.get("/segments/seg:4/audio").content
    response = client.post(
        "/query/upload", files={"file": ("my segment.wav", clip, "audio/wav")}, data={"k": "2", "by": "segment"}
    )
    assert response.status_code == 200, response.text
    result = response.json()
    assert result["references"] == ["my segment.wav"]
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
        result = post(client, "/query", references=[name], k=1)
        assert result["references"] == [name]
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
        error_of(client.post(path, json=body), 403, "path-forbidden")


def test_a_link_out_of_a_root_is_forbidden(client: TestClient, place: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.wav"
    secret.write_bytes(wav_bytes(speech(2.0)))
    link = place.parent / "calls" / "link.wav"
    link.symlink_to(secret)
    try:
        error_of(client.post("/query", json={"references": ["link.wav"]}), 403, "path-forbidden")
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
        ({"references": ["seg:1"], "where": "date < 0001-01-01T00:00:00+14:00"}, 400, "bad-filter"),
        ({"references": ["seg:1"], "where": "(" * 900 + "channel = 1" + ")" * 900}, 400, "bad-filter"),
        ({"references": ["seg:1"], "k": 0}, 422, "invalid"),
        ({"references": ["seg:1"], "k": 1001}, 422, "invalid"),
        ({"references": ["seg:1"], "k": "5"}, 422, "invalid"),
        ({"references": ["seg:1"], "by": "product"}, 422, "invalid"),
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
    error_of(client.post("/query", json=body), status, reason)


def test_what_is_no_number_is_refused(client: TestClient) -> None:
    for number in ("NaN", "Infinity", "1e999"):
        body = f'{{"references": [[{", ".join([number] * 16)}]]}}'
        error_of(client.post("/query", content=body, headers={"Content-Type": "application/json"}), 422, "invalid")


def test_compare_of_what_is_stored(client: TestClient) -> None:
    same = post(client, "/compare", a="seg:1", b="seg:1")
    assert same["score"] == pytest.approx(1.0)
    assert (same["a"]["name"], same["a"]["segments"]) == ("seg:1", 1)
    other = post(client, "/compare", a="call:1", b="call:4")
    assert other["score"] < 1.0
    assert other["b"]["segments"] == 3
    error_of(client.post("/compare", json={"a": "seg:1", "b": "emotion:low"}), 400, "query")


def test_compare_goes_through_the_projection_in_use(collection: Collection, client: TestClient) -> None:
    from e2vsearch.catalog import projections
    from e2vsearch.projections.linear import LinearProjection

    rng = np.random.default_rng(0)
    parts = LinearProjection("fitted", "turned", rng.random(16, np.float32), rng.standard_normal((16, 3)).astype("f4"),
                  np.empty((16, 0), np.float32), 0.0)  # fmt: skip
    stored = projections.StoredProjection("turned", "fitted", parts.revision, parts.pack(), {}, datetime.now(UTC))
    raw = post(client, "/compare", a="call:1", b="call:4")
    assert raw["space"]["projection"] == "raw"
    projections.put(collection.catalog, stored)
    projections.use(collection.catalog, "turned")
    try:
        turned = post(client, "/compare", a="call:1", b="call:4")
        assert turned["space"]["projection"] == f"turned@{parts.revision[:12]}"
        assert abs(turned["score"] - raw["score"]) > 1e-3
        view = comparison_view(None, collection.projections.view(), collection.space, "here")
        sides = ((name, stored_audio(collection.catalog, name)) for name in ("call:1", "call:4"))
        assert turned["score"] == compare_audio(view, *sides).score
        clip = wav_bytes(speech(2.0, seed=1))
        sent = client.post("/compare/upload", files={"a": ("one.wav", clip), "b": ("two.wav", clip)}).json()
        assert sent["space"]["projection"] == turned["space"]["projection"]
    finally:
        projections.drop(collection.catalog, "turned")


def test_compare_of_clips_is_the_collections(client: TestClient, collection: Collection) -> None:
    a, b = (wav_bytes(speech(2.0, seed=seed, pitch_hz=pitch)) for seed, pitch in ((1, 110.0), (2, 180.0)))
    found = client.post("/compare/upload", files={"a": ("one.wav", a), "b": ("two.wav", b)}).json()
    expected = collection.compare(a, b)
    assert (found["score"], found["best"]) == (expected.score, expected.best)
    assert (found["a"]["name"], found["b"]["name"]) == ("one.wav", "two.wav")


def test_embed_gives_the_stored_vectors(client: TestClient, collection: Collection) -> None:
    found = post(client, "/embed", reference="call:2")
    ids, _ = collection.catalog.segments_of([2])
    assert np.array_equal(np.array([segment["vector"] for segment in found["segments"]], np.float32),
                          collection.projections.view().source.fetch(ids).vectors)  # fmt: skip
    assert found["dim"] == 16
    segment = collection.segments("call:2")[0]
    first = found["segments"][0]
    assert (first["start_s"], first["end_s"], first["emotion"]) == (segment.start_s, segment.end_s, segment.emotion)


def test_embed_of_a_clip_and_of_a_file_are_the_same(client: TestClient, place: Path) -> None:
    data = (place.parent / "calls" / "cora.wav").read_bytes()
    uploaded = client.post("/embed/upload", files={"file": ("cora.wav", data)}).json()
    assert uploaded == post(client, "/embed", reference="cora.wav")
    assert len(uploaded["segments"]) == 3


def test_silence_has_nothing_to_embed(client: TestClient) -> None:
    silent = wav_bytes(np.zeros(32_000, np.float32))
    for path in ("/embed/upload", "/query/upload"):
        message = error_of(client.post(path, files={"file": ("quiet.wav", silent)}), 400, "query")
        assert "quiet.wav" in message


class ShipsProjection(FakeEncoder):
    """The fake encoder, with a projection that is installed and recalibrates its probabilities."""

    def projection(self) -> bytes:
        return knowing().pack()


@pytest.mark.slow
def test_compare_and_embed_are_the_collections_through_a_shipped_projection(tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()
    for number in range(refit.LEAST_SEGMENTS):
        save(calls / f"{number}.wav", speech(1.5, seed=number, pitch_hz=90.0 + 7 * number))
    clips = [calls / "1.wav", calls / "9.wav"]
    with e2vsearch.open(tmp_path / "index", encoder=ShipsProjection(), create=True) as collection:
        collection.ingest(calls, workers=1)
        expected = collection.compare(*clips)
        raw = embed_audio(clips[0], collection.encoder()).segments[0].scores
        assert raw is not None
        embedded = collection.embed(clips[0]).segments[0].scores
        assert embedded is not None
        assert np.abs(embedded - raw).max() > 0.01  # recalibrated, so that this test can tell
        with client_over(collection, tmp_path / "index") as client:
            files = {name: (str(clip), clip.read_bytes()) for name, clip in zip("ab", clips, strict=True)}
            found = client.post("/compare/upload", files=files).json()
            named = post(client, "/compare", a="1.wav", b="9.wav")
            uploaded = client.post("/embed/upload", files={"file": ("1.wav", clips[0].read_bytes())}).json()
            assert uploaded == post(client, "/embed", reference="1.wav")
            explained = client.post(
                "/query/upload", files={"file": ("1.wav", clips[0].read_bytes())}, data={"explain": "true", "k": "3"}
            ).json()
        hits = collection.query(clips[0], explain=True, k=3).hits
    compared = TypeAdapter(Comparison).validate_python(found)
    for side, clip in (("a", clips[0]), ("b", clips[1])):
        assert getattr(compared, side) == replace(getattr(expected, side), name=clip.name)
    assert (compared.score, compared.best, compared.space) == (expected.score, expected.best, expected.space)
    assert TypeAdapter(Comparison).validate_python(named) == compared
    assert list(uploaded["segments"][0]["scores"].values()) == pytest.approx(embedded.tolist())
    shared = [[asdict(each) for each in hit.why.shared] if hit.why else [] for hit in hits]
    assert [hit["why"]["shared"] for hit in explained["hits"]] == shared
