"""Collections of made vectors with an index, small enough to build in seconds and large enough for lists."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from memory_source import MemorySource, clustered
from numpy.typing import NDArray

from e2vsearch.vectors.engine import Kind
from e2vsearch.vectors.faiss.index import FaissEngine

DIM = 64
N, QUERIES = 25_000, 300


def made(n: int, queries: int = QUERIES, dim: int = DIM, seed: int = 0) -> tuple[MemorySource, NDArray[np.float32]]:
    """A source of n segments, and queries that are not among them."""
    everything = clustered(n + queries, dim, seed)
    return MemorySource(everything[:n]), everything[n:]


def recall(
    index: FaissEngine, queries: NDArray[np.float32], k: int = 20, allowed: NDArray[np.int64] | None = None
) -> float:
    """Of what comparing everything gives, which other tests hold against float64."""
    truth = index.search(queries, k, allowed=allowed, compare_all=True).ids
    found = index.search(queries, k, allowed=allowed).ids
    return float(np.mean([np.isin(real, row).mean() for real, row in zip(truth, found, strict=True)]))


class Large:
    """A collection large enough for lists, its index built once for the tests that change nothing."""

    def __init__(self, folder: Path) -> None:
        self.source, self.queries = made(N)
        self.folder = folder
        self.index = FaissEngine(folder, self.source)
        self.manifest = self.index.build()


def with_tail_and_tombstones(kind: Kind | None, folder: Path) -> tuple[FaissEngine, MemorySource]:
    """An index of a kind, if any, with segments that came after it and segments that are gone."""
    source, _ = made(4000)
    index = FaissEngine(folder, source)
    if kind is not None:
        assert index.build(kind).kind == kind
    source.remove(source.ids[5:400:7])
    source.add(clustered(60, DIM, seed=8))
    source.remove(source.ids[-3:])
    return index, source
