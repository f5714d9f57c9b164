"""Recordings whose emotion changes over time in the same way, compared by dynamic time warping.

A *trajectory* is one channel's segments in order of time. Two are compared by dynamic time warping (Sakoe and Chiba,
1978, its symmetric form): a path that walks both from their first segments to their last, never back, so that the sum
of ::

    (share of the one that the step covers + share of the other) · (1 - cosine)

is least. Each segment covers its share of its trajectory's spoken time, so every path's weights sum to 2, and ::

    score = 1 - least sum / 2

is the mean cosine along the best path, weighted by time: 1.0 for the same trajectory, whatever its length or pace. A
path may run ahead of the other by `BAND` of its segments, or else one angry minute could be matched with a whole call.

A recording's score is the mean, over the reference's channels, of its best channel. Up to `_ALL_CELLS` pairs of
segments every recording is compared; beyond, those that hold the best matches of the reference's segments in any order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.segments import SegmentColumns, segment_columns
from e2vsearch.catalog.writer import Catalog
from e2vsearch.search.rank import CandidateFilter, Ranking, shortlist
from e2vsearch.vectors.engine import VectorIndex

BAND = 0.3
"""How far one trajectory may run ahead of the other, as a share of its segments."""

_ALL_CELLS = 2_000_000  # 20 segments against 100,000: 1.6 s of one core
_CANDIDATES = 2000  # recordings, beyond that
_LOOK = 2048  # segments asked of the index for each of the reference's
_BLOCK = 8192  # segments scored at once: 32 MiB of 1024-d vectors
_CELLS = 1 << 20  # of the tables that are filled at once: 8 MiB each


@dataclass(frozen=True, slots=True)
class SegmentSequence:
    """Segments of one channel in order of time."""

    vectors: NDArray[np.float32]  # (n, dim)
    shares: NDArray[np.float64]  # (n,) of its spoken time, sum 1
    rows: NDArray[np.int64]  # (n,) which of the reference's vectors each is
    band: float = BAND  # 1: no limit, for a reference that says nothing of pace


@dataclass(frozen=True, slots=True)
class AlignedSegment:
    """Two segments that the best path aligns."""

    row: int  # of the reference
    segment: int
    cosine: float


def shares(lengths_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return what each segment covers of its trajectory, ``(n,)``; segments without a length count as a millisecond."""
    usable = np.maximum(lengths_s, 1e-3)
    covered: NDArray[np.float64] = usable / usable.sum()
    return covered


def rank_trajectories(
    catalog: Catalog,
    index: VectorIndex,
    reference: Sequence[SegmentSequence],
    k: int,
    candidates: CandidateFilter,
    *,
    exact: bool = False,
) -> Ranking:
    """Return the k recordings of the most similar trajectory, each with its best aligned segment and all alignments.

    Args:
        catalog: knows when segments were spoken.
        index: holds their vectors.
        reference: one sequence a channel.
        k: how many.
        candidates: segments of which trajectories may be made.
        exact: compare every recording, however many.
    """
    queries = np.concatenate([line.vectors for line in reference])
    total = index.count() if candidates.allowed is None else candidates.allowed.size
    compare_all = exact or total * len(queries) <= _ALL_CELLS
    if compare_all:
        stored = segment_columns(catalog)
    else:
        allowed, excluded = candidates.allowed, candidates.excluded
        matches = index.search(
            queries, max(_LOOK, 8 * k), allowed=allowed, excluded=excluded, condition=candidates.condition
        )
        listed = shortlist(matches.recordings, matches.scores, max(_CANDIDATES, 8 * k))
        stored = segment_columns(catalog, recordings=listed.tolist())
    stored = stored.where(candidates.mask(stored.ids))
    if not stored.ids.size:
        return Ranking([], [], [], [], 0, True)
    starts = np.flatnonzero(
        np.diff(stored.recordings, prepend=-1).astype(bool) | np.diff(stored.channels, prepend=-1).astype(bool)
    )
    lines = np.stack([starts, np.append(starts[1:], stored.ids.size)], axis=1)
    scores = _scores(index, reference, stored, lines)  # (channels of the reference, lines)
    recordings, firsts = np.unique(stored.recordings[starts], return_index=True)
    pooled = np.maximum.reduceat(scores, firsts, axis=1).mean(axis=0)
    top = np.argsort(-pooled, kind="stable")[:k]
    top = top[np.isfinite(pooled[top])]
    ends = np.append(firsts[1:], starts.size)
    alignments = []
    for at in top:
        chosen = [firsts[at] + int(row[firsts[at] : ends[at]].argmax()) for row in scores]
        pairs = zip(reference, chosen, strict=True)
        alignments.append(tuple(each for of, line in pairs for each in _aligned(index, of, stored, *lines[line])))
    best = [max(each, key=lambda one: one.cosine) for each in alignments]
    return Ranking(
        [each.segment for each in best],
        recordings[top].tolist(),
        pooled[top].tolist(),
        [each.cosine for each in best],
        int(stored.ids.size) if compare_all else matches.searched,
        compare_all,
        alignments=alignments,
    )


def dtw(
    cosines: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    sizes: NDArray[np.int64],
    band: float,
) -> NDArray[np.float64]:
    """Return the least sums of paths, for one trajectory against many.

    A table's row is filled at once: with P the running sum of what going on along the row costs, the recurrence
    ``D[j] = min(A[j], D[j-1] + P[j] - P[j-1])`` is ``P[j] + min over l <= j of (A[l] - P[l])``.

    Args:
        cosines: ``(m, n, w)`` of the one's n segments with up to w of each of m others; padding may hold anything.
        a: ``(n,)`` shares of the one.
        b: ``(m, w)`` shares of the others, 0 for padding.
        sizes: ``(m,)`` how many segments each of the others has.
        band: how far one may run ahead.

    Returns:
        ``(m, n, w)``: of the best path to each cell, infinite where none may go. A path's is at its last cell.
    """
    count, n, width = cosines.shape
    costs = np.maximum(1.0 - cosines, 0.0)
    columns = np.arange(width)
    ahead = np.maximum(sizes - 1, 1)[:, None]
    reach = np.maximum(band, np.maximum(1 / max(n - 1, 1), 1 / ahead))  # else no path fits between few segments
    table = np.full((count, n, width), np.inf)
    for i in range(n):
        along = np.cumsum(b * costs[:, i], axis=1)
        if i == 0:
            enter = np.full((count, width), np.inf)
            enter[:, 0] = (a[0] + b[:, 0]) * costs[:, 0, 0]
        else:
            enter = table[:, i - 1] + a[i] * costs[:, i]
            diagonal = table[:, i - 1, :-1] + (a[i] + b[:, 1:]) * costs[:, i, 1:]
            np.minimum(enter[:, 1:], diagonal, out=enter[:, 1:])
        at = i / (n - 1) if n > 1 else 0.0
        inside = columns < sizes[:, None]
        if n > 1 and band < 1:  # one segment has to meet all of the others
            inside &= (np.abs(columns / ahead - at) <= reach + 1e-9) | (sizes[:, None] == 1)
        enter[~inside] = np.inf
        row = along + np.minimum.accumulate(enter - along, axis=1)
        table[:, i] = np.where(inside, row, np.inf)
    return table


def _scores(
    index: VectorIndex, reference: Sequence[SegmentSequence], stored: SegmentColumns, lines: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the score of each line, first and last row of `stored`, with each of the reference's: ``(r, lines)``."""
    queries = np.concatenate([line.vectors for line in reference])
    lengths = lines[:, 1] - lines[:, 0]
    scores = np.empty((len(reference), len(lines)))
    order = np.argsort(lengths, kind="stable")  # those of a length share a table, so little of it is padding
    done = 0
    while done < order.size:
        ahead = lengths[order[done:]]
        cells = ahead * np.arange(1, ahead.size + 1) * max(len(line.vectors) for line in reference)
        fits = (cells <= _CELLS) & (np.cumsum(ahead) <= _BLOCK)
        some = order[done : done + max(1, int(fits.sum()))]
        done += some.size
        rows = [np.arange(*lines[each]) for each in some]
        cosines = _cosines(index, queries, stored.ids[np.concatenate(rows)])
        sizes, width = lengths[some], int(lengths[some].max())
        padded = np.zeros((some.size, len(queries), width))
        times = np.zeros((some.size, width))
        filled = np.arange(width) < sizes[:, None]
        padded.transpose(0, 2, 1)[filled] = cosines.T
        for at, row in enumerate(rows):
            times[at, : row.size] = shares(stored.end_s[row] - stored.start_s[row])
        last = 0
        for number, line in enumerate(reference):
            first, last = last, last + len(line.vectors)
            table = dtw(padded[:, first:last], line.shares, times, sizes, line.band)
            scores[number, some] = 1.0 - table[np.arange(some.size), -1, sizes - 1] / 2
    return scores


def _aligned(
    index: VectorIndex, line: SegmentSequence, stored: SegmentColumns, start: int, end: int
) -> list[AlignedSegment]:
    """Return what the best path between the reference's trajectory and one line aligns, in order of time."""
    rows = slice(start, end)
    cosines = _cosines(index, line.vectors, stored.ids[rows])
    times = shares(stored.end_s[rows] - stored.start_s[rows])
    table = dtw(cosines[None], line.shares, times[None], np.array([end - start]), line.band)[0]
    costs = np.maximum(1.0 - cosines, 0.0)
    i, j = len(line.vectors) - 1, end - start - 1
    path = [(i, j)]
    while i or j:
        a, b, cost = line.shares[i], times[j], costs[i, j]
        ways = []  # the diagonal first: where two cost the same, both go on
        if i and j:
            ways.append((table[i - 1, j - 1] + (a + b) * cost, i - 1, j - 1))
        if i:
            ways.append((table[i - 1, j] + a * cost, i - 1, j))
        if j:
            ways.append((table[i, j - 1] + b * cost, i, j - 1))
        _, i, j = min(ways, key=lambda way: way[0])
        path.append((i, j))
    return [
        AlignedSegment(int(line.rows[i]), int(stored.ids[start + j]), float(cosines[i, j])) for i, j in reversed(path)
    ]


def _cosines(index: VectorIndex, queries: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float64]:
    # -inf is a segment that was removed meanwhile, and is as far away as can be
    return np.maximum(index.scores(queries, ids).astype(np.float64), -1.0)
