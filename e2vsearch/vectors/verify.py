"""Verification of hits against the source's own vectors, for every engine.

A hash tells that a file is what its builder wrote. It cannot tell that the builder was right, that the file was not
scribbled over after it was mapped, or that the catalog was not restored from a backup since and gave old ids to new
segments. A fetch of the 20 rows that are about to be returned can, in under a millisecond.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from e2vsearch.feed import VectorSource
from e2vsearch.telemetry import spanned
from e2vsearch.vectors import exact
from e2vsearch.vectors.engine import Candidates, Matches
from e2vsearch.vectors.exact import Float32s, Float64s, Ints, Mask, UnitVectors, rows_of

T = TypeVar("T", bound=np.generic)
SAME = 1e-6  # unit vectors made of the same float32 row differ by rounding, at most 6e-8 a component
_SAME_SCORE = 5e-6  # float32 sums of their 1024 products differ by up to 3e-7
_FETCH_ROWS = 2048  # 16 MiB of 1024-d float64


@dataclass(frozen=True, slots=True)
class VerifiedHits:
    """Hits as the source scores them."""

    matches: Matches | None  # with the source's own scores; None: the vectors searched are not the source's
    missing: Ints  # found, but no longer stored; left out of the matches


@spanned("re-score")
def verify_hits(source: VectorSource, found: Candidates, units: Float64s, k: int) -> VerifiedHits:
    """Return the matches, scored in float64 from the source's vectors and ordered by that.

    A candidate whose score from the index is another than from the source's vector has another vector there. (One that
    differs and scores the same for this query has done no harm.)

    Args:
        source: of the vectors.
        found: the candidates, at most k a query.
        units: ``(q, dim)`` the queries, unit float64.
        k: width of the matches.
    """
    wide, recordings, missing = _scored_in_parts(source, found.ids, units)
    stored = recordings >= 0
    if (np.abs(wide[stored] - found.scores[stored]) > _SAME_SCORE).any():
        return VerifiedHits(None, missing[:0])
    return VerifiedHits(_matches(found.ids, recordings, wide, k, found.searched, exact=found.exact), missing)


@spanned("re-score")
def score_candidates(
    source: VectorSource, ids: Ints, units: Float64s, k: int, searched: int, *, exact: bool
) -> VerifiedHits:
    """Return the best k of candidates, scored in float64 from the source's vectors.

    Args:
        source: of the vectors.
        ids: ``(q, w)`` the candidates of each query, none of them twice, -1 for none.
        units: ``(q, dim)`` the queries, unit float64.
        k: width of the matches.
        searched: see `Matches`.
        exact: see `Matches`.
    """
    wide, recordings, missing = _scored_in_parts(source, ids, units)
    return VerifiedHits(_matches(ids, recordings, wide, k, searched, exact=exact), missing)


def _scored_in_parts(source: VectorSource, ids: Ints, units: Float64s) -> tuple[Float64s, Ints, Ints]:
    wide, recordings = np.empty(ids.shape), np.empty(ids.shape, np.int64)
    missing = [np.empty(0, np.int64)]
    for part in _parts(*ids.shape):
        wide[part], recordings[part], gone = _scored(source, ids[part], units[part[0]])
        missing.append(gone)
    return wide, recordings, np.concatenate(missing)


def _matches(ids: Ints, recordings: Ints, wide: Float64s, k: int, searched: int, *, exact: bool) -> Matches:
    ids = np.where(recordings >= 0, ids, -1)
    order = np.arange(len(ids))[:, None], np.lexsort((ids, -wide), axis=1)
    return Matches(
        _padded(ids[order][:, :k], k, -1),
        _padded(recordings[order][:, :k], k, -1),
        _padded(wide[order][:, :k].astype(np.float32), k, -np.inf),
        searched=searched,
        exact=exact,
    )


def _parts(queries: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Yield queries and columns to fetch at once: all queries by all that was found grow as their square."""
    columns = max(1, min(width, _FETCH_ROWS))
    rows = _FETCH_ROWS // columns
    for row in range(0, queries, rows):
        for column in range(0, width, columns):
            yield slice(row, row + rows), slice(column, column + columns)


def _scored(source: VectorSource, ids: Ints, units: Float64s) -> tuple[Float64s, Ints, Ints]:
    """Return scores and recordings ``(q, w)`` of found ids, -inf and -1 where not stored; and ids not stored."""
    unique = exact.distinct(ids[ids >= 0])  # -1 is none
    batch = source.fetch(unique) if unique.size else None
    if batch is None or not batch.ids.size:
        return np.full(ids.shape, -np.inf), np.full(ids.shape, -1, np.int64), unique
    missing = unique[:0] if batch.ids.size == unique.size else np.setdiff1d(unique, batch.ids)
    at, there = rows_of(batch.ids, ids)
    cosines = exact.cosines64(units, batch.vectors)[np.arange(len(ids))[:, None], at]
    return np.where(there, cosines, -np.inf), np.where(there, batch.recordings[at], -1), missing


def _padded(values: NDArray[T], width: int, filling: float) -> NDArray[T]:
    """Return rows of so many values."""
    short = width - values.shape[1]
    return np.pad(values, ((0, 0), (0, short)), constant_values=filling) if short > 0 else values


def vectors(source: VectorSource, ids: Ints) -> tuple[Float32s, Mask]:
    """Return unit vectors of ids ``(n,)`` from the source, and which it has; zeros for those that it has not."""
    rows = UnitVectors.of(source.fetch(ids))
    at, there = rows_of(rows.ids, ids)
    found = np.zeros((len(ids), source.dim), np.float32)
    found[there] = rows.vectors[at[there]]
    return found, there
