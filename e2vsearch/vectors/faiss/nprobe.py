"""The recall model: how many lists a target recall takes at each depth, fitted once and measured.

``nprobe`` lists hold of a query's nearest k rows those whose list is among the ``nprobe`` nearest; no re-rank finds
more. The ranks of these lists, taken once for held-out vectors, are the model. They give the fewest lists that a target
takes, from where FAISS itself is searched, since codes lose some more; and the lists that hold the same share of deeper
results. A filter that leaves one row in r turns the nearest k into about the nearest k r of all, so both kinds of
search read their ``nprobe`` off the same curve.

Recall is measured on stored vectors that the lists were not trained on, each left out of its own results, and on the
last real queries where enough are kept; the lower of the two is reported. A setting has to reach its target on both
halves of the held-out vectors with a standard error to spare; the second half's recall is reported.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np

from e2vsearch.vectors.engine import Progress
from e2vsearch.vectors.exact import Float32s, Float64s, Ints
from e2vsearch.vectors.faiss.ivf import Ivf
from e2vsearch.vectors.recall import PROVEN, ExactNeighbours, Measured, held_out

MIN_QUERIES = 32  # fewer say too little about recall
_FACTORS = {"ivf-rabitq": (2, 3, 5, 8, 12, 20), "ivf-flat": (1,)}
MOST_CANDIDATES = 5000  # re-ranked a query
_QUERY_LISTS = 8  # times the lists that stored vectors need, which queries unlike anything stored may cost at most
_PART_BYTES = 1 << 26  # of lists, read for some queries at a time: a million rows of 1024-d have 4 GB as ivf-flat
_SCATTERED = 3  # times: 20 vectors of 4 KiB here and there take 0.07 ms, 240 KB of codes as much
_PAYING = 2  # times the fewest lists: more of them for a shallower re-rank of 256 cost what 20 to 255 do not get back
_DEPTHS = (1, 2, 5, 10, 25, 50, 100)  # times k; straight lines of logarithms between them
_MOST_MISSED = 0.25  # of what the target lets be missed: the last rows of all hang on single queries


@dataclass(frozen=True, slots=True)
class Tuning:
    """Number of lists to visit and candidates to re-rank for k results, and the recall that this gives."""

    k: int
    nprobe: int
    k_factor: int  # candidates re-ranked exactly, in multiples of k
    recall: float  # of the exact top k: the lower of the two below
    recall_stored: float  # on stored vectors that no list was trained on
    sample_stored: int  # how many
    recall_queries: float | None  # on the last real queries; None where too few are kept
    sample_queries: int

    @property
    def candidates(self) -> int:
        """Return the rows to re-rank for up to k results: coarse codes seldom rank the first one first."""
        return self.k * self.k_factor


@dataclass(frozen=True, slots=True)
class RecallModel:
    """Number of lists that hold a query's nearest rows, as a function of how many rows, at one share of them."""

    points: tuple[tuple[int, int], ...]  # nearest rows, rising, and lists that hold enough of them

    @classmethod
    def fit(cls, ranks: Ints, k: int, nprobe: int, target: float) -> RecallModel:
        """Return the model in which as large a share of deeper results is held as `nprobe` lists hold of the nearest k.

        Args:
            ranks: ``(q, m)``, of each query's nearest rows, nearest first, how many lists are nearer than the row's.
            k: results that `nprobe` was chosen for.
            nprobe: lists they take.
            target: recall they were chosen for.
        """
        share = min(float((ranks[:, :k] < nprobe).mean()), 1 - _MOST_MISSED * (1 - target))
        points = [(k, nprobe)]
        for depth in (k * times for times in _DEPTHS[1:]):
            if depth > ranks.shape[1]:
                break
            ordered = np.sort(ranks[:, :depth], axis=None)
            lists = int(ordered[max(math.ceil(share * ordered.size), 1) - 1]) + 1
            points.append((depth, max(lists, points[-1][1])))
        return cls(tuple(points))

    def lists_for(self, rows: Float64s) -> Float64s:
        """Return the lists that so many nearest rows take: on lines of logarithms, beyond the last in proportion."""
        depths, lists = np.log(np.array(self.points, np.float64)).T
        depth = np.log(rows)
        found: Float64s = np.exp(np.interp(depth, depths, lists) + np.maximum(depth - depths[-1], 0))
        return found


@dataclass(frozen=True, slots=True)
class Tuned:
    """What an index promises, and how well that was measured."""

    target: float  # recall that the settings were chosen for
    tunings: tuple[Tuning, ...]  # rising k; the first is the one shown. None: exact
    model: RecallModel | None  # None: exact
    measured: str  # how the recall was
    measured_at: str  # UTC, ISO 8601
    note: str  # such as a target that real queries miss

    @classmethod
    def exact(cls, target: float) -> Tuned:
        """Return the promise of an index that leaves nothing out, so that nothing has to be measured."""
        return cls(target, (), None, "exact by construction", _now(), "")

    @property
    def recall(self) -> float:
        """Return the share of the exact top 20 that is found; 1.0 for flat."""
        return self.tunings[0].recall if self.tunings else 1.0

    @property
    def nprobe(self) -> int | None:
        """Return the lists visited for 20 results without a filter."""
        return self.tunings[0].nprobe if self.tunings else None

    @property
    def k_factor(self) -> int | None:
        """Return the candidates re-ranked for 20 results, in multiples of 20."""
        return self.tunings[0].k_factor if self.tunings else None

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Tuned:
        """Return what `dataclasses.asdict` and JSON made of one.

        Raises:
            TypeError, KeyError, ValueError: they did not.
        """
        tunings = tuple(Tuning(**tuning) for tuning in fields["tunings"])
        model = fields["model"]
        if model is not None:
            model = RecallModel(tuple((int(rows), int(lists)) for rows, lists in model["points"]))
        return cls(**{**fields, "tunings": tunings, "model": model})


@dataclass(frozen=True, slots=True)
class TuningData:
    """The rows of an index, its target recall, and what that is measured on."""

    vectors: Float32s  # (n, dim) unit rows, usually mapped
    ids: Ints  # (n,) of the rows
    queries: Float32s  # (q, dim) the last real queries, unit rows; fewer than 32 are left aside
    target: float  # recall to reach
    seed: int  # of everything random, such as the choice of held-out vectors
    progress: Progress  # called with (stage, done, total)


class Trial:
    """Queries with known neighbours, searched through lists."""

    def __init__(
        self, ivf: Ivf, vectors: Float32s, queries: Float32s, own: Ints | None, most: int, *, margin: bool = True
    ) -> None:
        """Compare each query with each vector, once.

        Args:
            ivf: the lists.
            vectors: ``(n, dim)`` unit rows, usually mapped; read a part at a time.
            queries: ``(q, dim)`` unit rows.
            own: as for `ExactNeighbours`.
            most: results that will be tried.
            margin: recall has to be above a target by a standard error; False where the sample is all there is.
        """
        self._ivf = ivf
        self._margin = margin
        self._list_bytes = len(vectors) / ivf.nlist * ivf.row_bytes
        self._row_bytes = vectors.shape[1] * 4
        self.neighbours = ExactNeighbours.mapped(vectors, queries, own, most)

    @cached_property
    def ranks(self) -> Ints:
        """Of each query's nearest rows, how many lists are nearer than the row's own: ``(q, m)``, nearest first."""
        near = self._ivf.nearest(self.neighbours.queries, self._ivf.nlist).lists
        rank_of = np.empty_like(near)
        np.put_along_axis(rank_of, near, np.arange(near.shape[1])[None], axis=1)
        return np.take_along_axis(rank_of, self._ivf.list_of_row[self.neighbours.rows()], axis=1)

    def fewest_lists(self, k: int, target: float) -> int:
        """Return the fewest lists that hold enough of the exact top k: with fewer, no re-rank reaches the target."""
        ranks = self.ranks[: self.neighbours.sample(k), :k]

        def reached(lists: int) -> bool:
            return self.enough(Measured.of((ranks < lists).mean(axis=1, keepdims=True))[0], target)

        return bisect.bisect_left(range(1, self._ivf.nlist), True, key=reached) + 1

    def recalls(self, k: int, nprobe: int, factors: Sequence[int]) -> list[Measured]:
        """Return the recall of the exact top k for each factor, as FAISS finds it."""
        count = self.neighbours.sample(k)
        step = max(1, int(_PART_BYTES / (nprobe * self._list_bytes)))
        found = []
        for start in range(0, count, step):
            some = self.neighbours.queries[start : min(start + step, count)]
            found.append(self._ivf.search(some, k * factors[-1] + 1, nprobe))
            self._ivf.release_pages()
        return self.neighbours.recalls(np.concatenate(found), k, [k * factor for factor in factors])

    def recall(self, k: int, nprobe: int, factor: int) -> Measured:
        """Return the recall of the exact top k at one setting."""
        return self.recalls(k, nprobe, [factor])[0]

    def enough(self, measured: Measured, target: float) -> bool:
        """Tell whether a recall reaches a target."""
        return (measured.lower_bound if self._margin else measured.recall) >= target

    def cost(self, k: int, nprobe: int, factor: int) -> float:
        """Return the bytes that a query reads: codes of the lists, which lie in a row, and vectors re-ranked."""
        return float(nprobe * self._list_bytes + _SCATTERED * k * factor * self._row_bytes)


def most_candidates(kind: str) -> int:
    """Return the most candidates that are re-ranked, in multiples of k: what is missed then is in other lists."""
    return _FACTORS[kind][-1]


def measure_recall(
    ivf: Ivf, vectors: Float32s, ids: Ints, tuning: Tuning, seed: int, queries: Float32s | None
) -> tuple[float, float | None]:
    """Return a setting's recall as `tune` measures it: of stored vectors, and of enough last queries, else None."""
    reporting = held_out(ids, seed)[1]
    stored = Trial(ivf, vectors, vectors[reporting], reporting, tuning.k)
    recall = stored.recall(tuning.k, tuning.nprobe, tuning.k_factor).recall
    if queries is None or len(queries) < MIN_QUERIES:
        return recall, None
    real = Trial(ivf, vectors, queries, None, tuning.k)
    return recall, real.recall(tuning.k, tuning.nprobe, tuning.k_factor).recall


def tune(ivf: Ivf, kind: str, data: TuningData) -> Tuned | None:
    """Return the cheapest setting that reaches the target, for each k that can be proven; None if the first cannot."""
    vectors, target = data.vectors, data.target
    ks = [k for k, _ in PROVEN if 10 * k <= len(vectors)]
    stored = [Trial(ivf, vectors, vectors[rows], rows, ks[-1]) for rows in held_out(data.ids, data.seed)]
    real = None
    if len(data.queries) >= MIN_QUERIES:
        real = Trial(ivf, vectors, data.queries, None, ks[-1], margin=False)
    tunings: list[Tuning] = []
    for done, k in enumerate(ks):
        data.progress("tune", done, len(ks))
        factors = [factor for factor in _FACTORS[kind] if factor * k <= max(MOST_CANDIDATES, k)]
        chosen = _cheapest(stored, k, factors, target, ivf.nlist)
        if chosen is None:
            break
        if real is not None and not real.enough(real.recall(k, *chosen), target):
            most = min(ivf.nlist, _QUERY_LISTS * chosen[0])
            chosen = _cheapest([*stored, real], k, factors, target, most) or (most, factors[-1])
        of_stored = round(stored[-1].recall(k, *chosen).recall, 4)
        of_queries = None if real is None else round(real.recall(k, *chosen).recall, 4)
        tunings.append(
            Tuning(
                k,
                *chosen,
                recall=of_stored if of_queries is None else min(of_stored, of_queries),
                recall_stored=of_stored,
                sample_stored=stored[-1].neighbours.sample(k),
                recall_queries=of_queries,
                sample_queries=0 if real is None else real.neighbours.sample(k),
            )
        )
    data.progress("tune", len(ks), len(ks))
    if not tunings:
        return None
    first = tunings[0]
    missed = _missed(first, target)
    # real queries may lie further away than stored vectors, so deeper results are taken from them where they can be
    model = RecallModel.fit((stored[-1] if real is None or missed else real).ranks, first.k, first.nprobe, target)
    return Tuned(target, tuple(tunings), model, _how(first), _now(), missed)


def _cheapest(
    trials: Sequence[Trial], k: int, factors: Sequence[int], target: float, most: int
) -> tuple[int, int] | None:
    """Return the cheapest (nprobe, factor) that is enough in all trials, up to `most` lists; None if none is.

    Grows nprobe from the fewest that can do while more of them can still pay, then bisects.
    """

    def enough(nprobe: int, factors: Sequence[int]) -> list[int]:
        recalls = [trial.recalls(k, nprobe, factors) for trial in trials]
        return [
            factor
            for factor, each in zip(factors, zip(*recalls, strict=True), strict=True)
            if all(trial.enough(recall, target) for trial, recall in zip(trials, each, strict=True))
        ]

    cost = trials[0].cost
    fewest = nprobe = min(most, max(trial.fewest_lists(k, target) for trial in trials))
    best: tuple[float, int, int] | None = None
    low, before = nprobe, nprobe - 1
    while best is None or (nprobe <= _PAYING * fewest and cost(k, nprobe, factors[0]) < best[0]):
        for factor in enough(nprobe, factors)[:1]:
            spent = cost(k, nprobe, factor)
            if best is None or spent < best[0]:
                best, low = (spent, nprobe, factor), before
        if nprobe == most:
            break
        before, nprobe = nprobe, min(most, nprobe + max(1, nprobe // 4))
    if best is None:
        return None
    _, high, factor = best
    while high - low > max(1, high // 12):
        middle = (low + high) // 2
        if enough(middle, [factor]):
            high = middle
        else:
            low = middle
    return high, factor


def _how(tuning: Tuning) -> str:
    stored = f"{tuning.sample_stored} stored vectors that no list was trained on, each left out of its own results"
    queries = f", and of the last {tuning.sample_queries} queries" if tuning.sample_queries else ""
    return f"exact top k of {stored}{queries}"


def _missed(tuning: Tuning, target: float) -> str:
    if tuning.recall_queries is None or tuning.recall_queries >= target:
        return ""
    return (
        f"the last {tuning.sample_queries} queries are unlike what is stored: {tuning.recall_queries:.3f} of their "
        f"exact top {tuning.k} is found, not {target:g}; search for such ones with --exact"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
