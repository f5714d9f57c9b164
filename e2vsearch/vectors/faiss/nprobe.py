"""How many lists to visit for a promised recall, measured and not hoped for. Knows FAISS lists and vectors by row.

A recall is a share of the exact top k that is found. It is measured twice, on stored vectors that the lists were not
trained on, each left out of its own answer, and on the last real queries where some are kept (`asked`); what is
reported is the lower of the two. A setting has to reach its target on both halves of the held-out vectors, surely;
reported is the second half's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.files import drop_page_cache
from e2vsearch.vectors import exact
from e2vsearch.vectors.exact import Floats, Ints
from e2vsearch.vectors.faiss.ivf import Ivf, Progress
from e2vsearch.vectors.recall import PROVEN, Measured, held_out

FEW_ASKED = 32  # fewer queries than this say too little

_FACTORS = {"ivf-rabitq": (2, 3, 5, 8, 12, 20), "ivf-sq8": (1, 2, 3, 5), "ivf-flat": (1,)}

_MOST_CANDIDATES = 5000  # re-ranked a query

_ASKED_LISTS = 8  # times the lists that stored vectors need, which queries unlike anything stored may cost at most

_SPAN_ROWS = 65_536  # read at a time when all is compared: 256 MiB of 1024-d

_SPAN_BYTES = 1 << 26  # of lists, read for some queries at a time: a million rows of 1024-d have 4 GB as ivf-flat

_SCATTERED = 3  # times: 20 vectors of 4 KiB here and there take 0.07 ms, 240 KB of codes as much

_TIE = 1e-6  # scores this near are equal: which of two equals is found says nothing about recall


@dataclass(frozen=True, slots=True)
class Tuning:
    """How many lists to visit and candidates to re-rank for k results, and the recall that this gives."""

    k: int
    nprobe: int
    k_factor: int  # candidates re-ranked exactly, in multiples of k
    recall: float  # of the exact top k: the lower of the two below
    recall_stored: float  # on stored vectors that no list was trained on
    sample_stored: int  # how many
    recall_asked: float | None  # on the last real queries; None where too few are kept
    sample_asked: int

    @property
    def candidates(self) -> int:
        """Rows to re-rank for up to k results: for one result as for k, since coarse codes seldom rank it first."""
        return self.k * self.k_factor


@dataclass(frozen=True, slots=True)
class Tuned:
    """What an index promises, and how well that was measured."""

    target: float  # recall that the settings were chosen for
    tunings: tuple[Tuning, ...]  # rising k; the first is the one shown. None: exact
    measured: str  # how the recall was
    measured_at: str  # UTC, ISO 8601
    note: str  # such as a target that real queries miss
    reach: ProbeDepth | None = None  # how filters are searched; None where it was not measured

    @classmethod
    def exact(cls, target: float) -> Tuned:
        """Nothing is left out, so nothing has to be measured."""
        return cls(target, (), "exact by construction", _now(), "")

    @property
    def recall(self) -> float:
        """Share of the exact top 20 that is found; 1.0 for flat."""
        return self.tunings[0].recall if self.tunings else 1.0

    @property
    def nprobe(self) -> int | None:
        """Lists visited for 20 results without a filter."""
        return self.tunings[0].nprobe if self.tunings else None

    @property
    def k_factor(self) -> int | None:
        """Candidates re-ranked for 20 results, in multiples of 20."""
        return self.tunings[0].k_factor if self.tunings else None

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Tuned:
        """As it was written by `dataclasses.asdict`.

        Raises:
            TypeError, KeyError, ValueError: it was not.
        """
        tunings = tuple(Tuning(**tuning) for tuning in fields["tunings"])
        reach = fields.get("reach")
        return cls(**{**fields, "tunings": tunings, "reach": reach and ProbeDepth.from_fields(reach)})


def widest(kind: str) -> int:
    """The most candidates that are re-ranked, in multiples of k: what is missed then is in lists not visited."""
    return _FACTORS[kind][-1]


class Trial:
    """Queries with known answers."""

    def __init__(
        self, ivf: Ivf, vectors: Floats, queries: Floats, itself: Ints | None, most: int, *, sure: bool = True
    ) -> None:
        """Compares all, once.

        Args:
            ivf: what is tried.
            vectors: ``(n, dim)`` unit rows, usually mapped; read a part at a time.
            queries: ``(q, dim)`` unit rows.
            itself: ``(q,)`` the row that each query is, to be left out; None: the nearest, where it is the same.
            most: results that will be asked for.
            sure: only a recall that is sure is enough; False where the sample is all there is.
        """
        self._ivf = ivf
        self._sure = sure
        self._queries = np.ascontiguousarray(queries)
        n = len(vectors)
        best = exact.Best(len(queries), min(2 * most + 17, n))  # twice as many and some: equals of the k-th count too
        for start in range(0, n, _SPAN_ROWS):
            scores, rows = exact.top(self._queries, vectors[start : start + _SPAN_ROWS], 2 * most + 17)
            best.push(scores, np.where(rows >= 0, rows + start, -1))
            drop_page_cache(vectors)
        self._scores, self._found = best.result()
        same = self._scores[:, 0] > 1 - _TIE
        self._itself = np.where(same, self._found[:, 0], -1) if itself is None else itself
        self._wanted = np.zeros(n + 1, np.bool_)  # the last one answers for -1
        self._row_bytes = vectors.shape[1] * 4
        self._per_list = n / ivf.nlist

    def recalls(self, k: int, nprobe: int, factors: Sequence[int]) -> list[Measured]:
        """Recall of the exact top k for each factor; a re-rank finds all that the candidates hold."""
        count = min(dict(PROVEN)[k], len(self._queries))
        candidates = self._candidates(count, k * factors[-1] + 1, nprobe)
        shares = np.zeros((count, len(factors)))
        known = zip(self._itself, self._scores, self._found, candidates, strict=False)
        for at, (row, scores, found, some) in enumerate(known):
            others = found != row
            enough = scores[others][k - 1] - _TIE
            wanted = found[others & (scores >= enough)]
            self._wanted[wanted] = True
            counted = np.cumsum(self._wanted[some[some != row]])
            self._wanted[wanted] = False
            reached = np.minimum(k * np.array(factors), counted.size) - 1
            shares[at] = np.minimum(counted[reached], k) / k
        errors = shares.std(axis=0) / math.sqrt(count)
        return [Measured(float(mean), float(error)) for mean, error in zip(shares.mean(axis=0), errors, strict=True)]

    def _candidates(self, count: int, k: int, nprobe: int) -> Ints:
        """What the lists give the first queries, ``(count, k)``, in the memory of some of the lists."""
        step = max(1, int(_SPAN_BYTES / (nprobe * self._per_list * self._ivf.row_bytes)))
        found = []
        for start in range(0, count, step):
            found.append(self._ivf.search(self._queries[start : min(start + step, count)], k, nprobe))
            self._ivf.let_go()
        return np.concatenate(found)

    def recall(self, k: int, nprobe: int, factor: int) -> Measured:
        """Recall of the exact top k at one setting."""
        return self.recalls(k, nprobe, [factor])[0]

    def enough(self, measured: Measured, target: float) -> bool:
        """Whether a recall reaches a target."""
        return (measured.sure if self._sure else measured.recall) >= target

    def ranks(self) -> Ints:
        """Of each query's nearest rows, how many lists are nearer than the row's own: ``(q, m)``, nearest row first."""
        near = self._ivf.nearest(self._queries, self._ivf.nlist).lists
        rank_of = np.empty_like(near)
        np.put_along_axis(rank_of, near, np.arange(near.shape[1])[None], axis=1)
        others = np.argsort(self._found == self._itself[:, None], axis=1, kind="stable")[:, :-1]  # itself comes last
        lists = self._ivf.list_of_row[np.take_along_axis(self._found, others, axis=1)]
        return np.take_along_axis(rank_of, lists, axis=1)

    def cost(self, k: int, nprobe: int, factor: int) -> float:
        """What a query reads, in bytes of codes, which lie in a row: of the lists visited, and vectors re-ranked."""
        return float(nprobe * self._per_list * self._ivf.row_bytes + _SCATTERED * k * factor * self._row_bytes)

    def sample(self, k: int) -> int:
        """How many queries a recall of k results is measured on."""
        return min(dict(PROVEN)[k], len(self._queries))


def recall_now(
    ivf: Ivf, vectors: Floats, ids: Ints, tuning: Tuning, seed: int, asked: Floats | None
) -> tuple[float, float | None]:
    """Recall of a setting as `tune` measures it: of stored vectors, and of the last queries if they are enough."""
    reporting = held_out(ids, seed)[1]
    stored = Trial(ivf, vectors, vectors[reporting], reporting, tuning.k)
    recall = stored.recall(tuning.k, tuning.nprobe, tuning.k_factor).recall
    if asked is None or len(asked) < FEW_ASKED:
        return recall, None
    real = Trial(ivf, vectors, asked, None, tuning.k)
    return recall, real.recall(tuning.k, tuning.nprobe, tuning.k_factor).recall


def tune(
    ivf: Ivf,
    kind: str,
    vectors: Floats,
    ids: Ints,
    target: float,
    seed: int,
    asked: Floats | None,
    progress: Progress,
) -> Tuned | None:
    """The cheapest setting that reaches the target, for each k that can be proven; None if the first cannot.

    Args:
        ivf: the index.
        kind: of it.
        vectors: ``(n, dim)`` unit rows, usually mapped.
        ids: ``(n,)`` of the rows.
        target: recall to reach.
        seed: of the choice of held-out vectors.
        asked: ``(q, dim)`` the last real queries, unit rows; fewer than 32 are left aside.
        progress: told ``("tune", done, total)``.
    """
    ks = [k for k, _ in PROVEN if 10 * k <= len(vectors)]
    choosing, reporting = (Trial(ivf, vectors, vectors[rows], rows, ks[-1]) for rows in held_out(ids, seed))
    stored = (choosing, reporting)
    real = None
    if asked is not None and len(asked) >= FEW_ASKED:
        real = Trial(ivf, vectors, asked, None, ks[-1], sure=False)
    tunings: list[Tuning] = []
    nprobe = 1
    for done, k in enumerate(ks):
        progress("tune", done, len(ks))
        factors = [factor for factor in _FACTORS[kind] if factor * k <= max(_MOST_CANDIDATES, k)]
        chosen = _cheapest(stored, k, factors, nprobe, target, ivf.nlist)
        if chosen is None:
            break
        if real is not None and not real.enough(real.recall(k, *chosen), target):
            most = min(ivf.nlist, _ASKED_LISTS * chosen[0])
            chosen = _cheapest((*stored, real), k, factors, nprobe, target, most) or (most, factors[-1])
        nprobe, factor = chosen
        of_stored = reporting.recall(k, nprobe, factor).recall
        of_asked = real.recall(k, nprobe, factor).recall if real is not None else None
        tunings.append(
            Tuning(
                k,
                nprobe,
                factor,
                _rounded(of_stored if of_asked is None else min(of_stored, of_asked)),
                _rounded(of_stored),
                reporting.sample(k),
                None if of_asked is None else _rounded(of_asked),
                real.sample(k) if real is not None else 0,
            )
        )
    progress("tune", len(ks), len(ks))
    if not tunings:
        return None
    first = tunings[0]
    missed = _missed(first, target)
    reach = _reach(stored if real is None or missed else (*stored, real), kind, first, target)
    return Tuned(target, tuple(tunings), _how(first), _now(), missed, reach)


def _reach(trials: Sequence[Trial], kind: str, first: Tuning, target: float) -> ProbeDepth:
    """How to search what filters leave: a step deeper in fewer lists, for each list more stands for many there."""
    nprobe, factor = first.nprobe, first.k_factor
    deeper = [each for each in _FACTORS[kind] if each > factor][:1]
    fewer = _cheapest(trials, first.k, deeper, 1, target, nprobe) if deeper else None
    if fewer is not None:
        nprobe, factor = fewer
    # the last trial is what the promise hangs on: what is asked may lie further away than what is stored
    return ProbeDepth(factor, points(trials[-1].ranks(), first.k, nprobe, target))


def _cheapest(
    trials: Sequence[Trial], k: int, factors: Sequence[int], nprobe: int, target: float, most: int
) -> tuple[int, int] | None:
    """Cheapest (nprobe, factor) that is enough in all trials, from `nprobe` to `most` lists; None if none is.

    Doubles nprobe while that can still pay, then bisects.
    """

    def enough(lists: int, factors: Sequence[int]) -> list[int]:
        recalls = [trial.recalls(k, lists, factors) for trial in trials]
        return [
            factor
            for factor, each in zip(factors, zip(*recalls, strict=True), strict=True)
            if all(trial.enough(recall, target) for trial, recall in zip(trials, each, strict=True))
        ]

    cost = trials[0].cost
    best: tuple[float, int, int] | None = None
    while best is None or cost(k, nprobe, factors[0]) < best[0]:
        reached = enough(nprobe, factors)
        if reached:
            best = min(best or (math.inf, 0, 0), (cost(k, nprobe, reached[0]), nprobe, reached[0]))
        if nprobe == most:
            break
        nprobe = min(most, 2 * nprobe)
    if best is None:
        return None
    _, high, factor = best
    low = high // 2
    while high - low > max(1, high // 12):
        middle = (low + high) // 2
        if enough(middle, [factor]):
            high = middle
        else:
            low = middle
    return high, factor


def _rounded(recall: float) -> float:
    return round(recall, 4)


def _how(tuning: Tuning) -> str:
    stored = f"{tuning.sample_stored} stored vectors that no list was trained on, each left out of its own answer"
    asked = f", and of the last {tuning.sample_asked} queries" if tuning.sample_asked else ""
    return f"exact top k of {stored}{asked}"


def _missed(tuning: Tuning, target: float) -> str:
    if tuning.recall_asked is None or tuning.recall_asked >= target:
        return ""
    return (
        f"the last {tuning.sample_asked} queries are unlike what is stored: {tuning.recall_asked:.3f} of their exact "
        f"top {tuning.k} is found, not {target:g}; ask such ones with --exact"
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


Points = tuple[tuple[int, int], ...]
"""Nearest rows, rising, and how many lists hold enough of them."""

_DEPTHS = (1, 2, 5, 10, 25, 50, 100)  # times k; straight lines of logarithms between them

_MOST_MISSED = 0.25  # of what the target lets be missed: the last rows of all hang on single queries


@dataclass(frozen=True, slots=True)
class ProbeDepth:
    """How to search what a filter leaves."""

    factor: int  # candidates to re-rank, in multiples of the k that was measured
    points: Points

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> ProbeDepth:
        """As `dataclasses.asdict` and JSON made it.

        Raises:
            TypeError, KeyError, ValueError: they did not.
        """
        return cls(int(fields["factor"]), tuple((int(rows), int(lists)) for rows, lists in fields["points"]))

    def lists_for(self, results: NDArray[np.float64]) -> NDArray[np.float64]:
        """Lists that so many nearest rows take: between points on lines of logarithms, beyond them in proportion."""
        rows, lists = np.log(np.array(self.points, np.float64)).T
        depth = np.log(results)
        found: NDArray[np.float64] = np.exp(np.interp(depth, rows, lists) + np.maximum(depth - rows[-1], 0))
        return found


def points(ranks: NDArray[np.int64], k: int, nprobe: int, target: float) -> Points:
    """How many lists hold as large a share of deeper answers as `nprobe` lists hold of the nearest k.

    Args:
        ranks: ``(q, m)``, of each query's nearest rows, nearest first, how many lists are nearer than the row's own.
        k: results that `nprobe` was chosen for.
        nprobe: lists they take.
        target: recall they were chosen for.
    """
    share = min(float((ranks[:, :k] < nprobe).mean()), 1 - _MOST_MISSED * (1 - target))
    found = [(k, nprobe)]
    for depth in (k * times for times in _DEPTHS[1:]):
        if depth > ranks.shape[1]:
            break
        of_all = np.sort(ranks[:, :depth], axis=None)
        enough = int(of_all[max(math.ceil(share * of_all.size), 1) - 1]) + 1
        found.append((depth, max(enough, found[-1][1])))
    return tuple(found)
