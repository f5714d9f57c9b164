"""`Collection.query` at scale: a collection filled with made-up vectors, no audio, and asked by vectors."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from _sides import one_by_one
from _synthetic import Float32s, Ints, K, Made, recall, recording_of

import e2vsearch
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.types import Space

FILTERS = {"a half": 2, "a tenth": 10, "a hundredth": 100, "a thousandth": 1000}  # one in so many recordings


def fill(made: Made, folder: Path) -> float:
    """Make a collection of all vectors, a hundred to a recording, with its index; return the seconds of storing."""
    with e2vsearch.open(folder, create=True) as collection:
        collection.catalog.pin(Space("saved", "made-up", made.dim), "saved")
        started = time.perf_counter()
        for start, part in made.chunks(16_000):
            rows = np.arange(start, start + len(part))
            for number in np.unique(recording_of(rows)).tolist():
                collection.catalog.store(recording(number, part[recording_of(rows) == number]))
        stored_s = time.perf_counter() - started
        collection.index.build()
    return stored_s


def recording(number: int, part: Float32s) -> NewRecording:
    """Return a made recording of some vectors ``(n, dim)``, with metadata for each of the filters."""
    segments = tuple(NewSegment(0, 5.0 * at, 5.0 * at + 4.0, vector) for at, vector in enumerate(part))
    return NewRecording(
        uri=f"/made/{number}.wav",
        name=str(number),
        content_sha256=f"{number:064x}",
        size_bytes=0,
        mtime_ns=0,
        recorded_at=datetime(2024, 1, 1, tzinfo=UTC),
        duration_s=5.0 * len(part),
        channels=1,
        sampling_rate_hz=8000,
        format="made up",
        segments=segments,
        metadata={f"of{parts}": str(number % parts) for parts in FILTERS.values()},
    )


@dataclass(frozen=True)
class Asked:
    """One kind of question, asked many times."""

    name: str
    p50_ms: float
    p95_ms: float
    recall: float = math.nan  # of segments alone


def whole(made: Made, folder: Path, truths: dict[str, Ints]) -> list[Asked]:
    """Questions to a collection: bare vectors first, then calls, segments, and segments under filters.

    Args:
        made: holds the queries.
        folder: of the collection.
        truths: the nearest rows of each query, by the filter's name, ``""`` without one; as many are asked.
    """
    queries = made.queries[: len(truths[""])]
    with e2vsearch.open(folder, create=False) as collection:
        index = collection.projections.view().index

        def segments(name: str, truth: Ints, where: str | None) -> Asked:
            return _asked(name, queries, lambda query: collection.query(query, k=K, by="segment", where=where), truth)

        return [
            _asked("vectors alone, no rows", queries, lambda query: index.search(query[None], K)),
            _asked("calls", queries, lambda query: collection.query(query, k=K)),
            segments("segments", truths[""], None),
            *(segments(f"segments, {name} kept", truths[name], f"of{parts} = 1") for name, parts in FILTERS.items()),
        ]


def _asked(name: str, queries: Float32s, question: Callable[[Float32s], Any], truth: Ints | None = None) -> Asked:
    spent, answers = one_by_one(queries, question)
    p50, p95 = np.percentile(spent, [50, 95])
    if truth is None:
        return Asked(name, float(p50), float(p95))
    rows = [[int(hit.segment.removeprefix("seg:")) - 1 for hit in answer.hits] for answer in answers]
    return Asked(name, float(p50), float(p95), recall(np.array(rows), truth[: len(rows)]))
