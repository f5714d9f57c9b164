"""Emotion by employee is refused at every door, unless the policy says why it is lawful; and the audit log."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from databases import Copied
from made import save, speech

import e2vsearch
from e2vsearch.catalog import recordings
from e2vsearch.collection import Collection
from e2vsearch.errors import BadFilter, CatalogError, UnlawfulUse
from e2vsearch.integrations.retriever import Retriever, template
from e2vsearch.search.query import Query, Reference

ARTICLE = r"Art\. 5\(1\)\(f\).*--employee-purpose"
ROWS = (("0", "Kim", "billing"), ("1", "Kim", "sales"), ("2", "Lee", "billing"), ("3", "Lee", "sales"))


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    for name, _, _ in ROWS:
        save(folder / f"{name}.wav", speech(2.0, seed=int(name), pitch_hz=110 + 10 * int(name)))
    lines = [f"{name}.wav,{agent},{queue}" for name, agent, queue in ROWS]
    (folder / "calls.csv").write_text("\n".join(["file,Agent,queue", *lines]), encoding="utf-8")
    return folder


@pytest.fixture
def collection(copied: Copied, calls: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Collection]:
    monkeypatch.setenv("E2VSEARCH_CACHE", str(tmp_path / "cache"))

    def fill(url: str) -> None:
        with e2vsearch.open(url, encoder="fake", create=True) as collection:
            collection.ingest(calls, meta=calls / "calls.csv")

    with e2vsearch.open(copied(fill), encoder="fake") as collection:
        yield collection


@pytest.fixture
def index(calls: Path, tmp_path: Path) -> Path:
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(calls, meta=calls / "calls.csv")
    return tmp_path / "index"


EMPLOYEE_QUERIES: tuple[dict[str, Any], ...] = (
    {"where": "Agent = Kim"},
    {"where": "meta.Agent = Kim"},
    {"where": "queue = billing or not (`Agent` in (Kim, Lee))"},
    {"where": "Agent is not null"},
    {"where": "Agent like 'K%' and channel = 0"},
    {"group_by": ("queue", "Agent"), "group_size": 2},
    {"group_by": ("meta.Agent",)},
)


@pytest.mark.parametrize("fields", EMPLOYEE_QUERIES, ids=str)
def test_queries_by_employee_are_refused(collection: Collection, fields: dict[str, Any]) -> None:
    with pytest.raises(UnlawfulUse, match=ARTICLE):
        collection.query("seg:1", **fields)
    collection.set_policy(purpose="find unhappy callers")
    with pytest.raises(UnlawfulUse, match=ARTICLE):
        collection.query("seg:1", **fields)
    collection.set_policy(employee_purpose="safety of the night shift")
    assert len(collection.query("seg:1", **fields)) >= 1
    collection.set_policy(employee_purpose="", employee_fields=["clerk"])
    assert len(collection.query("seg:1", **fields)) >= 1


def test_a_name_that_no_recording_has_is_the_first_error(collection: Collection) -> None:
    with pytest.raises(BadFilter, match="nothing here is called 'agent'"):
        collection.query("seg:1", where="agent = Kim")


def test_segments_and_labels_by_employee_are_refused(collection: Collection) -> None:
    for refused in (
        lambda: collection.segments(where="Agent = Kim"),
        lambda: collection.recordings(where="Agent = Kim and emotion = high"),
        lambda: collection.recordings(where="Agent = Kim and arousal > 0.5"),
        lambda: collection.query("seg:1", where="Agent = Kim", text="refund"),
    ):
        with pytest.raises(UnlawfulUse, match=ARTICLE):
            refused()
    pytest.importorskip("sklearn")
    with pytest.raises(UnlawfulUse, match=ARTICLE):
        collection.labels.suggest(where="Agent = Kim")


def test_recordings_are_administered_by_employee(collection: Collection) -> None:
    assert {each.name for each in collection.recordings(where="Agent = Kim")} == {"0", "1"}
    assert len(recordings.page(collection.catalog, 10, where="Agent = Lee")) == 2
    assert collection.remove(where="Agent = Kim") == 2


def test_employees_are_no_values_to_filter_by(collection: Collection) -> None:
    assert recordings.metadata_values(collection.catalog, 5) == {"queue": ["billing", "sales"]}
    assert recordings.left_out(collection.catalog) == ["Agent"]
    collection.set_policy(employee_purpose="safety")
    assert sorted(recordings.metadata_values(collection.catalog, 5)) == ["Agent", "queue"]
    assert recordings.left_out(collection.catalog) == []


def test_a_change_of_the_policy_counts_at_once(collection: Collection, database_url: str) -> None:
    collection.set_policy(employee_purpose="safety")
    assert len(collection.query("seg:1", where="Agent = Lee")) == 2
    assert len(collection.query("seg:1", where="Agent = Lee")) == 2  # cached
    with e2vsearch.open(database_url) as other:
        other.set_policy(employee_purpose="")
    with pytest.raises(UnlawfulUse):
        collection.query("seg:1", where="Agent = Lee")


# --- doors


def test_the_command_line_refuses(run: Run, index: Path) -> None:
    for arguments in (
        ("query", "seg:1", "--where", "Agent = Kim"),
        ("query", "seg:1", "--group-by", "Agent"),
    ):
        done = run(*arguments, "--index", index)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert "Art. 5(1)(f) of the EU AI Act" in done.err
    run("policy", "set", "--index", index, "--employee-purpose", "safety")
    assert len(run("query", "seg:1", "--where", "Agent = Lee", "--index", index).rows) == 2


def test_the_service_refuses(index: Path) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from e2vsearch.server import create_app

    with e2vsearch.open(index) as collection:
        app = create_app(collection)
        with TestClient(app, base_url="http://localhost") as client:
            for body in ({"where": "Agent = Kim"}, {"group_by": ["Agent"]}):
                answer = client.post("/query", json={"references": ["seg:1"], **body})
                assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "unlawful")
                assert "Art. 5(1)(f)" in answer.json()["error"]["message"]
            filters = client.get("/filters").json()
            assert (filters["metadata"], filters["left_out"]) == ({"queue": ["billing", "sales"]}, ["Agent"])
            assert client.get("/recordings", params={"where": "Agent = Kim"}).status_code == 200
            assert client.get("/status").json()["policy"]["employee_fields"] == ["agent"]


def test_retrievers_refuse(index: Path) -> None:
    with e2vsearch.open(index) as collection, pytest.raises(UnlawfulUse, match=ARTICLE):
        Retriever(collection).query("seg:1", template({"where": "Agent = Kim"}))


def test_maps_leave_employees_out(run: Run, index: Path, tmp_path: Path) -> None:
    pytest.importorskip("umap")
    pytest.importorskip("bokeh")
    from e2vsearch.analysis.maps.types import Association, Cluster, MapOptions

    with e2vsearch.open(index) as collection:
        with pytest.raises(UnlawfulUse, match=ARTICLE):
            collection.maps.build(where="Agent = Kim")
        named = Association("Agent", "Kim", 3, 1.0, 3.0, 0.01)
        cluster = Cluster(0, "angry · Agent=Kim", 3, 1.0, 3, 0.0, 0.0, (), (), (named,), (), "day", ())
        assert cluster.without(["Agent"]) == replace(cluster, name="angry", metadata=())
        from e2vsearch.analysis.maps import dataset

        ids = np.arange(1, 5)
        data = dataset.load_points(collection.maps, "segment", ids, None)
        assert {key for each in data.recordings.values() for key in each.metadata} == {"queue"}
        assert MapOptions().seed == 42


# --- the audit log


def test_queries_are_noted(collection: Collection, calls: Path) -> None:
    collection.query("seg:1")  # before the log is on
    collection.set_policy(audit=True)
    by_clip = collection.used_by("cli:kim").query(calls / "0.wav", k=2, where="queue = billing")
    collection.query(Reference("seg:2", 2.0), Reference("call:1", 1.0), avoid=[np.ones(16, np.float32)], by="segment")
    collection.compare("call:1", calls / "2.wav")
    with pytest.raises(UnlawfulUse):
        collection.query("seg:1", where="Agent = Kim")
    Retriever(collection, actor="langchain").query("seg:1", template({}))
    entries = [(each.actor, each.action, each.request) for each in collection.audit()]
    assert entries == [
        ("python", "policy", {"audit": True}),
        ("cli:kim", "query", {"k": 2, "by": "recording", "references": ["clip"], "where": "queue = billing"}),
        ("python", "query", {"k": 20, "by": "segment", "references": ["seg:2", "call:1"], "avoid": ["vector"]}),
        ("python", "compare", {"a": "call:1", "b": "clip"}),
        ("langchain", "query", {"k": 20, "by": "recording", "references": ["seg:1"]}),
    ]
    assert collection.audit()[1].results == tuple(hit.segment for hit in by_clip)
    collection.set_policy(audit=False)
    collection.query("seg:1")
    assert [each.action for each in collection.audit()][-1] == "policy"


def test_what_a_query_is_noted_as() -> None:
    query = Query(
        ("label:hesitant", b"RIFF", "calls/angry.wav", [0.0, 1.0]),  # type: ignore[arg-type]
        emotion={"angry": 1.0, "sad": -0.5},
        min_probability=0.0,
        text="refund",
        group_by=("queue",),
        group_size=2,
    )
    assert query.summary() == {
        "k": 20,
        "by": "recording",
        "references": ["label:hesitant", "clip", "clip", "vector"],
        "emotion": {"angry": 1.0, "sad": -0.5},
        "min_probability": 0.0,
        "text": "refund",
        "group_limits": {"queue": 2},
    }
    assert Query(trajectory="neutral,angry").summary()["trajectory"] == "neutral,angry"
    assert Query(trajectory="calls/a,b.wav").summary()["trajectory"] == "clip"
    assert Query(trajectory=["emotion:sad", "seg:2"]).summary()["trajectory"] == ["emotion:sad", "seg:2"]


def test_nothing_is_shown_that_cannot_be_noted(index: Path, run: Run) -> None:
    run("policy", "set", "--index", index, "--audit")
    with closing(sqlite3.connect(index / "catalog.db")) as connection, connection:
        connection.execute(
            "CREATE TRIGGER full BEFORE INSERT ON audit BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
        )
    connection.close()
    with e2vsearch.open(index) as collection, pytest.raises(CatalogError, match=r"audit log .* full"):
        collection.query("seg:1")


def test_the_log_is_printed(index: Path, run: Run, tmp_path: Path) -> None:
    assert run("audit", "--index", index, "-f", "table").err.startswith("the audit log is empty")
    run("policy", "set", "--index", index, "--audit")
    hits = run("query", "seg:1", "--index", index).rows
    run("compare", "call:1", "call:2", "--index", index)
    entries = run("audit", "--index", index).rows
    assert [(each["action"], each["actor"].partition(":")[0]) for each in entries] == [
        ("policy", "cli"),
        ("query", "cli"),
        ("compare", "cli"),
    ]
    assert entries[1]["results"] == [each["segment"] for each in hits]
    table = run("audit", "--index", index, "-f", "table").out.splitlines()
    assert table[0].split() == ["at", "(UTC)", "actor", "action", "results", "request"]
    assert "references:" in table[3]
    run("audit", "--index", index, "-o", tmp_path / "audit.csv")
    assert "request.references" in (tmp_path / "audit.csv").read_text().splitlines()[0]
    assert json.loads(run("audit", "--index", index, "-f", "json").out)[1]["request"]["k"] == 20
