"""Measure what a segment takes in each engine at two sizes: bytes, time to fill and to index, time of a query.

    python benchmarks/slopes.py                                    # 10,000 and 40,000 x 256
    python benchmarks/slopes.py --sizes 10000,100000 --dim 1024    # 4 kB a segment held here besides
    python benchmarks/slopes.py --sides pgvector:hnsw              # some of them

Made vectors (`_synthetic`) go straight into each engine, without a catalog: what the catalog takes is told by
`capacity.py`. Each kind is searched at the least breadth that finds 0.95 of the exact top 20. A row with two sizes has
as its ratio how many times as much the second took; of what grows with the collection that is the sizes' own ratio.
`docs/explanation/billion.md` is computed from these.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from _postgres import CHECKOUT, from_tests
from _synthetic import K, Made, MadeSource, make, nearest, recall
from _table import Row, parser, show

from e2vsearch.vectors.engine import CandidateEngine, IndexOptions, Kind
from e2vsearch.vectors.exact import UnitVectors, unit
from e2vsearch.vectors.faiss.index import FaissEngine
from e2vsearch.vectors.faiss.storage import IVF

SIDES = ("faiss:ivf-rabitq", "pgvector:hnsw", "pgvector:ivf-flat", "milvus:hnsw", "milvus:ivf-sq8")
QUERIES = 100
NONE = np.empty(0, np.int64)
Measured = dict[str, tuple[float, str]]


def main() -> None:
    """Measure every side at every size."""
    arguments = parser(__doc__)
    arguments.add_argument("--sizes", default="10000,40000")
    arguments.add_argument("--dim", type=int, default=256)
    arguments.add_argument("--sides", default=",".join(SIDES), help="%(default)s")
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.sizes, chosen.dim, chosen.sides = "2000,4000", 64, "faiss:ivf-rabitq,pgvector:hnsw"
    sizes = [int(size) for size in chosen.sizes.split(",")]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="e2vsearch-slopes-") as scratch, ExitStack() as stack:
        Path(scratch).chmod(0o711)  # the server of root's runs as nobody
        made = make(Path(scratch) / "vectors.f32", max(sizes), chosen.dim, QUERIES)
        truths = {size: nearest(made.first(size), made.queries) for size in sizes}
        for side in chosen.sides.split(","):
            name, kind = side.split(":")
            of: Callable[..., Measured] = _faiss if name == "faiss" else _engine(name, Path(scratch), stack)
            found = [of(made.first(size), kind, truths[size]) for size in sizes]
            for what in found[0]:
                first = f"{side}: {what}, {sizes[0]:,}"
                rows.append(Row(first, *found[0][what]))
                for size, each in zip(sizes[1:], found[1:], strict=True):
                    value, unit = each[what]
                    ratio = value / found[0][what][0] if found[0][what][0] else None
                    rows.append(Row(f"{side}: {what}, {size:,}", value, unit, ratio, first))
            print(*(f"{row.name}: {row.value:.2f} {row.unit}" for row in rows[-len(found[0]) * len(sizes) :]), sep="\n")
    show(f"{chosen.dim} numbers a segment, sizes {chosen.sizes}", rows, chosen.json)


def _faiss(made: Made, kind: Kind, truth: Any) -> Measured:
    with tempfile.TemporaryDirectory(dir=made.path.parent) as folder:
        index = FaissEngine(Path(folder), MadeSource(made), IndexOptions(query_log_size=0))
        with _timed() as build:
            index.build(kind)
        index.search(made.queries[:1], K)
        found, p50, busy = _asked(made, lambda query: index.search(query, K).ids[0])
        lists = sum(each.stat().st_size for each in Path(folder).rglob(IVF))
        size = index.status().size or 0
    return {
        "build": (build[0], "s"),
        "on disk": (size / made.n, "bytes a segment"),
        "of these lists": (lists / made.n, "bytes a segment"),
        "p50": (p50, "ms"),
        "processor time": (busy, "ms a query"),
        "recall": (recall(found, truth), ""),
    }


def _engine(name: str, scratch: Path, stack: ExitStack) -> Callable[..., Measured]:
    """Return what measures one kind in an engine whose server runs from now on."""
    opened: Callable[[], CandidateEngine]
    if name == "pgvector":
        import psycopg

        from e2vsearch.vectors.engines.pgvector import PgvectorEngine

        postgres = from_tests("postgres")
        folder = Path(tempfile.mkdtemp(dir=scratch))
        folder.chmod(0o711)
        url = postgres.running(folder).format(name="postgres").replace("+psycopg", "")
        stack.callback(postgres.stop, folder)
        opened = lambda: PgvectorEngine(lambda: psycopg.connect(url), "slopes", "raw")  # noqa: E731
    else:
        from e2vsearch.vectors.engines.milvus import MilvusEngine

        sys.path.append(str(CHECKOUT / "tests" / "engines"))
        server = from_tests("milvus_server").MilvusServer(scratch / f"milvus-{len(list(scratch.iterdir()))}")
        server.start()
        stack.callback(server.kill)
        opened = lambda: MilvusEngine(server.url, "slopes", "raw")  # noqa: E731

    def measured(made: Made, kind: Kind, truth: Any) -> Measured:
        engine = opened()
        engine.drop()
        engine.open(made.dim)
        with _timed() as fill, MadeSource(made).snapshot() as snapshot:
            parts = (replace(each, ids=each.ids + 1) for each in snapshot.batches())  # no segment has the id 0
            engine.apply(map(UnitVectors.of, parts), NONE, None, 1)
        with _timed() as index:
            engine.index(kind, made.n)
        size = engine.size()
        vectors = made.mapped()
        for breadth in engine.breadths(engine.filled()):

            def ask(query: Any, breadth: int = breadth) -> Any:
                rows = engine.candidates(query, K + 20, where=None, breadth=breadth, at_least=None, timeout_s=30).ids[0]
                rows = rows[rows > 0] - 1
                return rows[np.argsort(-(unit(vectors[rows]) @ query[0]))[:K]]  # as the index ranks what is proposed

            found, p50, _ = _asked(made, ask)
            if recall(found, truth) >= 0.95:
                break
        rows: Measured = {
            "fill": (fill[0], "s"),
            "index": (index[0], "s"),
            "p50": (p50, "ms"),
            "breadth": (float(breadth), ""),
        }
        if size:
            rows["on disk"] = (size / made.n, "bytes a segment")
        engine.drop()
        return rows | {"recall": (recall(found, truth), "")}

    return measured


@contextmanager
def _timed() -> Iterator[list[float]]:
    taken: list[float] = []
    started = time.perf_counter()
    yield taken
    taken.append(time.perf_counter() - started)


def _own() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _asked(made: Made, ask: Callable[[Any], Any]) -> tuple[Any, float, float]:
    """Ask one query at a time: what was found, the median and the processor time of each, in milliseconds."""
    units = unit(made.queries)
    found, seconds = np.full((len(units), K), -1, np.int64), []
    busy = _own()
    for at, query in enumerate(units):
        started = time.perf_counter()
        ids = ask(query[None])
        seconds.append(time.perf_counter() - started)
        found[at, : len(ids)] = ids
    return found, float(np.median(seconds)) * 1000, (_own() - busy) / len(units) * 1000


if __name__ == "__main__":
    main()
