"""The collection as one search sees it: a generation, its tombstones, and the delta that came since.

Segments that came after a generation are few (see `IndexLag.due`) and compared exactly; those that went stay in its
files and are masked out. Both cost next to nothing: 5,000 rows of 1024 dimensions take 0.7 ms, and a selector of 10,000
tombstones among 200,000 no measurable time.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field, replace

import numpy as np

from e2vsearch.feed import Changes, Snapshot, VectorSource
from e2vsearch.vectors import exact
from e2vsearch.vectors.engine import Candidates
from e2vsearch.vectors.exact import Float32s, Ints, Mask, UnitVectors, rows_of
from e2vsearch.vectors.faiss import filter
from e2vsearch.vectors.faiss.filter import RowMask, RowMasks, ascending
from e2vsearch.vectors.faiss.storage import Generation

_GATHER_ROWS = 2000  # 2,000 of 100,000 x 256 take 0.3 ms, about what the lists take, and nothing is missed
_FEW = 32  # excluded segments that are dropped from what is found: a mask of 1,000,000 rows takes 0.34 ms to make


@dataclass(frozen=True, slots=True)
class InMemoryBase:
    """A whole small collection in memory, in place of a generation where there is none."""

    rows: UnitVectors
    watermark: int

    @classmethod
    def of(cls, snapshot: Snapshot, dim: int) -> InMemoryBase:
        """Read all of a snapshot."""
        return cls(UnitVectors.joined([UnitVectors.of(batch) for batch in snapshot.batches()], dim), snapshot.watermark)


@dataclass(frozen=True, slots=True)
class Delta:
    """The difference of the collection from a base that read the feed up to its watermark."""

    added: Ints  # ascending ids that the base does not have
    tombstones: Ints  # rows of the base that are gone

    @classmethod
    def since(cls, ids: Ints, changes: Changes) -> Delta:
        """Return the difference that changes make to a base of these ascending ids."""
        added = exact.distinct(changes.added)
        removed = np.setdiff1d(exact.distinct(changes.removed), added, assume_unique=True)
        rows, there = rows_of(ids, removed)
        return cls(added[~rows_of(ids, added)[1]], rows[there])


@dataclass(frozen=True, slots=True)
class IndexSnapshot:
    """A consistent state of the collection; immutable, so any number of threads may search it."""

    base: Generation | InMemoryBase
    alive: Mask | None  # (n,) over the base's rows; all when None
    tail: UnitVectors
    token: Hashable  # of the change feed, as it was before it was read
    filters: RowMasks = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "filters", RowMasks(_rows(self.base).ids, self.alive, self.tail.ids))

    @classmethod
    def of(cls, base: Generation | InMemoryBase, source: VectorSource, before: IndexSnapshot | None) -> IndexSnapshot:
        """Return the base as it is now; vectors of the tail that an earlier snapshot has are not fetched again."""
        token = source.changes_token(base.watermark)  # before the changes: too old a token only reads again
        ids = _rows(base).ids
        delta = Delta.since(ids, source.changes_since(base.watermark))
        alive = None
        if delta.tombstones.size:
            alive = np.ones(len(ids), np.bool_)
            alive[delta.tombstones] = False
        known = before.tail if before is not None else UnitVectors.joined([], source.dim)
        known = known.where(np.isin(known.ids, delta.added))
        new = np.setdiff1d(delta.added, known.ids, assume_unique=True)
        tail = known
        if new.size:
            tail = UnitVectors.joined([known, UnitVectors.of(source.fetch(new))], source.dim)
            order = np.argsort(tail.ids)
            tail = UnitVectors(tail.ids[order], tail.recordings[order], tail.vectors[order])
        return cls(base, alive, tail, token)

    @property
    def count(self) -> int:
        """Number of segments."""
        rows = len(_rows(self.base).ids) if self.alive is None else int(self.alive.sum())
        return rows + len(self.tail.ids)

    def search(
        self, queries: Float32s, k: int, allowed: Ints | None, excluded: Ints | None, *, compare_all: bool = False
    ) -> Candidates:
        """Return the nearest k of the segments that the filter leaves.

        Args:
            queries: ``(q, dim)`` unit rows.
            k: how many.
            allowed: ids that may be returned; all when None.
            excluded: ids that may not.
            compare_all: leave the index aside.
        """
        dropped: Ints = np.empty(0, np.int64)
        if allowed is None and (excluded is None or excluded.size <= _FEW):
            kept, tail_kept = self.filters.alive, None
            if excluded is not None:
                dropped = exact.distinct(excluded)
        else:
            kept, tail_kept = self.filters.left(allowed, excluded)
        rows = _rows(self.base)
        count = len(rows.ids) if kept is None else kept.count
        tail_count = len(self.tail.ids) if tail_kept is None else tail_kept.count
        searched = count + tail_count - int(self.has(dropped).sum())
        k, spare = min(k, searched), dropped.size
        found = None if compare_all else self._through_lists(queries, k, spare, kept, count)
        scores, at = found or exact.top(queries, rows.vectors, min(k + spare, count), _mask(kept))
        ids = _ids_at(rows.ids, at)
        if tail_count:
            best = exact.Best(len(queries), k + spare)
            best.push(scores, ids)
            scores, at = exact.top(queries, self.tail.vectors, min(k + spare, tail_count), _mask(tail_kept))
            best.push(scores, _ids_at(self.tail.ids, at))
            scores, ids = best.result()
        if spare:
            order = np.argsort(rows_of(dropped, ids)[1], axis=1, kind="stable")[:, :k]
            scores, ids = np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)
        return Candidates(ids, scores, searched, found is None)

    def _through_lists(
        self, queries: Float32s, k: int, spare: int, kept: RowMask | None, count: int
    ) -> tuple[Float32s, Ints] | None:
        """Return the base's best by way of its lists, k and some to spare; None where all should be compared."""
        if not isinstance(self.base, Generation) or self.base.ivf is None or count <= max(_GATHER_ROWS, k + spare):
            return None
        ivf, vectors = self.base.ivf, self.base.vectors
        plan = filter.plan(ivf, self.base.tuned, k, queries, kept, len(vectors))
        if plan is None or plan.compare.all():
            return None
        bits = None if kept is None else kept.bits
        if plan.near is None or bits is None:
            candidates = ivf.search(queries, plan.candidates + spare, plan.nprobe, bits)
        else:
            candidates = ivf.search_near(plan.near, plan.candidates + spare, bits)
        if kept is not None:  # some of FAISS's search paths ignore a selector (issues 5523, 5584): never trust it
            candidates[~kept.mask[np.maximum(candidates, 0)]] = -1
        scores, rows = exact.rerank(queries, self.base.gather, candidates, k + spare)
        short = plan.compare | ((candidates >= 0).sum(axis=1) < k + spare)
        if short.any():
            scores[short], rows[short] = exact.top(queries[short], vectors, k + spare, _mask(kept))
        return scores, rows

    def one_a_recording(self, found: Candidates, most: int) -> Candidates:
        """Return the best segment of each recording that a query found, of at most so many recordings."""
        ids, scores = np.full_like(found.ids, -1), np.full_like(found.scores, -np.inf)
        for row, recordings in enumerate(self._recordings_of(found.ids)):
            first = exact.first_of_each(recordings)[:most]
            ids[row, : first.size], scores[row, : first.size] = found.ids[row, first], found.scores[row, first]
        return replace(found, ids=ids[:, :most], scores=scores[:, :most])

    def _recordings_of(self, ids: Ints) -> Ints:
        """Return the recordings of ids of any shape, -1 for one that is not there."""
        found = np.full_like(ids, -1)
        for part in (_rows(self.base), self.tail):
            at, there = rows_of(part.ids, ids)
            found[there] = part.recordings[at[there]]
        return found

    def has(self, ids: Ints) -> Mask:
        """Return which of ids ``(n,)`` are there."""
        rows, there = rows_of(_rows(self.base).ids, ids)
        if self.alive is not None:
            there[there] = self.alive[rows[there]]
        return there | rows_of(self.tail.ids, ids)[1]

    def vectors_of(self, ids: Ints) -> tuple[Float32s, Mask]:
        """Return unit vectors of ids ``(n,)``, and which of them are there; zeros for those that are not."""
        vectors = np.zeros((len(ids), self.tail.vectors.shape[1]), np.float32)
        present = np.zeros(len(ids), np.bool_)
        rows = _rows(self.base)
        for part, alive in ((rows, self.alive), (self.tail, None)):
            at, there = rows_of(part.ids, ids)
            if alive is not None:
                there[there] = alive[at[there]]
            gather = self.base.gather if isinstance(self.base, Generation) and part is rows else None
            vectors[there] = gather(at[there]) if gather is not None else part.vectors[at[there]]
            present |= there
        return vectors, present


def stream(source: VectorSource, queries: Float32s, k: int, allowed: Ints | None, excluded: Ints | None) -> Candidates:
    """Search as `IndexSnapshot.search`, comparing all segments as the source reads them, a batch at a time."""
    searched, best = 0, exact.Best(len(queries), k)
    allowed = None if allowed is None else ascending(allowed)
    with source.snapshot() as snapshot:
        for batch in snapshot.batches():
            rows = UnitVectors.of(batch)
            kept, _ = RowMasks(rows.ids, None, rows.ids[:0]).left(allowed, excluded)
            rows = rows if kept is None else rows.where(kept.mask)
            searched += len(rows.ids)
            scores, at = exact.top(queries, rows.vectors, min(k, len(rows.ids)))
            best.push(scores, _ids_at(rows.ids, at))
    scores, ids = best.result()
    return Candidates(ids, scores, searched, exact=True)


def _rows(base: Generation | InMemoryBase) -> Generation | UnitVectors:
    return base.rows if isinstance(base, InMemoryBase) else base


def _ids_at(ids: Ints, rows: Ints) -> Ints:
    if not ids.size:
        return rows
    return np.where(rows >= 0, ids[np.maximum(rows, 0)], -1)


def _mask(kept: RowMask | None) -> Mask | None:
    return None if kept is None else kept.mask
