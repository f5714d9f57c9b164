"""Vectors made up the way emotion encoders' are, in a file, with exact answers.

The mixture: a thousand clusters whose sizes fall as rank^-0.7; their centres and what spreads around them lie in one
subspace of 256 dimensions whose scales fall as rank^-0.5, as wide around a centre as centres are around each other;
then a mean of length 0.8 that all share, and noise of length 0.25 in every direction. Rows are scaled to length one.

It is not easy on purpose: of 200,000 vectors in 1,024 lists, the nearest list alone holds 0.60 of the true top 20, and
32 are needed for 0.95. Real encoders' vectors may be easier or harder.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from e2vsearch.feed import Batch, Changes

K = 20  # nearest that recall is of

_CLUSTERS, _RANK = 1000, 256
_CHUNK = 16_384  # rows made, read and compared at a time: 64 MiB of 1024-d
_PER_RECORDING = 100

Float32s = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Made:
    """Vectors in a file, and queries of the same mixture that are not among them."""

    path: Path  # float32, row by row
    n: int
    dim: int
    queries: Float32s  # (q, dim)

    def chunks(self, rows: int = _CHUNK) -> Iterator[tuple[int, Float32s]]:
        """Where each chunk starts, and its vectors: read, not mapped, so that nobody's memory counts the whole file."""
        with self.path.open("rb") as file:
            for start in range(0, self.n, rows):
                part = np.fromfile(file, np.float32, min(rows, self.n - start) * self.dim)
                yield start, part.reshape(-1, self.dim)

    def mapped(self) -> Float32s:
        """All of it, mapped."""
        return np.memmap(self.path, np.float32, "r", shape=(self.n, self.dim)).view(np.ndarray)

    def first(self, n: int) -> Made:
        """Only the first n, which are a sample like any other."""
        return Made(self.path, n, self.dim, self.queries)


def make(path: Path, n: int, dim: int, queries: int, seed: int = 0) -> Made:
    """Write n vectors to `path` a chunk at a time, and make queries after the last; a minute for 1,000,000 x 1024."""
    rng = np.random.default_rng(seed)
    rank = min(_RANK, dim)
    basis = np.linalg.qr(rng.standard_normal((dim, rank)))[0].astype(np.float32)
    scale = np.arange(1, rank + 1, dtype=np.float32) ** -0.5
    scale /= np.linalg.norm(scale)
    centres = rng.standard_normal((_CLUSTERS, rank), np.float32) * scale
    shared = rng.standard_normal(dim, np.float32)
    shared *= 0.8 / np.linalg.norm(shared)
    sizes = np.arange(1, _CLUSTERS + 1) ** -0.7
    sizes /= sizes.sum()

    def some(rows: int) -> Float32s:
        member = rng.choice(_CLUSTERS, rows, p=sizes)
        vectors: Float32s = (centres[member] + rng.standard_normal((rows, rank), np.float32) * scale) @ basis.T
        vectors += shared
        vectors += rng.standard_normal((rows, dim), np.float32) * np.float32(0.25 / np.sqrt(dim))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors

    with path.open("wb") as file:
        for start in range(0, n, _CHUNK):
            file.write(some(min(_CHUNK, n - start)).data)
    return Made(path, n, dim, some(queries))


def nearest(made: Made, queries: Float32s, keep: NDArray[np.bool_] | None = None, k: int = K) -> Ints:
    """Return the exact top k of each query, ``(q, k)`` rows, by comparing all, or all in the mask `keep`.

    -1 where fewer are left.
    """
    scores, rows = np.full((len(queries), k), -np.inf, np.float32), np.full((len(queries), k), -1, np.int64)
    for start, part in made.chunks():
        near = queries @ part.T
        if keep is not None:
            near[:, ~keep[start : start + len(part)]] = -np.inf
        if near.shape[1] > k:
            best = np.argpartition(-near, k - 1, axis=1)[:, :k]
            near, found = np.take_along_axis(near, best, 1), best + start
        else:
            found = np.broadcast_to(np.arange(start, start + len(part)), near.shape)
        scores, rows = np.hstack([scores, near]), np.hstack([rows, found])
        order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        scores, rows = np.take_along_axis(scores, order, 1), np.take_along_axis(rows, order, 1)
    return np.where(np.isneginf(scores), -1, rows)


def recall(found: Ints, truth: Ints) -> float:
    """Mean share of the true rows, -1 not counted, that were found."""
    shares = [len(set(some) & set(true)) / len(true) for some, row in zip(found.tolist(), truth.tolist(), strict=True)
              if (true := [each for each in row if each >= 0])]  # fmt: skip
    return float(np.mean(shares))


def recording_of(ids: Ints) -> Ints:
    """Return the recording that each row is said to be of."""
    return ids // _PER_RECORDING


class MadeSource:
    """A `VectorSource` over the file: ids are rows, nothing ever changes.

    Vectors are read as a database reads them, not mapped: memory that a search takes is then the index's own.
    """

    collection_id, space_id = "made-up", "made-up@1"

    def __init__(self, made: Made) -> None:
        self._made = made
        self.dim = made.dim
        self._file = made.path.open("rb")

    @contextmanager
    def snapshot(self) -> Iterator[MadeSnapshot]:
        """All of it."""
        yield MadeSnapshot(self._made)

    def changes_since(self, watermark: int) -> Changes:  # noqa: ARG002 - part of the protocol
        """None."""
        none = np.empty(0, np.int64)
        return Changes(none, none, none)

    def changes_token(self, watermark: int) -> int:
        """Return the same always."""
        return watermark

    def fetch(self, ids: Ints) -> Batch:
        """Return some rows."""
        ids = np.unique(ids)
        ids = ids[(ids >= 0) & (ids < self._made.n)]
        size = 4 * self.dim
        read = [os.pread(self._file.fileno(), size, size * row) for row in ids.tolist()]
        return Batch(ids, recording_of(ids), np.frombuffer(b"".join(read), np.float32).reshape(-1, self.dim))

    def fingerprint(self) -> tuple[int, int, int, int]:
        """Of rows 0 to n - 1."""
        n = self._made.n
        return n, 0, n - 1, int(np.bitwise_xor.reduce(np.arange(n)))


class MadeSnapshot:
    """All rows, a chunk at a time."""

    watermark = 0

    def __init__(self, made: Made) -> None:
        self._made = made
        self.count = made.n

    def batches(self) -> Iterator[Batch]:
        """All rows, 4,096 at a time as the catalog's feed gives them."""
        for start, part in self._made.chunks(4096):
            ids = np.arange(start, start + len(part), dtype=np.int64)
            yield Batch(ids, recording_of(ids), part)
