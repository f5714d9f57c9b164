"""FAISS inverted lists: trained, tuned to a recall, searched. Knows unit vectors by row, nothing of ids or generations.

Rows are the ids inside FAISS: `IndexIDMap` around an IVF returns wrong ids after a removal and aborts the process at
the next (seen on FAISS 1.15.1; its issue 4535 is closed as won't fix), and positions keep selectors small.

What was measured on FAISS 1.15.1 and is not in its manual:

* RaBitQ takes each vector's direction as random. On vectors whose dimensions differ in scale, recall of the top 20 at
  64 of 512 lists and five-fold re-rank was 0.870 as they are and 0.998 after a random rotation (50,000 x 256).
* `IVFRaBitQSearchParameters` starts with ``qb = 0``, an unquantised query, 40 times slower than ``qb = 8`` at equal
  recall. A plain `SearchParametersIVF` is accepted as well.
* ``nprobe`` set on a shared index while others search crashes (issue 3321), and a parameters object with a selector
  alone has ``nprobe = 1``: both go into one object a call.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from e2vsearch.errors import GenerationError
from e2vsearch.vectors import exact
from e2vsearch.vectors.exact import Floats, Ints, Mask

Progress = Callable[[str, int, int], None]

MIN_ROWS = 1000  # fewer leave too little to train on beside the vectors held out, and are compared in a millisecond
RICHER = {"ivf-rabitq": "ivf-sq8", "ivf-sq8": "ivf-flat", "ivf-flat": "flat"}  # what to try where a target is missed

_TRAIN_PER_LIST = 64  # FAISS warns below 39; 1 M x 1024-d then trains on 1 GiB, which is all that a build holds
_MIN_PER_LIST = 39
# results that a recall is proven for, more are compared exactly; on how many queries: long answers vary less
_PROVEN = ((20, 256), (256, 128), (1000, 64))
HELD_OUT = _PROVEN[0][1]  # vectors that choose nprobe, and as many others that report the recall
_FACTORS = {"ivf-rabitq": (2, 3, 5, 8, 12, 20), "ivf-sq8": (1, 2, 3, 5), "ivf-flat": (1,)}
_MOST_CANDIDATES = 5000  # re-ranked a query
_QUERY_BITS = 8
_OMP_QUERIES = 8
_ADD_ROWS = 16_384
_MEASURED = (
    f"exact top k of {HELD_OUT} stored vectors, neither trained on nor chosen by, each left out of its own answer"
)
_TIE = 1e-6  # scores this near are equal: which of two equals is found says nothing about recall


@dataclass(frozen=True, slots=True)
class Tuning:
    """How many lists to visit and candidates to re-rank for k results, and the recall that this gives."""

    k: int
    nprobe: int
    k_factor: int  # candidates re-ranked exactly, in multiples of k
    recall: float  # of the exact top k, on vectors that had no part in the choice

    @property
    def candidates(self) -> int:
        """Rows to re-rank for up to k results: for one result as for k, since coarse codes seldom rank it first."""
        return self.k * self.k_factor


@dataclass(frozen=True, slots=True)
class Fitted:
    """What came out of `fit`."""

    kind: str  # may be richer than asked for, and "flat" if nothing else reached the target
    nlist: int | None
    trained_on: int
    tunings: tuple[Tuning, ...]
    measured: str  # how their recall was
    note: str

    @classmethod
    def flat(cls, note: str = "") -> Fitted:
        """No lists: every query is compared with every vector."""
        return cls("flat", None, 0, (), "exact by construction", note)


@functools.cache
def faiss_module() -> Any:
    """FAISS, set up: a third of a second of import that an exact search never pays.

    Raises:
        GenerationError: it is not installed, or does not load here.
    """
    try:
        import faiss
    except ImportError as error:
        raise GenerationError(f"FAISS does not load ({error}): pip install faiss-cpu, or use --kind flat") from error
    # 1.15 compares this with queries x dim and ships 128,000: 2 to 124 queries of 1024 dimensions then run one by one,
    # 18 times slower than as one matrix product. But a single query must not go there: waking BLAS threads for a look
    # at the centroids took its median from 0.05 to 12 ms on two cores shared with others
    faiss.cvar.distance_compute_blas_threshold = 4096
    return faiss


@functools.cache
def _threads() -> int:
    return int(faiss_module().omp_get_max_threads())  # OMP_NUM_THREADS, or the cores


class Ivf:
    """A trained index over rows 0 to n - 1. Never written to: adding to a mapped index aborts the interpreter."""

    def __init__(self, index: Any) -> None:
        self._index = index
        faiss = faiss_module()
        self._inner = faiss.downcast_index(faiss.extract_index_ivf(index))  # seen through a rotation as a bare IVF

    @classmethod
    def read(cls, path: Path, n: int, dim: int, nlist: int) -> Ivf:
        """The index in a file whose hash was checked: FAISS holds no checksum and loads flipped bytes silently.

        Raises:
            GenerationError: not an index, or not of that shape.
        """
        faiss = faiss_module()
        try:
            try:
                # zero-copy: opens in a millisecond, processes share the pages; its header calls it temporary
                index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
            except (RuntimeError, AttributeError):
                index = faiss.read_index(str(path))
            ivf = cls(index)
        except RuntimeError as error:
            raise GenerationError(f"{path} is not a FAISS IVF index ({str(error).splitlines()[0]})") from error
        if (index.ntotal, index.d, ivf.nlist) != (n, dim, nlist):
            raise GenerationError(f"{path} holds {index.ntotal} x {index.d} in {ivf.nlist} lists, not {n} x {dim}")
        return ivf

    def write(self, path: Path) -> None:
        """Writes the file; neither atomic nor synced, which is the caller's part."""
        faiss_module().write_index(self._index, str(path))

    @property
    def nlist(self) -> int:
        """How many lists."""
        return int(self._inner.nlist)

    @property
    def row_bytes(self) -> int:
        """Bytes read for each row of a visited list."""
        return int(self._inner.code_size)

    def search(self, queries: Floats, k: int, nprobe: int, keep: Mask | None = None) -> Ints:
        """The rows that the codes rank first, ``(q, k)``, -1 where the visited lists hold no more.

        Args:
            queries: ``(q, dim)`` unit rows.
            k: how many.
            nprobe: lists to visit; more than there are is all of them.
            keep: ``(n,)``, rows that may be answered; all when None.
        """
        faiss = faiss_module()
        nprobe = min(nprobe, self.nlist)
        if isinstance(self._inner, faiss.IndexIVFRaBitQ):
            params = faiss.IVFRaBitQSearchParameters(nprobe=nprobe, qb=_QUERY_BITS)
        else:
            params = faiss.SearchParametersIVF(nprobe=nprobe)
        bits = None if keep is None else np.packbits(keep, bitorder="little")
        if bits is not None:
            params.sel = selector = faiss.IDSelectorBitmap(bits)  # noqa: F841 - FAISS holds a bare pointer to it
        # a few queries are done before other threads are awake: with one thread here, and without BLAS in
        # `exact.cosines`, the median over 100,000 x 256 on two busy cores went from 21 ms to 0.7 ms
        threads = _threads()  # asked for before the first limit is set, which is the calling thread's alone
        faiss.omp_set_num_threads(1 if len(queries) < _OMP_QUERIES else threads)
        _, rows = self._index.search(np.ascontiguousarray(queries), k, params=params)
        return np.asarray(rows, np.int64)


def lists_for(n: int) -> int:
    """Lists for n rows: the power of two nearest to 4 sqrt(n), with at least 39 rows a list to train on."""
    nlist = 1 << round(math.log2(4 * math.sqrt(max(n, 1))))
    while nlist > 1 and nlist * _MIN_PER_LIST > n:
        nlist //= 2
    return nlist


def fit(kind: str, vectors: Floats, path: Path, target: float, seed: int, progress: Progress) -> Fitted:
    """Trains, fills and tunes an index over `vectors`, and writes it, unless exact search turns out to be the index.

    Where a kind cannot reach the target at any nprobe, the next richer one is taken; the note says so.

    Args:
        kind: ``ivf-rabitq``, ``ivf-sq8`` or ``ivf-flat``.
        vectors: ``(n, dim)`` unit rows, usually mapped; only a training sample is held in memory.
        path: the file to write.
        target: recall to reach.
        seed: of everything random.
        progress: told ``(stage, done, total)``.
    """
    n = len(vectors)
    if n < MIN_ROWS:
        return Fitted.flat(f"{kind} needs {MIN_ROWS} segments to be tuned on, {n} are compared exactly")
    nlist = lists_for(n)
    others = np.setdiff1d(np.arange(n), np.concatenate(held_out(n, seed)))
    sample = vectors[np.sort(np.random.default_rng(seed).permutation(others)[: _TRAIN_PER_LIST * nlist])]
    progress("train", 0, nlist)
    centroids = _centroids(sample, nlist, seed)
    progress("train", nlist, nlist)
    tried: list[str] = []
    while kind != "flat":
        ivf = _fill(kind, vectors, centroids, sample, seed, progress)
        tunings = tune(ivf, kind, vectors, target, seed, progress)
        if tunings:
            ivf.write(path)
            return Fitted(kind, nlist, len(sample), tunings, _MEASURED, _missed(tried, target))
        tried.append(kind)
        kind = RICHER[kind]
    return Fitted.flat(_missed(tried, target))


def tune(ivf: Ivf, kind: str, vectors: Floats, target: float, seed: int, progress: Progress) -> tuple[Tuning, ...]:
    """The cheapest setting that reaches the target, for each k that can be proven; none if the first cannot.

    Stored vectors are the queries, each left out of its own answer. One set of them chooses, another reports, and what
    it reports must reach the target too.
    """
    ks = [k for k, _ in _PROVEN if 10 * k <= len(vectors)]
    choosing, reporting = (Trial(ivf, vectors, rows, ks[-1]) for rows in held_out(len(vectors), seed))
    tunings: list[Tuning] = []
    nprobe = 1
    for done, k in enumerate(ks):
        progress("tune", done, len(ks))
        factors = [factor for factor in _FACTORS[kind] if factor * k <= max(_MOST_CANDIDATES, k)]
        chosen = _choose(choosing, k, factors, nprobe, target)
        while chosen is not None:
            nprobe, factor = chosen
            recall = reporting.recalls(k, nprobe, [factor])[0]
            if recall >= target:
                tunings.append(Tuning(k, nprobe, factor, round(recall, 4)))
                break
            if nprobe == ivf.nlist:
                factors = [wider for wider in factors if wider > factor]
                chosen = (nprobe, factors[0]) if factors else None
            else:
                chosen = (min(ivf.nlist, nprobe + max(1, nprobe // 4)), factor)
        if chosen is None:
            break
    progress("tune", len(ks), len(ks))
    return tuple(tunings)


def held_out(n: int, seed: int) -> tuple[Ints, Ints]:
    """Rows that lists are not trained on: those that choose a setting, and those that report its recall.

    A list's centre leans towards the vectors it was trained on, so they find each other a little more easily than a new
    query does. Measured so, recall was within 0.011 of that of 600 queries that were never stored (8 indexes).
    """
    rows = np.random.default_rng(seed + 1).permutation(n)
    return rows[:HELD_OUT], rows[HELD_OUT : 2 * HELD_OUT]


def recall_of(ivf: Ivf, vectors: Floats, tuning: Tuning, seed: int) -> float:
    """Recall of the exact top k at a setting, measured as `tune` did under that seed."""
    trial = Trial(ivf, vectors, held_out(len(vectors), seed)[1], tuning.k)
    return trial.recalls(tuning.k, tuning.nprobe, [tuning.k_factor])[0]


class Trial:
    """Queries with known answers: stored vectors and the exact nearest others of each."""

    def __init__(self, ivf: Ivf, vectors: Floats, rows: Ints, most: int) -> None:
        self._ivf = ivf
        self._rows = rows
        self._queries = np.ascontiguousarray(vectors[rows])
        # twice as many and some: equals of the k-th count as found too
        self._scores, self._found = exact.top(self._queries, vectors, min(2 * most + 17, len(vectors)))
        self._wanted = np.zeros(len(vectors) + 1, np.bool_)  # the last one answers for -1
        self._row_bytes = vectors.shape[1] * 4
        self._per_list = len(vectors) / ivf.nlist

    def recalls(self, k: int, nprobe: int, factors: Sequence[int]) -> list[float]:
        """Mean recall of the exact top k for each factor; a re-rank finds all that the candidates hold."""
        count = dict(_PROVEN)[k]
        candidates = self._ivf.search(self._queries[:count], k * factors[-1] + 1, nprobe)
        hits = np.zeros(len(factors))
        for row, scores, found, some in zip(self._rows, self._scores, self._found, candidates, strict=False):
            others = found != row
            enough = scores[others][k - 1] - _TIE
            wanted = found[others & (scores >= enough)]
            self._wanted[wanted] = True
            counted = np.cumsum(self._wanted[some[some != row]])
            self._wanted[wanted] = False
            at = np.minimum(k * np.array(factors), counted.size) - 1
            hits += np.minimum(counted[at], k) / k
        return [float(share) for share in hits / len(candidates)]

    def cost(self, k: int, nprobe: int, factor: int) -> float:
        """Bytes that a query reads: codes of the lists visited, and vectors re-ranked."""
        return float(nprobe * self._per_list * self._ivf.row_bytes + k * factor * self._row_bytes)

    @property
    def nlist(self) -> int:
        """Lists there are to visit."""
        return self._ivf.nlist


def _choose(trial: Trial, k: int, factors: Sequence[int], nprobe: int, target: float) -> tuple[int, int] | None:
    """Cheapest (nprobe, factor): doubles nprobe while that can still pay, then bisects down to a twelfth."""
    best: tuple[float, int, int] | None = None
    while best is None or trial.cost(k, nprobe, factors[0]) < best[0]:
        recalls = trial.recalls(k, nprobe, factors)
        reached = [factor for factor, recall in zip(factors, recalls, strict=True) if recall >= target]
        if reached:
            best = min(best or (math.inf, 0, 0), (trial.cost(k, nprobe, reached[0]), nprobe, reached[0]))
        if nprobe == trial.nlist:
            break
        nprobe = min(trial.nlist, 2 * nprobe)
    if best is None:
        return None
    _, high, factor = best
    low = high // 2
    while high - low > max(1, high // 12):
        middle = (low + high) // 2
        if trial.recalls(k, middle, [factor])[0] >= target:
            high = middle
        else:
            low = middle
    return high, factor


def _missed(tried: Sequence[str], target: float) -> str:
    return f"{' and '.join(tried)} did not reach recall {target:g} at any nprobe" if tried else ""


def _centroids(sample: Floats, nlist: int, seed: int) -> Floats:
    faiss = faiss_module()
    kmeans = faiss.Kmeans(
        sample.shape[1],
        nlist,
        niter=10,
        spherical=True,  # lists of directions, as cosine needs
        seed=seed + 1,  # FAISS keeps its own default for some zeros
        min_points_per_centroid=1,
        max_points_per_centroid=_TRAIN_PER_LIST,
    )
    kmeans.train(np.ascontiguousarray(sample))
    return np.asarray(kmeans.centroids, np.float32)


def _fill(kind: str, vectors: Floats, centroids: Floats, sample: Floats, seed: int, progress: Progress) -> Ivf:
    faiss = faiss_module()
    nlist, dim = centroids.shape
    metric = faiss.METRIC_INNER_PRODUCT
    rotation = None
    if kind == "ivf-rabitq":
        rotation = faiss.RandomRotationMatrix(dim, dim)
        rotation.init(seed + 1)
        centroids = rotation.apply(centroids)
    quantizer = faiss.IndexFlatIP(dim)
    quantizer.add(np.ascontiguousarray(centroids))
    if kind == "ivf-rabitq":
        inner = faiss.IndexIVFRaBitQ(quantizer, dim, nlist, metric)
    elif kind == "ivf-sq8":
        inner = faiss.IndexIVFScalarQuantizer(quantizer, dim, nlist, faiss.ScalarQuantizer.QT_8bit, metric)
    else:
        inner = faiss.IndexIVFFlat(quantizer, dim, nlist, metric)
    index = inner if rotation is None else faiss.IndexPreTransform(rotation, inner)
    index.train(np.ascontiguousarray(sample))  # a quantizer that holds its centroids is left as it is
    for start in range(0, len(vectors), _ADD_ROWS):
        progress("add", start, len(vectors))
        index.add(np.ascontiguousarray(vectors[start : start + _ADD_ROWS]))
    progress("add", len(vectors), len(vectors))
    return Ivf(index)
