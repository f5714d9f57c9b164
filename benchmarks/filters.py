"""Ways for a filter to reach an engine: in Milvus a column, ids or more candidates; in pgvector a condition or ids.

    python benchmarks/filters.py                 # 40,000 x 64
    python benchmarks/filters.py --only milvus

Milvus is asked through its own client, of a collection that has a column for the filter, which e2vsearch's has not.
pgvector is asked through `Collection.query`, with the choice between the two ways forced, in turns.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from _postgres import CHECKOUT, from_tests
from _synthetic import Made, make
from _table import Row, parser, show
from engines import FILTERS, Task, _asked, _collection

from e2vsearch.vectors.engines import plan

SHARES = {"50 %": 0.5, "25 %": 0.25, "10 %": 0.1, "1 %": 0.01}
LISTED = (100_000, 1_000_000)  # ids, one query each
WIDTH = 40  # candidates of a search for 20
MOST = 16_000


def main() -> None:
    """Measure what is asked for."""
    arguments = parser(__doc__)
    arguments.add_argument("--n", type=int, default=40_000)
    arguments.add_argument("--dim", type=int, default=64)
    arguments.add_argument("--only", choices=["milvus", "pgvector"])
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.n, chosen.only = 10_000, "pgvector"
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="e2vsearch-filters-") as scratch:
        folder = Path(scratch)
        folder.chmod(0o711)  # the server of root's runs as nobody
        made = make(folder / "vectors.f32", chosen.n, chosen.dim, 20)
        for name, measure in (("milvus", _milvus), ("pgvector", _pgvector)):
            if chosen.only in (None, name):
                rows += measure(made, folder)
    show(f"{chosen.n:,} x {chosen.dim}, busy or not: compare within a row alone", rows, chosen.json)


def _milvus(made: Made, folder: Path) -> list[Row]:
    from pymilvus import DataType, MilvusClient

    sys.path.append(str(CHECKOUT / "tests" / "engines"))
    server = from_tests("milvus_server").MilvusServer(folder / "milvus")
    server.start()
    try:
        client = MilvusClient(server.url)
        schema = client.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.INT64, is_primary=True)
        schema.add_field("bucket", DataType.INT64)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=made.dim)
        client.create_collection("filters", schema=schema, num_shards=1, consistency_level="Strong")
        for start, part in made.chunks(4000):
            rows = [{"id": start + at, "bucket": (start + at) % 1000, "vector": row} for at, row in enumerate(part)]
            client.insert("filters", rows)
        client.flush("filters")
        index = client.prepare_index_params()
        index.add_index("vector", index_type="HNSW", metric_type="IP", params={"M": 16, "efConstruction": 64})
        client.create_index("filters", index)
        client.load_collection("filters")

        def ask(expression: str, limit: int = WIDTH, queries: Any = made.queries) -> float:
            seconds = []
            for query in queries:
                started = time.perf_counter()
                client.search(
                    "filters",
                    data=[query],
                    anns_field="vector",
                    filter=expression,
                    limit=limit,
                    search_params={"metric_type": "IP", "params": {"ef": max(100, limit)}},
                    consistency_level="Bounded",
                    timeout=120,
                )
                seconds.append(time.perf_counter() - started)
            return float(np.median(seconds)) * 1000

        found = []
        for name, share in SHARES.items():
            ids = [number for number in range(made.n) if number % 1000 < 1000 * share]
            ways: dict[str, Callable[[], float]] = {
                "a column": lambda share=share: ask(f"bucket < {1000 * share:.0f}"),  # type: ignore[misc]
                f"{len(ids):,} ids": lambda ids=ids: ask(f"id in {ids}"),  # type: ignore[misc]
                "more candidates": lambda share=share: ask("", min(MOST, int(WIDTH * 1.5 / share))),  # type: ignore[misc]
            }
            found += [Row(f"milvus: {name} left, {way}, p50", measure(), "ms") for way, measure in ways.items()]
        for count in LISTED:
            taken = ask(f"id in {list(range(count))}", queries=made.queries[:1])
            found.append(Row(f"milvus: one query with {count:,} ids", taken, "ms"))
        return found
    finally:
        server.kill()


def _pgvector(made: Made, folder: Path) -> list[Row]:
    rows = []
    before = plan._STEP
    task = Task.of(made, {}, 60.0)
    with _collection(made, folder) as (collection, _):
        collection.index.build(engine="pgvector")
        try:
            for share in FILTERS:
                for turn in (1, 2):
                    for way, step in (("ids", 10**9), ("the condition", 0)):
                        plan._STEP = step
                        p50, _, found = _asked("", collection, task, share, exact=False)
                        rows.append(Row(f"pgvector: {share} left, {way}, p50, turn {turn}", p50.value, "ms"))
                        rows.append(Row(f"pgvector: {share} left, {way}, recall, turn {turn}", found.value))
        finally:
            plan._STEP = before
    return rows


if __name__ == "__main__":
    main()
