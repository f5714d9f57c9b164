"""Late interaction: from the nearest segments to ranked segments or recordings.

A recording's score is the mean, over the reference's segments, of its best match in the recording (Khattab and Zaharia,
ColBERT, 2020, with the mean in place of the sum so that a score stays a cosine).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.writer import Catalog
from e2vsearch.telemetry import spanned
from e2vsearch.types import By
from e2vsearch.vectors import exact as arrays
from e2vsearch.vectors.engine import Condition, VectorIndex

_FIRST_SEARCH = 256  # segments asked for at first; a recording holds dozens, so k of them need more than k segments
_FIRST_OF_ONE = 2  # segments a recording, when the reference is one vector: its best k are the same however many
_CANDIDATES = 8  # recordings scored exactly for each that is asked for, when the reference has several segments
_BLOCK = 16_384  # segments scored at once: 64 MiB of 1024-d vectors
ScoreBlock = Callable[[NDArray[np.int64]], tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Segment ids ``(n,)`` → their scores for each row of the reference ``(q, n)``, and for all of it ``(n,)``."""

Pool = Callable[[NDArray[np.float64]], NDArray[np.float64]]
"""Best scores of recordings for each row of the reference ``(q, n)`` → the recordings' scores ``(n,)``."""


@dataclass(frozen=True, slots=True)
class CandidateFilter:
    """Which segments may be answered.

    Attributes:
        allowed: the only ones, ascending; all when None.
        excluded: ones that may not.
        condition: returns what selects `allowed` in the catalog's database, where that is one statement.
    """

    allowed: NDArray[np.int64] | None = None
    excluded: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    condition: Condition | None = None

    def mask(self, ids: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which of the segments ``(n,)`` may be answered."""
        kept = ~np.isin(ids, self.excluded)
        return kept if self.allowed is None else kept & np.isin(ids, self.allowed)


@dataclass(frozen=True, slots=True)
class Ranking:
    """Segments or recordings in order, best first; columns of one length, or empty but for the first two."""

    segments: Sequence[int]  # the segment, or the recording's best one
    recordings: Sequence[int]
    scores: Sequence[float]
    segment_scores: Sequence[float]  # the segment's own cosine
    searched: int
    exact: bool
    named_vector_scores: Sequence[Any] = ()  # with named vectors: the segment's cosine in each
    alignments: Sequence[Any] = ()  # of trajectories: the aligned segments

    def take(self, positions: Sequence[int]) -> Ranking:
        """Return some of them, in that order."""
        columns = (
            self.segments, self.recordings, self.scores, self.segment_scores, self.named_vector_scores, self.alignments,
        )  # fmt: skip
        kept: list[Any] = [[column[at] for at in positions] if column else [] for column in columns]
        segments, recordings, scores, segment_scores, named, alignments = kept
        return Ranking(segments, recordings, scores, segment_scores, self.searched, self.exact, named, alignments)


def rank_segments(
    index: VectorIndex, vectors: NDArray[np.float32], k: int, candidates: CandidateFilter, *, exact: bool = False
) -> Ranking:
    """Return the k segments nearest to any of the reference's vectors ``(q, dim)``."""
    matches = index.search(
        vectors,
        k,
        allowed=candidates.allowed,
        excluded=candidates.excluded,
        compare_all=exact,
        condition=candidates.condition,
    )
    order = np.argsort(-matches.scores, axis=None, kind="stable")
    ids, recordings = matches.ids.ravel()[order], matches.recordings.ravel()[order]
    scores = matches.scores.ravel()[order]
    first = arrays.first_of_each(ids)[:k]
    best = scores[first].tolist()
    return Ranking(ids[first].tolist(), recordings[first].tolist(), best, best, matches.searched, matches.exact)


def rank_recordings(
    catalog: Catalog,
    index: VectorIndex,
    vectors: NDArray[np.float32],
    k: int,
    candidates: CandidateFilter,
    *,
    exact: bool = False,
) -> Ranking:
    """Return the k recordings nearest to the reference's vectors ``(q, dim)``, each with its best segment."""
    search, most = max(_FIRST_SEARCH, 8 * k), None
    if len(vectors) == 1:
        search, most = _FIRST_OF_ONE * k, k
    while True:
        matches = index.search(
            vectors,
            search,
            allowed=candidates.allowed,
            excluded=candidates.excluded,
            compare_all=exact,
            recordings=most,
            condition=candidates.condition,
        )
        found = arrays.distinct(matches.recordings[matches.recordings >= 0])
        if found.size >= k or search >= matches.searched:
            break
        search *= 4  # one long recording filled the list
    if len(vectors) == 1:
        ids, recordings, scores = matches.ids[0], matches.recordings[0], matches.scores[0]
        first = arrays.first_of_each(recordings)[:k]
        best = scores[first].tolist()
        return Ranking(ids[first].tolist(), recordings[first].tolist(), best, best, matches.searched, matches.exact)

    listed = shortlist(matches.recordings, matches.scores, max(_FIRST_SEARCH, _CANDIDATES * k))
    ids, recordings = segments_of(catalog, listed, candidates)

    def score(block: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        cosines = index.scores(vectors, block).astype(np.float64)
        return cosines, cosines.max(axis=0)

    top, scores, segment_scores = rank_blocks(ids, recordings, k, "recording", score, lambda best: best.mean(axis=0))
    return Ranking(
        ids[top].tolist(),
        recordings[top].tolist(),
        scores.tolist(),
        segment_scores.tolist(),
        matches.searched,
        matches.exact and listed.size == found.size,
    )


@spanned("re-score")
def rank_blocks(
    ids: NDArray[np.int64],
    recordings: NDArray[np.int64],
    k: int,
    by: By,
    score: ScoreBlock,
    pool: Pool,
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Score segments block by block, and rank them or their recordings.

    Args:
        ids: segments ``(n,)``, in order of their recordings.
        recordings: the recording of each ``(n,)``, ascending.
        k: how many.
        by: what is ranked.
        score: scores one block.
        pool: joins a recording's best scores.

    Returns:
        Positions in `ids` of the best segments or of the best recordings' best segments, their scores, and the
        segments' own scores. What scores -inf is left out.
    """
    numbers, starts, of = np.unique(recordings, return_index=True, return_inverse=True)
    best: NDArray[np.float64] | None = None  # (q, recordings)
    segment_scores = np.full(ids.size, -np.inf)
    for start in range(0, ids.size, _BLOCK):
        block = slice(start, start + _BLOCK)
        rows, segment_scores[block] = score(ids[block])
        if best is None:
            best = np.full((len(rows), numbers.size), -np.inf)
        firsts = np.flatnonzero(np.diff(of[block], prepend=-1))  # recordings ascend: each is one run of a block
        here = of[block][firsts]
        best[:, here] = np.maximum(best[:, here], np.maximum.reduceat(rows, firsts, axis=1))
    if by == "segment" or best is None:
        top = _top(segment_scores, k)
        return top, segment_scores[top], segment_scores[top]
    pooled = pool(best)
    order = _top(pooled, k)
    ends = np.append(starts[1:], ids.size)
    top = np.array([starts[at] + segment_scores[starts[at] : ends[at]].argmax() for at in order], np.int64)
    return top, pooled[order], segment_scores[top]


def shortlist(recordings: NDArray[np.int64], scores: NDArray[np.float32], limit: int) -> NDArray[np.int64]:
    """Return the recordings with the highest mean of best matches among what was found, at most `limit`.

    A recording that was not found for one row of the reference counts there with the row's worst score.

    Args:
        recordings: of what was found ``(q, w)``, -1 where there is none.
        scores: its cosines ``(q, w)``, -inf where there is none.
        limit: how many.
    """
    numbers, position = np.unique(recordings, return_inverse=True)
    floor = np.where(np.isfinite(scores), scores, np.inf).min(axis=1, keepdims=True)
    best = np.repeat(np.where(np.isfinite(floor), floor, -1.0), numbers.size, axis=1)
    rows = np.broadcast_to(np.arange(len(scores))[:, None], scores.shape)
    np.maximum.at(best, (rows, position.reshape(scores.shape)), scores)
    order = np.argsort(-best.mean(axis=0), kind="stable")
    ranked = numbers[order]
    return ranked[ranked >= 0][:limit]


def segments_of(
    catalog: Catalog, recordings: NDArray[np.int64], candidates: CandidateFilter
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the segments of recordings that may be answered, in order of recording, and the recording of each."""
    return in_order(*catalog.segments_of(recordings.tolist()), candidates)


def in_order(
    ids: NDArray[np.int64], recordings: NDArray[np.int64], candidates: CandidateFilter
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the segments that may be answered, in order of recording, and the recording of each."""
    kept = candidates.mask(ids)
    ids, recordings = ids[kept], recordings[kept]
    order = np.lexsort((ids, recordings))
    return ids[order], recordings[order]


def _top(scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    order = np.argsort(-scores, kind="stable")[:k]
    return order[np.isfinite(scores[order])].astype(np.int64)
