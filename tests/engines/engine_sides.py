"""The engines under one contract: each opens an index over a source, and can be restarted and killed."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from memory_source import MemorySource
from numpy.typing import NDArray

from e2vsearch.vectors.engine import CandidateEngine, IndexOptions, Matches, VectorIndex
from e2vsearch.vectors.engines.index import EngineIndex
from e2vsearch.vectors.faiss.index import FaissEngine

EVERY = ("exact", "faiss", "pgvector", "milvus-lite", "milvus")
ENGINES = ("pgvector", "milvus-lite", "milvus")
_numbers = itertools.count(1)


@dataclass
class KeptReport:
    """The report of an index, in memory."""

    plain: Mapping[str, Any] | None = None

    def read(self) -> Mapping[str, Any] | None:
        return self.plain

    def write(self, report: Mapping[str, Any] | None) -> None:
        self.plain = report


@dataclass
class Side:
    """One engine, which opens any number of indexes, each of a space of its own; it can be closed or started again."""

    name: str
    folder: Path
    engine: Callable[[str], CandidateEngine] | None = None  # of a space
    restart: Callable[[], None] = lambda: None

    def open(self, source: MemorySource, options: IndexOptions | None = None) -> Opened:
        """An index over the source, built."""
        space = f"space{next(_numbers)}"
        opened = Opened(self, source, space, self.folder / space, options or IndexOptions())
        if self.name != "exact":
            opened.index.build()
        return opened


@dataclass
class Opened:
    """One index, its source, and the truth by brute force."""

    side: Side
    source: MemorySource
    space: str
    folder: Path
    options: IndexOptions
    report: KeptReport = field(default_factory=KeptReport)

    def __post_init__(self) -> None:
        self.index = self.opened()

    def opened(self) -> VectorIndex:
        """The index as another process opens it."""
        if self.side.engine is None:
            return FaissEngine(self.folder, self.source, self.options)
        return EngineIndex(self.engine, self.folder, self.source, self.report, self.options)

    @property
    def engine(self) -> CandidateEngine:
        assert self.side.engine is not None
        return self.side.engine(self.space)

    def build(self) -> None:
        if self.side.name != "exact":
            self.index.build()

    def search(self, queries: NDArray[np.float32], k: int, **more: Any) -> Matches:
        return self.index.search(queries, k, **more)

    def check(
        self,
        queries: NDArray[np.float32],
        k: int,
        allowed: NDArray[np.int64] | None = None,
        excluded: NDArray[np.int64] | None = None,
    ) -> float:
        """Hold a search against the truth; the recall."""
        found = self.search(queries, k, allowed=allowed, excluded=excluded)
        left = self.source.ids if allowed is None else np.intersect1d(self.source.ids, allowed)
        if excluded is not None:
            left = np.setdiff1d(left, excluded)
        assert found.ids.shape == (len(queries), k)
        shares = []
        for query, ids, recordings, scores in zip(queries, found.ids, found.recordings, found.scores, strict=True):
            hits = ids[ids >= 0]
            assert len(hits) == min(k, len(left)), "as many hits as there are"
            assert len(np.unique(hits)) == len(hits), "none twice"
            assert np.isin(hits, left).all(), "none that is deleted or filtered out"
            assert (recordings[: len(hits)] == self.source.recordings(hits)).all()
            assert (ids[len(hits) :] == -1).all()
            assert np.isneginf(scores[len(hits) :]).all()
            truth, cosines = self.source.nearest(query, len(self.source.ids), left)
            own = dict(zip(truth.tolist(), cosines.tolist(), strict=True))
            assert np.allclose(scores[: len(hits)], [own[each] for each in hits.tolist()], rtol=0, atol=1e-6)
            assert (np.diff(scores[: len(hits)]) <= 0).all(), "best first"
            if len(hits):
                shares.append(np.mean(scores[: len(hits)] >= cosines[: len(hits)][-1] - 1e-6))
        return float(np.mean(shares)) if shares else 1.0
