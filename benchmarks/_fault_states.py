"""Invariants that hold after a fault, against what was there before and what an undisturbed run leaves."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SegmentKey = tuple[str, int, float]
"""The content's SHA-256 of its recording, its channel and its start, s."""

_SEGMENTS = """
SELECT r.content_sha256, s.channel, s.start_s, s.end_s, v.vector FROM segment s
JOIN recording r ON r.id = s.recording_id LEFT JOIN vector v ON v.segment_id = s.id"""
_LISTS = {
    "labels": "SELECT l.label, count(*) FROM label_example l GROUP BY 1 ORDER BY 1",
    # `train`, run again after it was killed with its work done, makes a second version: it must be the same classifier
    "classifiers": "SELECT DISTINCT name, parameters FROM classifier ORDER BY 1, 2",
    "classified": "SELECT label, count(*) FROM segment_label GROUP BY 1 ORDER BY 1",
    "projections": "SELECT name FROM projection ORDER BY 1",
    "texts": "SELECT text, count(*) FROM segment_text GROUP BY 1 ORDER BY 1",
    "failures": "SELECT reason, count(*) FROM ingest_failure GROUP BY 1 ORDER BY 1",
    "metadata": "SELECT key, text, count(*) FROM recording_metadata GROUP BY 1, 2 ORDER BY 1, 2",
}


@dataclass(frozen=True)
class State:
    """A collection's content, without ids and times of its own."""

    recordings: dict[str, str]  # content → name
    segments: dict[SegmentKey, bytes]  # → vector
    lists: dict[str, list[Any]]
    problems: tuple[str, ...]  # each begins with its class


NOTHING = State({}, {}, {}, ())


def state_of(file: Path) -> State:
    """Read a database, and hold its tables against one another."""
    if not file.is_file() or not file.stat().st_size:
        return NOTHING
    with closing(sqlite3.connect(file)) as connection:
        problems = [
            f"LOST: integrity_check says {row[0]}"
            for row in connection.execute("PRAGMA integrity_check")
            if row[0] != "ok"
        ]
        if connection.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'recording'").fetchone()[0] == 0:
            return State({}, {}, {}, tuple(problems))
        broken = connection.execute("PRAGMA foreign_key_check").fetchall()
        problems += [f"LOST: {len(broken)} rows refer to none"] if broken else []
        contents = connection.execute("SELECT content_sha256, name, uri FROM recording").fetchall()
        rows = connection.execute(_SEGMENTS).fetchall()
        feed = dict(connection.execute("SELECT segment_id, op FROM change ORDER BY seq").fetchall())
        live = {number for number, op in feed.items() if op == "+"}
        stored = {row[0] for row in connection.execute("SELECT id FROM segment")}
        lists = {name: _listed(connection, query) for name, query in _LISTS.items()}
    doubled = [name for name, count in Counter(row[2] for row in contents).items() if count > 1]
    doubled += [str(key) for key, count in Counter(row[:3] for row in rows).items() if count > 1]
    problems += [f"DOUBLED: {each}" for each in doubled]
    problems += [f"LOST: feed and segments differ by {len(live ^ stored)}"] if live != stored else []
    problems += ["LOST: a segment without vector"] if any(row[4] is None for row in rows) else []
    segments = {(row[0], row[1], row[2]): row[4] or b"" for row in rows}
    return State({row[0]: row[1] for row in contents}, segments, lists, tuple(problems))


def _listed(connection: sqlite3.Connection, query: str) -> list[Any]:
    try:
        return connection.execute(query).fetchall()
    except sqlite3.OperationalError:  # an older schema
        return []


def compared(found: State, before: State, after: State) -> list[str]:
    """Return what is wrong with a state between two others: stopped at any moment, it holds no less and no more."""
    kept = before.recordings.keys() & after.recordings.keys()
    lost = kept - found.recordings.keys()
    problems = list(found.problems)
    problems += [f"LOST: {len(lost)} recordings"] if lost else []
    made_up = found.recordings.keys() - before.recordings.keys() - after.recordings.keys()
    problems += [f"SILENT WRONG: {len(made_up)} recordings that never were"] if made_up else []
    known = {**before.segments, **after.segments}
    other = [key for key, vector in found.segments.items() if known.get(key) != vector]
    problems += [f"SILENT WRONG: {len(other)} segments or vectors that never were"] if other else []
    whole = {key for key in known if key[0] in found.recordings} - found.segments.keys()
    whole &= before.segments.keys() | after.segments.keys()
    problems += [f"LOST: {len(whole)} segments of recordings that are there"] if whole else []
    return problems


def answers(index: Path) -> list[str]:
    """Return what is wrong with the answers of a collection: each score is the cosine of the stored vectors."""
    import e2vsearch
    from e2vsearch.errors import NoCollection

    try:
        collection = e2vsearch.open(index)
    except NoCollection:
        return []
    with collection:
        if collection.space is None:
            return []
        batch = collection.catalog.feed()
        with batch.snapshot() as snapshot:
            parts = list(snapshot.batches())
        if not parts:
            return []
        view = collection._views.current()
        ids = np.concatenate([part.ids for part in parts])
        vectors = np.concatenate([view.projection.apply(part.vectors) for part in parts]).astype(np.float64)
        units = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-300)
        problems = []
        for at in np.linspace(0, len(ids) - 1, min(5, len(ids))).astype(int):
            result = collection.query(f"seg:{ids[at]}", k=20, by="segment", include_self=True)
            problems += _wrong(
                units @ units[at], ids, {hit.segment: hit.score or 0.0 for hit in result}, exact=result.exact
            )
        return problems


def _wrong(cosines: NDArray[np.float64], ids: NDArray[np.int64], hits: dict[str, float], *, exact: bool) -> list[str]:
    at = {f"seg:{number}": row for row, number in enumerate(ids)}
    if any(segment not in at for segment in hits):
        return ["SILENT WRONG: a hit that is not stored"]
    off = max((abs(score - cosines[at[segment]]) for segment, score in hits.items()), default=0.0)
    problems = [f"SILENT WRONG: a score is off by {off:.1e}"] if off > 1e-4 else []
    best = np.sort(cosines)[::-1][: len(hits)]
    found = np.sort(np.array(list(hits.values())))[::-1]
    if len(hits) < min(20, len(ids)):
        problems.append(f"SILENT WRONG: {len(hits)} hits of {len(ids)} segments")
    elif exact and np.abs(best - found).max(initial=0.0) > 1e-4:
        problems.append("SILENT WRONG: not the best hits")
    return problems
