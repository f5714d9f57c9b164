"""How many lists hold the rows that are nearest to a query: 20 of them, 200, 2,000. Knows ranks and counts, no index.

What a filter leaves of 1,000,000 rows, a hundredth say, has its nearest 20 among the nearest 2,000 of all. So it takes
as many lists as hold of the nearest 2,000 what the lists of an unfiltered search hold of the nearest 20. That is read
off the exact answers that an index is tuned by. (The lists proven for 1,000 results tell less well: they make up for a
shallower re-rank. By them a hundredth took 437 lists of 4,096 and found 0.986, where 12 found 0.968 without a filter;
by this it takes 310 and finds 0.972.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Points = tuple[tuple[int, int], ...]
"""Nearest rows, rising, and how many lists hold enough of them."""

_DEPTHS = (1, 2, 5, 10, 25, 50, 100)  # times k; straight lines of logarithms between them
_MOST_MISSED = 0.25  # of what the target lets be missed: the last rows of all hang on single queries


@dataclass(frozen=True, slots=True)
class Reach:
    """How to search what a filter leaves."""

    factor: int  # candidates to re-rank, in multiples of the k that was measured
    points: Points

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Reach:
        """As `dataclasses.asdict` and JSON made it.

        Raises:
            TypeError, KeyError, ValueError: they did not.
        """
        return cls(int(fields["factor"]), tuple((int(rows), int(lists)) for rows, lists in fields["points"]))

    def lists_for(self, results: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lists that so many nearest rows take: between points on lines of logarithms, beyond them in proportion."""
        rows, lists = np.log(np.array(self.points, np.float64)).T
        depth = np.log(results)
        found: NDArray[np.float64] = np.exp(np.interp(depth, rows, lists) + np.maximum(depth - rows[-1], 0))
        return found


def points(ranks: NDArray[np.int64], k: int, nprobe: int, target: float) -> Points:
    """How many lists hold as large a share of deeper answers as `nprobe` lists hold of the nearest k.

    Args:
        ranks: ``(q, m)``, of each query's nearest rows, nearest first, how many lists are nearer than the row's own.
        k: results that `nprobe` was chosen for.
        nprobe: lists they take.
        target: recall they were chosen for.
    """
    share = min(float((ranks[:, :k] < nprobe).mean()), 1 - _MOST_MISSED * (1 - target))
    found = [(k, nprobe)]
    for depth in (k * times for times in _DEPTHS[1:]):
        if depth > ranks.shape[1]:
            break
        of_all = np.sort(ranks[:, :depth], axis=None)
        enough = int(of_all[max(math.ceil(share * of_all.size), 1) - 1]) + 1
        found.append((depth, max(enough, found[-1][1])))
    return tuple(found)
