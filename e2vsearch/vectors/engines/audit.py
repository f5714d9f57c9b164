"""The audit of what an engine holds: its ids, its vectors and its recall, held against the catalog."""

from __future__ import annotations

import numpy as np

from e2vsearch.feed import VectorSource
from e2vsearch.vectors.engine import CandidateEngine
from e2vsearch.vectors.engines import report as reports
from e2vsearch.vectors.engines.report import EngineReport, all_ids
from e2vsearch.vectors.exact import Float32s, Ints, UnitVectors

_TRIES = 5
_SPOT_ROWS = 64
_SLACK = 0.05  # of the spots: a graph may miss some of them
_DRIFTED = 0.01  # of recall, which the same queries of the same index never lose


def problems(
    engine: CandidateEngine, source: VectorSource, report: EngineReport, watermark: int, seed: int, queries: Float32s
) -> list[str]:
    """Return everything that is wrong with what an engine holds, one line each; its recall where nothing else is.

    Args:
        engine: that is filled.
        source: what it must agree with.
        report: of its index.
        watermark: up to which it has read the change feed.
        seed: of the sample of vectors.
        queries: ``(q, dim)`` the last real queries, unit rows.
    """
    ids = all_ids(engine)
    found = [_ids(engine, source, ids, watermark), _vectors(engine, source, report, ids, seed)]
    if not any(found):
        found.append(drift(engine, source, report, seed, queries))
    return [line for line in found if line]


def _ids(engine: CandidateEngine, source: VectorSource, ids: Ints, watermark: int) -> str | None:
    """Compare the ids, less what went and with what came since, with the set of the source's segments."""
    for _ in range(_TRIES):
        token = source.changes_token(watermark)
        changes = source.changes_since(watermark)
        theirs = source.fingerprint()
        if source.changes_token(watermark) != token:
            continue  # something was written in between
        now = np.union1d(np.setdiff1d(ids, changes.removed), changes.added)
        ours = 0, 0, 0, 0
        if now.size:
            ours = now.size, int(now[0]), int(now[-1]), int(np.bitwise_xor.reduce(now))
        if ours == theirs:
            return None
        return (
            f"{engine.name} and what changed since hold {ours[0]} segments, the catalog {theirs[0]}, not all the same: "
            "e2vsearch index drop, then e2vsearch index build"
        )
    return None  # written to without a pause; every search looks up what it returns


def _vectors(engine: CandidateEngine, source: VectorSource, report: EngineReport, ids: Ints, seed: int) -> str | None:
    """Search for some stored vectors: each must find itself, or one that is as near."""
    some = np.random.default_rng(seed).choice(ids, min(_SPOT_ROWS, len(ids)), replace=False)
    rows = UnitVectors.of(source.fetch(some))
    if not rows.ids.size:
        return None
    proposed = engine.candidates(
        rows.vectors,
        min(20, engine.most),
        where=None,
        breadth=report.breadth(20),
        at_least=0,
        timeout_s=reports.TIMEOUT_S,
    ).ids
    missed = int((~(proposed == rows.ids[:, None]).any(axis=1)).sum())
    if missed <= _SLACK * len(rows.ids):
        return None
    return (
        f"{engine.name} does not find {missed} of {len(rows.ids)} stored vectors by themselves: "
        "e2vsearch index build --retrain"
    )


def drift(
    engine: CandidateEngine, source: VectorSource, report: EngineReport, seed: int, queries: Float32s
) -> str | None:
    """Return how far recall is from what was promised, and the cure; None where it is as promised."""
    now = reports.measure(engine, source, report.target, seed, queries, _silent, report.breadths)
    for recall, whose in ((now.recall_stored, "stored vectors"), (now.recall_queries, "the last queries")):
        if recall is not None and recall < min(report.target, report.recall) - _DRIFTED:
            return (
                f"{recall:.3f} of the exact top 20 of {whose} is found where {report.recall:.3f} was measured before: "
                "e2vsearch index tune"
            )
    return None


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Report nothing."""
