"""One query, from what was asked to what comes back: `Collection.query` in full. Knows no encoder, and no index inside.

A plain query, references alone, is ranked by `ranking` and loads nothing else. Weights, names and what is unwanted are
`mixing`'s, courses are `courses`', limits per recording or day `diversity`'s, reasons `explaining`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.writer import Catalog
from e2vsearch.search.prototypes import canonical_name
from e2vsearch.search.query import Query
from e2vsearch.search.rank import Ranking, rank_recordings, rank_segments
from e2vsearch.search.resolve import ResolvedQuery, resolve
from e2vsearch.types import Hit, QueryResult, number_of, segment_id
from e2vsearch.vectors.engine import Engine

if TYPE_CHECKING:
    from e2vsearch.collection import Collection
    from e2vsearch.search.trajectory import AlignedSegment


def execute(collection: Collection, asked: Query, index: Engine) -> QueryResult:
    """The hits.

    Raises:
        QueryError: it cannot be answered as asked.
        AudioError, EncoderError: a reference that cannot be heard or encoded.
    """
    catalog = collection.catalog
    if asked.per:
        from e2vsearch.search import group

        group.check_groups(catalog, asked.per)
    what = resolve(collection, asked)
    started = time.perf_counter()
    itself = np.empty(0, np.int64) if asked.include_self else what.itself
    allowed = _allowed(catalog, asked)
    met: dict[int, tuple[AlignedSegment, ...]] = {}
    rank = _ranker(catalog, asked, what, index, allowed, itself, met)
    ranked = group.cap_groups(catalog, asked.per, asked.k, rank) if asked.per else rank(asked.k)
    hits = fetch_hits(catalog, ranked)
    if asked.arc is not None or asked.explain:
        hits = _explained(collection, asked, what, index, hits, met, allowed, itself)
    total = index.count() if allowed is not None or itself.size else ranked.searched
    return QueryResult(
        hits,
        ranked.searched,
        total,
        ranked.exact,
        time.perf_counter() - started,
        tuple(reference.named for reference in what.wanted),
        asked.where,
        asked.text,
        tuple(reference.named for reference in what.unwanted),
        asked.arc is not None,
    )


def _ranker(
    catalog: Catalog,
    asked: Query,
    what: ResolvedQuery,
    index: Engine,
    allowed: NDArray[np.int64] | None,
    itself: NDArray[np.int64],
    met: dict[int, tuple[AlignedSegment, ...]],
) -> Callable[[int], Ranking]:
    """What gives the best n; of an arc, `met` is told what met in each call."""

    def rank(n: int) -> Ranking:
        if what.courses:
            from e2vsearch.search.trajectory import rank_trajectories

            ranked, paths = rank_trajectories(catalog, index, what.courses, n, allowed, itself, exact=asked.exact)
            met.update(zip(ranked.recordings, paths, strict=True))
            return ranked
        if what.mixture is not None:
            return what.mixture.rank(catalog, index, n, asked.by, allowed, itself, exact=asked.exact)
        if asked.fuse:
            from e2vsearch.search.score import NamedVectorScore

            fusion = NamedVectorScore.of(catalog, asked.fuse, what.wanted)
            return fusion.rank(catalog, index, what.vectors, n, asked.by, allowed, itself)
        if asked.by == "segment":
            return rank_segments(index, what.vectors, n, allowed, itself, exact=asked.exact)
        return rank_recordings(index, what.vectors, n, allowed, itself, catalog.segments_of, exact=asked.exact)

    return rank


def _explained(
    collection: Collection,
    asked: Query,
    what: ResolvedQuery,
    index: Engine,
    hits: tuple[Hit, ...],
    met: Mapping[int, tuple[AlignedSegment, ...]],
    allowed: NDArray[np.int64] | None,
    itself: NDArray[np.int64],
) -> tuple[Hit, ...]:
    from e2vsearch.search.explain import Explainer

    explaining = Explainer.of(collection, index, what.wanted)
    if asked.arc is not None:
        hits = explaining.courses(hits, met)
    if not asked.explain:
        return hits
    whole = asked.by == "call" and not asked.fuse  # fused, a moment is what all parts say of it together
    return explaining.reasons(hits, what.mixture, whole=whole, allowed=allowed, excluded=itself)


def _allowed(catalog: Catalog, asked: Query) -> NDArray[np.int64] | None:
    """Segments that the filters leave, None for all."""
    allowed = None
    if asked.text is not None:
        from e2vsearch.catalog.text_search import search_text

        allowed = search_text(catalog, asked.text, asked.where)
    elif asked.where is not None:
        allowed = catalog.select(asked.where)
    if asked.emotion_min is None:
        return allowed
    from e2vsearch.catalog.segments import segments_with_emotion, segments_with_label

    for name, weight in asked.emotions.items():
        if weight < 0:
            continue
        kind, _, word = canonical_name(catalog, name).partition(":")
        if kind == "label":
            sure = segments_with_label(catalog, word, asked.emotion_min)
        else:
            labels = catalog.space.labels if catalog.space is not None else ()
            sure = segments_with_emotion(catalog, labels.index(word), asked.emotion_min)
        allowed = sure if allowed is None else np.intersect1d(allowed, sure)
    return allowed


def fetch_hits(catalog: Catalog, ranked: Ranking) -> tuple[Hit, ...]:
    """The hits, in order; what another process removed since the search is left out."""
    segments = dict(catalog.segments(ranked.segments))
    of = {number_of(segment.recording, "call") for segment in segments.values()}
    recordings = {recording.id: recording for _, recording in catalog.recordings(sorted(of))}
    hits = []
    rows = zip_longest(ranked.segments, ranked.scores, ranked.moments, ranked.fused)
    for number, score, moment, fused in rows:
        segment = segments.get(number)
        if segment is None or segment.recording not in recordings:
            continue
        recording = recordings[segment.recording]
        hits.append(
            Hit(
                score=score,
                recording=recording.id,
                segment=segment_id(number),
                name=recording.name,
                uri=recording.uri,
                channel=segment.channel,
                start_s=segment.start_s,
                end_s=segment.end_s,
                moment_score=moment,
                emotion=segment.emotion,
                emotion_score=segment.emotion_score,
                metadata=recording.metadata,
                scores=segment.scores,
                text=segment.text,
                label=segment.label,
                label_score=segment.label_score,
                arousal=segment.arousal,
                valence=segment.valence,
                fused=fused or {},
            )
        )
    return tuple(hits)
