"""Fisher's exact test on counts of recordings, and the correction for having made many tests.

Segments of one recording resemble each other, so a test that counts segments would take one long recording for proof.
Everything here counts recordings.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from e2vsearch.errors import missing_extra

Ints = NDArray[np.int64]
UNUSUAL = 0.05
"""A corrected p below this is reported."""


def over_represented(both: Ints, value: Ints, cluster: Ints, total: int) -> NDArray[np.float64]:
    """Return p-values of Fisher's exact test, one-sided, corrected for their number, ``(t,)``.

    The upper tail of the hypergeometric distribution: the chance of so many recordings with both, or more, if value and
    cluster were independent; corrected after Benjamini and Hochberg (1995).

    Args:
        both: ``(t,)`` recordings with the value and in the cluster.
        value: ``(t,)`` recordings with the value.
        cluster: ``(t,)`` recordings in the cluster.
        total: number of recordings.

    Raises:
        MissingExtra: scipy is not installed.
    """
    try:
        from scipy.stats import false_discovery_control, hypergeom
    except ModuleNotFoundError as error:
        raise missing_extra("e2vsearch map", "map") from error
    return np.asarray(false_discovery_control(hypergeom.sf(both - 1, total, value, cluster)), np.float64)
