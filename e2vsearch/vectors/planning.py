"""Which lists a filtered search must visit, query by query. Knows lists and rows, nothing of ids.

The k nearest of what a filter leaves are, without it, among the k' nearest, where k' / k is how many rows there are
near the query to one that is left; and how many lists k' results take was measured when the index was tuned. So lists
are visited, nearest first, until they are enough for the k' that they themselves show. That holds where a filter leaves
about the same share everywhere, as most do (this agent, this month). With a half and a tenth of 1,000,000 x 1024 left,
13 and 23 of 4,096 lists found 0.963 and 0.956 of the top 20 (target 0.95); with a hundredth, beyond what was measured
when the index was tuned, it was 0.98.

Others have to do with where things lie (moments that are sad, asked with one that is angry): of the near lists, what is
left is the far side. With the rows left that are nearest to another moment, a half, a tenth and a thirtieth of them,
that rule found 0.958, 0.873 and 0.801. There the lists are visited until they hold twice the rows that a search without
a filter sees: 0.982, 0.965 and 0.950. And where the near lists hold hardly any row that is left, all of them are
compared: of rows far away, thousands are about equally far, and no code tells them apart (recall 0.15 at worst).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.vectors.exact import Floats, Ints, Mask
from e2vsearch.vectors.filtering import Kept
from e2vsearch.vectors.ivf import COUNTED_ROWS, Ivf, Near
from e2vsearch.vectors.tuning import Tuning

_FEW_GONE = 0.25  # of the rows that a search sees: so few cannot hide much, and need no look
_HARDLY = 0.25  # of them: fewer than this in the lists that should hold all of them
_EVEN = 0.1  # squared, what the share left varies by from list to list: 0.01 by recording, 0.46 and more by place
_UNEVEN = 2  # times the rows that an unfiltered search sees
_MARGIN = 1.25  # on the results that a filter stands for
_AT_ONCE = 64  # queries: some 50 bytes for each list of each
_LOOKED_AT = 2  # times the lists of a filter that has nothing to do with the query: sorting all 4,096 takes 0.6 ms more


@dataclass(frozen=True, slots=True)
class Plan:
    """How to search with each of q queries."""

    candidates: int  # rows to re-rank
    near: Near | None  # lists to visit, -1 for none; None: the nearest `nprobe`
    nprobe: int
    compare: Mask  # (q,) queries that lists are of no use to: compare all that is left


def plan(ivf: Ivf, tunings: Sequence[Tuning], k: int, queries: Floats, kept: Kept | None, n: int) -> Plan | None:
    """What to visit; None where no recall was ever proven for so many results of so few rows.

    Args:
        ivf: the lists.
        tunings: what results take without a filter, rising k.
        k: results.
        queries: ``(q, dim)`` unit rows.
        kept: rows that may be answered; all when None.
        n: rows there are.
    """
    count = n if kept is None else kept.count
    tuning = next((tuning for tuning in tunings if tuning.k >= k), None)
    if tuning is None or tuning.candidates >= count:
        return None
    fewer = [each for each in tunings if each.k < k]
    candidates = tuning.candidates  # what fewer and more results both take to be found, so many of k suffice
    if fewer:
        candidates = min(candidates, k * max(tuning.k_factor, fewer[-1].k_factor))
    scaled = min(ivf.nlist, math.ceil(tuning.nprobe * n / count))
    seen = tuning.nprobe * n / ivf.nlist  # rows, by an unfiltered search
    if kept is None or n - count < _FEW_GONE * seen:
        return Plan(candidates, None, scaled, np.zeros(len(queries), np.bool_))
    by_list = _by_list(ivf, kept, n)
    wanted = min(seen if kept.even else _UNEVEN * seen, count)
    near = ivf.nearest(queries, _LOOKED_AT * scaled)
    if (by_list[near.lists].sum(axis=1) < wanted).any():
        near = ivf.nearest(queries, ivf.nlist)
    visited = np.arange(1, near.lists.shape[1] + 1)
    compare = np.zeros(len(queries), np.bool_)
    for start in range(0, len(queries), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        lists = near.lists[part]
        left = by_list[lists].cumsum(axis=1)
        enough = left >= wanted
        if kept.even:
            deep = _MARGIN * tuning.k * ivf.sizes[lists].cumsum(axis=1) / np.maximum(left, 0.5)
            enough |= _lists_for(tunings, deep) <= visited
        enough[:, -1] = True
        lists[visited > enough.argmax(axis=1)[:, None] + 1] = -1
        compare[part] = left[:, scaled - 1] < _HARDLY * min(seen, count)
    return Plan(candidates, near, scaled, compare)


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


def _lists_for(tunings: Sequence[Tuning], results: NDArray[np.float64]) -> NDArray[np.float64]:
    """Lists that so many results take: between what was measured on straight lines of logarithms, beyond it in line."""
    ks, lists = (np.log([getattr(tuning, name) for tuning in tunings]) for name in ("k", "nprobe"))
    depth = np.log(results)
    lists_for: NDArray[np.float64] = np.exp(np.interp(depth, ks, lists) + np.maximum(depth - ks[-1], 0))
    return lists_for
