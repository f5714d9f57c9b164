"""Which rows a filter leaves, as masks that are kept from query to query. Knows ids and rows, nothing of SQL or lists.

People ask many questions of one filter (this month's calls, this agent's). Looking up which of 1,000,000 rows 500,000
ids are takes 15 ms, counting and packing them another one; all of it is the same until the collection changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from e2vsearch.vectors.exact import Floats, Ints, Mask, rows_of
from e2vsearch.vectors.faiss import nprobe as reaching
from e2vsearch.vectors.faiss.ivf import COUNTED_ROWS, Ivf, Near
from e2vsearch.vectors.faiss.nprobe import Tuned

_MOST = 4  # filters whose masks are kept: 1.1 MB each for a million rows, and up to 8 MB of rows and ids each


class RowMask:
    """Some of n rows.

    Attributes:
        mask: ``(n,)``, which.
        count: how many.
        by_list: about how many are in each list of an index, once somebody has counted.
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


Left = tuple[RowMask | None, RowMask | None]
"""What is left of a base's rows and of the tail's; None for all."""


class RowMasks:
    """What filters leave of one base and one tail, neither of which ever changes."""

    def __init__(self, ids: Ints, alive: Mask | None, tail: Ints) -> None:
        """Looks nothing up yet.

        Args:
            ids: ``(n,)`` of the base, ascending.
            alive: ``(n,)`` its rows that are still there; all when None.
            tail: ``(m,)`` ids that came since, ascending.
        """
        self._ids, self._tail = ids, tail
        self._alive = None if alive is None else RowMask(alive)
        self._known: dict[int, tuple[Ints, Left]] = {}  # by the array's identity, which lasts as long as the array

    def left(self, allowed: Ints | None, excluded: Ints | None) -> Left:
        """Rows that may be answered.

        Args:
            allowed: ids that may be; all when None. What one that cannot be written to leaves is remembered.
            excluded: ids that may not, where there are any.
        """
        left: Left = (self._alive, None)
        if allowed is not None:
            left = self._of(allowed)
        if excluded is None or not excluded.size:
            return left
        base, tail = left
        return _without(self._ids, base, excluded), _without(self._tail, tail, excluded)

    def _of(self, allowed: Ints) -> Left:
        _, left = self._known.get(id(allowed), (None, None))
        if left is None:
            mask = _are_in(self._ids, allowed)
            if self._alive is not None:
                mask &= self._alive.mask
            left = RowMask(mask), RowMask(_are_in(self._tail, allowed))
            if not allowed.flags.writeable:
                while len(self._known) >= _MOST:
                    self._known.pop(next(iter(self._known)), None)  # another thread may have been there first
                self._known[id(allowed)] = (allowed, left)
        return left


def ascending(ids: Ints) -> Ints:
    """Ids in order, each once; the same array where it is so already."""
    return ids if (ids[1:] > ids[:-1]).all() else np.unique(ids)


def _are_in(ids: Ints, allowed: Ints) -> Mask:
    """Which of ascending ids are among others."""
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

_HARDLY = 0.25  # of them: fewer than this in the lists that should hold all of them

_EVEN = 0.1  # squared, what the share left varies by from list to list: 0.01 by recording, 0.46 and more by place

_UNEVEN = 2  # times the rows that an unfiltered search sees

_MARGIN = 1.1  # on the results that a filter stands for

_AT_ONCE = 64  # queries: some 50 bytes for each list of each

_LOOKED_AT, _AT_LEAST = 1.15, 8
"""Times the lists that should do, and so many more: finding all 4,096 in order takes 1.0 ms, 64 of them 0.1. Under even
filters of 1,000,000 rows, 200 queries took 8 to 10 lists where 9 should do, 19 to 28 where 24, 278 to 330 where 301."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search with each of q queries."""

    candidates: int  # rows to re-rank
    near: Near | None  # lists to visit, -1 for none; None: the nearest `nprobe`
    nprobe: int
    compare: Mask  # (q,) queries that lists are of no use to: compare all that is left


def plan(ivf: Ivf, tuned: Tuned, k: int, queries: Floats, kept: RowMask | None, n: int) -> Plan | None:
    """What to visit; None where no recall was ever proven for so many results of so few rows.

    Args:
        ivf: the lists.
        tuned: what results take without a filter.
        k: results.
        queries: ``(q, dim)`` unit rows.
        kept: rows that may be answered; all when None.
        n: rows there are.
    """
    count = n if kept is None else kept.count
    tuning = next((tuning for tuning in tuned.tunings if tuning.k >= k), None)
    if tuning is None or tuning.candidates >= count:
        return None
    fewer = [each for each in tuned.tunings if each.k < k]
    candidates = tuning.candidates  # what fewer and more results both take to be found, so many of k suffice
    if fewer:
        candidates = min(candidates, k * max(tuning.k_factor, fewer[-1].k_factor))
    scaled = min(ivf.nlist, math.ceil(tuning.nprobe * n / count))
    seen = tuning.nprobe * n / ivf.nlist  # rows, by an unfiltered search
    if kept is None or n - count < _FEW_GONE * seen:
        return Plan(candidates, None, scaled, np.zeros(len(queries), np.bool_))
    reach = tuned.reach or reaching.ProbeDepth(tuning.k_factor, tuple((each.k, each.nprobe) for each in tuned.tunings))
    times = 1.0
    if tuning is tuned.tunings[0]:
        candidates = tuning.k * reach.factor
    else:  # proven with a re-rank of its own
        times = tuning.nprobe / float(reach.lists_for(np.array([float(tuning.k)]))[0])
    wanted = _Wanted(ivf, reach, times, tuning.k, kept, n, seen, scaled)
    for look in wanted.looks:
        near = ivf.nearest(queries, look)
        last, compare = wanted.of(near.lists)
        if (last < look).all():
            break
    near.lists[np.arange(near.lists.shape[1]) > last[:, None]] = -1
    return Plan(candidates, near, scaled, compare)


class _Wanted:
    """How many lists a filter takes.

    Attributes:
        looks: how many lists to look at, until all queries have enough.
    """

    def __init__(
        self,
        ivf: Ivf,
        reach: reaching.ProbeDepth,
        times: float,
        k: int,
        kept: RowMask,
        n: int,
        seen: float,
        scaled: int,
    ) -> None:
        """Counts what each list keeps, where nobody did.

        Args:
            ivf: the lists.
            reach: how many of them nearest rows take.
            times: so many results take of those.
            k: results.
            kept: rows that may be answered.
            n: rows there are.
            seen: of them by a search without a filter.
            scaled: lists that would hold enough if what is kept lay anywhere.
        """
        self._sizes, self._by_list = ivf.sizes, _by_list(ivf, kept, n)
        self._reach, self._times = reach, times
        self._even, self._results = kept.even, _MARGIN * k
        self._rows = min(seen if kept.even else _UNEVEN * seen, kept.count)
        self._scaled = scaled
        self._hardly = _HARDLY * min(seen, kept.count) / scaled  # rows left, a list
        first = scaled
        if kept.even:
            first = min(scaled, math.ceil(self._lists_for(np.array([n / kept.count]))[0]))
        looks = (math.ceil(_LOOKED_AT * each) + _AT_LEAST for each in (first, scaled, ivf.nlist))
        self.looks = sorted({min(each, ivf.nlist) for each in looks})

    def of(self, lists: Ints) -> tuple[Ints, Mask]:
        """Of lists near queries ``(q, m)``, the last that each has to visit, and which queries they are of no use to.

        The last is m where all are not enough, and there are more.
        """
        queries, looked = lists.shape
        last, compare = np.empty(queries, np.int64), np.empty(queries, np.bool_)
        visited = np.arange(1, looked + 1)
        judged = min(self._scaled, looked)
        for start in range(0, queries, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            left = self._by_list[lists[part]].cumsum(axis=1)
            enough = left >= self._rows
            if self._even:
                share = self._sizes[lists[part]].cumsum(axis=1) / np.maximum(left, 0.5)
                enough |= self._lists_for(share) <= visited
            if looked == len(self._sizes):
                enough[:, -1] = True
            last[part] = np.where(enough.any(axis=1), enough.argmax(axis=1), looked)
            compare[part] = left[:, judged - 1] < self._hardly * judged
        return last, compare

    def _lists_for(self, rows_to_one_left: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._times * self._reach.lists_for(self._results * rows_to_one_left)


def _by_list(ivf: Ivf, kept: RowMask, n: int) -> Ints:
    """How many rows each list keeps; noted with the rows, and whether that is about the same share of each."""
    if kept.by_list is not None:
        return kept.by_list
    by_list = ivf.count_by_list(kept.mask)
    expected = ivf.sizes * (kept.count / n)
    chance = expected.sum() * max(1.0, kept.count / COUNTED_ROWS)  # the variance of counting, if rows were drawn freely
    beyond = float(((by_list - expected) ** 2).sum() - chance)
    kept.even = beyond < _EVEN * float((expected**2).sum())
    kept.by_list = by_list
    return by_list
