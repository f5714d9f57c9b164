"""``GET /trends`` gives what `Collection.trends` does; recordings can be listed newest first."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from made_weeks import START, fill, made_call
from service_client import client_over, error_of

import e2vsearch
from e2vsearch.catalog.text_search import put


@pytest.mark.slow
def test_the_service_gives_the_same(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        fill(collection)
        collection.catalog.store(made_call(20, ["sad"], agent="Kim"))
        (tmp_path / "calls").mkdir()
        with client_over(collection, tmp_path / "index") as client:
            for asked in ({}, {"by": "none", "group": "queue"}, {"of": "label", "where": "queue = billing"}):
                given: dict[str, Any] = {**asked, **({"by": None} if asked.get("by") == "none" else {})}
                wanted = collection.trends(**given)
                found = client.get("/trends", params=asked).json()
                assert found == asdict(wanted) | {"rows": wanted.to_dicts()}
                assert found["group"] == asked.get("group")
            assert "Art. 5(1)(f)" in error_of(client.get("/trends", params={"group": "agent"}), 403, "unlawful")
            error_of(client.get("/trends", params={"of": "cluster"}), 404, "not-stored")
            error_of(client.get("/trends", params={"by": "year"}), 422, "invalid")
            error_of(client.get("/trends", params={"group": "queu"}), 400, "query")


@pytest.mark.slow
def test_recordings_newest_first(tmp_path: Path) -> None:
    """With the emotions in each, page by page, by a filter and by words; by employee it is refused."""
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        fill(collection)
        collection.catalog.store(made_call(20, ["sad"], agent="Kim", at=START - timedelta(days=1)))
        put(collection.catalog, 4, {9: "my refund"})
        (tmp_path / "calls").mkdir()
        with client_over(collection, tmp_path / "index") as client:
            found: list[str] = []
            after: dict[str, str] = {}
            while True:
                page = client.get("/recordings", params={"order": "newest", "limit": 4, **after}).json()
                found += [each["id"] for each in page["recordings"]]
                assert page["emotions"].keys() == {each["id"] for each in page["recordings"]}
                if page["next"] is None:
                    break
                after = {"after": page["next"]}
            assert found == [f"call:{n}" for n in (9, 8, 7, 6, 5, 4, 2, 3, 1, 10)]
            page = client.get("/recordings", params={"order": "newest", "text": "refund", "where": "queue = billing"})
            assert page.json()["emotions"] == {"call:4": {"calm": 1.0}}
            page = client.get("/recordings", params={"text": "refund"}).json()
            assert ([each["id"] for each in page["recordings"]], page["emotions"]) == (["call:4"], None)
            page = client.get("/recordings", params={"where": "queue = biling"}).json()
            assert (page["recordings"], page["hint"]) == ([], 'no queue is called "biling", did you mean "billing"?')
            assert client.get("/recordings", params={"where": "agent = Kim"}).status_code == 200
            by_employee = client.get("/recordings", params={"where": "agent = Kim", "order": "newest"})
            error_of(by_employee, 403, "unlawful")
            found_none = client.post("/query", json={"where": "queue = biling"}).json()
            assert (found_none["hits"], found_none["hint"]) == ([], page["hint"])
            (hit,) = client.post("/query", json={"text": "refund"}).json()["hits"]
            assert (hit["segment"], hit["score"]) == ("seg:9", None)
