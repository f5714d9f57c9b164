"""Calls whose emotion runs the same way over time. Knows vectors in order of time, nothing of audio or of names.

A *course* is one channel's segments in order of time. Two are compared by dynamic time warping (Sakoe and Chiba, 1978,
its symmetric form): a path that walks both from their first segments to their last, never back, so that the sum of ::

    (what the step covers of the one + what it covers of the other) · (1 - cosine)

is least. Each segment covers its share of its course's spoken time, so every path's weights sum to 2, and ::

    score = 1 - least sum / 2

is the mean cosine along the best path, weighted by time: 1.0 for the same course, whatever its length or pace. A path
may run ahead of the other by `BAND` of its segments, or else one angry minute could be matched with a whole call.

A call's score is the mean, over the reference's channels, of its best channel. Up to `_ALL_CELLS` pairs of segments
every call is compared; beyond, those that hold the best matches of the reference's segments, whatever their order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.segments import SegmentColumns, segment_columns
from e2vsearch.catalog.writer import Catalog
from e2vsearch.search.rank import Ranking, shortlist
from e2vsearch.vectors.engine import Engine

BAND = 0.3
"""How far one course may run ahead of the other, as a share of its segments."""

_ALL_CELLS = 2_000_000  # 20 segments against 100,000: 1.6 s of one core

_CANDIDATES = 2000  # calls, beyond that

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
    """Two segments that a path matched."""

    row: int  # of the reference
    segment: int
    cosine: float


def shares(lengths_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """What each segment covers of its course, ``(n,)``; segments without a length count as a millisecond."""
    usable = np.maximum(lengths_s, 1e-3)
    covered: NDArray[np.float64] = usable / usable.sum()
    return covered


def rank_trajectories(
    catalog: Catalog,
    index: Engine,
    reference: Sequence[SegmentSequence],
    k: int,
    allowed: NDArray[np.int64] | None,
    excluded: NDArray[np.int64],
    *,
    exact: bool = False,
) -> tuple[Ranking, list[tuple[AlignedSegment, ...]]]:
    """The k calls that run most like the reference, each with its best matched moment and with all that met.

    Args:
        catalog: knows when segments were spoken.
        index: holds their vectors.
        reference: a course a channel.
        k: how many.
        allowed: the only segments of which courses may be made; all when None.
        excluded: segments of which none may.
        exact: compare every call, however many.
    """
    queries = np.concatenate([course.vectors for course in reference])
    total = index.count() if allowed is None else allowed.size
    compare_all = exact or total * len(queries) <= _ALL_CELLS
    if compare_all:
        stored = segment_columns(catalog)
    else:
        matches = index.search(queries, max(_LOOK, 8 * k), allowed=allowed, excluded=excluded)
        calls = shortlist(matches.recordings, matches.scores, max(_CANDIDATES, 8 * k))
        stored = segment_columns(catalog, recordings=calls.tolist())
    keep = ~np.isin(stored.ids, excluded)
    if allowed is not None:
        keep &= np.isin(stored.ids, allowed)
    stored = stored.where(keep)
    if not stored.ids.size:
        return Ranking([], [], [], [], 0, True), []
    starts = np.flatnonzero(
        np.diff(stored.recordings, prepend=-1).astype(bool) | np.diff(stored.channels, prepend=-1).astype(bool)
    )
    lines = np.stack([starts, np.append(starts[1:], stored.ids.size)], axis=1)
    scores = _scores(index, reference, stored, lines)  # (channels of the reference, lines)
    calls, firsts = np.unique(stored.recordings[starts], return_index=True)
    best = np.maximum.reduceat(scores, firsts, axis=1)
    of_calls = best.mean(axis=0)
    top = np.argsort(-of_calls, kind="stable")[:k]
    top = top[np.isfinite(of_calls[top])]
    ends = np.append(firsts[1:], starts.size)
    met = []
    for call in top:
        chosen = [firsts[call] + int(row[firsts[call] : ends[call]].argmax()) for row in scores]
        pairs = zip(reference, chosen, strict=True)
        met.append(tuple(each for course, line in pairs for each in _met(index, course, stored, *lines[line])))
    moments = [max(each, key=lambda one: one.cosine) for each in met]
    ranked = Ranking(
        [moment.segment for moment in moments],
        calls[top].tolist(),
        of_calls[top].tolist(),
        [moment.cosine for moment in moments],
        int(stored.ids.size) if compare_all else matches.searched,
        compare_all,
    )
    return ranked, met


def dtw(
    cosines: NDArray[np.float64],
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    sizes: NDArray[np.int64],
    band: float,
) -> NDArray[np.float64]:
    """Least sums of paths, for one course against many.

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
    index: Engine, reference: Sequence[SegmentSequence], stored: SegmentColumns, lines: NDArray[np.int64]
) -> NDArray[np.float64]:
    """How each line, first and last row of `stored`, runs like each of the reference's courses: ``(r, lines)``."""
    queries = np.concatenate([course.vectors for course in reference])
    lengths = lines[:, 1] - lines[:, 0]
    scores = np.empty((len(reference), len(lines)))
    order = np.argsort(lengths, kind="stable")  # those of a length share a table, so little of it is padding
    done = 0
    while done < order.size:
        ahead = lengths[order[done:]]
        cells = ahead * np.arange(1, ahead.size + 1) * max(len(course.vectors) for course in reference)
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
        for number, course in enumerate(reference):
            first, last = last, last + len(course.vectors)
            table = dtw(padded[:, first:last], course.shares, times, sizes, course.band)
            scores[number, some] = 1.0 - table[np.arange(some.size), -1, sizes - 1] / 2
    return scores


def _met(index: Engine, course: SegmentSequence, stored: SegmentColumns, start: int, end: int) -> list[AlignedSegment]:
    """What meets on the best path between the reference's course and one line, in order of time."""
    rows = slice(start, end)
    cosines = _cosines(index, course.vectors, stored.ids[rows])
    times = shares(stored.end_s[rows] - stored.start_s[rows])
    table = dtw(cosines[None], course.shares, times[None], np.array([end - start]), course.band)[0]
    costs = np.maximum(1.0 - cosines, 0.0)
    i, j = len(course.vectors) - 1, end - start - 1
    path = [(i, j)]
    while i or j:
        a, b, cost = course.shares[i], times[j], costs[i, j]
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
        AlignedSegment(int(course.rows[i]), int(stored.ids[start + j]), float(cosines[i, j])) for i, j in reversed(path)
    ]


def _cosines(index: Engine, queries: NDArray[np.float32], ids: NDArray[np.int64]) -> NDArray[np.float64]:
    # -inf is a segment that was removed meanwhile, and is as far away as can be
    return np.maximum(index.scores(queries, ids).astype(np.float64), -1.0)
