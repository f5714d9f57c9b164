"""Could it be chance? Exact tests on counts of calls, and the correction for having made many. Knows numbers only.

Moments of one call resemble each other, so a test that counts moments would take one long call for proof. Everything
here counts calls.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import missing_extra
from e2vsearch.vectors.exact import Float64s

Ints = NDArray[np.int64]

UNUSUAL = 0.05
"""A corrected p below this is worth a person's time."""


def over_represented(both: Ints, value: Ints, cluster: Ints, total: int) -> Float64s:
    """Fisher's exact test, one-sided: the chance of so many calls with both, or more, were the two unrelated.

    The upper tail of the hypergeometric distribution, ``(t,)``.

    Args:
        both: ``(t,)`` calls with the value and in the cluster.
        value: ``(t,)`` calls with the value.
        cluster: ``(t,)`` calls in the cluster.
        total: calls there are.
    """
    try:
        from scipy.stats import hypergeom
    except ModuleNotFoundError as error:
        raise missing_extra("e2vsearch map", "map") from error
    return np.asarray(hypergeom.sf(both - 1, total, value, cluster), np.float64)


def grew(recent: int, baseline: int, recent_calls: int, baseline_calls: int) -> float:
    """The chance that a rate rose so far or farther, had it stayed as it was: exact, given the sum of both counts.

    Two Poisson counts, given their sum, are binomial with the share of the exposure (Przyborowski and Wilenski, 1940);
    the exposure is the number of calls. Counts of calls out of calls vary less than Poisson's, so this errs on the
    side of silence where a cluster is in most calls.
    """
    try:
        from scipy.stats import binom
    except ModuleNotFoundError as error:
        raise missing_extra("e2vsearch map", "map") from error
    return float(binom.sf(recent - 1, recent + baseline, recent_calls / (recent_calls + baseline_calls)))


def ratio_interval(
    recent: int, baseline: int, recent_calls: int, baseline_calls: int, level: float = 0.95
) -> tuple[float, float | None]:
    """Bounds of recent rate over baseline rate, from Clopper and Pearson's for the binomial share; None: unbounded."""
    from scipy.stats import beta

    tail, exposure = (1 - level) / 2, baseline_calls / recent_calls
    low = float(beta.ppf(tail, recent, baseline + 1)) if recent else 0.0
    if not baseline:
        return low / (1 - low) * exposure, None
    high = float(beta.ppf(1 - tail, recent + 1, baseline))
    return low / (1 - low) * exposure, high / (1 - high) * exposure


def corrected(p: Sequence[float] | Float64s) -> Float64s:
    """P-values corrected for their number, in their order (Benjamini and Hochberg, 1995)."""
    raw = np.asarray(p, np.float64)
    if not raw.size:
        return raw
    order = np.argsort(raw)
    scaled = raw[order] * raw.size / np.arange(1, raw.size + 1)
    out = np.empty_like(raw)
    out[order] = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    return out
