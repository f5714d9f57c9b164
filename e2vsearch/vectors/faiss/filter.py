"""The rows that a filter leaves, as masks kept from query to query, and the lists that a search of them visits.

Many queries share a filter (this month's recordings). Looking up which of 1,000,000 rows 500,000 ids are takes 15 ms,
counting and packing them another one; all of it is the same until the collection changes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from e2vsearch.vectors.exact import Float32s, Float64s, Ints, Mask, rows_of
from e2vsearch.vectors.faiss.ivf import COUNTED_ROWS, Ivf, Near
from e2vsearch.vectors.faiss.nprobe import MOST_CANDIDATES, Tuned

_MOST = 4  # filters whose masks are kept: 1.1 MB each for a million rows, and up to 8 MB of rows and ids each


class RowMask:
    """Some of n rows.

    Attributes:
        mask: ``(n,)``, which.
        count: how many.
        by_list: about how many are in each list of an index, once counted.
        even: whether that is about the same share of each.
    """

    def __init__(self, mask: Mask) -> None:
        self.mask = mask
        self.count = int(np.count_nonzero(mask))
        self.by_list: Ints | None = None
        self.even = False

    @cached_property
    def bits(self) -> NDArray[np.uint8]:
        """The mask as FAISS takes it, the first row in the lowest bit."""
        return np.packbits(self.mask, bitorder="little")


MaskPair = tuple[RowMask | None, RowMask | None]
"""Rows left of a base and of the tail; None for all."""


class RowMasks:
    """The rows that filters leave of one base and one tail, neither of which ever changes."""

    def __init__(self, ids: Ints, alive: Mask | None, tail: Ints) -> None:
        """Look nothing up yet.

        Args:
            ids: ``(n,)`` of the base, ascending.
            alive: ``(n,)`` its rows that are still there; all when None.
            tail: ``(m,)`` ids that came since, ascending.
        """
        self._ids, self._tail = ids, tail
        self.alive = None if alive is None else RowMask(alive)
        self._known: dict[int, tuple[Ints, MaskPair]] = {}  # by the array's identity, which lasts as long as the array

    def left(self, allowed: Ints | None, excluded: Ints | None) -> MaskPair:
        """Return the rows that may be returned.

        Args:
            allowed: ids that may be; all when None. The rows of an array that cannot be written to are kept.
            excluded: ids that may not, where there are any.
        """
        left: MaskPair = (self.alive, None)
        if allowed is not None:
            left = self._of(allowed)
        if excluded is None or not excluded.size:
            return left
        base, tail = left
        return _without(self._ids, base, excluded), _without(self._tail, tail, excluded)

    def _of(self, allowed: Ints) -> MaskPair:
        _, left = self._known.get(id(allowed), (None, None))
        if left is None:
            mask = _are_in(self._ids, allowed)
            if self.alive is not None:
                mask &= self.alive.mask
            left = RowMask(mask), RowMask(_are_in(self._tail, allowed))
            if not allowed.flags.writeable:
                while len(self._known) >= _MOST:
                    self._known.pop(next(iter(self._known)), None)  # another thread may have done it
                self._known[id(allowed)] = (allowed, left)
        return left


def ascending(ids: Ints) -> Ints:
    """Return ids in order, each once; the same array where it is so already."""
    return ids if (ids[1:] > ids[:-1]).all() else np.unique(ids)


def _are_in(ids: Ints, allowed: Ints) -> Mask:
    """Tell which of ascending ids are allowed."""
    allowed = ascending(allowed)
    if len(ids) < len(allowed):
        return rows_of(allowed, ids)[1]
    rows, there = rows_of(ids, allowed)
    mask = np.zeros(len(ids), np.bool_)
    mask[rows[there]] = True
    return mask


def _without(ids: Ints, kept: RowMask | None, excluded: Ints) -> RowMask | None:
    rows, there = rows_of(ids, excluded)
    if not there.any():
        return kept
    mask = np.ones(len(ids), np.bool_) if kept is None else kept.mask.copy()
    mask[rows[there]] = False
    return RowMask(mask)


_FEW_GONE = 0.25  # of the rows that a search sees: so few cannot hide much, and need no look
_SPARSE = 0.25  # of the rows left that the nearest lists should hold: with fewer, lists are of no use to a query
_EVEN = 0.1  # squared, what the share left varies by from list to list: 0.01 by recording, 0.46 and more by place
_MARGIN = 1.1  # on the results that a filter stands for
_FAR, _FAR_FACTOR = 2, 8
"""Where what is left has to do with the place, all of it may be as far as the furthest: a row at some depth is in as
many lists as twice that depth takes on average, and among others about as far, which codes rank in any order: of tight
clusters, half of them left, two candidates a result gave a recall of 0.91, eight 0.99."""
_QUERIES_AT_ONCE = 64  # some 50 bytes for each list of each
_LOOKED_AT, _AT_LEAST, _LOOK_AGAIN = 1.15, 8, 4
"""Times the lists that should do, and so many more, then times as many again: finding all 4,096 in order takes 1.0 ms,
64 of them 0.1. Under even filters of 1,000,000 rows, 200 queries took 8 to 10 lists where 9 should do, 19 to 28 where
24, 278 to 330 where 301."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The lists that a search of q queries visits."""

    candidates: int  # rows to re-rank
    nprobe: int
    near: Near | None  # lists to visit, -1 for none; None: the nearest `nprobe`
    compare: Mask  # (q,) queries that lists are of no use to: compare all that is left


def plan(ivf: Ivf, tuned: Tuned, k: int, queries: Float32s, kept: RowMask | None, n: int) -> Plan | None:
    """Return the lists to visit; None where no recall was proven for so many results of so few rows.

    Args:
        ivf: the lists.
        tuned: what results take without a filter, and the recall model.
        k: results.
        queries: ``(q, dim)`` unit rows.
        kept: rows that may be returned; all when None.
        n: rows there are.
    """
    count = n if kept is None else kept.count
    tuning = next((tuning for tuning in tuned.tunings if tuning.k >= k), None)
    if tuning is None or tuned.model is None or tuning.candidates >= count:
        return None
    scaled = min(ivf.nlist, math.ceil(tuning.nprobe * n / count))
    seen = tuning.nprobe * n / ivf.nlist  # rows, by an unfiltered search
    fewer = [each for each in tuned.tunings if each.k < k]
    candidates = tuning.candidates  # what fewer and more results both take to be found, so many of k suffice
    if fewer:
        candidates = min(candidates, k * max(tuning.k_factor, fewer[-1].k_factor))
    if kept is None or n - count < _FEW_GONE * seen:
        return Plan(candidates, scaled, None, np.zeros(len(queries), np.bool_))
    model = tuned.model
    # more results were proven with a re-rank of their own
    times = tuning.nprobe / float(model.lists_for(np.array([float(tuning.k)]))[0])

    def lists_for(rows: Float64s) -> Float64s:
        return times * model.lists_for(_MARGIN * rows)

    by_list = _by_list(ivf, kept, n)
    # results are as deep among all rows as so many more are without a filter
    factor = max(each.k_factor for each in tuned.tunings)
    if factor > 1 and not kept.even:  # 1: what ranks them is exact
        factor = max(factor, _FAR_FACTOR)
    candidates = max(candidates, min(k * factor, MOST_CANDIDATES))
    expected = float(lists_for(np.array([tuning.k * n / count]))[0])
    look = math.ceil(_LOOKED_AT * expected * (1 if kept.even else _FAR)) + _AT_LEAST
    while True:
        near = ivf.nearest(queries, look)
        last = _last(near.lists, ivf.sizes, by_list, tuning.k, lists_for, far=not kept.even)
        if look >= ivf.nlist or (last < look).all():
            break
        look *= _LOOK_AGAIN
    nearest = near.lists[:, :scaled]
    compare = by_list[nearest].sum(axis=1) < _SPARSE * min(seen, count) * nearest.shape[1] / scaled
    near.lists[np.arange(near.lists.shape[1]) > last[:, None]] = -1
    return Plan(candidates, scaled, near, compare)


def _last(
    lists: Ints, sizes: Ints, by_list: Ints, k: int, lists_for: Callable[[Float64s], Float64s], *, far: bool
) -> Ints:
    """Return the place of the last list that each query has to visit; m where none of them is enough.

    Args:
        lists: ``(q, m)`` near each query, nearest first.
        sizes: ``(nlist,)`` rows in each list.
        by_list: ``(nlist,)`` rows that the filter leaves of them.
        k: results.
        lists_for: how many lists hold enough of so many nearest rows.
        far: what is left may all lie as far away as the furthest result.
    """
    queries, looked = lists.shape
    last = np.empty(queries, np.int64)
    for start in range(0, queries, _QUERIES_AT_ONCE):
        part = slice(start, start + _QUERIES_AT_ONCE)
        seen = sizes[lists[part]].cumsum(axis=1)
        left = by_list[lists[part]].cumsum(axis=1)
        visited = np.arange(1, looked + 1)
        enough = lists_for(k * seen / np.maximum(left, 0.5)) <= visited
        if far:
            held = left >= _MARGIN * k
            furthest = np.where(held.any(axis=1), held.argmax(axis=1), looked - 1)
            depth = np.maximum(np.take_along_axis(seen, furthest[:, None], axis=1), k)
            enough &= held & (lists_for(_FAR * depth) <= visited)
        last[part] = np.where(enough.any(axis=1), enough.argmax(axis=1), looked)
    return last


def _by_list(ivf: Ivf, kept: RowMask, n: int) -> Ints:
    """Return how many rows of each list are kept; noted with the mask, as is whether that is about the same share."""
    if kept.by_list is None:
        by_list = ivf.count_by_list(kept.mask)
        expected = ivf.sizes * (kept.count / n)
        chance = expected.sum() * max(1.0, kept.count / COUNTED_ROWS)  # the variance of counting rows drawn freely
        beyond = float(((by_list - expected) ** 2).sum() - chance)
        kept.even = beyond < _EVEN * float((expected**2).sum())
        kept.by_list = by_list
    return kept.by_list
