"""``GET /trends`` gives what `Collection.trends` does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from made_weeks import fill, made_call
from service_client import client_over, error_of

import e2vsearch


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
