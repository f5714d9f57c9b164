"""Scores of several references at once: weighted, to be avoided, or of other models' vectors as well.

With references i of weights W_i, examples j to avoid of weights v_j, and a reference's likeness to a segment s being
the cosine of its nearest segment, a segment's weighted score is ::

    score(s) = Σ W_i · max cos(i, s) / Σ W_i  -  Σ v_j · max(0, max cos(j, s))

Weights of references to find are relative, since it is a mean; those of references to avoid are absolute: 0.5 takes off
half of the likeness. A penalty is never a bonus, so nothing scores more than it would without one. A recording's score
is, as in `rank`, a mean of best matches: over each reference's segments q, of the segment in the recording with the
greatest cos(q, s) - penalty(s), and then over the references by weight. What is avoided thus counts against a segment,
not against a recording for something it holds elsewhere.

The ranking is exact. An index finds the segments nearest to each row to find; since a penalty only takes off, nothing
that it did not find can score above the worst that it did. Where that bound is not below the last hit, and in small
collections at once, every segment that the filter leaves is scored: 20,000 of 384 dimensions in 0.1 s.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.named_vectors import EMOTION, fetch
from e2vsearch.catalog.writer import Catalog
from e2vsearch.search.rank import CandidateFilter, Ranking, in_order, rank_blocks, segments_of
from e2vsearch.types import By, NamedVectors
from e2vsearch.vectors.engine import VectorIndex
from e2vsearch.vectors.exact import unit

_FIRST_SEARCH = 512  # segments asked of the index for each row: penalties reorder them, so more than `rank` asks for
_ALL_CELLS = 400_000  # pairs of a row and a segment: so few are scored sooner than an index is searched


@dataclass(frozen=True, slots=True)
class WeightedPart:
    """One reference with its weight.

    A row may be shorter than one: the weighted mean of the unit vectors of several names, whose inner product with a
    segment is the mean of their cosines.
    """

    name: str
    vectors: NDArray[np.float32]  # (n, dim), of any length
    weight: float
    lengths: NDArray[np.float64] | None = None  # (n,) what each row's cosine is multiplied by, ones by default

    @property
    def scale(self) -> NDArray[np.float64]:
        """Factors of the rows' cosines, ``(n,)``."""
        return np.ones(len(self.vectors)) if self.lengths is None else self.lengths


@dataclass(frozen=True, slots=True)
class WeightedScore:
    """References to find and references to avoid, each with its weight."""

    wanted: tuple[WeightedPart, ...]
    avoided: tuple[WeightedPart, ...] = ()

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Rows of all references to find, ``(q, dim)``."""
        return np.concatenate([part.vectors for part in self.wanted])

    def likeness(self, index: VectorIndex, ids: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return cosines of segments with each row to find ``(q, n)`` and each part to avoid ``(j, n)``."""
        parts = [*self.wanted, *self.avoided]
        cosines = index.scores(np.concatenate([part.vectors for part in parts]), ids).astype(np.float64)
        cosines *= np.concatenate([part.scale for part in parts])[:, None]
        wanted = len(self.vectors)
        rest = np.split(cosines[wanted:], np.cumsum([len(part.vectors) for part in self.avoided])[:-1])
        avoided = [rows.max(axis=0) for rows in rest if len(rows)]
        return cosines[:wanted], np.array(avoided).reshape(len(self.avoided), ids.size)

    def penalty(self, avoided: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what cosines with the parts to avoid ``(j, n)`` take off, ``(n,)``."""
        weights = np.array([part.weight for part in self.avoided])
        taken: NDArray[np.float64] = weights @ np.maximum(avoided, 0.0)
        return taken

    def rank(
        self, catalog: Catalog, index: VectorIndex, k: int, by: By, candidates: CandidateFilter, *, exact: bool = False
    ) -> Ranking:
        """Return the k segments or recordings of the greatest score, with their best segments.

        Args:
            catalog: knows the recording of each segment.
            index: holds the vectors.
            k: how many.
            by: what is ranked.
            candidates: which segments may be answered.
            exact: score every segment at once, without searching the index.
        """
        allowed, excluded = candidates.allowed, candidates.excluded
        total = index.count() if allowed is None else allowed.size
        if not exact and total * len(self.vectors) > _ALL_CELLS:
            matches = index.search(
                self.vectors,
                max(_FIRST_SEARCH, 8 * k),
                allowed=allowed,
                excluded=excluded,
                condition=candidates.condition,
            )
            found, first = np.unique(matches.ids, return_index=True)
            recordings = matches.recordings.ravel()[first][found >= 0]
            found = found[found >= 0]
            if by == "segment":
                ids, recordings = in_order(found, recordings, CandidateFilter())
            else:
                ids, recordings = segments_of(catalog, np.unique(recordings), candidates)
            ranking = self._rank(index, ids, recordings, k, by, matches.searched, matches.exact)
            everything = found.size >= matches.searched
            if everything or (len(ranking.scores) == k and ranking.scores[-1] >= self._bound(matches.scores, by)):
                return ranking
        ids, recordings = in_order(*catalog.feed().recordings_of_segments(), candidates)
        return self._rank(index, ids, recordings, k, by, int(ids.size), True)

    def _bound(self, scores: NDArray[np.float32], by: By) -> float:
        """Return the most that a segment or recording can score that was found for no row.

        Its cosine with a row is below the last that was found for it; penalties of 0 are assumed.
        """
        floors = scores.min(axis=1) * np.concatenate([part.scale for part in self.wanted])
        of_parts = [rows.mean() if by == "recording" else rows.max() for rows in self._split(floors)]
        return float(np.average(of_parts, weights=self._weights)) if np.isfinite(floors).all() else -np.inf

    @property
    def _weights(self) -> list[float]:
        return [part.weight for part in self.wanted]

    def _split(self, rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        return np.split(rows, np.cumsum([len(part.vectors) for part in self.wanted])[:-1])

    def _rank(
        self,
        index: VectorIndex,
        ids: NDArray[np.int64],
        recordings: NDArray[np.int64],
        k: int,
        by: By,
        searched: int,
        exact: bool,
    ) -> Ranking:
        def score(block: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            likeness, avoided = self.likeness(index, block)
            penalty = self.penalty(avoided)
            of_parts = np.stack([part.max(axis=0) for part in self._split(likeness)])
            return likeness - penalty, np.average(of_parts, axis=0, weights=self._weights) - penalty

        def pool(best: NDArray[np.float64]) -> NDArray[np.float64]:
            of_parts = [part.mean(axis=0) for part in self._split(best)]
            pooled: NDArray[np.float64] = np.average(of_parts, axis=0, weights=self._weights)
            return pooled

        top, scores, _ = rank_blocks(ids, recordings, k, by, score, pool)
        nearest = self.likeness(index, ids[top])[0].max(axis=0, initial=-1.0)
        return Ranking(ids[top].tolist(), recordings[top].tolist(), scores.tolist(), nearest.tolist(), searched, exact)


@dataclass(frozen=True, slots=True)
class NamedVectorPart:
    """A set of named vectors with its weight."""

    of: NamedVectors
    weight: float
    units: NDArray[np.float32]  # (1 or q, dim): of the given vector, or of each segment of the query's references


@dataclass(frozen=True, slots=True)
class NamedVectorScore:
    """A weighted mean of cosines: the collection's own, and those of other models' vectors."""

    weight: float  # of the collection's own
    parts: tuple[NamedVectorPart, ...]

    def rank(
        self,
        catalog: Catalog,
        index: VectorIndex,
        vectors: NDArray[np.float32],
        k: int,
        by: By,
        candidates: CandidateFilter,
    ) -> Ranking:
        """Return the k segments or recordings of the greatest score; recordings are scored as in `rank`.

        Args:
            catalog: holds the named vectors.
            index: holds the collection's own.
            vectors: ``(q, dim)`` of the query's references.
            k: how many.
            by: what is ranked.
            candidates: which segments may be answered.
        """
        ids, recordings = in_order(*catalog.feed().recordings_of_segments(), candidates)

        def score(block: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            scores = self._mean(self._cosines(catalog, index, vectors, block))
            return scores, scores.max(axis=0)

        top, scores, _ = rank_blocks(ids, recordings, k, by, score, lambda best: best.mean(axis=0))
        cosines = self._cosines(catalog, index, vectors, ids[top])
        rows = self._mean(cosines).argmax(axis=0) if top.size else np.empty(0, np.int64)
        names = (EMOTION, *(part.of.name for part in self.parts))
        return Ranking(
            ids[top].tolist(),
            recordings[top].tolist(),
            scores.tolist(),
            cosines[0].max(axis=0, initial=-1.0).tolist(),
            int(ids.size),
            True,
            [
                {name: float(part[row, at]) for name, part in zip(names, cosines, strict=True)}
                for at, row in enumerate(rows)
            ],
        )

    def _cosines(
        self, catalog: Catalog, index: VectorIndex, vectors: NDArray[np.float32], ids: NDArray[np.int64]
    ) -> list[NDArray[np.float64]]:
        """Return cosines ``(q, n)`` of each part, the collection's own first; -inf there for a segment that is gone."""
        cosines = [index.scores(vectors, ids).astype(np.float64)]
        for part in self.parts:
            stored, _ = fetch(catalog, part.of, ids)
            of_part = np.clip(part.units @ unit(stored).astype(np.float32).T, -1.0, 1.0)
            cosines.append(np.broadcast_to(of_part.astype(np.float64), cosines[0].shape))
        return cosines

    def _mean(self, cosines: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
        weights = [self.weight, *(part.weight for part in self.parts)]
        gone = np.isneginf(cosines[0])
        total = np.zeros(cosines[0].shape)
        for weight, part in zip(weights, cosines, strict=True):
            total += weight * np.where(gone, 0.0, part)  # not -inf times a weight of 0
        return np.where(gone, -np.inf, total / sum(weights))
