"""The service's routes to what is stored: recordings, segments, filters, status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from fastapi.testclient import TestClient
from pydantic import TypeAdapter
from service_client import error_of
from small_collection import SAID

import e2vsearch
from e2vsearch.analysis.timeline import Timeline
from e2vsearch.catalog import recordings
from e2vsearch.collection import Collection


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
    assert found[0]["metadata"] == {"product": "cora", "queue": "billing", "wait": "10"}
    error_of(client.get("/recordings", params={"where": "queue"}), 400, "bad-filter")
    error_of(client.get("/recordings", params={"limit": 0}), 422, "invalid")
    error_of(client.get("/recordings", params={"after": "x"}), 422, "invalid")


def test_pages_and_values_of_both_databases(database_url: str, place: Path) -> None:
    with e2vsearch.open(database_url, encoder="fake", create=True) as collection:
        collection.ingest(place.parent / "calls", meta=place.parent / "calls.csv", workers=1)
        catalog = collection.catalog
        assert [found.name for found in recordings.page(catalog, 2)] == ["anna", "bela"]
        assert [found.name for found in recordings.page(catalog, 9, 2)] == ["cora", "dora"]
        assert [found.name for found in recordings.page(catalog, 1, where="queue = billing")] == ["bela"]
        assert recordings.page(catalog, 9, 4) == []
        values = recordings.metadata_values(catalog, 2)
        assert values == {"product": ["anna", "bela"], "queue": ["billing"], "wait": ["0", "10"]}


def test_one_recording_and_one_segment(client: TestClient) -> None:
    whole = client.get("/recordings/2").json()
    assert whole == client.get("/recordings/call:2").json()
    assert whole["recording"]["name"] == "bela"
    assert [segment["text"] for segment in whole["segments"]] == [SAID] * 3
    one = client.get(f"/segments/{whole['segments'][1]['id']}").json()
    assert one == {"segment": whole["segments"][1], "recording": whole["recording"]}


def test_the_timeline_is_the_collections(client: TestClient, collection: Collection) -> None:
    found = client.get("/recordings/2/timeline").json()
    timeline = collection.timeline("call:2")
    assert found == json.loads(TypeAdapter(Timeline).dump_json(timeline))
    assert found["channels"][0]["segments"] == client.get("/recordings/2").json()["segments"]
    assert timeline.dynamics is not None
    assert found["dynamics"]["talk_share"] == timeline.dynamics.talk_share > 0.4
    assert found["dynamics"]["turns"] is None  # of one channel alone
    assert {"overtalk", "turns", "course"} <= set(client.get("/filters").json()["fields"])


@pytest.mark.parametrize("path", ["/map/none", "/map/none/points"])
def test_an_unknown_map_is_404(client: TestClient, path: str) -> None:
    error_of(client.get(path), 404, "not-stored")


@pytest.mark.parametrize("kind", ["recordings", "segments"])
@pytest.mark.parametrize("of_it", ["", "/audio", "/peaks"])
def test_what_is_not_stored_is_404(client: TestClient, kind: str, of_it: str) -> None:
    error_of(client.get(f"/{kind}/99{of_it}"), 404, "not-stored")


@pytest.mark.parametrize("identifier", ["seg:1", "x", "-1", "1" * 30, "1.5"])
def test_an_id_of_another_kind_is_refused(client: TestClient, identifier: str) -> None:
    error_of(client.get(f"/recordings/{identifier}"), 422, "invalid")


def test_filters_name_what_can_be_asked(client: TestClient) -> None:
    found = client.get("/filters").json()
    assert {"emotion", "label", "date", "channel"} <= set(found["fields"])
    assert found["metadata"]["queue"] == ["billing"]
    assert found["metadata"]["product"] == ["anna", "bela", "cora", "dora"]
    assert found["emotions"] == ["low", "high"]
    for field in found["fields"]:
        assert client.get("/recordings", params={"where": f"{field} is not null"}).status_code == 200


def test_status_is_the_collections(client: TestClient, collection: Collection) -> None:
    found = client.get("/status").json()
    assert found["collection"] == collection.catalog.collection_id
    assert found["counts"]["segments"] == 12
    assert found["space"]["encoder"] == "fake"
