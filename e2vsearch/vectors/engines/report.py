"""The report of an index in an engine: what was built, how widely to search it, and the recall that was measured.

Recall is measured as for FAISS: on stored vectors and on the last real queries, against exact search of the catalog's
vectors, which are read once for it. FAISS holds the stored ones out of its training; a graph cannot hold out what it
finds, and finds a node more easily than a new query: 20,000 x 128 in pgvector, with ef of 40, .987 of the exact top 20
of nodes and .963 of new queries, with 64 .992 and .981. So a graph is asked for nodes that are moved, each by what lies
between another one and its nearest neighbour, as far as a new query is from what is stored: .945 and .971 there, and
.966 and .982 of 12,000 x 512, where new queries had .967 and .982. Of 3,000 x 64 without any structure nodes had .990,
these .936 and new queries .908 with 40, and .995, .976 and .968 with 64.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import numpy as np

from e2vsearch.feed import VectorSource
from e2vsearch.vectors import exact
from e2vsearch.vectors.engine import CandidateEngine, Filled, Kind, Progress
from e2vsearch.vectors.exact import Float32s, Ints, UnitVectors, rows_of
from e2vsearch.vectors.recall import PROVEN, ExactNeighbours, Measured, held_out

TIMEOUT_S = 30.0
"""Of one search."""

MOST_RESULTS = PROVEN[-1][0]
"""More are compared exactly."""

_QUERIES = {20: 256, 256: 128, 1000: 64}  # that a recall is measured on: half of FAISS's, each is a round trip
_LEAST_QUERIES = 32  # real ones; fewer say nothing
_AT_ONCE = 64  # queries in one call
_FEW = 100  # how widely to search for nearest neighbours, which need not be the very nearest
_PAGE = 100_000  # ids


def width(k: int) -> int:
    """Return how many candidates to ask for, to be scored exactly: engines round vectors, and equals are many."""
    return k + max(20, k // 4)


@dataclass(frozen=True, slots=True)
class EngineReport:
    """A built index in an engine."""

    engine: str
    kind: str
    requested: str  # the kind that was asked for
    n: int
    dim: int
    watermark: int
    lists: int | None
    built_at: str  # UTC, ISO 8601
    target: float
    recall: float  # the lower of the two below
    recall_stored: float
    sample_stored: int
    recall_queries: float | None
    sample_queries: int
    breadths: tuple[tuple[int, int], ...]  # results, and how widely to search for so many
    measured_at: str
    measured_n: int
    note: str

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> EngineReport | None:
        """Return the report that `plain` made these of; None where a later version did, whose fields are others."""
        if set(plain) != {each.name for each in fields(cls)}:
            return None
        breadths = tuple((int(k), int(breadth)) for k, breadth in plain["breadths"])
        return cls(**{**plain, "breadths": breadths})

    def plain(self) -> dict[str, Any]:
        """Return the fields as plain values for JSON."""
        return asdict(self)

    def breadth(self, k: int) -> int:
        """Return how widely to search for k results."""
        return next((breadth for most, breadth in self.breadths if most >= k), self.breadths[-1][1])


def built(
    engine: str, requested: Kind, filled: Filled, n: int, dim: int, target: float, found: Measurement
) -> EngineReport:
    """Return the report of an index that was just built and measured."""
    return EngineReport(
        engine=engine,
        kind=filled.kind,
        requested=requested,
        n=n,
        dim=dim,
        watermark=filled.watermark or 0,
        lists=filled.lists,
        built_at=now(),
        target=target,
        recall=found.recall,
        recall_stored=found.recall_stored,
        sample_stored=found.sample_stored,
        recall_queries=found.recall_queries,
        sample_queries=found.sample_queries,
        breadths=found.breadths,
        measured_at=found.at,
        measured_n=found.n,
        note=found.note,
    )


@dataclass(frozen=True, slots=True)
class Measurement:
    """How widely to search for a target, and what is found so."""

    breadths: tuple[tuple[int, int], ...]
    recall_stored: float
    sample_stored: int
    recall_queries: float | None
    sample_queries: int
    at: str
    n: int
    note: str

    @property
    def recall(self) -> float:
        """The lower of the two."""
        return self.recall_stored if self.recall_queries is None else min(self.recall_stored, self.recall_queries)


def measure(
    engine: CandidateEngine,
    source: VectorSource,
    target: float,
    seed: int,
    queries: Float32s,
    progress: Progress,
    known: Sequence[tuple[int, int]] | None = None,
) -> Measurement:
    """Choose how widely to search, on half of the held-out vectors and the last queries, and measure on the others.

    Args:
        engine: that holds the source's vectors.
        source: of the vectors.
        target: recall to reach.
        seed: of what is held out.
        queries: ``(q, dim)`` the last real queries, unit rows.
        progress: called with ``("tune", done, total)``.
        known: breadths that are measured and not chosen.
    """
    ids = all_ids(engine)
    filled = engine.filled()
    choosing, reporting = held_out(ids, seed)
    most = max(_QUERIES.values())
    samples = [UnitVectors.of(source.fetch(ids[rows[:most]])) for rows in (choosing, reporting)]
    stored = [_moved(engine, source, rows) if filled.kind == "hnsw" else rows.vectors for rows in samples]
    real = queries[-most:] if len(queries) >= _LEAST_QUERIES else queries[:0]
    together = np.concatenate([*stored, real])
    kept: list[Ints] = []

    def parts() -> Iterator[Float32s]:
        with source.snapshot() as snapshot:
            for batch in snapshot.batches():
                there = rows_of(ids, batch.ids)[1]
                rows = UnitVectors.of(batch).where(there)
                kept.append(rows.ids)
                yield rows.vectors
                progress("tune", sum(map(len, kept)), len(ids))

    if not len(together):
        return _nothing_to_measure(engine, filled, len(ids))
    neighbours = ExactNeighbours(parts(), len(ids), together, None, min(MOST_RESULTS, len(ids) - 1))
    rows = np.concatenate([np.empty(0, np.int64), *kept])
    split = np.cumsum([0, *(len(each) for each in stored), len(real)])
    groups = [np.arange(start, end) for start, end in pairwise(split)]

    def recall(group: Ints, k: int, breadth: int) -> Measured:
        return _recall(engine, neighbours, rows, group[: _QUERIES[k]], k, breadth)

    ladder = engine.breadths(filled)
    judged = [group for group in (groups[0], groups[2]) if len(group)]
    breadths, at = [], 0
    for k in (k for k, _ in PROVEN if k < len(rows)):  # some of what the engine holds may be gone
        if known is not None:
            breadths.append((k, next((breadth for most, breadth in known if most >= k), known[-1][1])))
            continue
        while at < len(ladder) - 1 and any(recall(group, k, ladder[at]).lower_bound < target for group in judged):
            at += 1
        breadths.append((k, ladder[at]))
    if not breadths:
        return _nothing_to_measure(engine, filled, len(ids))
    first, breadth = breadths[0]
    by_stored = recall(groups[1], first, breadth).recall
    by_queries = recall(groups[2], first, breadth).recall if len(groups[2]) else None
    note = ""
    if known is None and breadth == ladder[-1] and min(by_stored, by_queries or 1.0) < target:
        note = f"the widest search finds {min(by_stored, by_queries or 1.0):.3f} of the exact top {first}"
    counts = len(groups[1]), len(groups[2])
    return Measurement(tuple(breadths), by_stored, counts[0], by_queries, counts[1], now(), len(ids), note)


def _moved(engine: CandidateEngine, source: VectorSource, rows: UnitVectors) -> Float32s:
    """Return unit vectors ``(n, dim)``, each moved by what lies between the one before and its nearest neighbour."""
    proposed = np.empty((0, 2), np.int64)
    for start in range(0, len(rows.ids), _AT_ONCE):
        some = rows.vectors[start : start + _AT_ONCE]
        found = engine.candidates(some, 2, where=None, breadth=_FEW, at_least=None, timeout_s=TIMEOUT_S).ids
        proposed = np.concatenate([proposed, found])
    nearest = np.where(proposed[:, 0] == rows.ids, proposed[:, 1], proposed[:, 0])
    fetched = UnitVectors.of(source.fetch(exact.distinct(nearest[nearest >= 0])))
    at, there = rows_of(fetched.ids, nearest)
    between = np.zeros_like(rows.vectors)
    between[there] = rows.vectors[there] - fetched.vectors[at[there]]
    return exact.unit32(rows.vectors + np.roll(between, 1, axis=0))


def _nothing_to_measure(engine: CandidateEngine, filled: Filled, n: int) -> Measurement:
    """Return the widest search, which compares as much as the engine does at all."""
    widest = engine.breadths(filled)[-1]
    return Measurement(((MOST_RESULTS, widest),), 1.0, 0, None, 0, now(), n, "too few segments to measure recall on")


def _recall(
    engine: CandidateEngine, neighbours: ExactNeighbours, ids: Ints, group: Ints, k: int, breadth: int
) -> Measured:
    """Return the recall of the exact top k of some queries, among as many candidates as a search asks for."""
    asked = width(k) + 1  # the query itself is among them
    found = np.full((len(neighbours.queries), asked), -1, np.int64)
    for start in range(0, len(group), _AT_ONCE):
        some = group[start : start + _AT_ONCE]
        proposed = engine.candidates(
            neighbours.queries[some], asked, where=None, breadth=breadth, at_least=None, timeout_s=TIMEOUT_S
        ).ids
        at, there = rows_of(ids, proposed)
        found[some[:, None], np.arange(proposed.shape[1])] = np.where(there, at, -1)
    return neighbours.recall_of(group, found, k)


def all_ids(engine: CandidateEngine) -> Ints:
    """Return all ids that an engine holds, ascending."""
    found, after = [np.empty(0, np.int64)], 0
    while (page := engine.ids(after, _PAGE)).size:
        found.append(page)
        after = int(page[-1])
    return np.concatenate(found)


def now() -> str:
    """Return the time, UTC, ISO 8601, in seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")
