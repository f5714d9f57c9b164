"""A `VectorSource` in memory, with a change feed: the vectors room is tested against the protocol, not a database."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.feed import Batch, Changes

SEGMENTS_A_RECORDING = 10


def clustered(n: int, dim: int, seed: int = 0, clusters: int = 200) -> NDArray[np.float32]:
    """Vectors as an encoder makes them: of any length, in clusters of unequal size, along few of the dimensions.

    Hard enough that one list in a hundred finds two thirds of the true neighbours, not more.
    """
    rng = np.random.default_rng(seed)
    scale = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    centres = rng.standard_normal((clusters, dim), np.float32) * scale
    sizes = 1 / np.arange(1, clusters + 1) ** 0.7
    member = rng.choice(clusters, n, p=sizes / sizes.sum())
    vectors = centres[member] + rng.standard_normal((n, dim), np.float32) * scale + 0.3
    return np.asarray(vectors * rng.uniform(0.5, 20, (n, 1)), np.float32)


def tight(n: int, dim: int, clusters: int, seed: int = 0) -> NDArray[np.float32]:
    """Vectors in clusters of equal size, narrow beside their distances: the i-th is of cluster ``i % clusters``."""
    scale = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    centres = np.random.default_rng(7).standard_normal((clusters, dim), np.float32) * scale  # of any seed
    rng = np.random.default_rng(seed)
    spread: NDArray[np.float32] = rng.standard_normal((n, dim), np.float32) * scale * np.float32(0.3)
    return centres[np.arange(n) % clusters] + spread


@dataclass
class MemorySnapshot:
    """All rows at one moment."""

    watermark: int
    count: int
    rows: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float32]]
    batch_rows: int

    def batches(self) -> Iterator[Batch]:
        for start in range(0, self.count, self.batch_rows):
            part = slice(start, start + self.batch_rows)
            ids, recordings, vectors = self.rows
            yield Batch(ids[part], recordings[part], vectors[part])


class MemorySource:
    """Segments in arrays, ids handed out once and never again. Safe to use from several threads."""

    def __init__(self, vectors: NDArray[np.float32], collection_id: str = "made-up", space_id: str = "fake@1") -> None:
        self.dim = vectors.shape[1]
        self.collection_id = collection_id
        self.space_id = space_id
        self.fetched = 0  # rows given out by `fetch`
        self.streamed = 0  # snapshots whose rows were read
        self.overlap = 0  # how many changes before the watermark are told again, as Postgres may
        self.batch_rows = 4096
        self._lock = threading.RLock()
        self._vectors = np.empty((0, self.dim), np.float32)
        self._next = 1
        self.ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._changes: list[tuple[str, int]] = []
        self.add(vectors)

    def add(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        """Stores segments; their ids."""
        with self._lock:
            ids = np.arange(self._next, self._next + len(vectors), dtype=np.int64)
            self._next += len(vectors)
            self.ids = np.concatenate([self.ids, ids])
            self._vectors = np.concatenate([self._vectors, vectors.astype(np.float32)])
            self._changes += [("+", number) for number in ids.tolist()]
            return ids

    def remove(self, ids: NDArray[np.int64]) -> None:
        """Deletes segments for good."""
        with self._lock:
            gone = np.isin(self.ids, ids)
            self._changes += [("-", number) for number in self.ids[gone].tolist()]
            self.ids, self._vectors = self.ids[~gone], self._vectors[~gone]

    def replace(self, identifier: int, vector: NDArray[np.float32]) -> None:
        """Gives an id another vector without a word in the feed, as a restored backup does."""
        with self._lock:
            self._vectors = self._vectors.copy()
            self._vectors[self.ids == identifier] = vector

    def forget(self, ids: NDArray[np.int64]) -> None:
        """Loses segments without a word in the feed."""
        with self._lock:
            kept = ~np.isin(self.ids, ids)
            self.ids, self._vectors = self.ids[kept], self._vectors[kept]

    def rewind(self, changes: int) -> None:
        """Forgets the last changes, rows left as they are."""
        with self._lock:
            del self._changes[len(self._changes) - changes :]

    @staticmethod
    def recordings(ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The recording of each segment."""
        return ids // SEGMENTS_A_RECORDING

    @contextmanager
    def snapshot(self) -> Iterator[MemorySnapshot]:
        with self._lock:
            rows = (self.ids, self.recordings(self.ids), self._vectors)
            snapshot = MemorySnapshot(len(self._changes), len(self.ids), rows, self.batch_rows)
            self.streamed += 1
        yield snapshot

    def changes_since(self, watermark: int) -> Changes:
        with self._lock:
            since = self._changes[max(0, watermark - self.overlap) :]
            removed = np.array(sorted({number for op, number in since if op == "-"}), np.int64)
            added = np.array(sorted({number for op, number in since if op == "+"}), np.int64)
        added = np.setdiff1d(added, removed)
        return Changes(added, self.recordings(added), removed)

    def changes_token(self, watermark: int) -> int:
        with self._lock:
            return len(self._changes) - watermark

    def fetch(self, ids: NDArray[np.int64]) -> Batch:
        with self._lock:
            there = np.isin(self.ids, ids)
            self.fetched += int(there.sum())
            return Batch(self.ids[there], self.recordings(self.ids[there]), self._vectors[there])

    def fingerprint(self) -> tuple[int, int, int, int]:
        with self._lock:
            if not self.ids.size:
                return 0, 0, 0, 0
            return self.ids.size, int(self.ids.min()), int(self.ids.max()), int(np.bitwise_xor.reduce(self.ids))

    def nearest(
        self, query: NDArray[np.float32], k: int, keep: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The truth, in float64: ids and cosines of the nearest k, of those in `keep` if given."""
        ids, vectors = self.ids, self._vectors.astype(np.float64)
        if keep is not None:
            kept = np.isin(ids, keep)
            ids, vectors = ids[kept], vectors[kept]
        wide = query.astype(np.float64)
        cosines = vectors @ wide / (np.linalg.norm(vectors, axis=1) * np.linalg.norm(wide))
        order = np.lexsort((ids, -cosines))[:k]
        return ids[order], cosines[order]

    def vector(self, identifier: int) -> NDArray[np.float32]:
        """One stored vector."""
        return np.asarray(self._vectors[np.searchsorted(self.ids, identifier)])
