"""Bootstrap intervals that resample whole groups, since items of one speaker are not independent.

`scipy.stats.bootstrap` resamples observations, not groups of them, and needs an extra that `evaluate` does not.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.evaluation.types import Range

_RESAMPLES = 1_000
_LEVEL = 0.95


def interval(values: NDArray[np.float64], groups: NDArray[np.integer], seed: int) -> Range | None:
    """Return the 95 % percentile interval of the mean of `values`, resampling groups with replacement.

    Args:
        values: ``(n,)``.
        groups: ``(n,)``, such as speakers.
        seed: of the resamples.

    Returns:
        Low and high end, None with fewer than two groups.
    """
    index = np.unique(groups, return_inverse=True)[1].reshape(-1)
    counts = np.bincount(index)
    if counts.size < 2:
        return None
    sums = np.bincount(index, values)
    drawn = np.random.default_rng(seed).integers(0, counts.size, (_RESAMPLES, counts.size))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, ((1 - _LEVEL) / 2, (1 + _LEVEL) / 2))
    return float(low), float(high)
