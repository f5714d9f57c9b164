"""Explains why a hit is one: which segments matched, which emotions both have, what was taken off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.segments import segment_columns
from e2vsearch.catalog.writer import Catalog
from e2vsearch.search.context import SearchContext
from e2vsearch.search.query import Query
from e2vsearch.search.rank import CandidateFilter, Ranking
from e2vsearch.search.resolve import ReferenceSegment, ResolvedQuery, ResolvedReference, reference_segments
from e2vsearch.search.score import WeightedScore
from e2vsearch.search.trajectory import AlignedSegment
from e2vsearch.types import Explanation, Hit, Match, NegativeMatch, SharedEmotion, number_of, segment_id

_LEAST = 0.05
"""Probability that an emotion must have in both, to be named as shared."""


def explain(
    hits: Sequence[Hit],
    query: Query,
    resolved: ResolvedQuery,
    ranking: Ranking,
    candidates: CandidateFilter,
    context: SearchContext,
) -> tuple[Hit, ...]:
    """Return the hits with their alignments, of a trajectory, and the explanation of each, if the query asks for it."""
    explainer = Explainer.of(context, resolved)
    if query.trajectory is not None:
        hits = explainer.aligned(hits, dict(zip(ranking.recordings, ranking.alignments, strict=True)))
    if not query.explain:
        return tuple(hits)
    # with named vectors, a segment's score is what all parts say of it together
    whole = query.by == "recording" and query.trajectory is None and not query.named_vectors
    return explainer.explained(hits, candidates, whole=whole)


@dataclass(frozen=True, slots=True)
class Explainer:
    """One query's references, and the collection that they were compared with."""

    context: SearchContext
    weighted: WeightedScore | None
    rows: Sequence[ReferenceSegment]
    vectors: NDArray[np.float32]  # (rows, dim)
    emotions: Mapping[str, float]  # of the references together: means of their segments' probabilities

    @classmethod
    def of(cls, context: SearchContext, resolved: ResolvedQuery) -> Explainer:
        """Return the explainer of a resolved query, whose vectors are the rows."""
        catalog = context.catalog
        rows = [row for reference in resolved.wanted for row in reference_segments(catalog, reference)]
        return cls(context, resolved.weighted, rows, resolved.vectors, _emotions(catalog, resolved.wanted))

    def aligned(self, hits: Sequence[Hit], alignments: Mapping[int, Sequence[AlignedSegment]]) -> tuple[Hit, ...]:
        """Return hits of a trajectory with the segments that the best path aligns in each."""
        of_hits = [alignments[number_of(hit.recording, "call")] for hit in hits]
        times = self._times(sorted({each.segment for pairs in of_hits for each in pairs}))
        return tuple(
            replace(
                hit,
                alignment=tuple(
                    self._match(each.row, each.segment, times[each.segment], each.cosine)
                    for each in pairs
                    if each.segment in times
                ),
            )
            for hit, pairs in zip(hits, of_hits, strict=True)
        )

    def explained(self, hits: Sequence[Hit], candidates: CandidateFilter, *, whole: bool) -> tuple[Hit, ...]:
        """Return hits with why each is one.

        Args:
            hits: as they were found.
            candidates: which segments could be answered.
            whole: match the reference with all of the recording, not with the hit's segment alone.
        """
        if not hits:
            return ()
        segments = np.array([number_of(hit.segment, "seg") for hit in hits], np.int64)
        ids, of = segments, np.array([number_of(hit.recording, "call") for hit in hits], np.int64)
        if whole:
            ids, of = self.context.catalog.segments_of(of.tolist())
            kept = candidates.mask(ids)
            ids, of = ids[kept], of[kept]
        likeness, avoided = self._likeness(ids)
        worth = likeness if self.weighted is None else likeness - self.weighted.penalty(avoided)
        chosen = []  # for each hit, the segment that each row matched: columns of `likeness`
        for at, hit in enumerate(hits):
            here = np.flatnonzero(of == number_of(hit.recording, "call")) if whole else np.array([at])
            chosen.append(here[worth[:, here].argmax(axis=1)] if here.size else here)
        times = self._times(sorted({int(ids[column]) for columns in chosen for column in columns}))
        explained = []
        for number, hit, columns in zip(segments, hits, chosen, strict=True):
            matches = hit.alignment or tuple(
                self._match(row, int(ids[column]), times[int(ids[column])], float(likeness[row, column]))
                for row, column in enumerate(columns)
                if int(ids[column]) in times
            )
            column = np.flatnonzero(ids == number)
            penalties = self._penalties(avoided[:, column[0]]) if column.size else ()
            why = Explanation(matches, self._shared(hit), penalties)
            explained.append(replace(hit, why=why))
        return tuple(explained)

    def _likeness(self, ids: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        index = self.context.view.index
        if self.weighted is not None:
            return self.weighted.likeness(index, ids)
        return index.scores(self.vectors, ids).astype(np.float64), np.zeros((0, ids.size))

    def _penalties(self, cosines: NDArray[np.float64]) -> tuple[NegativeMatch, ...]:
        parts = self.weighted.avoided if self.weighted is not None else ()
        pairs = zip(parts, cosines.tolist(), strict=True)
        return tuple(
            NegativeMatch(part.name, part.weight, cosine, part.weight * max(0.0, cosine)) for part, cosine in pairs
        )

    def _match(self, row: int, segment: int, times: tuple[float, float], cosine: float) -> Match:
        of = self.rows[row]
        return Match(of.name, of.start_s, of.end_s, segment_id(segment), *times, cosine)

    def _times(self, numbers: Sequence[int]) -> dict[int, tuple[float, float]]:
        found = segment_columns(self.context.catalog, segments=numbers)
        times = zip(found.start_s.tolist(), found.end_s.tolist(), strict=True)
        return dict(zip(found.ids.tolist(), times, strict=True))

    def _shared(self, hit: Hit) -> tuple[SharedEmotion, ...]:
        both = [
            SharedEmotion(name, score, hit.scores[name])
            for name, score in self.emotions.items()
            if min(score, hit.scores.get(name, 0.0)) >= _LEAST
        ]
        return tuple(sorted(both, key=lambda each: -min(each.reference, each.segment)))


def _emotions(catalog: Catalog, references: Sequence[ResolvedReference]) -> dict[str, float]:
    """Return the mean class probabilities of all of the references' segments of which any are known."""
    labels = catalog.space.labels if catalog.space is not None else ()
    known: list[Mapping[str, float]] = []
    for reference in references:
        if reference.segments:
            found = [each.scores for each in reference.segments if each.scores is not None]
            known += [dict(zip(labels, scores.tolist(), strict=True)) for scores in found]
        elif reference.is_stored:
            known += [segment.scores for _, segment in catalog.segments(reference.stored.tolist()) if segment.scores]
        else:
            names = [name.removeprefix("emotion:") for name in reference.name.split(" + ")]
            if all(name in labels for name in names):
                known += [{name: 1.0} for name in names]
    return {label: sum(each.get(label, 0.0) for each in known) / len(known) for label in labels} if known else {}
