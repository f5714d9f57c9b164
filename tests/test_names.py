"""One set of segments at every door: names, arousal and valence are the same wherever they are shown."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from made import save, silence, speech

import e2vsearch
from e2vsearch.analysis.maps import dataset
from e2vsearch.catalog import projections
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.cli.output import plain
from e2vsearch.collection import Collection
from e2vsearch.emotions import named
from e2vsearch.integrations.documents import metadata
from e2vsearch.pipeline import emotion_of
from e2vsearch.projections.base import RAW
from e2vsearch.search.compare import ComparisonView, compare_audio
from e2vsearch.transfer import export, import_
from e2vsearch.types import EmbeddedAudio, EmbeddedSegment, Space

LABELS = ("angry", "neutral", "sad")
SPACE = Space("saved", "made", 8, LABELS)
# probabilities, seconds, level: what each is named
SEGMENTS = {
    "seg:1": (([0.7, 0.2, 0.1], 2.0, -20.0), "angry"),
    "seg:2": (([0.4, 0.35, 0.25], 2.0, -20.0), "unsure"),
    "seg:3": (([0.1, 0.1, 0.8], 0.6, -20.0), "too short"),
    "seg:4": (([0.1, 0.8, 0.1], 2.0, -70.0), "unsure"),
    "seg:5": (([0.1, 0.8, 0.1], 2.0, None), "neutral"),
    "seg:6": ((None, 2.0, -20.0), None),
}
SHOWN = ("emotion", "emotion_score", "arousal", "valence")


def a_call(number: int, chosen: tuple[str, ...]) -> NewRecording:
    vectors = np.random.default_rng(number).standard_normal((len(chosen), 8)).astype(np.float32)
    segments = []
    for at, name in enumerate(chosen):
        (probabilities, seconds, level_db), _ = SEGMENTS[name]
        own = None if probabilities is None else np.array(probabilities, np.float32)
        segments.append(NewSegment(0, 3.0 * at, 3.0 * at + seconds, vectors[at], own, level_db))
    when = datetime(2024, 1, 1, tzinfo=UTC)
    about = (f"/calls/{number}.wav", str(number), f"{number:064x}", 1, 1, when, 60.0, 1, 8000, "WAV")
    return NewRecording(*about, tuple(segments))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("named") / "index"
    with e2vsearch.open(place, create=True) as collection:
        collection.catalog.pin(SPACE, "saved")
        collection.catalog.store(a_call(0, tuple(SEGMENTS)))
    return place


@pytest.fixture(scope="module")
def collection(place: Path) -> Iterator[Collection]:
    with e2vsearch.open(place, create=True) as collection:
        yield collection


@pytest.fixture(scope="module")
def expected(collection: Collection) -> dict[str, dict[str, Any]]:
    """What the catalog holds, which is checked against the rules first."""
    found = {}
    for _, segment in collection.catalog.segments():
        (probabilities, seconds, level_db), name = SEGMENTS[segment.id]
        if probabilities is not None:
            (emotion,) = named(np.array([probabilities], np.float32), LABELS, [seconds], [level_db])
            assert (segment.emotion, segment.emotion_score) == (emotion.name, emotion.score)
            assert (segment.arousal, segment.valence) == (emotion.arousal, emotion.valence)
            assert segment.scores == pytest.approx(dict(zip(LABELS, probabilities, strict=True)))
        assert (segment.emotion, segment.level_db) == (name, level_db)
        found[segment.id] = shown(segment)
    assert found["seg:6"] == dict.fromkeys(SHOWN)
    return found


def shown(of: Any) -> dict[str, Any]:
    return {name: of[name] if isinstance(of, Mapping) else getattr(of, name) for name in SHOWN}


def test_in_python_and_in_documents(collection: Collection, expected: dict[str, dict[str, Any]]) -> None:
    hits = collection.query("seg:1", by="segment", include_self=True, exact=True)
    assert {hit.segment: shown(hit) for hit in hits} == expected
    assert {hit.segment: shown(metadata(hit)) for hit in hits} == expected


def test_on_the_command_line(place: Path, run: Run, expected: dict[str, dict[str, Any]]) -> None:
    query = ("query", "seg:1", "--by", "segment", "--include-self", "--index", place)
    assert {row["segment"]: shown(row) for row in run(*query, "-f", "jsonl").rows} == plain(expected)
    table = {line.split()[-1]: line for line in run(*query, "-f", "table", "-q").out.splitlines()[1:]}
    assert " ███▌· angry " in table["seg:1"]
    assert " unsure " in table["seg:2"]
    assert " too short " in table["seg:3"]
    filtered = run(*query, "--where", 'emotion in (unsure, "too short") and valence < 0.5', "-f", "jsonl")
    unclear = {name for name in ("seg:2", "seg:3", "seg:4") if expected[name]["valence"] < 0.5}
    assert {row["segment"] for row in filtered.rows} == unclear
    status = run("status", "--index", place, "-f", "table").out
    line = " ".join(status.partition("emotions")[2].split())
    assert "unsure 2 (40%)" in line
    assert "too short 1 (20%)" in line
    refused = run("query", "emotion:unsure", "--index", place)
    assert refused.code == 2
    assert "'unsure' is no emotion to search by" in refused.err


def test_over_http(collection: Collection, expected: dict[str, dict[str, Any]]) -> None:
    pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
    from fastapi.testclient import TestClient

    from e2vsearch.server import create_app
    from e2vsearch.server.options import ServiceOptions

    with TestClient(create_app(collection, ServiceOptions()), base_url="http://127.0.0.1:8080") as client:
        answer = client.post("/query", json={"references": ["seg:1"], "by": "segment", "include_self": True}).json()
        assert {hit["segment"]: shown(hit) for hit in answer["hits"]} == expected
        segments = client.get("/recordings/call:1").json()["segments"]
        assert {each["id"]: shown(each) for each in segments} == expected
        embedded = client.post("/embed", json={"reference": "call:1"}).json()["segments"]
        assert [shown(each) for each in embedded] == list(expected.values())
        assert [each["level_db"] for each in embedded] == [level for (_, _, level), _ in SEGMENTS.values()]


def test_over_mcp(collection: Collection, expected: dict[str, dict[str, Any]]) -> None:
    pytest.importorskip("mcp.server.mcpserver", reason="the 'mcp' extra is not installed")
    from e2vsearch.integrations.mcp.results import Similar

    found = collection.query("seg:1", by="segment", include_self=True, exact=True)
    assert {hit.segment: shown(hit) for hit in Similar.of(found, "made").hits} == expected


def test_on_a_map(collection: Collection, expected: dict[str, dict[str, Any]]) -> None:
    by_segment = dataset.load_points(collection.maps, "segment", np.arange(1, 7), None)
    assert {item.id: shown(item) for item in by_segment.points} == expected
    (call,) = dataset.load_points(collection.maps, "recording", np.array([1]), "segment in (2, 5)").points
    assert (call.emotion, call.emotion_score) == ("neutral", pytest.approx((0.35 + 0.8) / 2))  # type: ignore[comparison-overlap]
    (unclear,) = dataset.load_points(collection.maps, "recording", np.array([1]), "segment in (1, 5)").points
    assert (unclear.emotion, unclear.emotion_score) == ("unsure", None)
    assert unclear.valence == pytest.approx(np.mean([expected[name]["valence"] for name in ("seg:1", "seg:5")]))
    (nothing,) = dataset.load_points(collection.maps, "recording", np.array([1]), "segment = 6").points
    assert shown(nothing) == dict.fromkeys(SHOWN)


def test_after_an_export(collection: Collection, tmp_path: Path) -> None:
    export.export(collection.catalog, tmp_path / "export")
    with e2vsearch.open(tmp_path / "copy", create=True) as copy:
        import_.load(copy.catalog, tmp_path / "export")
        assert list(copy.catalog.segments()) == list(collection.catalog.segments())


def test_of_what_is_compared() -> None:
    moments = [
        EmbeddedSegment(0, 0.0, 2.0, np.eye(8, dtype=np.float32)[0], np.array([0.7, 0.2, 0.1], np.float32), -20.0),
        EmbeddedSegment(0, 3.0, 4.2, np.eye(8, dtype=np.float32)[1], np.array([0.1, 0.1, 0.8], np.float32), -20.0),
    ]
    view = ComparisonView(RAW, SPACE, "as it is")
    whole, quiet, short = (
        EmbeddedAudio(tuple(each), 5.0, 1, 8000, "WAV")
        for each in (moments, [_but(moments[0], level_db=-70.0)], [_but(moments[0], end_s=0.5)])
    )
    found = compare_audio(view, ("a", whole), ("b", quiet))
    assert (found.a.emotion, found.a.emotion_score) == ("unsure", None)  # .475, .1625, .3625: .1125 over the second
    assert (found.b.emotion, found.b.arousal) == ("unsure", pytest.approx((0.7 * 0.59 - 0.1 * 0.27 + 1) / 2))  # type: ignore[comparison-overlap]
    assert compare_audio(view, ("a", short), ("b", whole)).a.emotion == "too short"
    assert emotion_of(Space("x", "1", 8), [EmbeddedSegment(0, 0.0, 2.0, np.ones(8, np.float32), None)]) is None


def _but(moment: EmbeddedSegment, **changes: Any) -> EmbeddedSegment:
    return EmbeddedSegment(**{name: getattr(moment, name) for name in EmbeddedSegment.__slots__} | changes)


def test_scores_given_anew_are_named_by_length_and_level(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        catalog = collection.catalog
        catalog.pin(SPACE, "saved")
        catalog.store(a_call(0, ("seg:2", "seg:3", "seg:4", "seg:6")))
        by = StoredProjection("p", "fitted", "r", b"", {}, datetime.now(UTC))
        projections.put(catalog, by)
        sure = np.tile(np.array([0.1, 0.1, 0.8], np.float32), (5, 1))
        assert projections.put_scores(catalog, np.array([1, 2, 3, 4, 99]), sure, by)  # the last is gone
        found = [(each.emotion, each.emotion_score) for _, each in catalog.segments()]
        assert found == [
            ("sad", pytest.approx(0.8)),
            ("too short", None),
            ("unsure", None),
            ("sad", pytest.approx(0.8)),
        ]
        assert len({(each.arousal, each.valence) for _, each in catalog.segments()}) == 1
        assert not projections.put_scores(
            catalog, np.array([1]), sure[:1] * 0, StoredProjection("p", "fitted", "s", b"", {}, by.created_at)
        )
        assert next(iter(catalog.segments()))[1].emotion == "sad"


def test_the_level_of_what_is_ingested_and_of_a_clip(tmp_path: Path) -> None:
    voice = speech(2.0)
    save(tmp_path / "loud.wav", np.concatenate([voice, silence(1.0)]))
    save(tmp_path / "far.wav", np.concatenate([voice * 10 ** (-30 / 20), silence(1.0)]), subtype="FLOAT")
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(tmp_path / "loud.wav")
        (loud,) = collection.segments("call:1")
        cut = voice[round(loud.start_s * 16_000) : round(loud.end_s * 16_000)].astype(np.float64)
        assert loud.level_db is not None
        assert loud.level_db == pytest.approx(10 * np.log10(np.mean(cut**2)), abs=0.5)  # 16 bits, and silence around it
        (heard,) = collection.embed(tmp_path / "loud.wav").segments
        assert heard.level_db == loud.level_db
        (far,) = collection.embed(tmp_path / "far.wav").segments
        assert far.level_db == pytest.approx(loud.level_db - 30, abs=0.5)


def test_what_embed_writes(tmp_path: Path, run: Run) -> None:
    save(tmp_path / "a.wav", np.concatenate([speech(2.0), silence(1.0)]))
    (row,) = run("embed", tmp_path / "a.wav", "-o", tmp_path / "out", "--encoder", "fake").rows
    assert plain(json.loads((tmp_path / "out" / "a.json").read_text())) == row
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        heard = collection.embed(tmp_path / "a.wav")
        emotion = emotion_of(collection.encoder().space, heard.segments)
    assert emotion is not None
    assert (row["emotion"], row["arousal"], row["valence"]) == (emotion.name, None, None)  # low and high have none
    assert row["confidence"] == (None if emotion.score is None else pytest.approx(emotion.score, abs=1e-6))
    assert set(asdict(emotion)) == {"name", "score", "arousal", "valence"}
