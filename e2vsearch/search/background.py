"""The background distribution of cosines: what percentage of a collection's random pairs are less alike.

Cosines of one space lie close together (in emotion2vec's most pairs of segments have 0.7 and more), those of another do
not, so a number alone says little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.segments import count_of
from e2vsearch.catalog.writer import Catalog
from e2vsearch.feed import VectorSource
from e2vsearch.vectors.exact import unit

SAMPLE = 2000
"""Segments that are drawn, at most."""

_NEIGHBOURS = 20  # segments that each is compared with: 2,000 make 39,790 pairs, so that 0.1 % is 40 of them
_ALL_PAIRS = 100  # segments of which every pair is compared: 4,950 at most
_GROWN = 1.1  # times as many segments, or as few: draw again


@dataclass(frozen=True, slots=True)
class BackgroundScores:
    """Cosines of random pairs of a collection's segments."""

    space: str
    segments: int  # in the collection, when they were drawn
    cosines: NDArray[np.float32]  # of pairs of different recordings, ascending

    def percentile(self, cosine: float) -> float | None:
        """Return what percentage of the pairs are less alike; None where there are no two recordings to compare."""
        if not self.cosines.size:
            return None
        return 100.0 * float(np.searchsorted(self.cosines, cosine)) / self.cosines.size


def background_scores(
    catalog: Catalog, source: VectorSource, before: BackgroundScores | None = None
) -> BackgroundScores:
    """Return the background scores of the collection as it is now; `before`, if the collection is about that size.

    Args:
        catalog: knows which segments there are.
        source: their vectors, projected.
        before: an earlier draw.
    """
    count, least, greatest = count_of(catalog)
    if before is not None and before.space == source.space_id and _about(before.segments, count):
        return before
    rng = np.random.default_rng(0)
    # ids of what was removed are drawn in vain, so more are drawn where many are gone
    room = greatest - least + 1
    size = min(room, SAMPLE * max(1, round(room / max(count, 1))))
    drawn = np.sort(least + rng.choice(room, size, replace=False)) if count else np.empty(0, np.int64)
    batch = source.fetch(drawn)
    order = rng.permutation(batch.ids.size)[:SAMPLE]
    units = unit(batch.vectors[order]).astype(np.float32)
    return BackgroundScores(source.space_id, count, _pairs(units, batch.recordings[order]))


class BackgroundCache:
    """The background scores of one collection, drawn when first asked for, and again once it has changed in size."""

    def __init__(self, catalog: Catalog, source: Callable[[], VectorSource]) -> None:
        self._catalog = catalog
        self._source = source
        self._drawn: BackgroundScores | None = None

    def __call__(self) -> BackgroundScores:
        """Return the background scores of the projection in use."""
        self._drawn = background_scores(self._catalog, self._source(), self._drawn)
        return self._drawn


def _about(before: int, now: int) -> bool:
    return max(before, now) <= _GROWN * min(before, now)


def _pairs(units: NDArray[np.float32], recordings: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return cosines of each segment with the next few in the drawn order, which is random; ascending."""
    steps = min(len(units) - 1, _NEIGHBOURS if len(units) > _ALL_PAIRS else _ALL_PAIRS)
    found = [np.empty(0, np.float32)]
    for step in range(1, steps + 1):
        apart = recordings[step:] != recordings[:-step]
        # no matrix product: BLAS gives even a small one to all its threads, which on a busy machine wait for one
        # another, 0.4 to 1 s in all for what takes 2 ms (384-d) here
        found.append(np.einsum("ij,ij->i", units[step:], units[:-step])[apart])
    return np.sort(np.clip(np.concatenate(found), -1.0, 1.0))
