"""From nearest segments to ranked calls. Knows ids and scores, nothing of audio or of rows.

A call's score is the mean, over the reference's segments, of its best match in the call (late interaction: Khattab
and Zaharia, ColBERT, 2020, with the mean in place of the sum so that a score stays a cosine).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from e2vsearch.vectors import exact as arrays
from e2vsearch.vectors.engine import Engine

_FIRST_LOOK = 256  # segments asked for at first; a call holds dozens, so k calls need more than k segments

_FIRST_OF_ONE = 2  # segments for each call, when the reference is one vector: its best k are the same however many

_CANDIDATES = 8  # calls scored exactly for each that is asked for, when the reference has several segments

SegmentsOf = Callable[[list[int]], tuple[NDArray[np.int64], NDArray[np.int64]]]
"""Recordings' ids → their segments' ids, and the recording of each."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """Segments or calls in order, best first."""

    segments: list[int]  # the segment, or the call's best one
    recordings: list[int]
    scores: list[float]
    moments: list[float]  # the segment's own cosine
    searched: int
    exact: bool
    fused: list[Mapping[str, float]] = field(default_factory=list)  # with side vectors: the segment's cosine in each

    def only(self, positions: list[int]) -> Ranking:
        """Some of them, in that order."""
        columns = (self.segments, self.recordings, self.scores, self.moments, self.fused)
        kept = ([column[at] for at in positions] if column else [] for column in columns)
        segments, recordings, scores, moments, fused = kept
        return Ranking(segments, recordings, scores, moments, self.searched, self.exact, fused)  # type: ignore[arg-type]


def rank_segments(
    index: Engine,
    vectors: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.int64] | None,
    excluded: NDArray[np.int64],
    *,
    exact: bool = False,
) -> Ranking:
    """The k segments nearest to any of the reference's vectors ``(n, dim)``."""
    matches = index.search(vectors, k, allowed=allowed, excluded=excluded, compare_all=exact)
    order = np.argsort(-matches.scores, axis=None, kind="stable")
    ids, recordings = matches.ids.ravel()[order], matches.recordings.ravel()[order]
    scores = matches.scores.ravel()[order]
    first = arrays.first_of_each(ids)[:k]
    best = scores[first].tolist()
    return Ranking(ids[first].tolist(), recordings[first].tolist(), best, best, matches.searched, matches.exact)


def rank_recordings(
    index: Engine,
    vectors: NDArray[np.float32],
    k: int,
    allowed: NDArray[np.int64] | None,
    excluded: NDArray[np.int64],
    segments_of: SegmentsOf,
    *,
    exact: bool = False,
) -> Ranking:
    """The k calls nearest to the reference's vectors ``(n, dim)``, each with its best moment."""
    look, most = max(_FIRST_LOOK, 8 * k), None
    if len(vectors) == 1:
        look, most = _FIRST_OF_ONE * k, k
    while True:
        matches = index.search(vectors, look, allowed=allowed, excluded=excluded, compare_all=exact, recordings=most)
        found = np.unique(matches.recordings[matches.recordings >= 0])
        if found.size >= k or look >= matches.searched:
            break
        look *= 4  # one long call filled the list: look further
    if len(vectors) == 1:
        ids, recordings, scores = matches.ids[0], matches.recordings[0], matches.scores[0]
        first = arrays.first_of_each(recordings)[:k]
        best = scores[first].tolist()
        return Ranking(ids[first].tolist(), recordings[first].tolist(), best, best, matches.searched, matches.exact)

    candidates = shortlist(matches.recordings, matches.scores, max(_FIRST_LOOK, _CANDIDATES * k))
    ids, recordings = segments_of(candidates.tolist())
    kept = ~np.isin(ids, excluded)
    if allowed is not None:
        kept &= np.isin(ids, allowed)
    ids, recordings = ids[kept], recordings[kept]
    order = np.argsort(recordings, kind="stable")
    ids, recordings = ids[order], recordings[order]
    if not ids.size:
        return Ranking([], [], [], [], matches.searched, matches.exact)
    cosines = index.scores(vectors, ids)  # (n, segments of all candidates)
    calls, starts = np.unique(recordings, return_index=True)
    scores = np.maximum.reduceat(cosines, starts, axis=1).mean(axis=0)
    moments = cosines.max(axis=0)
    ends = np.append(starts[1:], len(ids))
    best_of = [start + int(np.argmax(moments[start:end])) for start, end in zip(starts, ends, strict=True)]
    top = np.argsort(-scores, kind="stable")[:k]
    return Ranking(
        [int(ids[best_of[call]]) for call in top],
        calls[top].tolist(),
        scores[top].tolist(),
        [float(moments[best_of[call]]) for call in top],
        matches.searched,
        matches.exact and candidates.size == found.size,
    )


def shortlist(recordings: NDArray[np.int64], scores: NDArray[np.float32], limit: int) -> NDArray[np.int64]:
    """The calls with the highest mean of best matches among what was found, at most `limit`.

    A call that was not found for one of the reference's segments counts there with the worst score that was.
    """
    calls, position = np.unique(recordings, return_inverse=True)
    floor = np.where(np.isfinite(scores), scores, np.inf).min(axis=1, keepdims=True)
    best = np.repeat(np.where(np.isfinite(floor), floor, -1.0), calls.size, axis=1)
    rows = np.broadcast_to(np.arange(len(scores))[:, None], scores.shape)
    np.maximum.at(best, (rows, position.reshape(scores.shape)), scores)
    order = np.argsort(-best.mean(axis=0), kind="stable")
    ranked = calls[order]
    return ranked[ranked >= 0][:limit]
