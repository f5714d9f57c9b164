"""An index with and without a GPU: build, latency, batches, recall. Needs ``faiss-gpu`` and a GPU; ten minutes at most.

    python benchmarks/gpu.py                   # 300,000 x 1024: 1.2 GB of vectors
    python benchmarks/gpu.py --n 1000000       # may reach the limit of each side, which is then named and left out

Each side is built and searched in a process of its own over the same made vectors (`_synthetic`): ``gpu`` as it is,
``ivf-flat`` and ``ivf-rabitq`` with the GPU for training alone, and both with the GPU hidden from FAISS. The exit
status is 77, with the reason, where there is none.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from _synthetic import K, Made, MadeSource, make, nearest, recall
from _table import Row, parser, show

from e2vsearch.errors import GenerationError
from e2vsearch.vectors.engine import IndexOptions
from e2vsearch.vectors.faiss import gpu
from e2vsearch.vectors.faiss.index import FaissEngine
from e2vsearch.vectors.faiss.ivf import faiss_module

CANNOT = 77
LIMIT_S = 110.0  # of each of five sides
SIDES = (("gpu", True), ("ivf-flat", True), ("ivf-rabitq", True), ("ivf-flat", False), ("ivf-rabitq", False))
QUERIES, BATCH = 500, 256


def main() -> int:
    """Measure all sides; 77 without a GPU."""
    arguments = parser(__doc__)
    arguments.add_argument("--n", type=int, default=300_000)
    arguments.add_argument("--dim", type=int, default=1024)
    arguments.add_argument("--side", help="measure one kind here and print it as JSON; the vectors are in --folder")
    arguments.add_argument("--folder", type=Path)
    chosen = arguments.parse_args()
    if chosen.quick:
        chosen.n, chosen.dim = 20_000, 256
    if chosen.side:
        print(json.dumps(_measured(chosen.side, chosen.n, chosen.dim, chosen.folder)))
        return 0
    try:
        why = gpu.missing(faiss_module())
    except GenerationError as error:
        why = str(error)
    if why is not None:
        print(f"not measured: {why}")
        return CANNOT
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="e2vsearch-gpu-") as scratch:
        made = make(Path(scratch) / "vectors.f32", chosen.n, chosen.dim, QUERIES)
        np.save(Path(scratch) / "queries.npy", made.queries)
        np.save(Path(scratch) / "truth.npy", nearest(made, made.queries))
        for kind, seen in SIDES:
            rows += _apart(kind, seen, chosen.n, chosen.dim, scratch)
    show(f"{chosen.n:,} x {chosen.dim}, {K} results", rows, chosen.json)
    return 0


def _apart(kind: str, seen: bool, n: int, dim: int, scratch: str) -> list[Row]:
    """Measure one side in a process of its own, with or without the GPU."""
    name = f"{kind}, {'GPU' if seen else 'CPU'}"
    environment = dict(os.environ) if seen else os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, __file__, "--side", kind, "--folder", scratch, "--n", str(n), "--dim", str(dim)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        ended = (str(error.stderr or "").strip().splitlines() or [str(error)])[-1]
        print(f"  {name}: {ended}", file=sys.stderr)
        return []
    return [Row(f"{name}: {what}", value, unit) for what, value, unit in json.loads(done.stdout)]


def _measured(kind: str, n: int, dim: int, folder: Path) -> list[tuple[str, float, str]]:
    """Build and search one kind; what was measured, how much, and in what."""
    queries, truth = np.load(folder / "queries.npy"), np.load(folder / "truth.npy")
    source = MadeSource(Made(folder / "vectors.f32", n, dim, queries))
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        index = FaissEngine(Path(scratch), source, IndexOptions(query_log_size=0))
        stages: dict[str, float] = {}
        at, since = "read", time.perf_counter()

        def progress(stage: str, _done: int, _total: int) -> None:
            nonlocal at, since
            now = time.perf_counter()
            stages[at] = stages.get(at, 0.0) + now - since
            at, since = stage, now

        index.build(kind, progress)  # type: ignore[arg-type]
        index.search(queries[:1], K)
        seconds, found = [], []
        for query in queries:
            started = time.perf_counter()
            found.append(index.search(query[None], K).ids[0])
            seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        for start in range(0, len(queries), BATCH):
            index.search(queries[start : start + BATCH], K)
        rate = len(queries) / (time.perf_counter() - started)
    p50, p95 = np.percentile(np.array(seconds) * 1000, [50, 95])
    rows = [(f"{stage} of the build", stages[stage], "s") for stage in ("train", "assign", "add") if stage in stages]
    rows += [("p50", float(p50), "ms"), ("p95", float(p95), "ms"), (f"batches of {BATCH}", rate, "q/s")]
    return [*rows, ("recall", recall(np.array(found), truth), "")]


if __name__ == "__main__":
    sys.exit(main())
