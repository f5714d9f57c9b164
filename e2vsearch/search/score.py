"""Several references in one score: some that hits should be like, by weight, some that they should be unlike.

With references i of weights W_i, unwanted examples j of weights v_j, and a reference's likeness to a moment s being the
cosine of its nearest segment, a moment's score is ::

    score(s) = Σ W_i · max cos(i, s) / Σ W_i  -  Σ v_j · max(0, max cos(j, s))

Weights of what is wanted are relative, since it is a mean; the weight of what is not is absolute: 0.5 takes off half
of the likeness. A penalty is never a bonus, so nothing scores more than it would without one. A call's score is, as in
`ranking`, a mean of best matches: over each reference's segments q, of the moment in the call with the greatest
cos(q, s) - penalty(s), and then over the references by weight. What is unwanted thus counts against a moment, not
against a call for something it holds elsewhere.

The answer is exact. An index finds the moments nearest to each wanted segment; since a penalty only takes off, nothing
that it did not find can score above the worst that it did. Where that bound is not below the last hit, and in small
collections at once, every segment that the filter leaves is scored: 20,000 of 384 dimensions in 0.1 s.

Knows vectors and numbers, nothing of audio or of names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.named_vectors import EMOTION, fetch, get
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import QueryError
from e2vsearch.projections.base import unit
from e2vsearch.search.query import NamedVectorWeights
from e2vsearch.search.rank import Ranking
from e2vsearch.search.resolve import ResolvedReference, resolve_named_vector
from e2vsearch.types import By, NamedVectors
from e2vsearch.vectors.faiss.index import FaissEngine

_FIRST_LOOK = 512  # segments asked of the index for each wanted one: penalties reorder them, so more than `ranking`

_ALL_CELLS = 400_000  # pairs of a wanted row and a segment: so few are scored sooner than an index is asked

_BLOCK = 16_384  # segments scored at once: 64 MiB of 1024-d vectors


@dataclass(frozen=True, slots=True)
class WeightedPart:
    """One reference with its weight.

    A row may be shorter than one: the weighted mean of the unit vectors of several names, whose inner product with a
    moment is the mean of their cosines.
    """

    named: str
    vectors: NDArray[np.float32]  # (n, dim), of any length
    weight: float
    lengths: NDArray[np.float64] | None = None  # (n,) what each row's cosine is multiplied by, ones by default

    @property
    def scale(self) -> NDArray[np.float64]:
        """What each row's cosine is multiplied by, ``(n,)``."""
        return np.ones(len(self.vectors)) if self.lengths is None else self.lengths


@dataclass(frozen=True, slots=True)
class WeightedScore:
    """What hits should be like, and what they should be unlike."""

    wanted: tuple[WeightedPart, ...]
    unwanted: tuple[WeightedPart, ...] = ()

    @property
    def vectors(self) -> NDArray[np.float32]:
        """Rows of all that is wanted, ``(q, dim)``."""
        return np.concatenate([part.vectors for part in self.wanted])

    def likeness(self, index: FaissEngine, ids: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How like each wanted row ``(q, n)`` and each unwanted part ``(j, n)`` segments are."""
        every = [*self.wanted, *self.unwanted]
        cosines = index.scores(np.concatenate([part.vectors for part in every]), ids).astype(np.float64)
        cosines *= np.concatenate([part.scale for part in every])[:, None]
        wanted = len(self.vectors)
        rest = np.split(cosines[wanted:], np.cumsum([len(part.vectors) for part in self.unwanted])[:-1])
        unlike = [rows.max(axis=0) for rows in rest if len(rows)]
        return cosines[:wanted], np.array(unlike).reshape(len(self.unwanted), ids.size)

    def penalty(self, unlike: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the likeness to unwanted parts ``(j, n)`` takes off, ``(n,)``."""
        weights = np.array([part.weight for part in self.unwanted])
        taken: NDArray[np.float64] = weights @ np.maximum(unlike, 0.0)
        return taken

    def rank(
        self,
        catalog: Catalog,
        index: FaissEngine,
        k: int,
        by: By,
        allowed: NDArray[np.int64] | None,
        excluded: NDArray[np.int64],
        *,
        exact: bool = False,
    ) -> Ranking:
        """The k segments or calls of the greatest score, and their best moments.

        Args:
            catalog: knows which segments are of which call.
            index: holds the vectors.
            k: how many.
            by: what is ranked.
            allowed: the only segments that may be answered; all when None.
            excluded: segments that may not.
            exact: score every segment at once, without asking the index.
        """
        total = index.count() if allowed is None else allowed.size
        if not exact and total * len(self.vectors) > _ALL_CELLS:
            look = max(_FIRST_LOOK, 8 * k)
            matches = index.search(self.vectors, look, allowed=allowed, excluded=excluded)
            found = np.unique(matches.ids[matches.ids >= 0])
            calls = np.unique(matches.recordings[matches.recordings >= 0])
            if by == "segment":
                ids, recordings = _by_recording(*_pairs(matches.ids, matches.recordings))
            else:
                ids, recordings = _by_recording(*catalog.segments_of(calls.tolist()))
                keep = _kept(ids, allowed, excluded)
                ids, recordings = ids[keep], recordings[keep]
            ranked = self._ranked(index, ids, recordings, k, by, matches.searched, matches.exact)
            everything = found.size >= matches.searched
            if everything or (len(ranked.scores) == k and ranked.scores[-1] >= self._bound(matches.scores, by)):
                return ranked
        ids, recordings = catalog.feed().recordings_of_segments()
        keep = _kept(ids, allowed, excluded)
        ids, recordings = ids[keep], recordings[keep]
        return self._ranked(index, ids, recordings, k, by, int(ids.size), True)

    def _bound(self, scores: NDArray[np.float32], by: By) -> float:
        """The most that a segment or call can score that was found for none of the wanted rows.

        It is less like a row than the last that was found for it; penalties of 0 are assumed.
        """
        floors = scores.min(axis=1) * np.concatenate([part.scale for part in self.wanted])
        of_parts = [rows.mean() if by == "call" else rows.max() for rows in self._each(floors)]
        return float(np.average(of_parts, weights=self._weights)) if np.isfinite(floors).all() else -np.inf

    @property
    def _weights(self) -> list[float]:
        return [part.weight for part in self.wanted]

    def _each(self, rows: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        return np.split(rows, np.cumsum([len(part.vectors) for part in self.wanted])[:-1])

    def _ranked(
        self,
        index: FaissEngine,
        ids: NDArray[np.int64],
        recordings: NDArray[np.int64],
        k: int,
        by: By,
        searched: int,
        exact: bool,
    ) -> Ranking:
        """The best of some segments, which must be in order of their recordings."""
        calls, starts, call_of = np.unique(recordings, return_index=True, return_inverse=True)
        best = np.full((len(self.vectors), calls.size), -np.inf)  # of each call, for each wanted row
        moments, nearest = np.full(ids.size, -np.inf), np.full(ids.size, -np.inf)
        for start in range(0, ids.size, _BLOCK):
            block = slice(start, start + _BLOCK)
            likeness, unlike = self.likeness(index, ids[block])
            penalty = self.penalty(unlike)
            here = np.stack([part.max(axis=0) for part in self._each(likeness)])
            moments[block] = np.average(here, axis=0, weights=self._weights) - penalty
            nearest[block] = likeness.max(axis=0)
            firsts = np.flatnonzero(np.diff(call_of[block], prepend=-1))
            of = call_of[block][firsts]
            best[:, of] = np.maximum(best[:, of], np.maximum.reduceat(likeness - penalty, firsts, axis=1))
        if by == "segment":
            top = _top(moments, k)
            overall = moments[top]
        else:
            of_calls = np.average([part.mean(axis=0) for part in self._each(best)], axis=0, weights=self._weights)
            ends = np.append(starts[1:], ids.size)
            in_order = _top(of_calls, k)
            top = np.array([starts[at] + moments[starts[at] : ends[at]].argmax() for at in in_order], np.int64)
            overall = of_calls[in_order]
        columns = ids[top].tolist(), recordings[top].tolist(), overall.tolist(), nearest[top].tolist()
        return Ranking(*columns, searched, exact)


def _top(scores: NDArray[np.float64], k: int) -> NDArray[np.intp]:
    order = np.argsort(-scores, kind="stable")[:k]
    return order[np.isfinite(scores[order])]


def _kept(ids: NDArray[np.int64], allowed: NDArray[np.int64] | None, excluded: NDArray[np.int64]) -> NDArray[np.bool_]:
    keep = ~np.isin(ids, excluded)
    return keep if allowed is None else keep & np.isin(ids, allowed)


def _pairs(ids: NDArray[np.int64], recordings: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    found, first = np.unique(ids, return_index=True)
    return found[found >= 0], recordings.ravel()[first][found >= 0]


def _by_recording(ids: NDArray[np.int64], recordings: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    order = np.lexsort((ids, recordings))
    return ids[order], recordings[order]


_FUSED_BLOCK = 4096  # segments scored at once: 16 MiB of 1024-d vectors


@dataclass(frozen=True, slots=True)
class _Part:
    side: NamedVectors
    weight: float
    units: NDArray[np.float32]  # (1 or q, dim): of the side's reference, or of each segment of the query's


@dataclass(frozen=True, slots=True)
class NamedVectorScore:
    """Weights and references of one query, resolved."""

    weight: float  # of the emotion
    parts: tuple[_Part, ...]

    @classmethod
    def of(
        cls, catalog: Catalog, fuse: NamedVectorWeights, references: Sequence[ResolvedReference]
    ) -> NamedVectorScore:
        """What `fuse` means for these references.

        Raises:
            QueryError: a weight or vector that cannot be used, or no reference for a side.
            NotStored: a side or segment that is not there.
        """
        weight = 1.0
        parts = []
        for name, value in fuse.items():
            given, source = value if isinstance(value, tuple) else (value, None)
            if not isfinite(given) or given < 0:
                raise QueryError(f"the weight of {name} must be 0 or more, not {given}")
            if name == EMOTION:
                if source is not None:
                    raise QueryError(f"{EMOTION} takes a weight alone: its reference is the query's own")
                weight = float(given)
                continue
            side = get(catalog, name)
            parts.append(_Part(side, float(given), resolve_named_vector(catalog, side, source, references)))
        if not weight + sum(part.weight for part in parts):
            raise QueryError("all weights are 0 - give at least one part a weight, such as text=0.5")
        return cls(weight, tuple(parts))

    def rank(
        self,
        catalog: Catalog,
        index: FaissEngine,
        vectors: NDArray[np.float32],
        k: int,
        by: By,
        allowed: NDArray[np.int64] | None,
        excluded: NDArray[np.int64],
    ) -> Ranking:
        """The k segments or calls that are most alike, all things weighed; moments as in `ranking`.

        Args:
            catalog: holds the side vectors.
            index: holds the emotion's.
            vectors: ``(q, dim)`` of the query's references.
            k: how many.
            by: what is ranked.
            allowed: the only segments that may be answered; all when None.
            excluded: segments that may not.
        """
        ids, recordings = catalog.feed().recordings_of_segments()
        keep = ~np.isin(ids, excluded)
        if allowed is not None:
            keep &= np.isin(ids, allowed)
        ids, recordings = ids[keep], recordings[keep]
        calls, starts, call_of = np.unique(recordings, return_index=True, return_inverse=True)
        best = np.full((len(vectors), calls.size), -np.inf)  # of each call, for each segment of the reference
        moments = np.full(ids.size, -np.inf)
        for start in range(0, ids.size, _FUSED_BLOCK):
            block = slice(start, start + _FUSED_BLOCK)
            scores = self._mean(self._cosines(catalog, index, vectors, ids[block]))
            moments[block] = scores.max(axis=0)
            firsts = np.flatnonzero(np.diff(call_of[block], prepend=-1))  # recordings ascend: a call's rows are one run
            here = call_of[block][firsts]
            best[:, here] = np.maximum(best[:, here], np.maximum.reduceat(scores, firsts, axis=1))
        if by == "segment":
            top = _top(moments, k)
            overall = moments[top]
        else:
            of_calls = best.mean(axis=0)
            ends = np.append(starts[1:], ids.size)
            in_order = _top(of_calls, k)
            top = np.array([starts[at] + moments[starts[at] : ends[at]].argmax() for at in in_order], np.int64)
            overall = of_calls[in_order]
        chosen = ids[top]
        cosines = self._cosines(catalog, index, vectors, chosen)
        rows = self._mean(cosines).argmax(axis=0) if chosen.size else np.empty(0, np.int64)
        names = (EMOTION, *(part.side.name for part in self.parts))
        return Ranking(
            chosen.tolist(),
            recordings[top].tolist(),
            overall.tolist(),
            cosines[0].max(axis=0, initial=-1.0).tolist(),
            int(ids.size),
            True,
            [
                {name: float(part[row, at]) for name, part in zip(names, cosines, strict=True)}
                for at, row in enumerate(rows)
            ],
        )

    def _cosines(
        self, catalog: Catalog, index: FaissEngine, vectors: NDArray[np.float32], ids: NDArray[np.int64]
    ) -> list[NDArray[np.float64]]:
        """Cosines ``(q, n)`` of each part, the emotion's first; -inf there for a segment that is gone."""
        cosines = [index.scores(vectors, ids).astype(np.float64)]
        for part in self.parts:
            stored, _ = fetch(catalog, part.side, ids)
            side = np.clip(part.units @ unit(stored).astype(np.float32).T, -1.0, 1.0)
            cosines.append(np.broadcast_to(side.astype(np.float64), cosines[0].shape))
        return cosines

    def _mean(self, cosines: list[NDArray[np.float64]]) -> NDArray[np.float64]:
        weights = [self.weight, *(part.weight for part in self.parts)]
        gone = np.isneginf(cosines[0])
        total = np.zeros(cosines[0].shape)
        for weight, part in zip(weights, cosines, strict=True):
            total += weight * np.where(gone, 0.0, part)  # not -inf times a weight of 0
        return np.where(gone, -np.inf, total / sum(weights))
