"""The change feed, which an index reads from the catalog, and the detector of commits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Row, bindparam, func, select, text

from e2vsearch.catalog import sqlite
from e2vsearch.catalog.beside import VECTOR_TABLES, VectorTable
from e2vsearch.catalog.columns import integers, read_vectors
from e2vsearch.catalog.database import chunks, driver_errors, place
from e2vsearch.catalog.schema import ChangeRow, SegmentRow, VectorRow
from e2vsearch.errors import CatalogError
from e2vsearch.feed import Batch, Changes
from e2vsearch.types import Space

_BATCH_ROWS = 4096  # 16 MB of 1024-d vectors

# Statements that every query runs are made once: making one takes SQLAlchemy longer than SQLite takes to answer it
# (20 vectors by id: 0.44 ms, of which 0.31 went into the statement)


class _Vectors:
    """The statements that read one table of vectors."""

    def __init__(self, table: VectorTable) -> None:
        query = select(SegmentRow.id, SegmentRow.recording_id, table.vector, table.crc32)
        query = query.join(table, table.segment_id == SegmentRow.id).order_by(SegmentRow.id)
        self.some = query.where(SegmentRow.id.in_(bindparam("ids", expanding=True)))
        self.next = query.where(SegmentRow.id > bindparam("last")).limit(_BATCH_ROWS)
        self.count = select(func.count()).select_from(table)
        self.ids = select(table.segment_id)


_VECTORS = {table: _Vectors(table) for table in VECTOR_TABLES.values()}
_RECORDINGS = select(SegmentRow.id, SegmentRow.recording_id).order_by(SegmentRow.recording_id, SegmentRow.id)
_WATERMARKS = 8  # whose changes are counted: of the index, of a former one, of `Feed.recordings_of_segments`


@dataclass(frozen=True, slots=True)
class _Recordings:
    watermark: int
    token: int  # changes after the watermark when they were read
    segments: NDArray[np.int64]
    recordings: NDArray[np.int64]


class Feed:
    """A collection's vectors, as a `e2vsearch.feed.VectorSource`."""

    def __init__(
        self,
        engine: Engine,
        collection_id: str,
        space: Space,
        detector: ChangeDetector,
        table: VectorTable = VectorRow,
        *,
        partial: bool = False,
    ) -> None:
        """Read nothing yet.

        Args:
            engine: of the database.
            collection_id: the collection's UUID.
            space: of the vectors.
            detector: of commits.
            table: that holds them.
            partial: whether some segments may have no vector there yet: they are left out, as if they were to come.
        """
        self._engine = engine
        self._vectors = _VECTORS[table]
        self._partial = partial
        self._detector = detector
        self._lock = threading.Lock()
        self._counts: dict[int, tuple[Hashable, int]] = {}  # changes after a watermark, with the state they are of
        self._recordings: _Recordings | None = None
        self._collection_id = collection_id
        self._space = space
        # On SQLite there is one writer at a time, so sequence numbers appear in order. On Postgres they are handed
        # out before commit: a reader going by them lost 32 % of the rows of eight concurrent writers. There the
        # writing transaction's id is the position, and a snapshot is complete below its oldest running transaction.
        self._by_xid = engine.dialect.name == "postgresql"
        position = ChangeRow.xid if self._by_xid else ChangeRow.seq
        after = position > bindparam("watermark")
        self._changes = select(ChangeRow.op, ChangeRow.segment_id, ChangeRow.recording_id).where(after)
        self._latest = select(func.max(position))
        self._change_count = select(func.count()).select_from(ChangeRow).where(after)

    @property
    def dim(self) -> int:
        """Length of each vector."""
        return self._space.dim

    @property
    def collection_id(self) -> str:
        """The collection's UUID."""
        return self._collection_id

    @property
    def space_id(self) -> str:
        """The space in one line, with its whole revision."""
        return f"{self._space.encoder}@{self._space.revision}/{self._space.dim}/{self._space.projection}"

    @contextmanager
    def snapshot(self) -> Iterator[CatalogSnapshot]:
        """Open one consistent read of all segments."""
        with self._engine.connect() as connection:
            if self._by_xid:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
                horizon = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
                watermark = int(connection.execute(horizon).scalar_one()) - 1
            else:
                watermark = connection.execute(select(func.coalesce(func.max(ChangeRow.seq), 0))).scalar_one()
            yield CatalogSnapshot(connection, watermark, self.dim, self._vectors, partial=self._partial)

    def latest(self) -> int:
        """Return the position of the last change that is committed, 0 before the first."""
        with self._engine.connect() as connection:
            return connection.execute(self._latest).scalar_one() or 0

    def changes_since(self, watermark: int) -> Changes:
        """Return the segments that were added or removed after a watermark."""
        with self._engine.connect() as connection:
            rows = connection.execute(self._changes, {"watermark": watermark}).all()
        pairs = integers([(row.segment_id, row.recording_id) for row in rows]).reshape(-1, 2)
        here = np.array([row.op == "+" for row in rows], bool)
        removed = np.array(_distinct(pairs[~here, 0]), np.int64)
        added, at = np.unique(pairs[here, 0], return_index=True)
        stays = ~np.isin(added, removed)
        return Changes(added[stays], pairs[here, 1][at][stays], removed)

    def changes_token(self, watermark: int) -> int:
        """Return how many changes came after a watermark; the feed is only ever added to."""

        def count() -> int:
            with self._engine.connect() as connection:
                return self._changes_after(connection, watermark)

        counted = self._detector.cached(self._counts.get(watermark), count)
        with self._lock:
            self._counts[watermark] = counted
            while len(self._counts) > _WATERMARKS:
                del self._counts[next(iter(self._counts))]
        return counted[1]

    def recordings_of_segments(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return every segment's number and its recording's, by recording; read anew once segments come or go.

        Reading 200,000 segments takes 0.4 s, a cached answer 10 us. The arrays cannot be written to.
        """
        found = self._recordings
        if found is None or self.changes_token(found.watermark) != found.token:
            with self.snapshot() as snapshot:
                connection, watermark = snapshot.connection, snapshot.watermark
                pairs = integers([tuple(row) for row in connection.execute(_RECORDINGS)]).reshape(-1, 2)
                pairs.flags.writeable = False
                # counted in the same snapshot: on Postgres some of its changes may lie after its watermark
                found = _Recordings(watermark, self._changes_after(connection, watermark), pairs[:, 0], pairs[:, 1])
            self._recordings = found
        return found.segments, found.recordings

    def _changes_after(self, connection: Connection, watermark: int) -> int:
        return connection.execute(self._change_count, {"watermark": watermark}).scalar_one()

    def fetch(self, ids: NDArray[np.int64]) -> Batch:
        """Return those of the segments that still exist, ids ascending.

        Raises:
            DamagedVector: some of their vectors are not what was stored.
        """
        wanted = _distinct(ids)
        rows: list[Row[int, int, bytes, int]] = []
        with self._engine.connect() as connection:
            for part in chunks(wanted):
                rows.extend(connection.execute(self._vectors.some, {"ids": part}).all())
        return _batch(rows, self.dim)

    def fingerprint(self) -> tuple[int, int, int, int]:
        """Return count, least, greatest and exclusive-or of all segment ids; zeros when there are none."""
        with self._engine.connect() as connection:
            query = self._vectors.ids if self._partial else select(SegmentRow.id)
            ids = np.array(connection.execute(query).scalars().all(), np.int64)
        if not ids.size:
            return 0, 0, 0, 0
        return ids.size, int(ids.min()), int(ids.max()), int(np.bitwise_xor.reduce(ids))


class CatalogSnapshot:
    """All segments at one moment; valid inside its `Feed.snapshot` context."""

    def __init__(
        self, connection: Connection, watermark: int, dim: int, vectors: _Vectors, *, partial: bool = False
    ) -> None:
        self.connection = connection
        self._vectors = vectors
        self._partial = partial
        self._dim = dim
        self.watermark = watermark

    @cached_property
    def count(self) -> int:
        """Number of segments, counted when first read: tens of milliseconds for a million."""
        query = self._vectors.count if self._partial else select(func.count()).select_from(SegmentRow)
        return self.connection.execute(query).scalar_one()

    def batches(self) -> Iterator[Batch]:
        """Yield all segments, ids ascending, some thousands at a time.

        Raises:
            DamagedVector: some of their vectors are not what was stored.
            CatalogError: some have none, once all others are read.
        """
        last = read = 0
        while rows := self.connection.execute(self._vectors.next, {"last": last}).all():
            yield _batch(rows, self._dim)
            last, read = rows[-1].id, read + len(rows)
        if read != self.count:
            raise CatalogError(
                f"{place(self.connection.engine.url)} has {self.count:,} segments and {read:,} vectors: it is "
                "damaged - restore it from a backup; e2vsearch db verify says what else"
            )


def _distinct(ids: NDArray[np.int64]) -> list[int]:
    """Return ids ascending, each once. `np.unique` loads numpy.ma: 10 ms of a process with one query."""
    return sorted(set(ids.tolist()))


def _batch(rows: Sequence[Row[int, int, bytes, int]], dim: int) -> Batch:
    ids = [row.id for row in rows]
    recordings = integers([row.recording_id for row in rows])
    return Batch(np.array(ids, np.int64), recordings, read_vectors(rows, ids, dim, recordings.tolist()))


_T = TypeVar("_T")
_SNAPSHOT = text("SELECT pg_current_snapshot()::text")


class ChangeDetector:
    """Detects commits, by any connection; safe to use from several threads.

    A check costs 20 us on SQLite, where the shortest statement through SQLAlchemy takes 100.
    """

    def __init__(self, engine: Engine) -> None:
        """Run no statement yet."""
        self._engine = engine
        self._is_local = engine.dialect.name == "sqlite"
        self._lock = threading.Lock()
        # SQLite's data_version changes with the commits of other connections only, and is valid in its own connection:
        # so one connection is reserved for it
        self._connection: Any = None

    def state(self) -> Hashable:
        """Return a value that stays the same until a transaction is committed.

        On Postgres it is the snapshot, and costs a round trip.
        """
        if not self._is_local:
            with self._engine.connect() as connection:
                return str(connection.execute(_SNAPSHOT).scalar_one())
        with self._lock, driver_errors(self._engine.url):
            if self._connection is None:
                self._connection = self._engine.raw_connection()
            version: int = self._connection.cursor().execute("PRAGMA data_version").fetchone()[0]
            if sqlite.READ_ONLY in self._connection.info:  # it takes no locks, and is told of no commit
                return version, sqlite.files_state(Path(str(self._engine.url.database)))
            return version

    def cached(self, previous: tuple[Hashable, _T] | None, read: Callable[[], _T]) -> tuple[Hashable, _T]:
        """Return the previous value, or a new one if anything was committed since, with the state that it is of.

        On Postgres, where a check costs as much as reading a row or two, the value is always read anew.
        """
        if not self._is_local:
            return None, read()
        state = self.state()  # before reading: too old a state only causes another read
        return previous if previous is not None and previous[0] == state else (state, read())

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
