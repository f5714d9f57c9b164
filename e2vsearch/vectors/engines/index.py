"""An index over an engine: a store that only proposes candidates is filled, measured and audited as FAISS is.

A build brings the engine up to the change feed, and builds the engine's own index where there is none yet, where
another kind is wanted, or where the collection has outgrown it. What is measured then is kept with the collection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np

from e2vsearch.errors import GenerationError, SettingsError
from e2vsearch.feed import Snapshot, VectorSource
from e2vsearch.types import Consistency, IndexStatus
from e2vsearch.vectors.engine import (
    DEFAULT_RECALL,
    CandidateEngine,
    Condition,
    IndexOptions,
    Kind,
    Matches,
    Progress,
)
from e2vsearch.vectors.engines import audit
from e2vsearch.vectors.engines import report as reports
from e2vsearch.vectors.engines.lag import EngineLag
from e2vsearch.vectors.engines.plan import NONE
from e2vsearch.vectors.engines.report import EngineReport
from e2vsearch.vectors.engines.search import EngineSearch
from e2vsearch.vectors.exact import Float32s, Ints, Mask, UnitVectors
from e2vsearch.vectors.faiss import publish
from e2vsearch.vectors.faiss.index import FaissEngine
from e2vsearch.vectors.query_log import QueryLog

_FETCH_ROWS = 4096
_GROWN = 4  # times: lists and graphs are built anew, as for FAISS
_MEASURED = 2  # times: recall is measured again


class ReportStore(Protocol):
    """Where the report of an index is kept: with the collection, so that all of its processes read the same."""

    def read(self) -> Mapping[str, Any] | None:
        """Return the report as plain values, None where there is none."""

    def write(self, report: Mapping[str, Any] | None) -> None:
        """Keep a report in place of the one there is, or none."""


class EngineIndex:
    """A `VectorIndex` over a `CandidateEngine`. Any number of threads and processes may search and build."""

    def __init__(
        self,
        engine: CandidateEngine,
        folder: Path,
        source: VectorSource,
        store: ReportStore,
        options: IndexOptions | None = None,
    ) -> None:
        """Read and write nothing yet.

        Args:
            engine: that proposes candidates.
            folder: for the lock of builds and the last queries.
            source: the truth that is searched.
            store: of this index's report.
            options: how to build.
        """
        self._engine = engine
        self._folder = folder
        self._source = source
        self._store = store
        self._options = options or IndexOptions()
        space = f"{source.collection_id} {source.space_id}"
        self._query_log = QueryLog(folder, space, source.dim, self._options.query_log_size)
        whole = FaissEngine(folder, source, replace(self._options, query_log_size=0))  # it has no index to build
        self._search = EngineSearch(engine, source, self._report, whole, self._query_log)

    # ------------------------------------------------------------------------------------------------------ searching

    def under(self, consistency: Consistency) -> EngineIndex:
        """Return this index, with searches that take account of no more than that."""
        other = copy(self)
        other._search = self._search.under(consistency)
        return other

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
        return self._search.search(
            queries,
            k,
            allowed=allowed,
            excluded=excluded,
            compare_all=compare_all,
            recordings=recordings,
            condition=condition,
        )

    def scores(self, queries: Float32s, ids: Ints) -> Float32s:
        """Return the exact cosine of each query with each stored segment, ``(q, n)``; -inf for one not stored."""
        return self._search.scores(queries, ids)

    def copies(self, ids: Ints) -> tuple[Float32s, Mask]:
        """Return zeros, and that there are none: an engine's vectors are rounded."""
        return np.zeros((len(ids), self._source.dim), np.float32), np.zeros(len(ids), np.bool_)

    def count(self) -> int:
        """Return the number of segments."""
        return self._search.count()

    def _report(self) -> EngineReport | None:
        plain = self._store.read()
        report = None if plain is None else EngineReport.of(plain)
        return report if report is not None and report.engine == self._engine.name else None

    # --------------------------------------------------------------------------------------------------------- builds

    def build(
        self,
        kind: Kind | None = None,
        progress: Progress | None = None,
        wait_s: float = 0.0,
        *,
        target: float | None = None,
        retrain: bool = False,
    ) -> EngineReport:
        """Write to the engine what came and went since its watermark, and build its index where that is due.

        Args:
            kind: of index; by default the options' kind, else that of the last build.
            progress: called with ``(stage, done, total)``; stages are ``add`` and ``tune``.
            wait_s: how long to wait for another builder.
            target: recall to reach; by default the options', else that of the last build or tuning.
            retrain: build its index anew in any case.

        Raises:
            GenerationBusy: another process is building.
            EngineError: the engine does not answer, or cannot build that.
            SettingsError: no such kind, or no such recall.
        """
        before = self._report()
        kind, target = self._requested(kind, target, before)
        progress = progress or _silent
        with publish.locked(self._folder, wait_s):
            refilled = self._fill(progress)
            filled, n = self._engine.filled(), self._engine.count()
            wanted = self._engine.choose(n) if kind == "auto" else kind
            outgrown = before is not None and filled.lists is not None and n >= _GROWN * before.measured_n
            anew = retrain or filled.kind != wanted or outgrown or (refilled and wanted != "flat")
            if anew:
                self._engine.index(wanted, n)
                filled = self._engine.filled()
            if before is None or anew or refilled or target != before.target or n >= _MEASURED * before.measured_n:
                measured = reports.measure(
                    self._engine, self._source, target, self._options.seed, self._query_log.read(), progress
                )
                report = reports.built(self._engine.name, kind, filled, n, self._source.dim, target, measured)
            else:
                report = replace(before, n=n, watermark=filled.watermark or 0, built_at=reports.now())
            self._store.write(report.plain())
        self._search.forget()
        return report

    def _fill(self, progress: Progress) -> bool:
        """Bring the engine up to the change feed, from nothing where need be; whether it was from nothing."""
        engine = self._engine
        filled = engine.filled()
        ahead = filled.watermark is not None and self._search.is_ahead(filled.watermark)  # the catalog was restored
        if filled.watermark is None or ahead:
            engine.drop()  # what a fill that was interrupted has left, too
            engine.open(self._source.dim)
            with self._source.snapshot() as snapshot:
                engine.apply(_units(snapshot, progress), NONE, None, snapshot.watermark)
            return True
        engine.open(self._source.dim)
        with self._source.snapshot() as snapshot:  # before the changes: on Postgres some lie beyond it
            upto = snapshot.watermark
        changes = self._source.changes_since(filled.watermark)
        if changes.added.size or changes.removed.size or upto != filled.watermark:
            engine.apply(self._fetched(changes.added, progress), changes.removed, filled.watermark, upto)
        return False

    def _fetched(self, ids: Ints, progress: Progress) -> Iterator[UnitVectors]:
        for start in range(0, len(ids), _FETCH_ROWS):
            yield UnitVectors.of(self._source.fetch(ids[start : start + _FETCH_ROWS]))
            progress("add", min(start + _FETCH_ROWS, len(ids)), len(ids))

    def _requested(self, kind: Kind | None, target: float | None, before: EngineReport | None) -> tuple[Kind, float]:
        options = self._options
        kind = kind or (options.kind if options.kind != "auto" or before is None else cast(Kind, before.requested))
        target = options.target_recall if target is None else target
        if target is None:
            target = DEFAULT_RECALL if before is None else before.target
        if kind not in self._engine.kinds:
            raise SettingsError(
                f"{self._engine.name} has no index kind {kind!r}: use one of {', '.join(self._engine.kinds)}"
            )
        if not 0 < target <= 1:
            raise SettingsError(f"a recall is a share of the true nearest, above 0 and up to 1, not {target:g}")
        return kind, target

    def tune(self, target: float | None = None, progress: Progress | None = None, wait_s: float = 0.0) -> EngineReport:
        """Measure recall again, on the last queries too, and choose how widely to search; builds nothing.

        Raises:
            GenerationBusy: another process is building.
            GenerationError: there is no index to tune.
            EngineError: the engine does not answer.
            SettingsError: no such recall.
        """
        with publish.locked(self._folder, wait_s):
            before = self._report()
            if before is None or self._engine.filled().watermark is None:
                raise GenerationError("there is no index to tune: e2vsearch index build")
            _, target = self._requested(
                cast(Kind, before.requested), before.target if target is None else target, before
            )
            measured = reports.measure(
                self._engine, self._source, target, self._options.seed, self._query_log.read(), progress or _silent
            )
            filled = self._engine.filled()
            report = reports.built(
                self._engine.name, cast(Kind, before.requested), filled, before.n, before.dim, target, measured
            )
            report = replace(report, built_at=before.built_at)
            self._store.write(report.plain())
        return report

    def drop(self, wait_s: float = 0.0) -> int:
        """Delete what the engine holds, the report and the queries that were kept; return how many indexes there were.

        Raises:
            GenerationBusy: another process is building.
            EngineError: the engine does not answer.
        """
        with publish.locked(self._folder, wait_s):
            self._query_log.clear()
            dropped = self._engine.drop()
            self._store.write(None)
        self._search.forget()
        return int(dropped)

    def requested(self) -> tuple[Kind | None, float | None]:
        """Return the kind and recall that the last build was for; Nones without one."""
        before = self._report()
        return (None, None) if before is None else (cast(Kind, before.requested), before.target)

    def newly_due(self) -> str | None:
        """Return as `due` where what is searched changed since the last call, else None; cheap after every query."""
        return self.due() if self._search.changed() else None

    def due(self) -> str | None:
        """Return why a build is due; None if none is."""
        return self._lag().due(self._engine)

    def status(self, *, measure: bool = False) -> IndexStatus:
        """Return what the index is made of and its recall; with `measure` that is measured again."""
        lag, report = self._lag(), self._report()
        kind, target = self._requested(None, None, report)
        if report is None or lag.filled.watermark is None or lag.damage:
            return IndexStatus(
                "none", 0, lag.live, 0, target, damage=lag.damage, due=lag.due(self._engine), requested_kind=kind,
                engine=self._engine.name,
            )  # fmt: skip
        drift = None
        if measure:
            drift = audit.drift(self._engine, self._source, report, self._options.seed, self._query_log.read())
        return IndexStatus(
            kind=lag.filled.kind,
            n=lag.held,
            tail=lag.tail,
            tombstones=lag.tombstones,
            target=report.target,
            recall=report.recall,
            nlist=lag.filled.lists,
            nprobe=report.breadth(20) if lag.filled.lists is not None else None,
            built_at=report.built_at,
            size=self._engine.size(),
            watermark=lag.filled.watermark,
            generation=self._engine.name,
            note=report.note,
            due=lag.due(self._engine),
            recall_stored=report.recall_stored,
            sample_stored=report.sample_stored,
            recall_queries=report.recall_queries,
            sample_queries=report.sample_queries,
            measured_at=report.measured_at,
            requested_kind=kind,
            trained_n=report.measured_n,
            trained_at=report.built_at,
            drift=drift,
            engine=self._engine.name,
            breadth=report.breadth(20),
        )

    def _lag(self) -> EngineLag:
        report, filled = self._report(), self._engine.filled()
        live, damage = self.count(), None
        if filled.watermark is None or report is None:
            return EngineLag(filled, report, live, 0, live, 0, None)
        if self._search.is_ahead(filled.watermark):
            damage = f"what {self._engine.name} holds is newer than the catalog: was a backup restored?"
            return EngineLag(filled, report, live, 0, live, 0, damage)
        changes = self._source.changes_since(filled.watermark)
        held = self._engine.count()
        tombstones = len(self._engine.holds(changes.removed)) if changes.removed.size else 0
        return EngineLag(filled, report, live, held, len(changes.added), tombstones, damage)

    def verify(self) -> list[str]:
        """Return everything that is wrong with what the engine holds, one line each; none if it holds nothing."""
        report, watermark = self._report(), self._engine.filled().watermark
        if report is None or watermark is None:
            return []
        if self._search.is_ahead(watermark):
            return [str(self._lag().damage)]
        queries = self._query_log.read()
        return audit.problems(self._engine, self._source, report, watermark, self._options.seed, queries)


def _units(snapshot: Snapshot, progress: Callable[[str, int, int], None]) -> Iterator[UnitVectors]:
    done = 0
    for batch in snapshot.batches():
        if len(batch.ids):
            yield UnitVectors.of(batch)
            done += len(batch.ids)
            progress("add", done, max(done, snapshot.count))


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Report nothing."""
