"""A filter on its way to an engine: joined, as ids, or by more candidates, and held against the catalog afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_sides import ENGINES, Opened, Side
from memory_source import MemorySource, clustered

import e2vsearch
from e2vsearch.catalog.filter_statement import filter_statement
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.feed import SqlFilter
from e2vsearch.types import Space
from e2vsearch.vectors.engine import CandidateEngine

DIM, N, SEGMENTS = 24, 320, 10
LABELS = ("angry", "neutral")
FILTERS = (  # every node of the language, and what SQL's drivers take for something else
    "queue = billing",
    "queue != 'it''s 100 % %s' and meta.part >= 2",
    "not (queue = sales or part < 3)",
    "recording in (1, 2, 5)",
    "name like '%1.wav'",
    "start_s between 0 and 12.5",
    "queue is null",
    "date >= 2024-03-02 and date < today",
    "emotion = angry or arousal > 0.2",
    "role is null and start_s > 0.5",
    "channel = 1 and course is null or call_s < 1",
)


@contextmanager
def stored(place: str) -> Iterator[Collection]:
    """A collection of six calls in queues, of saved vectors."""
    rng = np.random.default_rng(0)
    with e2vsearch.open(place, create=True) as collection:
        collection.catalog.pin(Space("saved", "made", DIM, LABELS), "saved")
        for number in range(1, 7):
            vectors, scores = clustered(SEGMENTS, DIM, seed=number), rng.dirichlet([1, 1], SEGMENTS).astype(np.float32)
            segments = tuple(
                NewSegment(at % 2, 6.0 * at, 6.0 * at + 5.0, vectors[at], scores[at]) for at in range(SEGMENTS)
            )
            queue = {} if number == 6 else {"queue": ("billing", "sales")[number % 2]}
            about = 1, 1, datetime(2024, 3, number, tzinfo=UTC), 6.0 * SEGMENTS, 2, 8000, "WAV", segments
            name = f"{number}.wav"
            metadata = queue | {"part": str(number)}
            collection.catalog.store(NewRecording(f"/{name}", name, f"{number:064x}", *about, metadata=metadata))
        yield collection


@pytest.fixture
def collection(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collection]:
    """The same in Postgres, with an index in pgvector."""
    request.getfixturevalue("pgvector_connect")
    monkeypatch.setenv("E2VSEARCH_CACHE", str(tmp_path / "cache"))
    make: Callable[[str], str] = request.getfixturevalue("postgres_database")
    with stored(make(request.getfixturevalue("postgres_template"))) as opened:
        opened.index.build(engine="pgvector")
        yield opened


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What engines were told to limit a search to, of filters of any size."""
    from e2vsearch.vectors.engines.milvus import MilvusEngine
    from e2vsearch.vectors.engines.pgvector import PgvectorEngine

    monkeypatch.setattr("e2vsearch.vectors.engines.search._GATHER_ROWS", 0)
    monkeypatch.setattr("e2vsearch.vectors.engines.plan._STEP", 0)
    found: list[Any] = []
    for kind in (MilvusEngine, PgvectorEngine):
        candidates = kind.candidates

        def noted(self: CandidateEngine, *args: Any, candidates: Any = candidates, **more: Any) -> Any:
            found.append(more["where"])
            return candidates(self, *args, **more)

        monkeypatch.setattr(kind, "candidates", noted)
    return found


@pytest.mark.postgres
def test_every_filter_is_joined_in_the_engines_database(collection: Collection, received: list[Any]) -> None:
    query = collection.catalog.feed().fetch(np.array([3])).vectors
    joined = 0
    for where in FILTERS:
        ids = collection.catalog.select(where)
        statement = filter_statement(collection.catalog, where)
        assert statement is not None
        with collection.catalog.driver_connection() as connection:
            rows = connection.execute(statement.statement, statement.values).fetchall()
        assert sorted(row[0] for row in rows) == ids.tolist(), where
        received.clear()
        found, exact = (collection.query(query, k=8, by="segment", where=where, exact=each) for each in (False, True))
        assert [hit.segment for hit in found] == [hit.segment for hit in exact], where
        if 0 < len(ids) < collection.catalog.segment_count():
            assert [type(each) for each in received] == [SqlFilter], where
            joined += 1
    assert joined >= 9


@pytest.mark.postgres
def test_what_one_statement_does_not_say_is_sent_as_ids(collection: Collection, received: list[Any]) -> None:
    found, exact = (
        collection.query("seg:3", emotion={"angry": 0}, k=5, where="part < 5", min_probability=0.2, exact=each)
        for each in (False, True)
    )
    assert [hit.segment for hit in found] == [hit.segment for hit in exact]
    assert {type(each) for each in received} == {np.ndarray}


@pytest.mark.postgres
def test_what_is_excluded_is_not_returned(collection: Collection, received: list[Any]) -> None:
    """The statement selects the reference itself, which is no hit."""
    found = collection.query("seg:3", k=8, by="segment", where="part < 4")
    assert isinstance(received[0], SqlFilter)
    assert "seg:3" not in [hit.segment for hit in found]
    assert len(found.hits) == 8


def test_sqlite_has_no_statement_for_an_engine(tmp_path: Path) -> None:
    with stored(str(tmp_path / "index")) as opened:
        assert filter_statement(opened.catalog, "part < 3") is None


@pytest.fixture(scope="module")
def opened(side: Side) -> Opened:
    if side.name not in ENGINES:
        pytest.skip("an index by itself")
    return side.open(MemorySource(clustered(N, DIM)))


def test_few_ids_are_sent_and_of_many_more_candidates_are_asked_for(opened: Opened, received: list[Any]) -> None:
    """Where no statement is there: Postgres looks up ids at little cost, Milvus reads each of them."""
    queries = clustered(2, DIM, seed=5)
    for step, listed in ((64, True), (2, opened.engine.joins)):
        received.clear()
        assert opened.check(queries, 3, allowed=opened.source.ids[::step]) >= 0.95
        assert isinstance(received[0], np.ndarray) == listed


def test_a_filter_of_too_many_ids_for_an_engine_is_read_from_the_catalog(
    opened: Opened, received: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sparse in a collection that is too large to be held: its vectors are read by their ids, and no others are."""
    for name, most in (("filters", 2), ("most", 8)):
        monkeypatch.setattr(type(opened.engine), name, most)
    monkeypatch.setattr("e2vsearch.vectors.engines.search._HELD_BYTES", 0)
    assert opened.check(clustered(2, DIM, seed=6), 10, allowed=opened.source.ids[::20]) == 1.0
    assert received == [None]
