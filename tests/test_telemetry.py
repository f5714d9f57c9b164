"""Spans in the traces of the program around: what there is, and that nothing of a recording is in them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from made import save, speech
from small_collection import SAID, make_collection

import e2vsearch
from e2vsearch import telemetry
from e2vsearch.collection import Collection
from e2vsearch.errors import BadFilter, NotStored

REASON = "the package opentelemetry-sdk is not installed"
OURS = {"e2vsearch", "query", "recording", "segment", "faiss", "stored", "failed", "bad-filter", "not-audio"}
"""Every text that an attribute may have here."""


@pytest.fixture(scope="module")
def exporter() -> Iterator[Any]:
    pytest.importorskip("opentelemetry.sdk", reason=REASON)
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    with pytest.MonkeyPatch.context() as patched:  # a process has one provider for good
        patched.setattr(trace, "get_tracer", provider.get_tracer)
        yield exporter


@pytest.fixture
def spans(exporter: Any) -> Any:
    """Gives the finished spans, in order of their ends."""
    exporter.clear()
    return exporter.get_finished_spans


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_collection(tmp_path_factory.mktemp("traced"))


@pytest.fixture(scope="module")
def collection(place: Path) -> Iterator[Collection]:
    with e2vsearch.open(place, encoder="fake") as collection:
        yield collection


def tree(spans: Sequence[Any]) -> list[tuple[str, str | None]]:
    """Each span's name, and that of its parent."""
    names = {each.context.span_id: each.name for each in spans}
    return [(each.name, None if each.parent is None else names[each.parent.span_id]) for each in spans]


def checked(spans: Sequence[Any]) -> list[dict[str, Any]]:
    """The attributes of each, which must be numbers or words of ours, and no more of an error than its kind."""
    for each in spans:
        assert each.events == ()
        assert each.status.description is None
        assert {value for value in each.attributes.values() if isinstance(value, str)} <= OURS
        assert all(isinstance(value, int | float | bool | str) for value in each.attributes.values())
        assert each.kind.name == "INTERNAL"
    return [dict(each.attributes) for each in spans]


def test_a_query_of_a_clip(spans: Any, collection: Collection, tmp_path: Path) -> None:
    clip = save(tmp_path / "angry customer.wav", speech(2.0, pitch_hz=150.0))
    found = collection.query(clip, where="queue = billing", text="refund", k=3)
    done = spans()
    assert tree(done) == [
        ("embed", "query"), ("filter", "query"), ("candidates", "query"), ("re-score", "query"), ("query", None),
    ]  # fmt: skip
    embed, filtered, candidates, _, query = checked(done)
    assert embed == {"e2vsearch.audio_s": 2.0, "e2vsearch.channels": 1, "e2vsearch.segments": 1}
    assert filtered == {"e2vsearch.segments": 3}
    assert candidates["e2vsearch.engine"] == "faiss"
    assert query == {
        "db.system.name": "e2vsearch",
        "db.operation.name": "query",
        "db.response.returned_rows": len(found),
        "e2vsearch.k": 3,
        "e2vsearch.by": "recording",
        "e2vsearch.searched": found.searched,
        "e2vsearch.total": found.total,
        "e2vsearch.exact": True,
    }
    told = repr([(each.name, each.attributes, each.to_json()) for each in done])
    assert not any(word in told for word in ("angry", "billing", "refund", SAID, str(tmp_path)))


def test_a_query_of_several_segments_scores_recordings_again(spans: Any, collection: Collection) -> None:
    collection.query("call:1", "seg:5")
    assert [name for name, _ in tree(spans())] == ["candidates", "re-score", "re-score", "query"]
    assert [each.instrumentation_scope.name for each in spans()] == ["e2vsearch"] * 4


def test_an_error_is_told_by_its_kind(spans: Any, collection: Collection) -> None:
    with pytest.raises(BadFilter):
        collection.query("seg:1", where="secret = 1")
    filtered, query = spans()
    for each in (filtered, query):
        assert each.status.status_code.name == "ERROR"
        assert each.attributes["error.type"] == "bad-filter"
    checked(spans())
    with pytest.raises(NotStored):
        collection.query("seg:999")
    assert spans()[-1].attributes["error.type"] == "not-stored"


def test_each_recording_of_an_ingest(spans: Any, tmp_path: Path) -> None:
    (tmp_path / "calls").mkdir()
    save(tmp_path / "calls" / "anna.wav", speech(2.0))
    (tmp_path / "calls" / "bela.wav").write_bytes(b"no sound at all, but some text")
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(tmp_path / "calls", workers=1)
    done = spans()
    assert sorted(tree(done)) == [
        ("embed", "load recording"), ("embed", "load recording"), ("load recording", None), ("load recording", None),
        ("store recording", None), ("store recording", None),
    ]  # fmt: skip
    checked(done)
    loaded, broken = (each for each in done if each.name == "load recording")
    assert loaded.attributes == {"e2vsearch.audio_s": 2.0, "e2vsearch.channels": 1, "e2vsearch.segments": 1}
    assert (broken.attributes, broken.status.status_code.name) == ({"error.type": "not-audio"}, "ERROR")
    outcomes = [each.attributes["e2vsearch.outcome"] for each in done if each.name == "store recording"]
    assert outcomes == ["stored", "failed"]


def test_spans_are_children_of_the_program_s(spans: Any, collection: Collection) -> None:
    from opentelemetry import trace

    with trace.get_tracer("program").start_as_current_span("request"):
        collection.query("seg:1")
    assert tree(spans())[-2:] == [("query", "request"), ("request", None)]


@pytest.mark.slow
def test_nothing_is_imported_for_it() -> None:
    code = (
        "import sys, e2vsearch, e2vsearch.telemetry as t; e2vsearch.Collection\n"
        "with t.span('query', k=1) as span: span.note(rows=2); span.fail(ValueError())\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_the_package_a_span_is_the_same_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "opentelemetry.trace", raising=False)
    assert telemetry.span("query", k=1) is telemetry.span("embed")
    with telemetry.span("query") as span:
        span.note(rows=1)
