"""Recall against exact search, with its standard error, on held-out vectors or recent queries; for every engine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from e2vsearch.files import drop_page_cache
from e2vsearch.vectors import exact
from e2vsearch.vectors.exact import Float32s, Ints

PROVEN = ((20, 512), (256, 128), (1000, 64))
"""Numbers of results that a recall is measured for, and queries it is measured on: long results vary less. More results
are compared exactly."""

HELD_OUT = PROVEN[0][1]  # vectors that choose nprobe, and as many others that have to agree
STANDARD_ERRORS = 1.0  # that a measured recall must be above its target
_PART_ROWS = 65_536  # compared at a time: 256 MiB of 1024-d
_TIE = 1e-6  # scores this near are equal: which of two equals is found says nothing about recall


class Measured(NamedTuple):
    """A mean recall and its standard error."""

    recall: float
    error: float

    @classmethod
    def of(cls, shares: exact.Float64s) -> list[Measured]:
        """Return one for each column of the shares ``(q, m)`` that were found for q queries."""
        errors = shares.std(axis=0) / math.sqrt(len(shares))
        return [cls(float(mean), float(error)) for mean, error in zip(shares.mean(axis=0), errors, strict=True)]

    @property
    def lower_bound(self) -> float:
        """Return the recall less one standard error.

        A mean that only just reaches a target is, of fresh queries, below it every other time; measured on 512
        queries, one standard error (0.002-0.004) keeps fresh recall within 0.01 of any target.
        """
        return self.recall - STANDARD_ERRORS * self.error


class ExactNeighbours:
    """Queries with their exact nearest rows, against which an engine's candidates are measured.

    Attributes:
        queries: ``(q, dim)`` unit rows.
    """

    def __init__(self, parts: Iterable[Float32s], n: int, queries: Float32s, own: Ints | None, most: int) -> None:
        """Compare each query with each vector.

        Args:
            parts: ``(n, dim)`` unit rows, a part at a time.
            n: how many there are.
            queries: ``(q, dim)`` unit rows.
            own: ``(q,)`` the row that each query is, which is left out; None: the nearest, where it is the same vector.
            most: results that recall is measured for.
        """
        self.queries = np.ascontiguousarray(queries)
        width = min(2 * most + 17, n)  # twice as many and some: rows that tie with the k-th count too
        best, start = exact.Best(len(queries), width), 0
        for part in parts:
            scores, rows = exact.top(self.queries, part, min(width, len(part)))
            best.push(scores, np.where(rows >= 0, rows + start, -1))
            start += len(part)
        self._scores, self._rows = best.result()
        if own is None:
            own = np.where(self._scores[:, 0] > 1 - _TIE, self._rows[:, 0], -1)
        self._own = own
        self._relevant = np.zeros(n + 1, np.bool_)  # the last one stands for -1

    @classmethod
    def mapped(cls, vectors: Float32s, queries: Float32s, own: Ints | None, most: int) -> ExactNeighbours:
        """Compare each query with each of mapped vectors ``(n, dim)``, whose pages are given back part by part."""

        def parts() -> Iterator[Float32s]:
            for start in range(0, len(vectors), _PART_ROWS):
                yield vectors[start : start + _PART_ROWS]
                drop_page_cache(vectors)

        return cls(parts(), len(vectors), queries, own, most)

    def sample(self, k: int) -> int:
        """Return the number of queries that a recall of k results is measured on."""
        return min(dict(PROVEN)[k], len(self.queries))

    def rows(self) -> Ints:
        """Return each query's nearest rows ``(q, m)``, nearest first, its own row left out."""
        last = np.argsort(self._rows == self._own[:, None], axis=1, kind="stable")[:, :-1]
        return np.take_along_axis(self._rows, last, axis=1)

    def recalls(self, candidates: Ints, k: int, widths: Sequence[int]) -> list[Measured]:
        """Return the recall of the exact top k among the first candidates of each query, one for each width.

        Args:
            candidates: ``(q, m)`` rows of the first q queries, -1 for none; a query's own row is passed over.
            k: results.
            widths: numbers of candidates that are re-ranked exactly, which finds all that they hold.
        """
        shares = [self._found(at, some, k, widths) for at, some in enumerate(candidates)]
        return Measured.of(np.array(shares).reshape(-1, len(widths)))

    def recall_of(self, queries: Ints, candidates: Ints, k: int) -> Measured:
        """Return the recall of the exact top k of some queries, by number, among all their candidates.

        Args:
            queries: numbers of the queries ``(m,)``.
            candidates: ``(q, w)`` rows for each of all queries, -1 for none; a query's own row is passed over.
            k: results.
        """
        shares = [self._found(at, candidates[at], k, [candidates.shape[1]]) for at in queries.tolist()]
        return Measured.of(np.array(shares).reshape(-1, 1))[0]

    def _found(self, at: int, candidates: Ints, k: int, widths: Sequence[int]) -> exact.Float64s:
        """Return the shares of a query's exact top k among the first of its candidates, one for each width."""
        own, scores, rows = self._own[at], self._scores[at], self._rows[at]
        others = rows != own
        relevant = rows[others & (scores >= scores[others][k - 1] - _TIE)]
        self._relevant[relevant] = True
        counted = np.cumsum(self._relevant[candidates[candidates != own]])
        self._relevant[relevant] = False
        shares: exact.Float64s = np.minimum(counted[np.minimum(widths, counted.size) - 1], k) / k
        return shares


def held_out(ids: Ints, seed: int) -> tuple[Ints, Ints]:
    """Return rows that no list is trained on: those that choose a setting, and those that report its recall.

    A list's centroid leans towards the vectors it was trained on, so they find each other a little more easily than a
    new query does. Which segments are held out depends on a hash of their ids, lowest first: of a collection that has
    grown they are old ones that were held out before and new ones, so lists that are used again have not seen them.
    """
    start = (seed + 1) * 0x9E3779B97F4A7C15 & 0xFFFFFFFFFFFFFFFF  # splitmix64 (Steele, Lea and Flood, 2014)
    mixed = ids.astype(np.uint64) + np.uint64(start)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    count = min(HELD_OUT, len(ids) // 8)
    halves = (np.flatnonzero((mixed & np.uint64(1)) == half) for half in (0, 1))
    choosing, reporting = (rows[np.argsort(mixed[rows], kind="stable")[:count]] for rows in halves)
    return choosing, reporting
