"""The service itself: health, metrics, log, headers, its documents and page, and collections that hold no calls."""

from __future__ import annotations

import io
import logging
import re
from pathlib import Path

import numpy as np
import pytest
from made import speech, wav_bytes

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient
from service_client import LOCAL, error_of, post

import e2vsearch
from e2vsearch.collection import Collection
from e2vsearch.server import create_app, page


def test_health_and_metrics(client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok"}
    post(client, "/query", references=["seg:1"])
    client.post("/query/upload", files={"file": ("a.wav", wav_bytes(speech(2.0)))})
    text = client.get("/metrics").text
    counted = dict(re.findall(r"^(\w+(?:\{[^}]*\})?) (\S+)$", text, re.MULTILINE))
    assert float(counted['e2vsearch_requests_total{method="POST",route="/query",status="200"}']) >= 1
    assert float(counted["e2vsearch_searches_total"]) >= 2
    assert float(counted["e2vsearch_batch_clips_count"]) >= 1
    assert float(counted["e2vsearch_encoder_seconds_total"]) > 0
    assert float(counted['e2vsearch_waiting{lane="embedding"}']) == 0
    assert float(counted["e2vsearch_index_tail_segments"]) == 12
    assert float(counted['e2vsearch_queue_recordings{state="queued"}']) == 0  # by which workers are scaled
    assert "seg:" not in text
    assert "e2vsearch_database_faults" not in text  # not looked at yet


def test_what_the_daily_check_found_is_counted(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.app.state.server.scrub, "faults", ["file: row 1 missing - db verify --repair"])  # type: ignore[attr-defined]
    assert "e2vsearch_database_faults 1.0" in client.get("/metrics").text


def test_the_log_tells_routes_and_nothing_of_anybody(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "e2vsearch.server"):
        client.get("/segments/seg:3/audio")
        client.get("/recordings", params={"where": "product = anna"})
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
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert response.headers["cache-control"]
    assert client.get("/status").headers["cache-control"] == "no-store"


def test_a_method_that_is_not_there_is_told_which_are(client: TestClient) -> None:
    response = client.put("/labels")
    error_of(response, 405, "method")
    assert response.headers["allow"] == "GET, POST"
    error_of(client.get("/nothing"), 404, "no-route")


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


@pytest.mark.slow
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


@pytest.mark.slow
def test_where_the_page_is_not_built_it_says_so(
    collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page.add, "__defaults__", (tmp_path / "none",))
    answer = TestClient(create_app(collection), base_url=LOCAL).get("/")
    assert answer.status_code == 200
    assert 'href="/docs"' in answer.text
    assert answer.text.count("<p>") == 1


@pytest.mark.slow
def test_a_collection_without_recordings_says_what_to_do(tmp_path: Path) -> None:
    with (
        e2vsearch.open(tmp_path / "empty", encoder="fake", create=True) as collection,
        TestClient(create_app(collection), base_url=LOCAL) as client,
    ):
        assert "ingest" in error_of(client.post("/query", json={"references": ["seg:1"]}), 409, "no-collection")
        assert client.get("/recordings").json() == {"recordings": [], "next": None, "emotions": None, "hint": None}
        assert client.get("/status").json()["space"] is None
        assert client.get("/metrics").status_code == 200


@pytest.mark.slow
def test_a_collection_of_saved_vectors_answers_ids(tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    folder.mkdir()
    for number in range(3):
        np.save(folder / f"{number}.npy", np.random.default_rng(number).standard_normal(8).astype(np.float32))
    with e2vsearch.open(tmp_path / "index", encoder="saved", create=True) as collection:
        collection.ingest(folder)
    with (
        e2vsearch.open(tmp_path / "index", create=True) as collection,
        TestClient(create_app(collection), base_url=LOCAL) as client,
    ):
        assert len(post(client, "/query", references=["seg:1"])["hits"]) == 2
        files = {"file": ("a.wav", wav_bytes(speech(2.0)))}
        assert "saved vectors" in error_of(client.post("/query/upload", files=files), 409, "encoder")


def test_the_bytes_of_a_clip_may_be_any_format(client: TestClient) -> None:
    import soundfile

    ogg = io.BytesIO()
    soundfile.write(ogg, speech(3.0), 16_000, format="OGG", subtype="OPUS")
    found = client.post("/query/upload", files={"file": ("no suffix", ogg.getvalue())})
    assert found.status_code == 200, found.text
