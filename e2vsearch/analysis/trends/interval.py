"""Confidence intervals of shares among segments that come in recordings.

Segments of one call resemble each other: 200 segments of five calls may be worth little more than five. So a share is
the ratio of two sums over recordings. Its variance is the jackknife's, which leaves out one recording after the other
(Wolter, Introduction to Variance Estimation, 2nd ed. 2007, ch. 4), and says how many independent segments would be as
uncertain. The interval is Wilson's for so many, with Student's t for the number of recordings (Korn and Graubard,
Survey Methodology 24, 1998; Dean and Pagano, J. Surv. Stat. Methodol. 3, 2015).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_NORMAL = 1.959964
# Student's t at 0.975, by degrees of freedom from 1; above them the expansion of Abramowitz and Stegun, 26.7.5, is
# right to the third digit
_STUDENT = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


def interval(segments: Floats, of_segments: Floats, squares: Floats, recordings: Floats) -> tuple[Floats, Floats]:
    """Return the lower and upper ends of 95 % intervals of shares, ``(n,)`` each.

    Args:
        segments: ``(n,)`` with the value, Σy over recordings.
        of_segments: ``(n,)`` all of them, Σx.
        squares: ``(n,)`` Σ((y - p·x) / (1 - x / Σx))² for the share p = Σy / Σx.
        recordings: ``(n,)`` that have any of them.
    """
    share = segments / of_segments
    free = np.maximum(recordings - 1, 1)
    variance = squares / of_segments**2 * free / recordings
    spread = share * (1 - share)
    with np.errstate(divide="ignore", invalid="ignore"):
        effective = spread / variance
    # a share of 0 or 1, or a single recording, gives no estimate of the variance
    unknown = (spread <= 0) | (recordings < 2)
    effective = np.where(unknown, recordings, effective)
    effective = np.clip(effective, 1, of_segments)
    z = np.where(unknown, _NORMAL, _student(free))
    bound = z**2 / effective
    centre = (share + bound / 2) / (1 + bound)
    half = z / (1 + bound) * np.sqrt(spread / effective + bound / (4 * effective))
    # rounding must not put the share itself outside
    return np.clip(np.minimum(centre - half, share), 0, 1), np.clip(np.maximum(centre + half, share), 0, 1)


def _student(free: Floats) -> Floats:
    """Return Student's t at 0.975 for degrees of freedom ``(n,)``, 1 or more."""
    z = _NORMAL
    expanded = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    table = np.array(_STUDENT)
    few = free <= len(table)
    return np.where(few, table[np.minimum(free, len(table)).astype(np.int64) - 1], expanded)
