"""Which lists a filtered search must visit, query by query. Knows lists and rows, nothing of ids.

The k nearest of what a filter leaves are, without it, among the k' nearest, where k' / k is how many rows there are
near the query to one that is left; and how many lists hold the k' nearest was measured when the index was tuned
(`reaching`). So lists are visited, nearest first, until they are enough for the k' that they themselves show. That
holds where a filter leaves about the same share everywhere, as most do (this agent, this month).

Others have to do with where things lie (moments that are sad, asked with one that is angry): of the near lists, what is
left is the far side. With the rows left that are nearest to another moment, a half, a tenth and a thirtieth of them,
that rule found 0.958, 0.873 and 0.801. There the lists are visited until they hold twice the rows that a search without
a filter sees: 0.982, 0.965 and 0.950. And where the near lists hold hardly any row that is left, all of them are
compared: of rows far away, thousands are about equally far, and no code tells them apart (recall 0.15 at worst).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.vectors import reaching
from e2vsearch.vectors.exact import Floats, Ints, Mask
from e2vsearch.vectors.filtering import Kept
from e2vsearch.vectors.ivf import COUNTED_ROWS, Ivf, Near
from e2vsearch.vectors.tuning import Tuned

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


def plan(ivf: Ivf, tuned: Tuned, k: int, queries: Floats, kept: Kept | None, n: int) -> Plan | None:
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
    reach = tuned.reach or reaching.Reach(tuning.k_factor, tuple((each.k, each.nprobe) for each in tuned.tunings))
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
        self, ivf: Ivf, reach: reaching.Reach, times: float, k: int, kept: Kept, n: int, seen: float, scaled: int
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


def _by_list(ivf: Ivf, kept: Kept, n: int) -> Ints:
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
