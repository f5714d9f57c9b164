"""Filters: recall at any share that is left, and no answer that breaks one. Through the real FAISS."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_index import DIM, Large, N, made, recall
from memory_source import MemorySource, clustered, tight
from numpy.typing import NDArray

from e2vsearch.vectors import exact
from e2vsearch.vectors.engine import IndexOptions
from e2vsearch.vectors.faiss import filter
from e2vsearch.vectors.faiss.index import FaissEngine


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_a_filter_keeps_its_recall_at_any_selectivity(large: Large, share: float) -> None:
    allowed = np.random.default_rng(1).choice(large.source.ids, int(N * share), replace=False)
    matches = large.index.search(large.queries, 20, allowed=allowed)
    assert matches.searched == allowed.size
    assert matches.exact == (allowed.size <= 2000)
    assert np.isin(matches.ids, allowed).all()
    assert recall(large.index, large.queries, 20, allowed) >= (1.0 if matches.exact else 0.95)


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.9, 0.99])  # 0.95 is what the index is built for: the test above
def test_a_filter_keeps_whatever_recall_was_promised(large: Large, target: float, tmp_path: Path) -> None:
    shutil.copytree(large.folder, tmp_path / "copy")
    index = FaissEngine(tmp_path / "copy", large.source)
    assert index.tune(target).recall >= target
    assert recall(index, large.queries) >= target - 0.01
    for share in (0.5, 0.1, 0.01, 0.001):
        allowed = np.random.default_rng(4).choice(large.source.ids, int(N * share), replace=False)
        assert recall(index, large.queries, 20, allowed) >= target - 0.01


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.3, 0.15])
@pytest.mark.parametrize("sort", ["alike", "near another segment", "far from the query"])
def test_a_filter_that_has_to_do_with_the_query_keeps_it_too(large: Large, sort: str, share: float) -> None:
    """Such as segments that are sad, for one that is angry: what is left is not where the query is."""
    rng, count = np.random.default_rng(2), int(N * share)
    stored = exact.unit32(large.source._vectors)
    shares = []
    for query in exact.unit32(large.queries[:40]):
        towards = {
            "alike": np.round(stored @ stored[rng.integers(N)], 1) + rng.random(N) / 1000,
            "near another segment": stored @ stored[rng.integers(N)],
            "far from the query": -stored @ query,
        }[sort]
        allowed = large.source.ids[np.argsort(-towards)[:count]]
        real = large.index.search(query[None], 20, allowed=allowed, compare_all=True).ids
        found = large.index.search(query[None], 20, allowed=allowed).ids
        assert np.isin(found, allowed).all()
        shares.append(np.isin(real, found).mean())
    assert np.mean(shares) >= 0.95
    assert min(shares) >= 0.6  # 0.15 by the share that is kept alone


TIGHT, PER_CLUSTER = 9000, 30


@pytest.fixture(scope="module")
def in_tight_clusters(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaissEngine, MemorySource]:
    """An index over clusters that are hardly larger than a result: without a filter, one list or two find it."""
    source = MemorySource(tight(TIGHT, DIM, TIGHT // PER_CLUSTER))
    index = FaissEngine(tmp_path_factory.mktemp("tight"), source, IndexOptions(kind="ivf-rabitq"))
    index.build()
    return index, source


@pytest.mark.parametrize("share", [0.5, 0.25])
@pytest.mark.parametrize("sort", ["at random", "by cluster", "most of a cluster or few"])
def test_a_filter_of_tight_clusters_keeps_the_promise(
    in_tight_clusters: tuple[FaissEngine, MemorySource], sort: str, share: float
) -> None:
    """The query's own cluster has too few rows left, and all other clusters are about equally far."""
    index, source = in_tight_clusters
    rng = np.random.default_rng(2)
    clusters = TIGHT // PER_CLUSTER
    left, kept = rng.random(TIGHT), rng.random(clusters)[np.arange(TIGHT) % clusters] < share
    allowed = {
        "at random": source.ids[left < share],
        "by cluster": source.ids[kept],
        "most of a cluster or few": source.ids[left < np.where(kept, 0.9, 0.1 * share)],
    }[sort]
    queries = tight(200, DIM, clusters, seed=1)
    assert len(allowed) > 2000, "fewer are all compared"
    assert recall(index, queries) >= 0.95
    assert recall(index, queries, 20, allowed) >= 0.95


def test_a_filter_on_the_far_side_still_fills_the_answer(large: Large) -> None:
    query = large.queries[:1]
    far = large.source.nearest(query[0], N)[0][-6000:]  # none in the lists that are visited first
    matches = large.index.search(query, 20, allowed=far)
    assert np.isin(matches.ids, far).all()
    assert (matches.ids >= 0).all()


def test_only_an_array_that_cannot_change_is_remembered(large: Large) -> None:
    source, _ = made(N)
    query, allowed = large.queries[:1], source.ids[:6000].copy()
    index = FaissEngine(large.folder, source)  # the same vectors, so the same generation serves
    before = index.search(query, 20, allowed=allowed).ids
    allowed += 6000  # in place: another filter in the same array
    after = index.search(query, 20, allowed=allowed).ids
    assert not np.intersect1d(before, after).size
    allowed.flags.writeable = False
    np.testing.assert_array_equal(index.search(query, 20, allowed=allowed).ids, after)
    assert index._snapshot is not None
    kept, _ = index._snapshot.filters.left(allowed, None)
    assert kept is index._snapshot.filters.left(allowed, None)[0]
    source.add(clustered(1, DIM, seed=1))
    new = index.search(query, 20, allowed=allowed)
    np.testing.assert_array_equal(new.ids, after)
    assert index._snapshot.filters.left(allowed, None)[0] is not kept  # another view, which looks for itself


@pytest.mark.parametrize(("sort", "even"), [("at random", True), ("by recording", True), ("by place", False)])
def test_filters_that_leave_the_same_share_everywhere_are_told_from_others(large: Large, sort: str, even: bool) -> None:
    stored = exact.unit32(large.source._vectors)[:N]
    rng = np.random.default_rng(3)
    mask = {
        "at random": rng.random(N) < 0.2,
        "by recording": np.arange(N) // 10 % 5 == 1,
        "by place": stored @ stored[7] > np.quantile(stored @ stored[7], 0.8),
    }[sort]
    base = large.index._current()
    assert base is not None
    assert base.ivf is not None
    kept = filter.RowMask(mask)
    plan = filter.plan(base.ivf, base.tuned, 20, exact.unit32(large.queries), kept, N)
    assert plan is not None
    assert plan.near is not None
    assert kept.even is even
    visited = (plan.near.lists >= 0).sum(axis=1)
    assert visited.min() >= 1
    assert (visited > base.tuned.tunings[0].nprobe).mean() > 0.5  # what is left lies further away


def test_what_faiss_only_points_to_lives_as_long_as_the_parameters(large: Large) -> None:
    base = large.index._current()
    assert base is not None
    assert base.ivf is not None
    bits = filter.RowMask(np.arange(N) % 2 == 0).bits
    held, selector = base.ivf._params(3, bits).selected
    assert held is bits
    assert selector.thisown  # what reading `sel` gives back owns nothing, and keeps nothing alive


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    allowed=st.none() | st.floats(0, 1),
    excluded=st.none() | st.floats(0, 1) | st.integers(1, 40),
    k=st.integers(1, 60),
)
def test_no_answer_ever_breaks_a_filter(
    any_index: tuple[FaissEngine, MemorySource], seed: int, allowed: float | None, excluded: float | int | None, k: int
) -> None:
    index, source = any_index
    rng = np.random.default_rng(seed)
    known = np.arange(-5, int(source.ids[-1]) + 50)  # ids that are gone or never were, too

    def some(share: float | None) -> NDArray[np.int64] | None:
        return None if share is None else rng.permutation(known[rng.random(known.size) < share])

    query = clustered(2, DIM, seed)
    yes = some(allowed)
    no = None if isinstance(excluded, int) else some(excluded)
    if isinstance(excluded, int):  # so many of the nearest, of which few are not masked but dropped
        no = rng.permutation(np.r_[source.nearest(query[0], excluded)[0], known[:3], source.ids[-1:]])
    if yes is not None:
        yes.flags.writeable = bool(seed % 2)  # what one leaves that cannot be written to is remembered
    may = source.ids if yes is None else np.intersect1d(source.ids, yes)
    may = may if no is None else np.setdiff1d(may, no)
    index.search(query, k, allowed=yes)
    matches = index.search(query, k, allowed=yes, excluded=no)
    assert matches.searched == may.size
    for ids in matches.ids:
        answered = ids[ids >= 0]
        assert answered.size == min(k, may.size)
        assert np.unique(answered).size == answered.size
        assert np.isin(answered, may).all()
    assert ((matches.ids < 0) == np.isneginf(matches.scores)).all()
    assert ((matches.ids < 0) == (matches.recordings < 0)).all()
