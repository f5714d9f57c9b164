"""A search in an engine: over-fetched, joined with the catalog, completed from the change feed, scored exactly.

A search asks the engine for more candidates than it needs, drops what the change feed says is gone and what the filter
does not leave, adds the exact nearest of what came since the engine's watermark, and scores them all from the catalog's
own vectors. Where too few are left, it asks for more, and in the end compares everything. So whatever an engine holds,
no deleted or forbidden segment is returned, none of ``min(k, matching)`` hits is missing, and every score is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from copy import copy
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from e2vsearch import telemetry
from e2vsearch.errors import QueryError
from e2vsearch.feed import VectorSource
from e2vsearch.types import Consistency
from e2vsearch.vectors import exact, verify
from e2vsearch.vectors.engine import CandidateEngine, Condition, Matches, VectorIndex
from e2vsearch.vectors.engines.plan import NONE, Choice, Plan, packed
from e2vsearch.vectors.engines.report import MOST_RESULTS, TIMEOUT_S, EngineReport, width
from e2vsearch.vectors.exact import Float32s, Float64s, Ints, Mask, UnitVectors, rows_of
from e2vsearch.vectors.query_log import QueryLog

_GATHER_ROWS = 2000  # that a filter leaves: their vectors are read from the catalog in 7-25 ms, and nothing is missed
_HELD_BYTES = 512 << 20  # of vectors that are held in memory once all were compared; more are read for each search
_SPARSE = 4  # times fewer are read by their ids, which takes twice as long for each, and not from the first to the last
_TAIL_BYTES = 64 << 20  # of vectors that came since the watermark; with more, everything is compared
_FETCH_ROWS = 4096
_WIDER = 4


@dataclass(frozen=True, slots=True, eq=False)
class Tail:
    """The segments that were added and removed since a watermark."""

    watermark: int
    token: Hashable  # of the change feed, as it was before it was read
    rows: UnitVectors  # that came, ids ascending
    removed: Ints  # ascending


@dataclass(slots=True)
class _Known:
    """What was seen last; shared by an index and the same `under` another consistency."""

    watermark: int | None = None
    tail: Tail | None = None
    checked: Tail | None = None
    count: tuple[Hashable, int] | None = None

    def forget(self) -> None:
        self.watermark, self.tail = None, None


class EngineSearch:
    """Searches of an engine. Any number of threads may search."""

    def __init__(
        self,
        engine: CandidateEngine,
        source: VectorSource,
        report: Callable[[], EngineReport | None],
        whole: VectorIndex,
        query_log: QueryLog,
    ) -> None:
        """Read nothing yet.

        Args:
            engine: that proposes candidates.
            source: the truth that is searched.
            report: returns the report of the built index, None where there is none.
            whole: compares all segments, where the engine cannot be asked.
            query_log: of the last queries.
        """
        self._engine = engine
        self._source = source
        self._report = report
        self._exact = whole
        self._query_log = query_log
        self._consistency: Consistency = "fresh"
        self._known = _Known()

    def under(self, consistency: Consistency) -> EngineSearch:
        """Return the same searches, which take account of no more than that."""
        other = copy(self)
        other._consistency = consistency
        return other

    def changed(self) -> bool:
        """Tell whether what is searched has changed since the last call."""
        now, before = self._known.tail, self._known.checked
        self._known.checked = now
        return now is None or now is not before

    def forget(self) -> None:
        """Ask the engine anew before the next search."""
        self._known.forget()

    def search(
        self,
        queries: Float32s,
        k: int,
        *,
        allowed: Ints | None = None,
        excluded: Ints | None = None,
        compare_all: bool = False,
        recordings: int | None = None,
        condition: Condition | None = None,
    ) -> Matches:
        """Return the k segments nearest to each query, see `VectorIndex.search`.

        Raises:
            QueryError: queries of another shape or dimension, not finite or without a direction, or k below 1.
            EngineError: the engine does not answer.
        """
        units = exact.query_units(queries, self._source.dim)
        if k < 1:
            raise QueryError(f"cannot find the nearest {k}: ask for one or more")
        allowed, excluded = exact.as_ids(allowed), exact.as_ids(excluded)
        chosen = Choice.of(allowed, excluded)
        if chosen.allowed is not None and len(chosen.allowed) <= _GATHER_ROWS and not compare_all:
            return self._gathered(units, k, chosen.allowed)
        report = None if compare_all or k > MOST_RESULTS else self._report()
        if report is not None and self._watermark() is not None:
            found = self._proposed(units, k, chosen, report, condition)
            if found is not None:
                self._query_log.note(units.astype(np.float32))
                return found
        return self._exact.search(
            queries, k, allowed=allowed, excluded=excluded, compare_all=compare_all, recordings=recordings
        )

    def _gathered(self, units: Float64s, k: int, ids: Ints) -> Matches:
        """Compare some segments, whose vectors are read from the catalog."""
        found = np.tile(ids, (len(units), 1))
        hits = verify.score_candidates(self._source, found, units, k, len(ids), exact=True).matches
        return cast(Matches, hits)

    def _proposed(
        self, units: Float64s, k: int, chosen: Choice, report: EngineReport, condition: Condition | None
    ) -> Matches | None:
        """Search by way of the engine; None where it holds nothing, or lags too far behind."""
        narrow = units.astype(np.float32)
        total = self.count()
        left = len(chosen.allowed) if chosen.allowed is not None else max(total - len(chosen.excluded), 0)
        wanted, asked = min(k, left), width(k) + len(chosen.excluded)
        while True:
            plan = Plan.of(self._engine, report, asked, chosen, left / max(total, 1), condition)
            with telemetry.span("candidates", engine=self._engine.name, k=plan.candidates):
                proposed = self._engine.candidates(
                    narrow,
                    plan.candidates,
                    where=plan.where,
                    breadth=plan.breadth,
                    at_least=self._consistency if isinstance(self._consistency, int) else None,
                    timeout_s=TIMEOUT_S,
                )
            if proposed.watermark is None:
                self._known.watermark = None
                return None
            tail = self._tail(proposed.watermark)
            if tail is None:
                return None
            self._known.watermark = proposed.watermark
            ids = chosen.left(proposed.ids)
            gone, there = rows_of(tail.removed, ids)[1], rows_of(tail.rows.ids, ids)[1]
            ids[gone | there] = -1  # what came since is compared itself
            best = self._best_of(tail, narrow, width(k), chosen)
            candidates = packed(np.hstack([ids, best]))
            hits = verify.score_candidates(self._source, candidates, units, k, left, exact=False).matches
            matches = cast(Matches, hits)
            short = (matches.ids >= 0).sum(axis=1) < wanted
            if not short.any() or (self._consistency == "any" and chosen.allowed is None):
                return matches
            if plan.candidates >= self._engine.most or (proposed.ids[short] < 0).any():
                return self._completed(matches, short, units, k, chosen)  # the engine has no more of them
            asked *= _WIDER

    def _completed(self, matches: Matches, short: Mask, units: Float64s, k: int, chosen: Choice) -> Matches:
        """Return the matches, with all segments compared for the queries that found too few."""
        ids, total = chosen.allowed, self.count()
        if ids is not None and len(ids) * _SPARSE < total and total * self._source.dim * 4 > _HELD_BYTES:
            whole = self._gathered(units[short], k, ids)
        else:
            whole = self._exact.search(
                units[short].astype(np.float32), k, allowed=ids, excluded=chosen.excluded, compare_all=True
            )
        for mine, theirs in (
            (matches.ids, whole.ids),
            (matches.recordings, whole.recordings),
            (matches.scores, whole.scores),
        ):
            mine[short] = theirs[:, :k]
        return replace(matches, searched=whole.searched)

    def _best_of(self, tail: Tail, queries: Float32s, k: int, chosen: Choice) -> Ints:
        """Return the ids ``(q, w)`` of the nearest that came since the watermark."""
        rows = tail.rows
        keep = chosen.left(rows.ids.copy()) >= 0
        _, at = exact.top(queries, rows.vectors, min(k, len(rows.ids)), keep)
        return np.where(at >= 0, rows.ids[np.maximum(at, 0)], -1) if rows.ids.size else at

    def scores(self, queries: Float32s, ids: Ints) -> Float32s:
        """Return the exact cosine of each query with each stored segment, ``(q, n)``; -inf for one not stored."""
        units = exact.query_units(queries, self._source.dim).astype(np.float32)
        ids = np.asarray(ids, np.int64)
        result = np.full((len(units), len(ids)), -np.inf, np.float32)
        for start in range(0, len(ids), _FETCH_ROWS):
            vectors, present = verify.vectors(self._source, ids[start : start + _FETCH_ROWS])
            cosines = np.clip(units @ vectors.T, -1.0, 1.0)
            result[:, start : start + _FETCH_ROWS] = np.where(present, cosines, -np.inf)
        return result

    def count(self) -> int:
        """Return the number of segments, counted once for each state of the change feed."""
        watermark = self._known.watermark
        if watermark is None:
            return self._exact.count()
        token = watermark, self._source.changes_token(watermark)
        counted = self._known.count
        if counted is None or counted[0] != token:
            with self._source.snapshot() as snapshot:
                counted = token, snapshot.count
            self._known.count = counted
        return counted[1]

    def _watermark(self) -> int | None:
        """Return a watermark that the engine has reached, the last one seen; None where it holds nothing of use."""
        if self._known.watermark is None:
            watermark = self._engine.filled().watermark
            if watermark is not None and self.is_ahead(watermark):
                return None
            self._known.watermark = watermark
        return self._known.watermark

    def is_ahead(self, watermark: int) -> bool:
        """Tell whether a watermark is one that the catalog has not reached: of one that was restored since."""
        with self._source.snapshot() as snapshot:
            return snapshot.watermark < watermark

    def _tail(self, watermark: int) -> Tail | None:
        """Return what a search has to add to and take from the engine's candidates; None where that is too much."""
        lax = self._consistency
        if lax == "any" or (isinstance(lax, int) and lax <= watermark):
            return Tail(watermark, None, UnitVectors.joined([], self._source.dim), NONE)
        before = self._known.tail
        token = self._source.changes_token(watermark)  # before the changes: too old a token only reads again
        if before is not None and (before.watermark, before.token) == (watermark, token):
            return before
        if (before is None or before.watermark != watermark) and self.is_ahead(watermark):
            return None
        changes = self._source.changes_since(watermark)
        if changes.added.size * self._source.dim * 4 > _TAIL_BYTES:
            return None
        kept = before.rows if before is not None else UnitVectors.joined([], self._source.dim)
        kept = kept.where(np.isin(kept.ids, changes.added))
        new = np.setdiff1d(changes.added, kept.ids)
        rows = UnitVectors.joined(
            [kept, UnitVectors.of(self._source.fetch(new))] if new.size else [kept], self._source.dim
        )
        order = np.argsort(rows.ids)
        rows = UnitVectors(rows.ids[order], rows.recordings[order], rows.vectors[order])
        self._known.tail = tail = Tail(watermark, token, rows, np.unique(changes.removed))
        return tail
