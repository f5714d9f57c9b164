"""The embedded engine: a FAISS index that is kept fresh, verified against the catalog and rebuilt when due.

A search is answered from the generation on disk, less what is gone, plus what came since (`snapshot`); before it
returns, every hit is compared with the source's own vectors. Where they differ, or a file does not look as its builder
left it, that generation is given up: search goes on exactly from the source, `due` says so, and the next build heals
it.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from e2vsearch import telemetry
from e2vsearch.errors import GenerationError, QueryError
from e2vsearch.feed import VectorSource
from e2vsearch.types import Consistency, IndexStatus
from e2vsearch.vectors import exact, verify
from e2vsearch.vectors.engine import Condition, IndexOptions, Kind, Matches, Progress
from e2vsearch.vectors.exact import Float32s, Ints, Mask
from e2vsearch.vectors.faiss import snapshot, status, storage
from e2vsearch.vectors.faiss.snapshot import Delta, IndexSnapshot, InMemoryBase
from e2vsearch.vectors.faiss.status import IndexLag
from e2vsearch.vectors.faiss.storage import FileState, Generation, Manifest, Pointer
from e2vsearch.vectors.query_log import QueryLog

if TYPE_CHECKING:
    from e2vsearch.vectors.faiss.nprobe import Tuned

logger = logging.getLogger(__name__)
_MEMORY_BYTES = 512 << 20  # vectors held where no generation stands for them; beyond that every search streams them
_ATTEMPTS = 8  # each is spoilt only by a segment that goes, or a generation found wrong, within a few milliseconds


class FaissEngine:
    """A `VectorIndex` over FAISS lists in files. Any number of threads and processes may search and build."""

    def __init__(self, folder: Path, source: VectorSource, options: IndexOptions | None = None) -> None:
        """Read and write nothing yet.

        Args:
            folder: holds ``generations/`` and ``build.lock``; the first build makes it.
            source: the truth that is searched.
            options: how to build.
        """
        self._folder = folder
        self._root = folder / "generations"
        self._source = source
        self._options = options or IndexOptions()
        space = f"{source.collection_id} {source.space_id}"
        self._query_log = QueryLog(folder, space, source.dim, self._options.query_log_size)
        self._lock = threading.RLock()  # held to read the feed and open generations, never to search
        self._snapshot: IndexSnapshot | None = None
        self._checked: IndexSnapshot | None = None  # what `newly_due` looked at last
        self._opened: Generation | None = None
        self._seen: FileState | None = None  # CURRENT, when `_opened` was opened
        self._damage: str | None = None
        self._given_up: dict[Pointer, str] = {}  # generations found wrong though their files are right, and why

    # ------------------------------------------------------------------------------------------------------ searching

    def search(
        self,
        queries: Float32s,
        k: int,
        *,
        allowed: Ints | None = None,
        excluded: Ints | None = None,
        compare_all: bool = False,
        recordings: int | None = None,
        condition: Condition | None = None,  # noqa: ARG002 - it takes ids
    ) -> Matches:
        """Return the k segments nearest to each query, or of them what `recordings` leaves.

        Args:
            queries: ``(q, dim)``, finite and not zero, of any length.
            k: how many; where fewer are there, the rest is padding.
            allowed: the only segments that may be returned; all when None. The rows of an array that cannot be written
                to are looked up once, however often it is passed.
            excluded: segments that may not.
            compare_all: compare every segment, whatever index there is.
            recordings: how many of a query's recordings are wanted, each with its nearest segment; more of the k may
                be returned. What is cut off need not be verified: 80 of 1024-d take 2.7 ms, 20 take 1.1.
            condition: of no use here, where ids are looked up.

        Raises:
            QueryError: queries of another shape or dimension, not finite or without a direction, or k below 1.
        """
        units = exact.query_units(queries, self._source.dim)
        if k < 1:
            raise QueryError(f"cannot find the nearest {k}: ask for one or more")
        allowed, excluded = exact.as_ids(allowed), exact.as_ids(excluded)
        narrow = units.astype(np.float32)
        missed: Ints = np.empty(0, np.int64)
        for attempt in range(_ATTEMPTS):
            now = self._current_snapshot()
            if missed.size and now is not None and now.has(missed).any():
                self._give_up(now, "it holds segments that the catalog never told it were gone")
                continue
            with telemetry.span("candidates", engine="faiss", k=k) as span:
                if now is None:
                    found = snapshot.stream(self._source, narrow, k, allowed, excluded)
                else:
                    found = now.search(narrow, k, allowed, excluded, compare_all=compare_all)
                span.note(searched=found.searched, exact=found.exact)
            if now is not None:
                if isinstance(now.base, Generation) and not compare_all:
                    self._query_log.note(narrow)
                if recordings is not None:
                    found = now.one_a_recording(found, recordings)
            verified = verify.verify_hits(self._source, found, units, k)
            missed = verified.missing
            if verified.matches is None:
                self._give_up(now, "its vectors are not those of the catalog")
            elif not missed.size or attempt == _ATTEMPTS - 1:
                return verified.matches
        raise GenerationError(f"the catalog changes faster than {self._folder} can be searched: try again")

    def under(self, consistency: Consistency) -> FaissEngine:  # noqa: ARG002 - it is always fresh
        """Return this index: the changes that a generation has not are compared exactly, at next to no cost."""
        return self

    def scores(self, queries: Float32s, ids: Ints) -> Float32s:
        """Return the exact cosine of each query with each stored segment, ``(q, n)``; -inf for one that is not stored.

        Raises:
            QueryError: as for `search`.
        """
        units = exact.query_units(queries, self._source.dim).astype(np.float32)
        ids = np.asarray(ids, np.int64)
        now = self._current_snapshot()
        while now is not None and status.differs(self._source, now, ids):
            self._give_up(now, "its vectors are not those of the catalog")
            now = self._current_snapshot()
        vectors, present = verify.vectors(self._source, ids) if now is None else now.vectors_of(ids)
        result: Float32s = np.clip(units @ vectors.T, -1.0, 1.0)
        result[:, ~present] = -np.inf
        return result

    def copies(self, ids: Ints) -> tuple[Float32s, Mask]:
        """Return unit vectors of segments ``(n,)`` in the current generation, zeros for others, and which it has."""
        found, base = np.zeros((len(ids), self._source.dim), np.float32), self._current()
        if base is None:
            return found, np.zeros(len(ids), np.bool_)
        rows, present = exact.rows_of(base.ids, ids)
        found[present] = base.gather(rows[present])
        return found, present

    def count(self) -> int:
        """Return the number of segments; reads from the catalog what came and went, not all of them."""
        now = self._current_snapshot()
        if now is not None:
            return now.count
        with self._source.snapshot() as snapshot:
            return snapshot.count

    # ------------------------------------------------------------------------------------------------------ freshness

    def _current_snapshot(self) -> IndexSnapshot | None:
        """Return the collection as it is now; None where it must be streamed, having no generation and being large."""
        now = self._snapshot
        if now is not None and self._is_fresh(now):
            return now
        with self._lock:
            now = self._snapshot
            if now is None or not self._is_fresh(now):
                self._snapshot = now = self._refreshed(now)
            return now

    def _is_fresh(self, now: IndexSnapshot) -> bool:
        base = now.base if isinstance(now.base, Generation) else None
        if base is not self._opened or storage.pointer_state(self._root) != self._seen:
            return False
        if base is not None and not base.unchanged():
            return False
        return self._source.changes_token(now.base.watermark) == now.token

    def _refreshed(self, before: IndexSnapshot | None) -> IndexSnapshot | None:
        base: Generation | InMemoryBase | None = self._current()
        if base is None and before is not None and isinstance(before.base, InMemoryBase):
            base = before.base
        if base is None:
            with self._source.snapshot() as snapshot:
                if snapshot.count * self._source.dim * 4 > _MEMORY_BYTES:
                    return None
                base = InMemoryBase.of(snapshot, self._source.dim)
        return IndexSnapshot.of(base, self._source, before)

    def _current(self) -> Generation | None:
        """Return the generation that ``CURRENT`` points to, None without a sound one; opened again when it moved."""
        with self._lock:
            state = storage.pointer_state(self._root)
            if state == self._seen and (self._opened is None or self._opened.unchanged()):
                return self._opened
            while True:
                self._seen, self._opened, damage = state, None, None
                try:
                    pointer = storage.read_pointer(self._root)
                    if pointer is not None:
                        self._opened = self._open(pointer)
                except GenerationError as error:
                    damage = str(error)
                state = storage.pointer_state(self._root)
                if state == self._seen:  # else another process built meanwhile, and may have removed this one
                    break
            if damage is not None and damage != self._damage:
                logger.warning("%s; searching exactly from the catalog until the index is built again", damage)
            self._damage = damage
            return self._opened

    def _open(self, pointer: Pointer, *, rehash: bool = False) -> Generation:
        if pointer in self._given_up:
            raise GenerationError(self._given_up[pointer])
        opened = Generation(self._root, pointer, self._source, rehash=rehash)
        with self._source.snapshot() as snapshot:
            if snapshot.watermark < opened.watermark:
                raise GenerationError(
                    f"index generation {pointer.name} is newer than the catalog: was a backup restored?"
                )
        if not status.same_end(self._source, opened):
            raise GenerationError(
                f"index generation {pointer.name} ends with vectors that are not those of the catalog: "
                "was a backup restored?"
            )
        return opened

    def _give_up(self, now: IndexSnapshot | Generation | None, why: str) -> None:
        """Use a base no more: its files may be as they were written, but their content is not the catalog's."""
        base = now.base if isinstance(now, IndexSnapshot) else now
        with self._lock:
            if isinstance(base, Generation):
                self._given_up[base.pointer] = f"index generation {base.name} cannot be used: {why}"
            self._forget()

    def _forget(self) -> None:
        """Open everything anew before the next search."""
        with self._lock:
            self._snapshot, self._seen, self._opened = None, None, None

    # --------------------------------------------------------------------------------------------------------- builds

    def build(
        self,
        kind: Kind | None = None,
        progress: Progress | None = None,
        wait_s: float = 0.0,
        *,
        target: float | None = None,
        retrain: bool = False,
    ) -> Manifest:
        """Build a new generation of all segments and point to it; searches go on meanwhile, here and elsewhere.

        Lists of the generation before are used again while the collection has not grown fourfold since they were
        trained and recall has not dropped by 0.02 at what was enough then: that saves most of a build.

        Args:
            kind: of index; by default the options' kind, else that of the last build.
            progress: called with ``(stage, done, total)``; stages are ``read``, ``train``, ``assign``, ``add``,
                ``tune`` and ``write``.
            wait_s: how long to wait for another builder.
            target: recall to reach; by default the options', else that of the last build or tuning.
            retrain: train new lists in any case.

        Raises:
            GenerationBusy: another process is building.
            GenerationError: the folder cannot be written.
            SettingsError: no such kind, or no such recall.
        """
        from e2vsearch.vectors.faiss import builder

        return builder.build(
            self._folder,
            self._source,
            self._options,
            builder.BuildTarget.of(self._root, self._options, kind, target),
            self._query_log.read(),
            None if retrain else builder.lists_of(self._current()),
            progress or _silent,
            wait_s,
        )

    def tune(self, target: float | None = None, progress: Progress | None = None, wait_s: float = 0.0) -> Tuned:
        """Measure recall again, on the last queries too, and choose how many lists to visit; builds nothing.

        Args:
            target: recall to reach; by default the one it was chosen for before.
            progress: called with ``("tune", done, total)``.
            wait_s: how long to wait for a builder.

        Raises:
            GenerationBusy: another process is building.
            GenerationError: there is no sound index, it cannot reach the target, or the folder cannot be written.
            SettingsError: no such recall.
        """
        from e2vsearch.vectors.faiss import builder, publish

        with publish.locked(self._folder, wait_s) as root:
            base = self._current()
            if base is None:
                why = f" ({self._damage})" if self._damage else ""
                raise GenerationError(f"there is no index to tune{why}: e2vsearch index build")
            target = base.tuned.target if target is None else target
            recall = builder.BuildTarget.of(root, self._options, None, target).recall
            return builder.tune_generation(root, base, recall, self._query_log.read(), progress or _silent)

    def drop(self, wait_s: float = 0.0) -> int:
        """Remove all generations and the queries that were kept; return how many generations there were.

        Nothing is lost: searches are exact, and the next build makes it again.

        Args:
            wait_s: how long to wait for a builder.

        Raises:
            GenerationBusy: another process is building.
            GenerationError: the folder cannot be written.
        """
        from e2vsearch.vectors.faiss import publish

        with publish.locked(self._folder, wait_s) as root:
            self._query_log.clear()
            dropped = publish.drop(root)
        self._forget()
        return dropped

    def requested(self) -> tuple[Kind | None, float | None]:
        """Return the kind and recall that the last build was for; Nones without one."""
        before = storage.last_requested(self._root)
        return (None, None) if before is None else (cast(Kind, before[0]), before[1])

    def newly_due(self) -> str | None:
        """Return as `due` where what is searched changed since the last call, else None; cheap after every query.

        A build that failed is due again as soon as the collection changes, or by `due`.
        """
        now = self._snapshot
        if now is not None and now is self._checked:
            return None
        self._checked = now
        return self.due()

    def due(self) -> str | None:
        """Return why a build is due; None if none is. Below 1,000 segments only a damaged one is."""
        return self._lag().due

    def status(self, *, measure: bool = False) -> IndexStatus:
        """Return what the index is made of and its recall.

        Args:
            measure: measure recall again, which reads every vector of the generation; see `IndexStatus.drift`.
        """
        from e2vsearch.vectors.faiss import builder

        lag = self._lag()
        drift = status.drift(lag.base, self._query_log.read()) if measure else None
        return lag.status(builder.BuildTarget.of(self._root, self._options, None, None), drift)

    def drift(self) -> str | None:
        """Return how far recall is from what was promised, and the cure; see `status.drift`."""
        return status.drift(self._current(), self._query_log.read())

    def _lag(self) -> IndexLag:
        base = self._current()
        if base is None:
            with self._source.snapshot() as snapshot:
                return IndexLag(None, self._damage, snapshot.count, snapshot.count, 0)
        delta = Delta.since(base.ids, self._source.changes_since(base.watermark))
        tail, tombstones = len(delta.added), len(delta.tombstones)
        return IndexLag(base, None, len(base.ids) - tombstones + tail, tail, tombstones)

    def verify(self) -> list[str]:
        """Return everything that is wrong with the index on disk, one line each; none if it is sound or there is none.

        Every byte is hashed again, the segments are compared with the catalog's fingerprint, their vectors with the
        catalog's, and the recall is measured again. What is found wrong is used no more.
        """
        try:
            pointer = storage.read_pointer(self._root)
            if pointer is None:
                return []
            base = self._open(pointer, rehash=True)
        except GenerationError as error:
            self._forget()
            return [str(error)]
        problems = status.problems(base, self._source, self._options.seed)
        if problems:
            self._give_up(base, problems[0])
        return problems


def _silent(_stage: str, _done: int, _total: int) -> None:
    """Report nothing."""
