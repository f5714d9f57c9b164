"""A running service follows a collection to another encoder's space, without a restart."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from service_client import client_over, post
from small_collection import make_collection

import e2vsearch


@pytest.mark.slow
def test_a_running_service_follows(tmp_path: Path) -> None:
    place = make_collection(tmp_path)
    clip = str(place.parent / "calls" / "cora.wav")
    with e2vsearch.open(place, encoder="fake") as served, client_over(served, place) as client:
        assert post(client, "/query", references=[clip], k=2)["hits"][0]["name"] == "cora"
        with e2vsearch.open(place) as other:
            assert other.spaces.reembed("light").switched
            expected = [(hit.segment, round(hit.score or 0, 4)) for hit in other.query(clip, k=4)]
        found = post(client, "/query", references=[clip], k=4)["hits"]
        assert [(hit["segment"], round(hit["score"], 4)) for hit in found] == expected
        assert client.get("/status").json()["space"]["encoder"] == "light"
        emotions = {hit["emotion"] for hit in post(client, "/query", references=["seg:1"], k=9)["hits"]}
        assert emotions.isdisjoint({"low", "high"})  # the fake's
        label = post(client, "/query", references=["emotion:neutral"], k=1)
        assert label["hits"]
