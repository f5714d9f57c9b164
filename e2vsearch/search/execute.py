"""Executes a query: resolve, filter, rank, fetch the hits, explain them.

A plain query, references alone, is ranked by `rank` and loads nothing else. Weights, names and references to avoid are
scored by `score`, trajectories by `trajectory`; `group` caps hits that share a value.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from itertools import zip_longest
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from e2vsearch import telemetry
from e2vsearch.catalog.columns import to_probabilities
from e2vsearch.catalog.writer import Catalog
from e2vsearch.feed import SqlFilter
from e2vsearch.projections.background import BackgroundScores
from e2vsearch.projections.view import SearchView, Views
from e2vsearch.search.context import SearchContext
from e2vsearch.search.query import Query
from e2vsearch.search.rank import CandidateFilter, Ranking, rank_recordings, rank_segments
from e2vsearch.search.resolve import NONE, ResolvedQuery, resolve
from e2vsearch.search.result import QueryResult
from e2vsearch.types import EmbeddedAudio, Hit, recording_id, segment_id
from e2vsearch.vectors.engine import Condition

if TYPE_CHECKING:
    from e2vsearch.audio import AudioSource


def answer(
    query: Query, catalog: Catalog, views: Views, embed: Callable[[AudioSource], EmbeddedAudio], actor: str
) -> tuple[QueryResult, SearchView]:
    """Return what a query finds in the space and through the projection in use, and the view that it was found in.

    Where another process switches the space meanwhile, the query is executed again, in the new one.

    Args:
        query: what is asked.
        catalog: of the collection.
        views: of the collection.
        embed: embeds audio in the space in use.
        actor: who asks, for the audit log.

    Raises:
        QueryError, AudioError, EncoderError: it cannot be answered, or a reference cannot be read or encoded.
    """
    return views.answer(lambda view: (execute(query, SearchContext(catalog, view, embed, actor)), view))


def execute(query: Query, context: SearchContext) -> QueryResult:
    """Return the hits of a query, best first, with exact scores.

    Raises:
        QueryError: it cannot be answered.
        UnlawfulUse: it asks for emotion by employee, see `e2vsearch.policy`.
        AudioError, EncoderError: a reference that cannot be read or encoded.
    """
    with telemetry.span("query", system="e2vsearch", operation="query", k=query.k, by=query.by) as span:
        found = _executed(query, context)
        span.note(rows=len(found.hits), searched=found.searched, total=found.total, exact=found.exact)
    return found


def _executed(query: Query, context: SearchContext) -> QueryResult:
    catalog = context.catalog
    if query.group_by:
        from e2vsearch.search import group

        group.check_groups(catalog, query.group_limits)
    if query.browses:
        return _browse(query, context)
    if query.consistency != "fresh":
        context = context.under(query.consistency)
    resolved = resolve(query, context)
    started = time.perf_counter()
    excluded = NONE if query.include_self else resolved.stored
    candidates = CandidateFilter(_allowed(catalog, query), excluded, _condition(catalog, query))
    rank = _ranker(query, resolved, candidates, context)
    count = context.view.index.count()
    k = min(query.k, max(count, 1))  # tables are k wide: a billion of 42 segments took 22 GB
    ranking = group.cap_groups(catalog, query.group_limits, k, rank) if query.group_by else rank(k)
    hits = fetch_hits(catalog, ranking, partial(context.view.background.scores, count))
    if query.trajectory is not None or query.explain:
        from e2vsearch.search.explain import explain

        hits = explain(hits, query, resolved, ranking, candidates, context)
    _note(query, context, hits)
    filtered = candidates.allowed is not None or excluded.size
    return QueryResult(
        hits=hits,
        searched=ranking.searched,
        total=count if filtered else ranking.searched,
        exact=ranking.exact,
        seconds=time.perf_counter() - started,
        references=tuple(reference.name for reference in resolved.wanted),
        where=query.where,
        text=query.text,
        avoid=tuple(reference.name for reference in resolved.avoided),
        trajectory=query.trajectory is not None,
        hint=None if hits else _hint(query, catalog),
    )


def _browse(query: Query, context: SearchContext) -> QueryResult:
    """Return what meets the filter, the newest first."""
    from e2vsearch.search.browse import newest

    catalog, started = context.catalog, time.perf_counter()
    rank, searched = newest(catalog, query)
    k = min(query.k, max(searched, 1))
    if query.group_by:
        from e2vsearch.search import group

        hits = fetch_hits(catalog, group.cap_groups(catalog, query.group_limits, k, rank))
    else:
        hits = fetch_hits(catalog, rank(k))
    _note(query, context, hits)
    return QueryResult(
        hits=hits,
        searched=searched,
        total=catalog.segment_count(),
        exact=True,
        seconds=time.perf_counter() - started,
        references=(),
        where=query.where,
        text=query.text,
        hint=None if hits else _hint(query, catalog),
    )


def _note(query: Query, context: SearchContext, hits: tuple[Hit, ...]) -> None:
    """Note the query in the audit log, where there is one."""
    if context.catalog.policy.audit:
        context.catalog.audit(context.actor, "query", query.summary(), [hit.segment for hit in hits])


def _hint(query: Query, catalog: Catalog) -> str | None:
    from e2vsearch.catalog.near_values import why_nothing

    return why_nothing(catalog, query.where, query.text)


def _ranker(
    query: Query, resolved: ResolvedQuery, candidates: CandidateFilter, context: SearchContext
) -> Callable[[int], Ranking]:
    """Return what ranks the best n."""
    catalog, index, exact = context.catalog, context.view.index, query.exact
    named = None
    if query.named_vectors:
        from e2vsearch.search.named_vectors import named_vector_score

        named = named_vector_score(catalog, query.named_vectors, resolved.wanted)

    def rank(n: int) -> Ranking:
        if resolved.trajectory:
            from e2vsearch.search.trajectory import rank_trajectories

            return rank_trajectories(catalog, index, resolved.trajectory, n, candidates, exact=exact)
        if resolved.weighted is not None:
            return resolved.weighted.rank(catalog, index, n, query.by, candidates, exact=exact)
        if named is not None:
            return named.rank(catalog, index, resolved.vectors, n, query.by, candidates)
        if query.by == "segment":
            return rank_segments(index, resolved.vectors, n, candidates, exact=exact)
        return rank_recordings(catalog, index, resolved.vectors, n, candidates, exact=exact)

    return rank


def _allowed(catalog: Catalog, query: Query) -> NDArray[np.int64] | None:
    """Return the segments that the filters leave, ascending; None for all."""
    if query.text is None and query.where is None and query.min_probability is None:
        return None
    with telemetry.span("filter") as span:
        allowed = _filtered(catalog, query)
        span.note(segments=None if allowed is None else len(allowed))
    return allowed


def _filtered(catalog: Catalog, query: Query) -> NDArray[np.int64] | None:
    allowed = None
    if query.text is not None:
        from e2vsearch.catalog.text_search import search_text

        allowed = search_text(catalog, query.text, query.where)
    elif query.where is not None:
        allowed = catalog.select(query.where)
    if query.min_probability is None:
        return allowed
    from e2vsearch.catalog.segments import segments_with_emotion, segments_with_label
    from e2vsearch.search.prototypes import canonical_name

    for name, weight in query.emotions.items():
        if weight < 0:
            continue
        kind, _, word = canonical_name(catalog, name).partition(":")
        if kind == "label":
            found = segments_with_label(catalog, word, query.min_probability)
        else:
            labels = catalog.space.labels if catalog.space is not None else ()
            found = segments_with_emotion(catalog, labels.index(word), query.min_probability)
        allowed = found if allowed is None else np.intersect1d(allowed, found)
    return allowed


def _condition(catalog: Catalog, query: Query) -> Condition | None:
    """Return what gives the statement of a filter, None where words or probabilities choose as well."""
    where = query.where
    if where is None or query.text is not None or query.min_probability is not None:
        return None

    def statement() -> SqlFilter | None:
        from e2vsearch.catalog.filter_statement import filter_statement

        return filter_statement(catalog, where)

    return statement


def fetch_hits(
    catalog: Catalog, ranking: Ranking, background: Callable[[], BackgroundScores] | None = None
) -> tuple[Hit, ...]:
    """Return the ranked segments as hits, in order; what another process removed since the search is left out.

    Args:
        catalog: of the collection.
        ranking: which segments, and their scores.
        background: returns cosines of random pairs, for percentiles.

    Raises:
        CatalogError: one is missing that nobody removed.
    """
    segments, recordings = catalog.rows_of_segments(ranking.segments)
    labels = catalog.space.labels if catalog.space is not None else ()
    hits = []
    here = {number for number, (row, _) in segments.items() if row.recording_id in recordings}
    missing = [each for each in ranking.segments if each not in here]
    if missing:
        from e2vsearch.catalog.segments import check_removed

        check_removed(catalog, missing)
    rare = background().percentiles(ranking.segment_scores) if background and segments else ()
    rows = zip_longest(ranking.segments, ranking.scores, ranking.segment_scores, ranking.named_vector_scores, rare)
    for number, score, segment_score, named_vector_scores, percentile in rows:
        if number not in here:
            continue
        segment, annotations = segments[number]
        recording, metadata = recordings[segment.recording_id]
        hits.append(
            Hit(
                score=score,
                recording=recording_id(recording.id),
                segment=segment_id(number),
                name=recording.name,
                uri=recording.uri,
                channel=segment.channel,
                start_s=segment.start_s,
                end_s=segment.end_s,
                segment_score=segment_score,
                emotion=segment.label,
                emotion_score=segment.label_score,
                metadata=metadata,
                scores=to_probabilities(segment.scores, labels),
                text=annotations.get("text"),
                label=annotations.get("label"),
                label_score=annotations.get("label_score"),
                arousal=segment.arousal,
                valence=segment.valence,
                named_vector_scores=named_vector_scores or {},
                percentile=percentile,
                role=recording.roles[segment.channel] if recording.roles else None,
            )
        )
    return tuple(hits)
