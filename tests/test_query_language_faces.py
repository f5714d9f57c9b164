"""What a query can say, asked of the service."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_collection import make_collection

import e2vsearch
from e2vsearch.catalog import labels
from e2vsearch.search.query import Reference
from e2vsearch.search.result import QueryResult


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = make_collection(tmp_path_factory.mktemp("faces"))
    with e2vsearch.open(place, create=True) as collection:
        labels.add_examples(collection.catalog, "tired", [labels.NewExample("seg:9", segment=9)])
    return place


@pytest.mark.slow
def test_the_service_asks_all_of_it(place: Path) -> None:
    pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
    pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
    pytest.importorskip("httpx", reason="the test client needs httpx")
    from fastapi.testclient import TestClient
    from pydantic import TypeAdapter

    from e2vsearch.server import create_app
    from e2vsearch.server.options import ServiceOptions

    anna = place.parent / "calls" / "anna.wav"
    with e2vsearch.open(place, encoder="fake") as collection:
        app = create_app(collection, ServiceOptions(roots=(anna.parent,)))
        with TestClient(app, base_url="http://127.0.0.1:8080") as client:

            def ask(**body: Any) -> QueryResult:
                response = client.post("/query", json=body)
                assert response.status_code == 200, response.text
                assert str(place.parent) not in json.dumps(
                    [{**hit, "uri": ""} for hit in response.json()["hits"]]
                )  # files have the names that the client gave
                return TypeAdapter(QueryResult).validate_python(response.json())

            found = ask(
                references=["anna.wav", "seg:5"], weights=[2, 1], avoid=["seg:9", "bela.wav"], avoid_weights=[0.3, 0.1],
                group_by=["recording"], explain=True, by="segment", k=20,
            )  # fmt: skip
            bela = anna.parent / "bela.wav"
            expected = collection.query(
                Reference(anna, 2), Reference("seg:5", 1), avoid=[Reference("seg:9", 0.3), Reference(bela, 0.1)],
                group_by=("recording",), explain=True, by="segment",
            )  # fmt: skip
            expected = expected.with_reference_names({str(anna): "anna.wav", str(bela): "bela.wav"})
            assert replace(found, seconds=0.0) == replace(expected, seconds=0.0)
            assert (found.references, found.avoid) == (("anna.wav", "seg:5"), ("seg:9", "bela.wav"))
            mixed = ask(emotion={"low": 1, "tired": -0.5}, min_probability=0.2)
            assert mixed.hits == collection.query(emotion={"low": 1, "tired": -0.5}, min_probability=0.2).hits
            assert ask(trajectory="call:2").hits == collection.query(trajectory="call:2").hits
            stages = ask(trajectory="emotion:low,label:tired")
            assert stages.hits == ask(trajectory=["emotion:low", "label:tired"]).hits
            assert stages.trajectory
            of_file = ask(trajectory="anna.wav")
            assert (of_file.references, of_file[0].name, of_file[0].alignment[0].reference) == (
                ("anna.wav",), "anna", "anna.wav",
            )  # fmt: skip
            sent = {"file": ("mine.wav", anna.read_bytes(), "audio/wav")}
            uploaded = client.post("/query/upload", files=sent, data={"trajectory": "true", "explain": "true"}).json()
            assert uploaded["references"] == ["mine.wav"]
            assert {match["reference"] for match in uploaded["hits"][0]["why"]["matches"]} == {"mine.wav"}
            for body, status in (
                ({}, 422),
                ({"references": ["seg:1"], "weights": [1, 2]}, 422),
                ({"references": ["seg:1"], "weights": [0]}, 422),
                ({"trajectory": ["call:1"]}, 422),
                ({"trajectory": "emotion:low,/etc/hosts"}, 403),
                ({"trajectory": ["emotion:low", "/etc/hosts"]}, 403),
                ({"references": ["seg:1"], "avoid": ["/etc/hosts"]}, 403),
                ({"trajectory": ["emotion:low,/etc/hosts", "emotion:high"]}, 404),
                ({"references": ["seg:1"], "group_by": ["agnet"]}, 400),
            ):
                response = client.post("/query", json=body)
                assert response.status_code == status, response.text
