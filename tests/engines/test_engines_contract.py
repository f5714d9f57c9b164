"""One contract for all engines, against brute force: whatever an engine holds, an answer is right."""

from __future__ import annotations

import numpy as np
import pytest
from engine_sides import ENGINES, Opened, Side
from memory_source import MemorySource, clustered

from e2vsearch.errors import EngineError, GenerationBusy, GenerationError, QueryError, SettingsError
from e2vsearch.vectors.exact import UnitVectors

DIM, N = 24, 320


@pytest.fixture(scope="module")
def still(side: Side) -> Opened:
    """An index that no test changes, with a tail and tombstones."""
    opened = side.open(MemorySource(clustered(N, DIM)))
    opened.source.remove(opened.source.ids[5:100:7])
    opened.source.add(clustered(9, DIM, seed=3))
    opened.source.remove(opened.source.ids[-2:])
    return opened


@pytest.fixture(scope="module")
def queries() -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return clustered(4, DIM, seed=5)


def test_finds_the_nearest(still: Opened, queries: np.ndarray) -> None:
    assert still.check(queries, 20) >= 0.95


@pytest.mark.parametrize("k", [1, 7, N, 2 * N])
def test_returns_as_many_as_there_are(still: Opened, queries: np.ndarray, k: int) -> None:
    assert still.check(queries[:2], k) >= 0.95


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_returns_only_what_a_filter_leaves(still: Opened, queries: np.ndarray, share: float) -> None:
    some = np.random.default_rng(0).choice(still.source.ids, max(1, int(share * N)), replace=False)
    assert still.check(queries[:2], 10, allowed=np.sort(some)) >= 0.95


def test_a_filter_is_pushed_down_or_applied_afterwards(
    still: Opened, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With filters that are too large to be looked up in the catalog alone: pushed down, and over-fetched."""
    monkeypatch.setattr("e2vsearch.vectors.engines.search._GATHER_ROWS", 10)
    allowed = still.source.ids[::3]
    assert still.check(queries[:2], 10, allowed=allowed) >= 0.95
    if still.side.engine is not None:
        monkeypatch.setattr(type(still.engine), "filters", 0)
        assert still.check(queries[:2], 10, allowed=allowed) >= 0.95


def test_where_an_engine_proposes_too_few_all_are_compared(
    still: Opened, queries: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    if still.side.engine is None:
        pytest.skip("an index by itself")
    monkeypatch.setattr("e2vsearch.vectors.engines.search._GATHER_ROWS", 10)
    for name, most in (("filters", 0), ("most", 6)):
        monkeypatch.setattr(type(still.engine), name, most)
    assert still.check(queries[:2], 10, allowed=still.source.ids[::3]) == 1.0


def test_a_filter_may_name_what_is_gone(still: Opened, queries: np.ndarray) -> None:
    gone = np.setdiff1d(np.arange(1, N), still.source.ids)
    assert gone.size
    found = still.search(queries[:1], 5, allowed=np.sort(np.concatenate([gone, still.source.ids[:2]])))
    assert sorted(found.ids[0].tolist()) == [-1, -1, -1, *still.source.ids[:2].tolist()]


def test_an_empty_filter_finds_nothing(still: Opened, queries: np.ndarray) -> None:
    found = still.search(queries[:1], 3, allowed=np.empty(0, np.int64))
    assert found.ids.tolist() == [[-1] * 3]


def test_excludes(still: Opened, queries: np.ndarray) -> None:
    out = still.search(queries, 5).ids.ravel()
    assert still.check(queries, 5, excluded=out) >= 0.95


def test_scores_are_those_of_the_catalog(still: Opened, queries: np.ndarray) -> None:
    ids = np.concatenate([still.source.ids[::50], [10**9]])
    scores = still.index.scores(queries, ids)
    assert np.isneginf(scores[:, -1]).all()
    for query, row in zip(queries, scores, strict=True):
        truth = dict(zip(*(each.tolist() for each in still.source.nearest(query, N)), strict=True))
        assert np.allclose(row[:-1], [truth[each] for each in ids[:-1].tolist()], atol=1e-6)


def test_compares_all_where_that_is_asked(still: Opened, queries: np.ndarray) -> None:
    found = still.search(queries[:1], 5, compare_all=True)
    assert found.exact
    assert found.ids[0].tolist() == still.source.nearest(queries[0], 5)[0].tolist()


@pytest.mark.parametrize(("shape", "k"), [((2, DIM + 1), 5), ((DIM,), 5), ((1, DIM), 0)])
def test_refuses_what_is_no_query(still: Opened, shape: tuple[int, ...], k: int) -> None:
    with pytest.raises(QueryError):
        still.search(np.ones(shape, np.float32), k)
    with pytest.raises(QueryError, match="NaN"):
        still.search(np.full((1, DIM), np.nan, np.float32), 5)


def test_counts_and_says_how_current_it_is(still: Opened) -> None:
    assert still.index.count() == len(still.source.ids)
    status = still.index.status()
    if still.side.name != "exact":
        assert (status.tail, status.tombstones) == (7, 14)
        assert status.recall is not None
        assert status.recall >= 0.95
    assert still.index.verify() == []


def test_another_process_finds_the_same(still: Opened, queries: np.ndarray) -> None:
    ids = still.search(queries, 5).ids
    assert (still.opened().search(queries, 5).ids == ids).all()


def test_what_is_built_in_is_found_and_what_is_gone_is_not(side: Side, queries: np.ndarray) -> None:
    opened = side.open(MemorySource(clustered(N, DIM)))
    new = opened.source.add(queries)
    assert opened.search(queries, 1).ids[:, 0].tolist() == new.tolist()  # before it is built in
    opened.build()
    assert opened.search(queries, 1).ids[:, 0].tolist() == new.tolist()
    opened.source.remove(new)
    assert not np.isin(opened.search(queries, 20).ids, new).any()  # before it is deleted there
    opened.build()
    assert opened.check(queries, 20) >= 0.95
    assert opened.index.verify() == []
    if side.engine is not None:
        assert opened.engine.holds(new).size == 0
        assert opened.engine.count() == N


def test_a_dropped_index_leaves_nothing_and_search_goes_on(side: Side, queries: np.ndarray) -> None:
    opened = side.open(MemorySource(clustered(N, DIM)))
    assert opened.index.drop() == (0 if side.name == "exact" else 1)
    assert opened.check(queries, 5) == 1.0
    assert opened.index.status().kind == "none"
    assert opened.index.drop() == 0
    if side.engine is not None:
        assert opened.space not in opened.engine.spaces()
        assert opened.engine.filled().watermark is None
        assert opened.engine.count() == 0


def test_refuses_a_kind_or_recall_that_there_is_not(still: Opened) -> None:
    with pytest.raises(SettingsError, match="use one of"):
        still.index.build("gpu" if still.side.engine is not None else "hnsw")
    with pytest.raises(SettingsError, match="above 0"):
        still.index.build(target=1.5)


def test_tunes_what_is_built(side: Side) -> None:
    opened = side.open(MemorySource(clustered(N, DIM)))
    if side.name == "exact":
        with pytest.raises(GenerationError, match="index build"):
            opened.index.tune()
        return
    assert opened.index.tune(0.9).recall >= 0.9
    assert opened.index.requested() == ("auto", 0.9)


# --- engines that propose candidates


@pytest.fixture(scope="module")
def engine_side(side: Side) -> Side:
    if side.name not in ENGINES:
        pytest.skip("an index by itself")
    return side


def test_upserts_and_deletes_can_be_repeated(engine_side: Side) -> None:
    opened = engine_side.open(MemorySource(clustered(60, DIM)))
    engine, before = opened.engine, opened.engine.filled().watermark
    assert before is not None
    rows = UnitVectors.of(opened.source.fetch(opened.source.ids[:5]))
    for upto in (before, before + 1):
        engine.apply([rows], opened.source.ids[10:12], engine.filled().watermark, upto)
        assert engine.filled().watermark == upto
        assert engine.count() == 58
        assert engine.ids(0, 100).tolist() == np.delete(opened.source.ids, [10, 11]).tolist()
    assert engine.ids(20, 3).tolist() == [21, 22, 23]
    assert engine.holds(np.array([1, 11, 59, 99])).tolist() == [1, 59]


def test_a_watermark_that_moved_meanwhile_is_not_overwritten(engine_side: Side) -> None:
    opened = engine_side.open(MemorySource(clustered(60, DIM)))
    before = opened.engine.filled().watermark
    assert before is not None
    with pytest.raises(GenerationBusy, match="try again"):
        opened.engine.apply([], np.empty(0, np.int64), before - 1, before + 5)
    assert opened.engine.filled().watermark == before


def test_refuses_vectors_of_another_length(engine_side: Side) -> None:
    opened = engine_side.open(MemorySource(clustered(60, DIM)))
    with pytest.raises(EngineError, match="index drop"):
        opened.engine.open(DIM + 1)
    opened.engine.open(DIM)


def test_an_interrupted_fill_leaves_no_watermark_and_is_made_good(engine_side: Side) -> None:
    opened = engine_side.open(MemorySource(clustered(60, DIM)))
    opened.index.drop()
    engine = opened.engine
    engine.open(DIM)

    def breaks() -> object:
        yield UnitVectors.of(opened.source.fetch(opened.source.ids[:30]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        engine.apply(breaks(), np.empty(0, np.int64), None, 60)  # type: ignore[arg-type]
    assert engine.filled().watermark is None
    opened.source.remove(opened.source.ids[:3])
    opened.build()
    assert engine.count() == 57
    assert opened.index.verify() == []


def test_a_restored_catalog_is_noticed_and_made_good(engine_side: Side, queries: np.ndarray) -> None:
    opened = engine_side.open(MemorySource(clustered(60, DIM)))
    opened.source.forget(opened.source.ids[-20:])
    opened.source.rewind(20)
    again = opened.opened()
    assert "newer than the catalog" in str(again.status().damage)
    assert "newer than the catalog" in again.verify()[0]
    opened.index = again
    assert opened.check(queries, 10) == 1.0
    opened.build()
    assert opened.engine.count() == 40
    assert opened.index.verify() == []


def test_verify_finds_what_the_engine_should_not_hold(engine_side: Side) -> None:
    opened = engine_side.open(MemorySource(clustered(60, DIM)))
    stray = UnitVectors(np.array([777], np.int64), np.array([7], np.int64), clustered(1, DIM, seed=4))
    now = opened.engine.filled().watermark
    assert now is not None
    opened.engine.apply([stray], opened.source.ids[:2], now, now)
    (problem,) = opened.index.verify()
    assert "not all the same" in problem


def test_consistency_says_what_is_read(engine_side: Side, queries: np.ndarray) -> None:
    opened = engine_side.open(MemorySource(clustered(60, DIM)))
    then = opened.engine.filled().watermark
    assert then is not None
    new = opened.source.add(queries[:1])
    assert opened.search(queries[:1], 1).ids[0, 0] == new[0]
    assert opened.index.under(then + 1).search(queries[:1], 1).ids[0, 0] == new[0]
    for lax in ("any", then):
        assert not np.isin(opened.index.under(lax).search(queries[:1], 20).ids, new).any()


@pytest.mark.slow
def test_an_index_of_a_kind_reaches_its_recall(engine_side: Side) -> None:
    made = clustered(1500 + 40, DIM)
    opened = engine_side.open(MemorySource(made[:1500]))
    report = opened.index.build("hnsw", target=0.98)
    assert report.kind != "flat"
    assert opened.check(made[1500:], 20) >= 0.95
    assert opened.index.status(measure=True).drift is None
    assert opened.index.due() is None
    assert opened.index.verify() == []


@pytest.mark.slow
def test_a_graph_keeps_its_recall_for_queries_that_are_none_of_its_nodes(engine_side: Side) -> None:
    """Of vectors without structure, a breadth that finds .99 of nodes' neighbours found .91 of new queries'."""
    if engine_side.name == "milvus-lite":
        pytest.skip("its graph is searched in Python, a second for each query")
    rng = np.random.default_rng(4)
    opened = engine_side.open(MemorySource(rng.standard_normal((3000, 64), np.float32)))
    opened.index.build("hnsw")
    new = rng.standard_normal((60, 64), np.float32)
    assert opened.check(new, 20) >= 0.95
    assert opened.index.tune().recall >= 0.95
    assert opened.check(new, 20) >= 0.95
    assert opened.index.verify() == []
    kept = dict(opened.report.read() or {})  # as if rows had come and gone until the graph led nowhere
    opened.report.write(kept | {"recall": 0.99, "target": 0.99, "breadths": ((1000, 40),)})
    (problem,) = opened.index.verify()
    assert "index tune" in problem
