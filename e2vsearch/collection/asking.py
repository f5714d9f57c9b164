"""One query, from what was asked to what comes back: `Collection.query` in full. Knows no encoder, and no index inside.

A plain query, references alone, is ranked by `ranking` and loads nothing else. Weights, names and what is unwanted are
`mixing`'s, courses are `courses`', limits per recording or day `diversity`'s, reasons `explaining`'s.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import Catalog
from e2vsearch.collection.asked import Asked
from e2vsearch.collection.hits import hits_of
from e2vsearch.collection.meaning import Meant, known_as, meant
from e2vsearch.collection.ranking import Ranked, rank_calls, rank_segments
from e2vsearch.collection.results import Hit, QueryResult
from e2vsearch.vectors.index import VectorIndex

if TYPE_CHECKING:
    from e2vsearch.collection.courses import Met
    from e2vsearch.collection.opened import Collection


def answer(collection: Collection, asked: Asked, index: VectorIndex) -> QueryResult:
    """The hits.

    Raises:
        QueryError: it cannot be answered as asked.
        AudioError, EncoderError: a reference that cannot be heard or encoded.
    """
    catalog = collection.catalog
    if asked.per:
        from e2vsearch.collection import diversity

        diversity.check(catalog, asked.per)
    what = meant(collection, asked)
    started = time.perf_counter()
    itself = np.empty(0, np.int64) if asked.include_self else what.itself
    allowed = _allowed(catalog, asked)
    met: dict[int, tuple[Met, ...]] = {}
    rank = _ranker(catalog, asked, what, index, allowed, itself, met)
    ranked = diversity.spread(catalog, asked.per, asked.k, rank) if asked.per else rank(asked.k)
    hits = hits_of(catalog, ranked)
    if asked.arc is not None or asked.explain:
        hits = _told(collection, asked, what, index, hits, met, allowed, itself)
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
    asked: Asked,
    what: Meant,
    index: VectorIndex,
    allowed: NDArray[np.int64] | None,
    itself: NDArray[np.int64],
    met: dict[int, tuple[Met, ...]],
) -> Callable[[int], Ranked]:
    """What gives the best n; of an arc, `met` is told what met in each call."""

    def rank(n: int) -> Ranked:
        if what.courses:
            from e2vsearch.collection.courses import rank_courses

            ranked, paths = rank_courses(catalog, index, what.courses, n, allowed, itself, exact=asked.exact)
            met.update(zip(ranked.recordings, paths, strict=True))
            return ranked
        if what.mixture is not None:
            return what.mixture.rank(catalog, index, n, asked.by, allowed, itself, exact=asked.exact)
        if asked.fuse:
            from e2vsearch.collection.fusion import Fusion

            fusion = Fusion.of(catalog, asked.fuse, what.wanted)
            return fusion.rank(catalog, index, what.vectors, n, asked.by, allowed, itself)
        if asked.by == "segment":
            return rank_segments(index, what.vectors, n, allowed, itself, exact=asked.exact)
        return rank_calls(index, what.vectors, n, allowed, itself, catalog.segments_of, exact=asked.exact)

    return rank


def _told(
    collection: Collection,
    asked: Asked,
    what: Meant,
    index: VectorIndex,
    hits: tuple[Hit, ...],
    met: Mapping[int, tuple[Met, ...]],
    allowed: NDArray[np.int64] | None,
    itself: NDArray[np.int64],
) -> tuple[Hit, ...]:
    from e2vsearch.collection.explaining import Explaining

    explaining = Explaining.of(collection, index, what.wanted)
    if asked.arc is not None:
        hits = explaining.courses(hits, met)
    if not asked.explain:
        return hits
    whole = asked.by == "call" and not asked.fuse  # fused, a moment is what all parts say of it together
    return explaining.reasons(hits, what.mixture, whole=whole, allowed=allowed, excluded=itself)


def _allowed(catalog: Catalog, asked: Asked) -> NDArray[np.int64] | None:
    """Segments that the filters leave, None for all."""
    allowed = None
    if asked.text is not None:
        from e2vsearch.catalog.texts import saying

        allowed = saying(catalog, asked.text, asked.where)
    elif asked.where is not None:
        allowed = catalog.select(asked.where)
    if asked.emotion_min is None:
        return allowed
    from e2vsearch.catalog.spans import surely_emotion, surely_label

    for name, weight in asked.emotions.items():
        if weight < 0:
            continue
        kind, _, word = known_as(catalog, name).partition(":")
        if kind == "label":
            sure = surely_label(catalog, word, asked.emotion_min)
        else:
            labels = catalog.space.labels if catalog.space is not None else ()
            sure = surely_emotion(catalog, labels.index(word), asked.emotion_min)
        allowed = sure if allowed is None else np.intersect1d(allowed, sure)
    return allowed
