"""The change feed: what an index reads from the catalog. Knows segments' ids and vectors, nothing of what they mean."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Engine, Row, bindparam, func, select, text

from e2vsearch.catalog.database import parts
from e2vsearch.catalog.schema import ChangeRow, SegmentRow, VectorRow
from e2vsearch.feed import Batch, Changes
from e2vsearch.types import Space

_BATCH_ROWS = 4096  # 16 MB of 1024-d vectors

# Statements that every query runs are made once: making one takes SQLAlchemy longer than SQLite takes to answer it
# (20 vectors by id: 0.44 ms, of which 0.31 went into the statement)
_VECTORS = (
    select(SegmentRow.id, SegmentRow.recording_id, VectorRow.vector)
    .join(VectorRow, VectorRow.segment_id == SegmentRow.id)
    .order_by(SegmentRow.id)
)

_SOME_VECTORS = _VECTORS.where(SegmentRow.id.in_(bindparam("ids", expanding=True)))

_NEXT_VECTORS = _VECTORS.where(SegmentRow.id > bindparam("last")).limit(_BATCH_ROWS)


class Feed:
    """A collection's vectors, as `e2vsearch.feed.VectorSource` asks for them."""

    def __init__(self, engine: Engine, collection_id: str, space: Space, watch: ChangeDetector) -> None:
        self._engine = engine
        self._watch = watch
        self._counted: tuple[Hashable, tuple[int, int]] | None = None  # a watermark, and the changes after it
        self._collection_id = collection_id
        self._space = space
        # On SQLite there is one writer at a time, so sequence numbers appear in order. On Postgres they are handed
        # out before commit: a reader going by them lost 32 % of the rows of eight concurrent writers. There the
        # writing transaction's id is the position, and a snapshot is complete below its oldest running transaction.
        self._by_xid = engine.dialect.name == "postgresql"
        position = ChangeRow.xid if self._by_xid else ChangeRow.seq
        after = position > bindparam("watermark")
        self._changes = select(ChangeRow.op, ChangeRow.segment_id, ChangeRow.recording_id).where(after)
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
        """The space in one line, revision whole."""
        return f"{self._space.encoder}@{self._space.revision}/{self._space.dim}/{self._space.projection}"

    @contextmanager
    def snapshot(self) -> Iterator[CatalogSnapshot]:
        """One consistent read of all segments."""
        with self._engine.connect() as connection:
            if self._by_xid:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
                horizon = text("SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
                watermark = int(connection.execute(horizon).scalar_one()) - 1
            else:
                watermark = connection.execute(select(func.coalesce(func.max(ChangeRow.seq), 0))).scalar_one()
            yield CatalogSnapshot(connection, watermark, self.dim)

    def changes_since(self, watermark: int) -> Changes:
        """Segments that came or went after that watermark."""
        with self._engine.connect() as connection:
            rows = connection.execute(self._changes, {"watermark": watermark}).all()
        removed = {row.segment_id for row in rows if row.op == "-"}
        added = {row.segment_id: row.recording_id for row in rows if row.op == "+" and row.segment_id not in removed}
        ids = sorted(added)
        return Changes(
            np.array(ids, np.int64),
            np.array([added[number] for number in ids], np.int64),
            np.array(sorted(removed), np.int64),
        )

    def changes_token(self, watermark: int) -> int:
        """How many changes came after that watermark; the feed is only ever added to."""

        def count() -> tuple[int, int]:
            with self._engine.connect() as connection:
                return watermark, connection.execute(self._change_count, {"watermark": watermark}).scalar_one()

        counted = self._counted
        if counted is not None and counted[1][0] != watermark:
            counted = None
        self._counted = counted = self._watch.again(counted, count)
        return counted[1][1]

    def fetch(self, ids: NDArray[np.int64]) -> Batch:
        """Those of the segments that still exist, ids ascending."""
        wanted = np.unique(ids).tolist()
        rows: list[Row[int, int, bytes]] = []
        with self._engine.connect() as connection:
            for part in parts(wanted):
                rows.extend(connection.execute(_SOME_VECTORS, {"ids": part}).all())
        return _batch(rows, self.dim)

    def fingerprint(self) -> tuple[int, int, int, int]:
        """Count, least, greatest and exclusive-or of all segment ids; zeros when there are none."""
        with self._engine.connect() as connection:
            ids = np.array(connection.execute(select(SegmentRow.id)).scalars().all(), np.int64)
        if not ids.size:
            return 0, 0, 0, 0
        return ids.size, int(ids.min()), int(ids.max()), int(np.bitwise_xor.reduce(ids))


class CatalogSnapshot:
    """All segments at one moment. Good until its `Feed.snapshot` context is left."""

    def __init__(self, connection: Connection, watermark: int, dim: int) -> None:
        self._connection = connection
        self._dim = dim
        self.watermark = watermark

    @cached_property
    def count(self) -> int:
        """How many segments there are: tens of milliseconds for a million, which opening an index need not wait for."""
        return self._connection.execute(select(func.count()).select_from(SegmentRow)).scalar_one()

    def batches(self) -> Iterator[Batch]:
        """All segments, ids ascending, some thousands at a time."""
        last = 0
        while rows := self._connection.execute(_NEXT_VECTORS, {"last": last}).all():
            yield _batch(rows, self._dim)
            last = rows[-1].id


def _batch(rows: Sequence[Row[int, int, bytes]], dim: int) -> Batch:
    vectors = np.frombuffer(b"".join(row.vector for row in rows), "<f4").reshape(len(rows), dim)
    return Batch(
        np.array([row.id for row in rows], np.int64),
        np.array([row.recording_id for row in rows], np.int64),
        vectors.astype(np.float32, copy=False),
    )


_T = TypeVar("_T")

_SNAPSHOT = text("SELECT pg_current_snapshot()::text")


class ChangeDetector:
    """One look costs 20 us on SQLite, where the least statement through SQLAlchemy takes 100; any thread may look."""

    def __init__(self, engine: Engine) -> None:
        """Asks the database nothing yet."""
        self._engine = engine
        self._is_local = engine.dialect.name == "sqlite"
        self._lock = threading.Lock()
        # SQLite's data_version tells a connection what others committed, not what it committed itself, and means
        # nothing to another: so one is kept that only ever asks this
        self._held: Any = None

    def state(self) -> Hashable:
        """The same only while nothing was committed by anybody.

        On Postgres, where two snapshots that read the same see the same transactions, it costs a round trip.
        """
        if not self._is_local:
            with self._engine.connect() as connection:
                return str(connection.execute(_SNAPSHOT).scalar_one())
        with self._lock:
            if self._held is None:
                self._held = self._engine.raw_connection()
            version: int = self._held.cursor().execute("PRAGMA data_version").fetchone()[0]
            return version

    def again(self, before: tuple[Hashable, _T] | None, read: Callable[[], _T]) -> tuple[Hashable, _T]:
        """What was read before, or what is read now where anything was committed since; with the state it is of.

        On Postgres, where a look costs what reading a row or two costs, it is always read.
        """
        if not self._is_local:
            return None, read()
        state = self.state()  # before reading: too old a state only reads again
        return before if before is not None and before[0] == state else (state, read())

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            if self._held is not None:
                self._held.close()
                self._held = None
