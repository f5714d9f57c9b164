"""Collections in engines beyond FAISS, at every door: chosen, built, queried, moved, forgotten and dropped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from made import save, silence, speech

import e2vsearch
from e2vsearch.catalog import engine_choice, projections
from e2vsearch.catalog.projections import StoredProjection
from e2vsearch.collection import Collection
from e2vsearch.doctor import examine
from e2vsearch.errors import QueryError, SettingsError
from e2vsearch.projections.linear import LinearProjection
from e2vsearch.search.query import Query

CALLS, TURNS = 6, 4


@dataclass
class Place:
    """Where a collection is, and the engine that it takes."""

    index: str
    engine: str
    url: str

    @property
    def flags(self) -> list[str]:
        url = ["--engine-url", self.url] if self.url else []
        return ["--engine", self.engine, *url]


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calls")
    for number in range(CALLS):
        turns = [speech(1.5, seed=9 * number + turn, pitch_hz=90.0 + 25 * number + 4 * turn) for turn in range(TURNS)]
        save(folder / f"{number}.wav", np.concatenate([part for turn in turns for part in (turn, silence(1.2))]))
    return folder


@pytest.fixture(params=["pgvector", "milvus-lite"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """A place with nothing in it yet."""
    monkeypatch.setenv("E2VSEARCH_CACHE", str(tmp_path / "cache"))
    if request.param == "pgvector":
        request.getfixturevalue("pgvector_connect")
        make: Callable[[str], str] = request.getfixturevalue("postgres_database")
        url = make(request.getfixturevalue("postgres_template"))
        yield Place(url, "pgvector", "")
        return
    pytest.importorskip("milvus_lite", reason="the 'milvus' extra is not installed")
    from e2vsearch.vectors.engines.milvus import disconnect

    folder = str(tmp_path / "milvus.db")
    yield Place(str(tmp_path / "index"), "milvus", folder)
    disconnect(folder)


@pytest.fixture
def collection(place: Place, calls: Path) -> Iterator[Collection]:
    """A collection in that engine, its index built there."""
    with e2vsearch.open(
        place.index, create=True, encoder="fake", engine=place.engine, engine_url=place.url
    ) as collection:
        collection.ingest(calls, workers=1)
        collection.index.build()
        yield collection


def held(collection: Collection) -> dict[str, int]:
    """How many segments the engine holds, by the name of the space."""
    choice, views = engine_choice.chosen(collection.catalog), collection._views
    spaces = views.open_engine("raw", choice).spaces()
    return {space: views.open_engine(space, choice).count() for space in spaces}


def hits(collection: Collection, **fields: Any) -> list[tuple[str, float]]:
    found = collection.query("seg:1", k=8, by="segment", **fields)
    return [(hit.segment, round(hit.score or 0, 6)) for hit in found]


@pytest.mark.slow
def test_the_command_line_means_the_same_in_every_engine(place: Place, calls: Path, run: Run) -> None:
    at = ("--index", place.index)
    assert run("ingest", calls, *at, "--encoder", "fake", *place.flags).code == 0
    built = run("index", "build", *at, "-f", "table")
    assert built.code == 0, built.err
    assert place.engine in built.out
    status = json.loads(run("index", "status", "--measure", *at, "-f", "json").out)
    assert (status["engine"], status["kind"], status["n"]) == (place.engine, "flat", 24)
    # in Postgres a transaction of another test holds back how far a build reads the feed: the rest is the exact tail
    assert status["tail"] == 0 or place.index.startswith("postgresql")
    assert status["drift"] is None
    assert run("index", "tune", "--recall", "0.9", *at).code == 0
    assert json.loads(run("index", "verify", *at, "-f", "json").out) == {"intact": True, "problems": []}
    asked = run("query", "seg:1", "-k", "3", *at)
    assert asked.code == 0
    assert "through the index" in asked.err
    for level in ("any", "0"):
        lax = run("query", "seg:1", "-k", "3", "--consistency", level, *at)
        assert [json.loads(line)["segment"] for line in lax.out.splitlines()] == [
            json.loads(line)["segment"] for line in asked.out.splitlines()
        ]
    wrong = run("query", "seg:1", "--consistency", "sometimes", *at)
    assert (wrong.code, "consistency is fresh, any" in wrong.err) == (2, True)
    other = run("ingest", calls, *at, "--engine", "faiss")
    assert (other.code, "index build --engine faiss" in other.err) == (2, True)
    dropped = run("index", "drop", "--yes", *at, "-f", "table")
    assert "dropped 1" in dropped.out
    assert json.loads(run("index", "status", *at, "-f", "json").out)["kind"] == "none"
    assert run("query", "seg:1", "-k", "3", *at).out == asked.out


def test_hits_are_those_of_exact_search(collection: Collection) -> None:
    assert hits(collection) == hits(collection, exact=True)
    by_engine = collection.query("call:1", k=4)
    assert not by_engine.exact
    assert [hit.recording for hit in by_engine] == [
        hit.recording for hit in collection.query("call:1", k=4, exact=True)
    ]
    assert hits(collection, where="recording != 2 and start_s > 1") == hits(
        collection, where="recording != 2 and start_s > 1", exact=True
    )


def test_what_was_just_ingested_is_found_at_once(collection: Collection, tmp_path: Path) -> None:
    save(tmp_path / "new.wav", speech(2.0, seed=77, pitch_hz=140.0))
    before = collection.index.watermark()
    collection.ingest(tmp_path / "new.wav", workers=1)
    (segment,) = collection.segments(str(tmp_path / "new.wav"))
    vector = collection.catalog.feed().fetch(np.array([int(segment.id.removeprefix("seg:"))])).vectors
    assert collection.index.watermark() >= before  # equal where another test's transaction holds the horizon back
    for consistency in ("fresh", collection.index.watermark()):
        assert collection.query(vector, k=1, by="segment", consistency=consistency).hits[0].segment == segment.id
    assert segment.id not in [hit.segment for hit in collection.query(vector, by="segment", consistency="any")]
    collection.remove(str(tmp_path / "new.wav"))
    assert segment.id not in [hit.segment for hit in collection.query(vector, by="segment")]
    collection.index.build()
    assert set(held(collection).values()) == {CALLS * TURNS}


def test_a_consistency_that_there_is_not_is_refused() -> None:
    with pytest.raises(QueryError, match="a watermark"):
        Query.of("seg:1", consistency="sometimes")


def test_forget_leaves_nothing_in_the_engine(collection: Collection) -> None:
    ids = collection.catalog.segments_of([2])[0]
    named = collection.about("call:2")["index_generations"]
    assert named
    assert all(each.startswith(engine_choice.chosen(collection.catalog).name) for each in named)
    collection.forget("call:2")
    choice = engine_choice.chosen(collection.catalog)
    for space in held(collection):
        assert collection._views.open_engine(space, choice).holds(ids).size == 0
    assert set(held(collection).values()) == {(CALLS - 1) * TURNS}
    assert collection.index.generations_with(None) == []
    assert collection.index.verify() == []
    assert hits(collection) == hits(collection, exact=True)


@pytest.mark.slow
def test_what_was_removed_elsewhere_is_noticed_by_retention(collection: Collection) -> None:
    collection.remove("call:3")
    assert collection.index.generations_with(None)
    collection.index.renew()
    assert collection.index.generations_with(None) == []


def test_a_dropped_projection_leaves_nothing_in_the_engine(collection: Collection) -> None:
    (used,) = held(collection)
    dim = collection.catalog.feed().dim
    eye = np.eye(dim, dtype=np.float32)
    mine = LinearProjection("fitted", "mine", np.zeros(dim, np.float32), eye[:, :4], eye[:, 4:8], 0.3)
    before = collection.index.projection.name
    now = datetime.now(UTC)
    parameters = StoredProjection("mine", "fitted", mine.revision, mine.pack(), {}, now)
    projections.put(collection.catalog, parameters)
    collection.projections.use("mine")
    collection.index.build()
    assert len(held(collection)) == 2
    collection.projections.use(before)
    collection.projections.drop("mine")
    assert list(held(collection)) == [used]


def test_moves_from_one_engine_to_another_and_back(collection: Collection, place: Place) -> None:
    before = hits(collection)
    with e2vsearch.open(place.index) as other:
        assert hits(other) == before
        collection.index.build(engine="faiss")
        assert engine_choice.chosen(collection.catalog).name == "faiss"
        assert hits(collection) == before
        assert collection.index.status().engine == "faiss"
        assert other.index.status().engine == "faiss", "another process goes with it"
        generations = collection.index.folder("raw").rglob("ids.i64")
        assert list(generations)
        collection.index.build(engine=place.engine, engine_url=place.url)
        assert hits(collection) == before
        assert not list(collection.index.folder("raw").rglob("ids.i64")), "what the former held is deleted"
        assert set(held(collection).values()) == {CALLS * TURNS}


def test_an_engine_is_a_setting_of_new_collections(place: Place, calls: Path, run: Run, tmp_path: Path) -> None:
    url = f'engine_url = "{place.url}"\n' if place.url else ""
    (Path.cwd() / "e2vsearch.toml").write_text(f'engine = "{place.engine}"\n{url}', encoding="utf-8")
    assert run("ingest", calls / "0.wav", "--index", place.index, "--encoder", "fake").code == 0
    with e2vsearch.open(place.index) as collection:
        assert engine_choice.chosen(collection.catalog) == engine_choice.EngineChoice(place.engine, place.url)


def test_doctor_looks_at_the_engine(collection: Collection, place: Place) -> None:
    checks = {each.name: each for each in examine(place.index)}
    assert checks["index"].ok, checks["index"].found
    assert place.engine in checks["index"].found


@pytest.mark.slow
def test_db_verify_compares_what_the_engine_holds(collection: Collection, place: Place, run: Run) -> None:
    def row() -> tuple[int, dict[str, Any]]:
        done = run("db", "verify", "--index", place.index, "-f", "json")
        (found,) = [each for each in json.loads(done.out) if each["name"] == f"index in {place.engine}"]
        return done.code, found

    code, found = row()
    watermark = collection.index.status().watermark
    assert (code, found["found"]) == (0, f"intact: {CALLS * TURNS} segments, up to change {watermark}")
    collection.remove("call:1")  # which the engine has not read
    assert row() == (0, found)
    (space,) = held(collection)
    engine = collection._views.open_engine(space, engine_choice.chosen(collection.catalog))
    assert watermark is not None
    engine.apply([], collection.catalog.segments_of([2])[0][:1], watermark, watermark)
    code, found = row()
    assert code == 1
    assert "not all the same" in found["found"]
    assert found["cure"] == "e2vsearch index drop && e2vsearch index build"
    assert not {each.name: each for each in examine(place.index)}["index"].ok
    collection.index.drop()
    assert row()[1]["found"].startswith("none")


@pytest.mark.parametrize(
    ("engine", "message"),
    [("pgvector", "is in SQLite"), ("milvus", "--engine-url"), ("elastic", "use one of faiss, pgvector, milvus")],
)
def test_an_engine_that_does_not_suit_is_refused(engine: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=message):
        e2vsearch.open(tmp_path / "index", create=True, encoder="fake", engine=engine)


@pytest.mark.slow
def test_re_embedding_fills_a_space_of_its_own_and_empties_the_former(collection: Collection) -> None:
    assert held(collection) == {"raw": CALLS * TURNS}
    report = collection.spaces.reembed("light")
    assert report.switched
    assert collection.space is not None
    assert collection.space.encoder == "light"
    ((space, count),) = held(collection).items()
    assert (space != "raw", count) == (True, CALLS * TURNS)
    assert hits(collection) == hits(collection, exact=True)
    assert collection.index.status().damage is None
    assert collection.index.verify() == []
