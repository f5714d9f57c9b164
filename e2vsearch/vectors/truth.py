"""Answers held against the source's own vectors. Knows what was found and where truth lives, nothing of how it came.

A hash tells that a file is what its builder wrote. It cannot tell that the builder was right, that the file was not
scribbled over after it was mapped, or that the catalog was not restored from a backup since and gave old ids to new
segments. A fetch of the 20 rows that are about to be returned can, in under a millisecond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.feed import VectorSource
from e2vsearch.vectors import Matches, exact
from e2vsearch.vectors.exact import Floats, Ints, Mask
from e2vsearch.vectors.generation import Generation
from e2vsearch.vectors.view import Found, Rows, View, rows_of

SAME = 1e-6  # unit vectors made of the same float32 row differ by rounding, at most 6e-8 a component

_FETCH_ROWS = 2048  # 16 MiB of 1024-d float64
_SPOT_ROWS = 256
_END_ROWS = 64


@dataclass(frozen=True, slots=True)
class Confirmed:
    """What the source says to what was found."""

    matches: Matches | None  # with the source's own scores; None: the vectors searched are not the source's
    missing: Ints  # found, but no longer stored; left out of the matches


def confirm(source: VectorSource, now: View | None, found: Found, units: NDArray[np.float64], k: int) -> Confirmed:
    """The matches, scored in float64 from the source's vectors and ordered by that.

    Args:
        source: the truth.
        now: what was searched, None if that was the source.
        found: the candidates, at most k a query.
        units: ``(q, dim)`` the queries, unit float64.
        k: width of the matches.
    """
    ids = np.unique(found.ids[found.ids >= 0])
    missing = [ids[:0]]
    scores = np.full(found.ids.shape, -np.inf)
    recordings = np.full(found.ids.shape, -1, np.int64)
    for start in range(0, ids.size, _FETCH_ROWS):
        some = ids[start : start + _FETCH_ROWS]
        batch = source.fetch(some)
        vectors = exact.unit64(batch.vectors)
        if now is not None and np.abs(now.vectors_of(batch.ids)[0] - vectors).max(initial=0.0) > SAME:
            return Confirmed(None, ids[:0])
        missing.append(np.setdiff1d(some, batch.ids))
        at, there = rows_of(batch.ids, found.ids)
        scores[there] = np.clip(units @ vectors.T, -1.0, 1.0)[there.nonzero()[0], at[there]]
        recordings[there] = batch.recordings[at[there]]
    stored = np.where(np.isneginf(scores), -1, found.ids)
    order = np.lexsort((stored, -scores), axis=1)
    wide = ((0, 0), (0, k - order.shape[1]))
    matches = Matches(
        ids=np.pad(np.take_along_axis(stored, order, 1), wide, constant_values=-1),
        recordings=np.pad(np.take_along_axis(recordings, order, 1), wide, constant_values=-1),
        scores=np.pad(np.take_along_axis(scores, order, 1), wide, constant_values=-np.inf).astype(np.float32),
        searched=found.searched,
        exact=found.exact,
    )
    return Confirmed(matches, np.concatenate(missing))


def vectors(source: VectorSource, ids: Ints) -> tuple[Floats, Mask]:
    """Unit vectors of ids ``(n,)`` as the source has them, and which it has; zeros for those that it has not."""
    rows = Rows.of(source.fetch(ids))
    at, there = rows_of(rows.ids, ids)
    found = np.zeros((len(ids), source.dim), np.float32)
    found[there] = rows.vectors[at[there]]
    return found, there


def differs(source: VectorSource, now: View, ids: Ints) -> bool:
    """Whether any of up to 256 of the ids, evenly spread, has another vector in the view than in the source."""
    spots = ids[np.linspace(0, len(ids) - 1, min(len(ids), _SPOT_ROWS)).astype(np.int64)]
    (mapped, present), (stored, there) = now.vectors_of(spots), vectors(source, spots)
    return bool((np.abs(mapped - stored)[present & there] > SAME).any())


def same_end(source: VectorSource, base: Generation) -> bool:
    """Whether the last segments of a generation have the vectors that the source has, as far as they are still there.

    A catalog restored from a backup gives the ids that it had lost to new segments: the watermark soon looks right
    again, and what the generation has under those ids would hide what is there now.
    """
    rows = Rows.of(source.fetch(base.ids[-_END_ROWS:]))
    at, there = rows_of(base.ids, rows.ids)
    return bool(there.all() and (np.abs(base.gather(at) - rows.vectors) <= SAME).all())
