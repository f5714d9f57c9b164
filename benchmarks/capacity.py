"""Bytes of a stored segment on a disk, and segments stored a second, in SQLite and Postgres, by its vector's length.

    python benchmarks/capacity.py

Made recordings of 50 segments each, with class probabilities and without metadata or words, in new databases; what an
empty one takes is left out. Postgres puts a vector of more than 2 kB into a table of its own, in pages that it does not
fill.

A recording is one transaction, which is on the disk once it is stored. Beside the rate stands that of one processor, by
the time that the process itself used: what a server of the database used is not in it, nor waits for the disk.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from _postgres import server
from _table import Row, parser, show
from sqlalchemy import text

from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.catalog.writer import Catalog
from e2vsearch.types import Space

LABELS = ("angry", "disgusted", "fearful", "happy", "neutral", "other", "sad", "surprised", "unknown")
SEGMENTS = 50  # of a recording
BARS, BAR_DIM = {"SQLite": 20_000, "Postgres": 10_000}, 1024  # segments of so many numbers to be stored a second


def stored(url: str, dim: int, recordings: int, size: Callable[[Catalog], int]) -> tuple[float, float, float]:
    """Return the bytes that a database grew by for each segment, and segments stored a second and a CPU-second."""
    spent_s = used_s = 0.0
    rng = np.random.default_rng(0)
    catalog = Catalog.open(url, create=True)
    try:
        catalog.pin(Space("made", "1", dim, LABELS), "made")
        empty = size(catalog)
        for number in range(recordings):
            vectors = rng.standard_normal((SEGMENTS, dim)).astype(np.float32)
            scores = rng.random((SEGMENTS, len(LABELS))).astype(np.float32)
            segments = tuple(
                NewSegment(at % 2, at * 6.0, at * 6.0 + 5.0, vectors[at], scores[at], -20.0) for at in range(SEGMENTS)
            )
            uri = f"/calls/2026/11/{number:07}.wav"
            about = (
                uri,
                f"{number:07}",
                f"{number:064x}",
                4_800_000,
                1,
                datetime.now(UTC),
                300.0,
                2,
                8_000,
                "WAV ULAW",
            )
            new = NewRecording(*about, segments)
            started_s, before_s = time.perf_counter(), time.process_time()
            catalog.store(new)
            spent_s += time.perf_counter() - started_s
            used_s += time.process_time() - before_s
        count = recordings * SEGMENTS
        return (size(catalog) - empty) / count, count / spent_s, count / used_s
    finally:
        catalog.close()


def size_of_sqlite(catalog: Catalog) -> int:
    """Return the bytes of the database's file, its log written back."""
    with catalog.outside_transactions() as ask:
        ask("PRAGMA wal_checkpoint(TRUNCATE)")
    return Path(str(catalog.url.database)).stat().st_size


def size_of_postgres(catalog: Catalog) -> int:
    """Return the bytes of the database."""
    with catalog.reading() as connection:
        return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def main() -> None:
    """Measure both."""
    arguments = parser(__doc__).parse_args()
    recordings = 50 if arguments.quick else 200
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, server() as template:
        import psycopg

        with psycopg.connect(template.format(name="postgres").replace("+psycopg", ""), autocommit=True) as connection:
            for dim in (256, 576, 1024):
                connection.execute(f"CREATE DATABASE of_{dim}".encode())
                for name, url, size in (
                    ("SQLite", f"sqlite:///{folder}/{dim}.db", size_of_sqlite),
                    ("Postgres", template.format(name=f"of_{dim}"), size_of_postgres),
                ):
                    taken, rate, rate_cpu = stored(url, dim, recordings, size)
                    one, rate_of = f"{name}, {dim} numbers", f"{name}, {dim} numbers: stored"
                    rows += [
                        Row(one, taken, "bytes", taken / (4 * dim), "its vector in float32"),
                        Row(rate_of, rate, "segments/s"),
                        Row(f"{rate_of}, of one processor", rate_cpu, "segments/s", rate_cpu / rate, rate_of),
                    ]
                    if dim == BAR_DIM:
                        rows.append(
                            Row(f"bar: {rate_of}, at least", BARS[name], "segments/s", rate / BARS[name], "the figure")
                        )
    show("a stored segment", rows, arguments.json)


if __name__ == "__main__":
    main()
