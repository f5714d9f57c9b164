"""The log of the last query vectors, kept beside an index so that its recall is measured on real queries.

It is a ring of fixed size in one file that only its owner may read, one record a query vector, no words. Each record
carries its own checksum, so any number of processes write without a lock: a torn record is skipped. Nothing here ever
fails a query or holds it up: a vector is noted in memory, and written at most once a second.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
import zlib
from collections import deque
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2vsearch.vectors import exact
from e2vsearch.vectors.exact import Float32s

QUERIES = "queries.bin"
_FORMER = "asked.bin"  # its former name; removed with the first write, so that nothing stays behind
_EVERY_S = 1.0
_LONG_ROWS = 64  # more vectors at once are a batch, not a reference
_ROWS_A_QUERY = 8  # of the vectors of a long reference: a few stand for all


class QueryLog:
    """The last query vectors of one index, over all processes that search it."""

    def __init__(self, folder: Path, space: str, dim: int, keep: int) -> None:
        """Read and write nothing yet.

        Args:
            folder: of the index.
            space: of the vectors, the collection included; records of another are skipped.
            dim: of the vectors.
            keep: how many; 0 for none.
        """
        self._path = folder / QUERIES
        self._space = zlib.crc32(space.encode())
        self._record = np.dtype([("crc", "<u4"), ("space", "<u4"), ("at_ns", "<i8"), ("vector", "<f4", (dim,))])
        self._keep = keep
        self._pending: deque[NDArray[np.float32]] = deque(maxlen=max(keep, 1))
        self._lock = threading.Lock()
        self._last = b""
        self._written_s = -_EVERY_S
        self._slot: int | None = None

    def note(self, queries: Float32s) -> None:
        """Note query vectors, ``(q, dim)`` unit rows; a search that is widened is one query."""
        if not self._keep or not 0 < len(queries) <= _LONG_ROWS:
            return
        some = queries
        if len(some) > _ROWS_A_QUERY:
            some = queries[np.linspace(0, len(queries) - 1, _ROWS_A_QUERY).astype(np.int64)]
        content = some.tobytes()
        if content == self._last:
            return
        self._last = content
        self._pending.extend(some.copy())
        if time.monotonic() - self._written_s >= _EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write what is noted; on a disk that is full or read-only, it stays unwritten."""
        if not self._pending or not self._lock.acquire(blocking=False):
            return
        try:
            self._written_s = time.monotonic()
            with contextlib.suppress(OSError, IndexError):  # another thread may have taken the last
                self._write([self._pending.popleft() for _ in range(len(self._pending))])
        finally:
            self._lock.release()

    def read(self) -> Float32s:
        """Return the query vectors that are kept, ``(q, dim)`` unit rows, oldest first."""
        self.flush()
        records = self._records()
        kept = records[self._sound(records)]
        return exact.unit32(kept["vector"][np.argsort(kept["at_ns"], kind="stable")])

    def clear(self) -> None:
        """Remove them all."""
        self._pending.clear()
        self._slot = None
        for path in (self._path, self._path.with_name(_FORMER)):
            path.unlink(missing_ok=True)

    def _write(self, vectors: list[NDArray[np.float32]]) -> None:
        if self._slot is None:
            records = self._records()
            newest = np.where(self._sound(records), records["at_ns"], 0)
            self._slot = int(newest.argmax()) + 1 if newest.any() else 0
            self._path.with_name(_FORMER).unlink(missing_ok=True)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            for vector in vectors:
                record = np.zeros(1, self._record)
                record["space"], record["at_ns"], record["vector"] = self._space, time.time_ns(), vector
                record["crc"] = zlib.crc32(record.tobytes()[4:])
                os.lseek(descriptor, self._slot % self._keep * self._record.itemsize, os.SEEK_SET)
                os.write(descriptor, record.tobytes())
                self._slot += 1
        finally:
            os.close(descriptor)

    def _records(self) -> NDArray[np.void]:
        try:
            with self._path.open("rb") as file:
                content = file.read(self._keep * self._record.itemsize)
        except OSError:
            content = b""
        whole = len(content) // self._record.itemsize
        return np.frombuffer(content[: whole * self._record.itemsize], self._record)

    def _sound(self, records: NDArray[np.void]) -> NDArray[np.bool_]:
        """Tell which records are of this space, and as they were written."""
        return np.array(
            [
                int(record["space"]) == self._space and zlib.crc32(record.tobytes()[4:]) == int(record["crc"])
                for record in records
            ],
            np.bool_,
        )
