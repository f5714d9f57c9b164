"""Why a hit is one: which moments matched, what both feel, what was taken off, and how rare such likeness is here.

Knows rows, vectors and scores, nothing of how hits were ranked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import segments
from e2vsearch.catalog.writer import Catalog
from e2vsearch.search.resolve import ReferenceSegment, ResolvedReference, is_stored, reference_segments
from e2vsearch.search.score import WeightedScore
from e2vsearch.search.trajectory import AlignedSegment
from e2vsearch.types import Explanation, Hit, Match, NegativeMatch, SharedEmotion, number_of, segment_id
from e2vsearch.vectors.engine import Engine

if TYPE_CHECKING:
    from e2vsearch.collection import Collection


_LEAST = 0.05
"""Probability that an emotion must have in both, to be named as shared."""


@dataclass(frozen=True, slots=True)
class Explainer:
    """One query's references, and the collection that they were held against."""

    collection: Collection
    index: Engine
    rows: Sequence[ReferenceSegment]
    vectors: NDArray[np.float32]  # (rows, dim)
    emotions: Mapping[str, float]  # of the references together: means of their segments' probabilities

    @classmethod
    def of(cls, collection: Collection, index: Engine, references: Sequence[ResolvedReference]) -> Explainer:
        """For these references, whose vectors are the rows."""
        rows = [row for reference in references for row in reference_segments(collection.catalog, reference)]
        vectors = np.concatenate([reference.vectors for reference in references])
        return cls(collection, index, rows, vectors, _emotions(collection.catalog, references))

    def courses(self, hits: Sequence[Hit], met: Mapping[int, Sequence[AlignedSegment]]) -> tuple[Hit, ...]:
        """Hits of an arc with what met in each."""
        numbers = sorted({each.segment for hit in hits for each in met[number_of(hit.recording, "call")]})
        at = self._spans(numbers)
        told = []
        for hit in hits:
            pairs = met[number_of(hit.recording, "call")]
            course = tuple(
                self._match(each.row, each.segment, at[each.segment], each.cosine)
                for each in pairs
                if each.segment in at
            )
            told.append(replace(hit, course=course))
        return tuple(told)

    def reasons(
        self,
        hits: Sequence[Hit],
        mixture: WeightedScore | None,
        *,
        whole: bool,
        allowed: NDArray[np.int64] | None,
        excluded: NDArray[np.int64],
    ) -> tuple[Hit, ...]:
        """Hits with why each is one, and the percentile of its likeness.

        Args:
            hits: as they were found.
            mixture: weights and what is unwanted, where there is any.
            whole: match the reference with all of the call, not with the hit's moment alone.
            allowed: the only segments that could be answered; all when None.
            excluded: segments that could not.
        """
        if not hits:
            return ()
        moments = np.array([number_of(hit.segment, "seg") for hit in hits], np.int64)
        ids, of = moments, np.array([number_of(hit.recording, "call") for hit in hits], np.int64)
        if whole and not any(hit.course for hit in hits):
            ids, of = self.collection.catalog.segments_of(of.tolist())
            keep = ~np.isin(ids, excluded)
            if allowed is not None:
                keep &= np.isin(ids, allowed)
            ids, of = ids[keep], of[keep]
        else:
            whole = False
        likeness, unlike = self._likeness(mixture, ids)
        worth = likeness if mixture is None else likeness - mixture.penalty(unlike)
        stored = self._vectors(moments)
        sample = self.collection.sample()
        chosen = []  # for each hit, the segment that each row matched: columns of `likeness`
        for at, hit in enumerate(hits):
            here = np.flatnonzero(of == number_of(hit.recording, "call")) if whole else np.array([at])
            chosen.append(here[worth[:, here].argmax(axis=1)] if here.size else here)
        where = self._spans(sorted({int(ids[column]) for columns in chosen for column in columns}))
        told = []
        for at, (hit, columns) in enumerate(zip(hits, chosen, strict=True)):
            matches = hit.course or tuple(
                self._match(row, int(ids[column]), where[int(ids[column])], float(likeness[row, column]))
                for row, column in enumerate(columns)
                if int(ids[column]) in where
            )
            column = np.flatnonzero(ids == moments[at])
            against: tuple[NegativeMatch, ...] = ()
            row = self._row_of(hit, likeness[:, column[0]]) if column.size else None
            if column.size and mixture is not None:
                cosines = zip(mixture.unwanted, unlike[:, column[0]].tolist(), strict=True)
                against = tuple(
                    NegativeMatch(part.named, part.weight, cosine, part.weight * max(0.0, cosine))
                    for part, cosine in cosines
                )
            emotion_part = None
            if row is not None and int(moments[at]) in stored:
                emotion_part = sample.emotion_part(self.vectors[row], stored[int(moments[at])])
                if emotion_part is not None and mixture is not None:
                    emotion_part *= float(np.concatenate([part.scale for part in mixture.wanted])[row])
            rest = None if emotion_part is None else hit.moment_score - emotion_part
            why = Explanation(matches, self._shared(hit), against, emotion_part, rest)
            told.append(replace(hit, percentile=sample.percentile(hit.moment_score), why=why))
        return tuple(told)

    def _likeness(
        self, mixture: WeightedScore | None, ids: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if mixture is not None:
            return mixture.likeness(self.index, ids)
        return self.index.scores(self.vectors, ids).astype(np.float64), np.zeros((0, ids.size))

    def _row_of(self, hit: Hit, likeness: NDArray[np.float64]) -> int | None:
        """The row that `moment_score` is of: of a course the one that met, else the nearest."""
        if not hit.course:
            return int(likeness.argmax())
        return int(np.abs(likeness - hit.moment_score).argmin())

    def _match(self, row: int, segment: int, span: tuple[float, float], cosine: float) -> Match:
        told = self.rows[row]
        return Match(told.named, told.start_s, told.end_s, segment_id(segment), *span, cosine)

    def _spans(self, numbers: Sequence[int]) -> dict[int, tuple[float, float]]:
        found = segments.segment_columns(self.collection.catalog, segments=numbers)
        times = zip(found.start_s.tolist(), found.end_s.tolist(), strict=True)
        return dict(zip(found.ids.tolist(), times, strict=True))

    def _vectors(self, numbers: NDArray[np.int64]) -> dict[int, NDArray[np.float32]]:
        batch = self.collection.feed().fetch(np.unique(numbers))
        return dict(zip(batch.ids.tolist(), batch.vectors, strict=True))

    def _shared(self, hit: Hit) -> tuple[SharedEmotion, ...]:
        both = [
            SharedEmotion(name, score, hit.scores[name])
            for name, score in self.emotions.items()
            if min(score, hit.scores.get(name, 0.0)) >= _LEAST
        ]
        return tuple(sorted(both, key=lambda each: -min(each.reference, each.moment)))


def _emotions(catalog: Catalog, references: Sequence[ResolvedReference]) -> dict[str, float]:
    """What the references feel like: the mean over all of their segments of which anything is known."""
    labels = catalog.space.labels if catalog.space is not None else ()
    known: list[Mapping[str, float]] = []
    for reference in references:
        if reference.moments:
            heard = [each.scores for each in reference.moments if each.scores is not None]
            known += [dict(zip(labels, scores.tolist(), strict=True)) for scores in heard]
        elif is_stored(reference):
            known += [segment.scores for _, segment in catalog.segments(reference.itself.tolist()) if segment.scores]
        else:
            names = [name.removeprefix("emotion:") for name in reference.named.split(" + ")]
            if all(name in labels for name in names):
                known += [{name: 1.0} for name in names]
    return {label: sum(each.get(label, 0.0) for each in known) / len(known) for label in labels} if known else {}
