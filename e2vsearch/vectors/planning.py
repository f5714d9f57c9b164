"""How many lists a filtered search must visit, query by query. Knows lists and masks of rows, nothing of ids.

A filter that has nothing to do with the query and leaves a share s takes about nprobe / s lists for the same recall:
unscaled, recall fell to 0.60 at 1 % left and 0.25 at 0.1 %. But filters often have to do with it (moments that are sad,
asked with one that is angry), and then what is left is not where the query is: with half of 25,000 x 64 kept, those
nearest to another moment, recall was 0.89 on average and 0.15 at worst. So lists are visited until they hold as many
rows that are left as an unfiltered search would see (0.97 there), and where the near lists hold hardly any, all that is
left is compared: of rows far away, thousands are about equally far, and no code tells them apart.
"""

from __future__ import annotations

import math

import numpy as np

from e2vsearch.vectors.exact import Floats, Ints, Mask
from e2vsearch.vectors.ivf import Ivf

_FEW_GONE = 0.25  # of the rows that a search sees: so few cannot hide much, and need no look
_HARDLY = 0.25  # of them: fewer than this in the lists that should hold all of them
COMPARE = 0
"""In place of a number of lists: compare all that the filter leaves."""


def lists_to_visit(ivf: Ivf, nprobe: int, queries: Floats, keep: Mask | None, n: int, count: int) -> Ints:
    """Lists to visit for each query, ``(q,)``; `COMPARE` where lists are of no use.

    Args:
        ivf: the lists.
        nprobe: what a search without a filter visits.
        queries: ``(q, dim)`` unit rows.
        keep: ``(n,)`` rows that may be answered; all when None.
        n: rows there are.
        count: rows that are kept.
    """
    scaled = min(ivf.nlist, math.ceil(nprobe * n / count))
    plan: Ints = np.full(len(queries), scaled, np.int64)
    seen = nprobe * n / ivf.nlist  # rows, by an unfiltered search
    if keep is None or n - count < _FEW_GONE * seen:
        return plan
    kept = ivf.kept_by_list(keep)
    reached = np.cumsum(kept[ivf.nearest_lists(queries)], axis=1)
    enough = np.minimum((reached < min(seen, count)).sum(axis=1) + 1, ivf.nlist)
    rounded = scaled * 2 ** np.ceil(np.log2(np.maximum(enough / scaled, 1))).astype(np.int64)  # few different numbers
    plan = np.minimum(rounded, ivf.nlist).astype(np.int64)
    plan[reached[:, scaled - 1] < _HARDLY * min(seen, count)] = COMPARE
    return plan
