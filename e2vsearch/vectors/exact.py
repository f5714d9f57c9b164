"""Exact cosine between vectors that fit in memory or are mapped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from e2vsearch.errors import QueryError, SpaceMismatch
from e2vsearch.feed import Batch

Float32s = NDArray[np.float32]
Float64s = NDArray[np.float64]
Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]
_CELLS = 1 << 22  # scores or gathered numbers held at once, 16 MiB of them, however large n is
_BLAS_QUERIES = 3
_SORTED = 4  # times the k: sorting 60 scores takes 4 us less than choosing 20 and sorting these
_GATHER_SHARE = 0.3  # of 100,000 x 256: 3 ms to gather a tenth, 8 ms to gather 0.3 as to read all, 16 ms for half


def check_dim(vectors: NDArray[np.floating[Any]], dim: int, taker: str) -> None:
    """Check that vectors are ``(n, dim)``.

    Raises:
        SpaceMismatch: they are not; `taker` says what takes them.
    """
    if vectors.ndim != 2 or vectors.shape[1] != dim:
        raise SpaceMismatch(
            f"{taker} takes vectors of {dim} numbers, not {vectors.shape} - use the encoder whose space it was made in"
        )


def query_units(queries: ArrayLike, dim: int) -> Float64s:
    """Return query vectors ``(q, dim)`` scaled to length one.

    Raises:
        QueryError: of another shape or dimension, not finite or without a direction.
    """
    array = np.asarray(queries)
    if array.ndim != 2 or array.shape[1] != dim:
        raise QueryError(
            f"queries of shape {array.shape} do not fit vectors of {dim} dimensions: "
            "make them with the collection's own encoder"
        )
    if not np.isfinite(array).all():
        raise QueryError("a query vector has NaN or infinite values: encode its audio again")
    if not array.any(1).all():
        raise QueryError("a query vector is all zeros and points nowhere: encode its audio again")
    return unit(array)


def as_ids(ids: Ints | None) -> Ints | None:
    """Return ids ``(n,)``, the same array where it is one already; None stays None."""
    if ids is None or (isinstance(ids, np.ndarray) and ids.dtype == np.int64 and ids.ndim == 1):
        return ids
    return np.asarray(ids, np.int64).reshape(-1)


def unit(vectors: NDArray[np.floating[Any]]) -> Float64s:
    """Return vectors ``(…, dim)`` scaled to length one, in float64.

    One without a direction (all zeros, NaN or infinite) becomes zeros: its cosine with anything is 0, never NaN.
    Squares are summed in float64, whose range no float32 vector can leave.
    """
    wide, lengths = _with_lengths(vectors)
    return wide / lengths[..., None]


def unit32(vectors: NDArray[np.floating[Any]]) -> Float32s:
    """Return the vectors of `unit` in float32."""
    return unit(vectors).astype(np.float32)


def cosines64(units: Float64s, vectors: NDArray[np.floating[Any]]) -> Float64s:
    """Return the cosines ``(q, n)`` of unit rows ``(q, dim)`` with rows of any length ``(n, dim)``, as by `unit`.

    Scaling the products takes half the time of scaling the rows: 20 us of 20 x 1024, not 43.
    """
    wide, lengths = _with_lengths(vectors)
    return np.clip((units @ wide.T) / lengths, -1.0, 1.0)


def _with_lengths(vectors: NDArray[np.floating[Any]]) -> tuple[Float64s, Float64s]:
    """Return vectors ``(…, dim)`` and their lengths ``(…)``; those without a direction are zeros of length one."""
    wide = np.asarray(vectors, np.float64)
    lengths = np.sqrt(np.einsum("...i,...i->...", wide, wide))
    usable = np.isfinite(lengths) & (lengths > 0)
    if not usable.all():
        wide, lengths = np.where(usable[..., None], wide, 0.0), np.where(usable, lengths, 1.0)
    return wide, lengths


def cosines(queries: Float32s, vectors: Float32s) -> Float32s:
    """Return the inner products ``(q, n)`` of unit rows ``(q, dim)`` with unit rows ``(n, dim)``.

    A few queries are bound by reading the vectors, which one thread does as well as BLAS with all of them, and without
    waiting for busy cores: on two cores shared with others, one query of 20,000 x 384 took 1.8 ms so (median), 16 ms
    through BLAS.
    """
    if len(queries) < _BLAS_QUERIES:
        few: Float32s = np.einsum("nd,qd->qn", vectors, queries)
        return few
    return queries @ vectors.T


class Best:
    """The best k of all that is pushed, one row a query; unsorted until `result`."""

    def __init__(self, queries: int, k: int) -> None:
        self._k = k
        self._scores = np.empty((queries, 0), np.float32)
        self._keys = np.empty((queries, 0), np.int64)

    def push(self, scores: Float32s, keys: Ints) -> None:
        """Add m scores a query, ``(q, m)``, under their keys, ``(m,)`` or ``(q, m)``; -inf is never kept."""
        keys = np.broadcast_to(keys, scores.shape)
        scores, keys = _cut(scores, keys, self._k)
        scores, keys = np.hstack([self._scores, scores]), np.hstack([self._keys, keys])
        self._scores, self._keys = _cut(scores, keys, self._k)

    def result(self) -> tuple[Float32s, Ints]:
        """Return scores and keys ``(q, w)``, w at most k, best first, equal ones by key; -inf and -1 for none."""
        return _best(self._scores, self._keys, self._k)


def _best(scores: Float32s, keys: Ints, k: int) -> tuple[Float32s, Ints]:
    """Return `Best.result` of one push."""
    if scores.shape[1] > _SORTED * k:
        scores, keys = _cut(scores, keys, k)
    scores, keys = _ordered(scores, np.where(np.isneginf(scores), -1, keys))
    return scores[:, :k], keys[:, :k]


def _cut(scores: Float32s, keys: Ints, k: int) -> tuple[Float32s, Ints]:
    if scores.shape[1] <= k:
        return scores, keys
    if k < 1:
        return scores[:, :0], keys[:, :0]
    chosen = np.argpartition(scores, scores.shape[1] - k, axis=1)[:, scores.shape[1] - k :]
    row = np.arange(len(chosen))[:, None]
    return scores[row, chosen], keys[row, chosen]


def _ordered(scores: Float32s, keys: Ints) -> tuple[Float32s, Ints]:
    """Return each row by falling score, equal scores by rising key."""
    order = np.lexsort((keys, -scores), axis=1)
    row = np.arange(len(order))[:, None]
    return scores[row, order], keys[row, order]


def distinct(values: Ints) -> Ints:
    """Return values ``(n,)`` ascending, each once. `np.unique` loads numpy.ma: 10 ms of a process with one query."""
    ordered: Ints = np.sort(values, axis=None)
    first: Mask = np.r_[True, ordered[1:] != ordered[:-1]][: ordered.size]
    return ordered[first]


def first_of_each(values: Ints) -> NDArray[np.intp]:
    """Return the positions at which a value that is not -1 appears for the first time, in order."""
    unique, first = np.unique(values, return_index=True)
    return np.sort(first[unique >= 0])


def top(queries: Float32s, vectors: Float32s, k: int, keep: Mask | None = None) -> tuple[Float32s, Ints]:
    """Return the k best rows of `vectors` for each query.

    Args:
        queries: ``(q, dim)`` unit rows.
        vectors: ``(n, dim)`` unit rows, mapped or in memory.
        k: how many.
        keep: ``(n,)``, rows that may be returned; all when None.

    Returns:
        Scores and rows as `Best.result` gives them.
    """
    best = Best(len(queries), k)
    if k < 1 or not len(vectors):
        return best.result()
    rows = None
    if keep is not None and keep.mean() < _GATHER_SHARE:
        rows = np.flatnonzero(keep)
    count = len(vectors) if rows is None else rows.size
    step = max(1024, _CELLS // max(len(queries), 1))
    for start in range(0, count, step):
        part = slice(start, min(start + step, count))
        at = np.arange(part.start, part.stop) if rows is None else rows[part]
        scores = cosines(queries, vectors[part] if rows is None else vectors[at])
        if rows is None and keep is not None:
            scores[:, ~keep[part]] = -np.inf
        best.push(scores, at)
    return best.result()


def rerank(queries: Float32s, gather: Callable[[Ints], Float32s], rows: Ints, k: int) -> tuple[Float32s, Ints]:
    """Return the k best of each query's own candidate rows ``(q, m)``, -1 for none, by exact score; as `top`.

    `gather` gives the vectors ``(…, dim)`` of rows ``(…)``.
    """
    step = max(1, _CELLS // max(rows.shape[1] * queries.shape[1], 1))
    scores = np.full(rows.shape, -np.inf, np.float32)
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        gathered = gather(np.maximum(rows[part], 0))  # (queries, m, dim)
        scores[part] = (gathered @ queries[part][:, :, None])[:, :, 0]
    scores[rows < 0] = -np.inf
    return _best(scores, rows, k)


@dataclass(frozen=True, slots=True)
class UnitVectors:
    """Segments with unit vectors, ids ascending."""

    ids: Ints  # (n,)
    recordings: Ints  # (n,)
    vectors: Float32s  # (n, dim)

    @classmethod
    def of(cls, batch: Batch) -> UnitVectors:
        """Return the rows of a batch, vectors scaled to length one."""
        return cls(batch.ids, batch.recordings, unit32(batch.vectors))

    @classmethod
    def joined(cls, parts: list[UnitVectors], dim: int) -> UnitVectors:
        """Return all rows of some parts, in their order."""
        return cls(
            np.concatenate([np.empty(0, np.int64), *(part.ids for part in parts)]),
            np.concatenate([np.empty(0, np.int64), *(part.recordings for part in parts)]),
            np.concatenate([np.empty((0, dim), np.float32), *(part.vectors for part in parts)]),
        )

    def where(self, keep: Mask) -> UnitVectors:
        """Return some of the rows."""
        return UnitVectors(self.ids[keep], self.recordings[keep], self.vectors[keep])


def rows_of(ids: Ints, some: Ints) -> tuple[Ints, Mask]:
    """Return the row of each of some ids among ascending ids, and whether it is there at all (else any row)."""
    if not ids.size:
        return np.zeros(some.shape, np.int64), np.zeros(some.shape, np.bool_)
    rows = np.minimum(np.searchsorted(ids, some), ids.size - 1)
    return rows, ids[rows] == some
