"""An index finds what came since it was built, and not what went: with a source in memory, and the real FAISS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_index import DIM, Large, N, made
from memory_source import MemorySource, clustered
from numpy.typing import NDArray

from e2vsearch import feed
from e2vsearch.vectors.faiss.index import FaissEngine

# --------------------------------------------------------------------------------------------------------- exactness


def test_what_came_since_is_found_and_what_went_is_not(large: Large, tmp_path: Path) -> None:
    source, _ = made(N)
    index = FaissEngine(large.folder, source)  # the same vectors, so the same generation serves
    assert index.status().n == N
    new = source.add(clustered(50, DIM, seed=7))
    query = source.vector(int(new[3]))[None]
    assert index.search(query, 1).ids.tolist() == [[new[3]]]
    first = index.search(query, 10).ids[0]
    source.remove(first[:5])
    after = index.search(query, 10).ids[0]
    assert not np.isin(first[:5], after).any()
    assert np.isin(first[5:], after).all()
    assert (index.status().tail, index.status().tombstones) == (50 - (first[:5] > N).sum(), (first[:5] <= N).sum())


def test_a_feed_that_repeats_itself_makes_no_twins(large: Large) -> None:
    source, queries = made(N)
    index = FaissEngine(large.folder, source)
    source.overlap = 300
    source.add(clustered(5, DIM, seed=7))
    matches = index.search(queries, 50)
    assert matches.searched == N + 5
    assert index.status().tail == 5
    assert all(np.unique(row).size == 50 for row in matches.ids)


def test_only_what_is_new_is_fetched(tmp_path: Path) -> None:
    source, queries = made(2000)
    index = FaissEngine(tmp_path, source)
    index.build()
    source.add(clustered(300, DIM, seed=7))
    index.search(queries[:1], 1)
    before = source.fetched
    index.search(queries[:1], 1)
    assert source.fetched - before == 1  # to confirm the answer
    source.add(clustered(10, DIM, seed=8))
    index.search(queries[:1], 1)
    assert source.fetched - before == 1 + 10 + 1


@pytest.mark.parametrize("build", [False, True])
def test_a_new_collection_grows_from_nothing(build: bool, tmp_path: Path) -> None:
    source = MemorySource(np.empty((0, DIM), np.float32))
    index = FaissEngine(tmp_path, source)
    if build:
        assert index.build().n == 0
        assert index.verify() == []
    query = clustered(1, DIM)
    assert index.search(query, 3).ids.tolist() == [[-1, -1, -1]]
    source.add(query)
    assert index.search(query, 3).ids.tolist() == [[1, -1, -1]]
    source.remove(np.array([1]))
    assert index.search(query, 3).ids.tolist() == [[-1, -1, -1]]
    assert index.search(query, 3).searched == 0


class Hasty(MemorySource):
    """Deletes what was found just before it can be confirmed."""

    doomed = 0

    def fetch(self, ids: NDArray[np.int64]) -> feed.Batch:
        if self.doomed:
            self.doomed -= 1
            self.remove(ids[:1])
        return super().fetch(ids)


@pytest.mark.parametrize("build", [False, True])
def test_a_segment_that_goes_during_the_search_is_replaced(build: bool, tmp_path: Path) -> None:
    source = Hasty(clustered(1500, DIM))
    index = FaissEngine(tmp_path, source)
    if build:
        index.build()
    query = clustered(1, DIM, seed=5)
    index.search(query, 10)
    source.doomed = 2
    ids = index.search(query, 10).ids[0]
    np.testing.assert_array_equal(ids, source.nearest(query[0], 10)[0])


def test_a_collection_too_large_for_memory_is_streamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e2vsearch.vectors.faiss.index._MEMORY_BYTES", 1000)
    source, queries = made(3000)
    source.batch_rows = 700
    queries = queries[:20]
    matches = FaissEngine(tmp_path, source).search(queries, 30, excluded=source.ids[::2])
    assert matches.exact
    for query, ids in zip(queries, matches.ids, strict=True):
        np.testing.assert_array_equal(ids, source.nearest(query, 30, source.ids[1::2])[0])


def test_the_count_follows_what_comes_and_goes(tmp_path: Path) -> None:
    source = MemorySource(clustered(50, DIM))
    index = FaissEngine(tmp_path, source)
    assert index.count() == 50
    index.build("flat")
    source.remove(np.arange(1, 8))
    left = index.count()
    assert left == source.fingerprint()[0] < 50
    source.add(clustered(3, DIM, seed=1))
    assert index.count() == left + 3
