"""One side of the race: what it has to do, how ours does it, and what is measured of any.

"Raw FAISS" reads the files of our own index, visits the same lists and re-ranks as many candidates from the mapped
vectors. "Plain" is the same, but finds the lists by comparing every centre, as FAISS's own IVF does.
"""

from __future__ import annotations

import importlib
import math
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from _apart import memory_mb
from _synthetic import Float32s, Ints, K, Made, MadeSource, recall

from e2vsearch.vectors.faiss.index import FaissEngine
from e2vsearch.vectors.faiss.ivf import faiss_module
from e2vsearch.vectors.faiss.storage import IVF, VECTORS

T = TypeVar("T")

TARGET = 0.95
CHOOSING = 200  # of the queries choose a rival's parameter, the others measure
M, EF_CONSTRUCTION = 16, 100  # of graphs
EFS = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 1024)  # of a graph's search
PROBES = (4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # of lists
SINGLE_S, BATCH_S = 20.0, 10.0  # a side that is slow answers fewer queries, and is not waited for


class Side(ABC):
    """One index: built in one process, opened and asked in another.

    Attributes:
        name: what the table calls it.
        family: what `--rivals` calls it.
        needs: packages.
        parameter: what `settings` are of.
        settings: cheapest first.
        batch: queries that it is given at a time.
    """

    name = family = ""
    needs: tuple[str, ...] = ()
    parameter = "ef"
    settings: tuple[int, ...] = EFS
    batch = 250

    @abstractmethod
    def build(self, made: Made, folder: Path) -> None:
        """Make the index of all rows in `folder`."""

    @abstractmethod
    def open(self, made: Made, folder: Path) -> None:
        """Open it, ready for `search`."""

    @abstractmethod
    def search(self, queries: Float32s, setting: int) -> Ints:
        """Return the nearest rows of unit queries, ``(q, 20)``."""

    def chosen(self, setting: int) -> str:
        """Return the setting, for people."""
        return str(setting)

    def processes(self) -> list[int]:
        """Those whose memory is its own."""
        return [os.getpid()]

    def close(self) -> None:  # noqa: B027 - most have nothing to let go of
        """Lets go of what `build` or `open` started."""


def rows_of(found: Any) -> Ints:
    """Rows of one query after another, ``(q, 20)``, -1 where fewer were found."""
    rows = np.full((len(found), K), -1, np.int64)
    for at, some in enumerate(found):
        rows[at, : len(some)] = some
    return rows


class Ours(Side):
    """One kind of our index, which chooses for itself how many lists to visit."""

    needs, parameter, settings = ("faiss", "e2vsearch.vectors.faiss.index"), "lists", (0,)

    def __init__(self, kind: str) -> None:
        self.kind, self.name = kind, f"e2vsearch {kind}"

    def build(self, made: Made, folder: Path) -> None:
        """Build a generation."""
        self._index(made, folder).build(self.kind)  # type: ignore[arg-type]

    def open(self, made: Made, folder: Path) -> None:
        """Open, as the first query would."""
        self.index = self._index(made, folder)
        self.index.due()

    def search(self, queries: Float32s, setting: int) -> Ints:  # noqa: ARG002 - it has its own
        """Return the nearest rows."""
        return self.index.search(queries, K).ids

    def chosen(self, setting: int) -> str:  # noqa: ARG002
        """Return lists and depth of re-ranking."""
        status = self.index.status()
        return f"{status.nprobe} of {status.nlist}, x{status.k_factor}" if status.nlist else "all"

    @staticmethod
    def _index(made: Made, folder: Path) -> FaissEngine:
        return FaissEngine(folder, MadeSource(made))


class Raw:
    """FAISS on the files of our index, with our lists and depth, and nothing around it.

    Attributes:
        has_codes: whether lists are found by codes of their centres; not if `plain`.
    """

    def __init__(self, folder: Path, index: Any, *, plain: bool = False) -> None:
        status = index.status()
        generation = folder / "generations" / status.generation
        self._faiss = faiss = faiss_module()
        self._vectors = np.memmap(generation / VECTORS, np.float32, "r").reshape(status.n, -1).view(np.ndarray)
        self._index, self.has_codes = None, False
        if status.nlist:
            self._index = faiss.read_index(str(generation / IVF), faiss.IO_FLAG_MMAP_IFC)
            inner = faiss.downcast_index(faiss.extract_index_ivf(self._index))
            quantizer = faiss.downcast_index(inner.quantizer)
            self.has_codes = isinstance(quantizer, faiss.IndexRefine)
            if plain and self.has_codes:
                self._quantizer = inner.quantizer = faiss.downcast_index(quantizer.refine_index)
            self._depth = K * status.k_factor
            if status.kind == "ivf-rabitq":
                self._params = faiss.IVFRaBitQSearchParameters(nprobe=status.nprobe, qb=8)
            else:
                self._params = faiss.SearchParametersIVF(nprobe=status.nprobe)

    def search(self, query: Float32s) -> Ints:
        """Return the nearest rows of one query, ``(1, dim)``."""
        self._faiss.omp_set_num_threads(1)  # one query is sooner done than a second thread is awake
        if self._index is None:
            _, rows = self._faiss.knn(query, self._vectors, K, self._faiss.METRIC_INNER_PRODUCT)
            return np.asarray(rows, np.int64)
        _, rows = self._index.search(query, self._depth, params=self._params)
        scores = self._vectors[rows[0]] @ query[0]
        return np.asarray(rows[:, np.argsort(-scores)[:K]], np.int64)


@dataclass(frozen=True)
class Built:
    """A build in a process of its own."""

    wall_s: float
    peak_mb: float  # resident, files mapped included
    disk_mb: float


@dataclass(frozen=True)
class Searched:
    """Queries in a process of their own."""

    chosen: str
    open_ms: float
    first_ms: float
    anonymous_mb: float  # memory of its own, after the single queries
    resident_mb: float  # pages of mapped files counted
    before_mb: float  # resident before it opened anything
    p10_ms: float  # on a machine shared with others, what a query takes when nobody is in its way
    p50_ms: float
    p95_ms: float
    load: float  # of the machine, meanwhile
    singles: int
    batch_qps: float
    recall: float
    ours_ms: float = math.nan  # p50, turn about with raw FAISS
    raw_ms: float = math.nan
    plain_ms: float = math.nan  # where its lists can be found otherwise


def build(side: Side, made: Made, folder: Path) -> Built:
    """Build a side's index in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    side.build(made, folder)
    wall_s = time.perf_counter() - started
    # not getrusage's ru_maxrss: a process begins with what the one that started it had, 181 MB here
    peak_mb = max(memory_mb([os.getpid()], "VmHWM"), memory_mb(side.processes(), "VmHWM"))
    side.close()
    return Built(wall_s, peak_mb, sum(path.stat().st_size for path in files(folder)) / 1e6)


def files(folder: Path) -> list[Path]:
    """All files in a folder, inside others too."""
    return [path for path in folder.rglob("*") if path.is_file()]


def search(side: Side, made: Made, folder: Path, truth: Ints) -> Searched:
    """Open what was built, and query it."""
    for package in side.needs:
        importlib.import_module(package)
    before_mb = memory_mb([os.getpid()], "VmRSS")
    started = time.perf_counter()
    side.open(made, folder)
    open_ms = 1000 * (time.perf_counter() - started)
    choosing, measuring = made.queries[:CHOOSING], made.queries[CHOOSING:]
    started = time.perf_counter()
    side.search(choosing[:1], side.settings[0])
    first_ms = 1000 * (time.perf_counter() - started)
    setting = side.settings[-1]
    for each in side.settings[:-1]:
        if recall(asked(side, choosing, each), truth[:CHOOSING]) >= TARGET:
            setting = each
            break
    spent, answers = one_by_one(measuring, lambda query: side.search(query[None], setting)[0])
    found = np.array(answers)
    held = [memory_mb(side.processes(), field) for field in ("RssAnon", "VmRSS")]
    p10, p50, p95 = np.percentile(spent, [10, 50, 95])
    load = os.getloadavg()[0]
    alternating = turn_about(side, folder, measuring[: max(50, len(spent) // 2)])
    batch_qps = throughput(side, measuring, setting)
    side.close()
    return Searched(
        side.chosen(setting),
        open_ms,
        first_ms,
        held[0],
        held[1],
        before_mb,
        float(p10),
        float(p50),
        float(p95),
        load,
        len(spent),
        batch_qps,
        recall(found, truth[CHOOSING:][: len(found)]),
        *alternating,
    )


def one_by_one(queries: Float32s, question: Callable[[Float32s], T]) -> tuple[list[float], list[T]]:
    """Return what each query took in ms, and its answer, until the time is over: all once before it counts.

    A service has been asked before. Rivals that choose a setting are warm by then, and the first touch of a mapped page
    is a fault, which took ours from 0.60 to 0.92 ms at a million.
    """
    for _ in range(2):
        spent, answers = [], []
        until = time.perf_counter() + SINGLE_S
        for query in queries:
            started = time.perf_counter()
            answers.append(question(query))
            ended = time.perf_counter()
            spent.append(1000 * (ended - started))
            if ended > until:
                break
    return spent, answers


def asked(side: Side, queries: Float32s, setting: int) -> Ints:
    """Answers to all queries, as many at once as the side takes."""
    parts = range(0, len(queries), side.batch)
    return np.concatenate([side.search(queries[start : start + side.batch], setting) for start in parts])


def turn_about(side: Side, folder: Path, queries: Float32s) -> tuple[float, float, float]:
    """Median ms of our search, of raw FAISS and of a plain one, each query put to all; NaN for rivals."""
    if not isinstance(side, Ours):
        return math.nan, math.nan, math.nan
    raw = Raw(folder, side.index)
    all_ways: list[Callable[[Float32s], object]] = [lambda query: side.search(query, 0), raw.search]
    if raw.has_codes:
        all_ways.append(Raw(folder, side.index, plain=True).search)
    spent: list[list[float]] = [[] for _ in all_ways]
    until = time.perf_counter() + SINGLE_S
    for number, query in enumerate(np.concatenate([queries[:10], queries])):
        for turn in range(len(all_ways)):  # whoever comes first finds nothing in the processor's caches
            which = (number + turn) % len(all_ways)
            started = time.perf_counter()
            all_ways[which](query[None])
            spent[which].append(1000 * (time.perf_counter() - started))
        if time.perf_counter() > until:
            break
    ours_ms, raw_ms, *plain_ms = (float(np.median(each[10:])) for each in spent)
    return ours_ms, raw_ms, plain_ms[0] if plain_ms else math.nan


def throughput(side: Side, queries: Float32s, setting: int) -> float:
    """Return queries a second, as many at once as the side takes."""
    done, started = 0, time.perf_counter()
    while (spent := time.perf_counter() - started) < BATCH_S and done < 2 * len(queries):
        some = queries[done % len(queries) :][: side.batch]
        side.search(some, setting)
        done += len(some)
    return done / spent
