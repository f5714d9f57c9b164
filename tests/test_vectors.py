"""Searching: exactness, recall, threads. Against a source in memory, through the real FAISS."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from made_index import DIM, Large, N, made, recall
from memory_source import MemorySource, clustered
from numpy.typing import NDArray

from e2vsearch.errors import GenerationError, QueryError, SettingsError
from e2vsearch.vectors import exact
from e2vsearch.vectors.engine import IndexOptions, Kind
from e2vsearch.vectors.faiss import builder
from e2vsearch.vectors.faiss.index import FaissEngine
from e2vsearch.vectors.faiss.storage import Generation

# --------------------------------------------------------------------------------------------------------- exactness


def test_scores_are_exact_and_a_stored_vector_finds_itself(any_index: tuple[FaissEngine, MemorySource]) -> None:
    index, source = any_index
    some = source.ids[[0, 17, 2000, -1]]
    queries = np.stack([source.vector(number) * 3 for number in some])
    matches = index.search(queries, 10)
    assert matches.ids[:, 0].tolist() == some.tolist()
    assert (matches.scores[:, 0] == 1.0).all()
    for query, ids, scores in zip(queries, matches.ids, matches.scores, strict=True):
        wide = np.array([source.vector(number) for number in ids], np.float64)
        cosines = wide @ query / np.linalg.norm(wide, axis=1) / np.linalg.norm(query.astype(np.float64))
        np.testing.assert_allclose(scores, cosines, atol=1e-6)
    assert (np.diff(matches.scores) <= 0).all()
    np.testing.assert_array_equal(matches.recordings, source.recordings(matches.ids))


@pytest.mark.parametrize("most", [7, 150])
def test_the_nearest_segment_of_each_recording(any_index: tuple[FaissEngine, MemorySource], most: int) -> None:
    index, source = any_index
    queries = np.stack([source.vector(number) for number in source.ids[[3, 900, -2]]])
    every = index.search(queries, 200)
    source.fetched = 0
    found = index.search(queries, 200, recordings=most)
    if index.status().kind != "none":
        assert source.fetched <= len(queries) * most  # no more is held against the source
    for row in range(len(queries)):
        _, first = np.unique(every.recordings[row], return_index=True)
        first = np.sort(first)[:most]
        there = found.ids[row] >= 0
        assert found.ids[row][there].tolist() == every.ids[row][first].tolist()
        assert found.recordings[row][there].tolist() == every.recordings[row][first].tolist()
        np.testing.assert_array_equal(found.scores[row][there], every.scores[row][first])
        assert np.isneginf(found.scores[row][~there]).all()


def test_without_lists_the_answer_is_the_truth(tmp_path: Path) -> None:
    source, queries = made(3000)
    index = FaissEngine(tmp_path, source)
    queries = queries[:20]
    for build in (False, True):
        if build:
            index.build("flat")
        matches = index.search(queries, 25)
        assert matches.exact
        assert matches.searched == 3000
        for query, ids in zip(queries, matches.ids, strict=True):
            np.testing.assert_array_equal(ids, source.nearest(query, 25)[0])


def test_equal_vectors_come_in_the_order_of_their_ids(tmp_path: Path) -> None:
    source = MemorySource(np.repeat(clustered(5, DIM), 4, axis=0))
    found = FaissEngine(tmp_path, source).search(source.vector(9)[None], 4)
    assert found.ids.tolist() == [[9, 10, 11, 12]]
    assert (found.scores == 1.0).all()


def test_scores_of_given_segments(any_index: tuple[FaissEngine, MemorySource]) -> None:
    index, source = any_index
    gone, never = 6, 10**9
    ids = np.array([source.ids[-1], never, 1, gone, 1, 900], np.int64)
    queries = clustered(3, DIM, seed=4)
    scores = index.scores(queries, ids)
    assert scores.shape == (3, 6)
    assert np.isneginf(scores[:, [1, 3]]).all()
    for query, row in zip(queries, scores, strict=True):
        known = dict(zip(*(column.tolist() for column in source.nearest(query, 10**6)), strict=True))
        np.testing.assert_allclose(row[[0, 2, 4, 5]], [known[number] for number in ids[[0, 2, 4, 5]]], atol=1e-6)
    assert index.scores(queries, ids[:0]).shape == (3, 0)


def test_vectors_of_any_size_have_a_direction() -> None:
    tiny, huge = np.float32(1e-38), np.float32(1e38)
    units = exact.unit32(np.array([[tiny, 0], [huge, huge], [0, 0], [np.nan, 1], [np.inf, 1]], np.float32))
    np.testing.assert_allclose(units, [[1, 0], [0.5**0.5] * 2, [0, 0], [0, 0], [0, 0]], atol=1e-7)


def test_cosines_with_vectors_of_any_size_are_those_of_their_directions() -> None:
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((9, DIM)) * 10.0 ** rng.integers(-30, 30, (9, 1))).astype(np.float32)
    vectors[2], vectors[5, 0], vectors[7, 1] = 0, np.nan, np.inf
    units = exact.unit(np.concatenate([rng.standard_normal((3, DIM)), vectors[:1]]))
    found = exact.cosines64(units, vectors)
    np.testing.assert_allclose(found, units @ exact.unit(vectors).T, atol=1e-15)
    assert (found[:, [2, 5, 7]] == 0).all()
    assert found.max() <= 1


# ------------------------------------------------------------------------------------------------------------ recall


@pytest.mark.slow
def test_lists_reach_the_recall_that_the_manifest_promises(large: Large) -> None:
    assert large.manifest.kind == "ivf-rabitq"
    assert large.manifest.nlist == 512
    assert large.manifest.tuned.recall >= 0.95
    assert large.manifest.tuned.nprobe is not None
    assert large.manifest.tuned.nprobe < 512 / 4  # else it would be no index
    for tuning in large.manifest.tuned.tunings:
        found = recall(large.index, large.queries[: 4000 // tuning.k], tuning.k)
        assert found >= tuning.recall - 0.025, tuning  # two standard errors
    assert recall(large.index, large.queries, 1) >= 0.95  # k x factor alone would re-rank only a few
    assert not large.index.search(large.queries, 20).exact


def test_everything_is_compared_where_asked_or_where_no_recall_is_proven(large: Large) -> None:
    truth = [large.source.nearest(query, 20)[0] for query in large.queries[:20]]
    matches = large.index.search(large.queries[:20], 20, compare_all=True)
    np.testing.assert_array_equal(matches.ids, truth)
    assert matches.exact
    assert large.index.search(large.queries[:2], large.manifest.tuned.tunings[-1].k + 1).exact


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "target"), [("ivf-flat", 0.8), ("ivf-flat", 0.99), ("ivf-rabitq", 0.9)])
def test_each_kind_meets_its_target(kind: Kind, target: float, tmp_path: Path) -> None:
    source, queries = made(6000)
    index = FaissEngine(tmp_path, source, IndexOptions(target_recall=target))
    manifest = index.build(kind)
    assert manifest.kind == kind
    assert manifest.tuned.recall >= target
    assert recall(index, queries) >= target - 0.03


def test_a_higher_target_visits_more_lists(tmp_path: Path) -> None:
    source, _ = made(3000)
    low, high = (
        FaissEngine(tmp_path / str(target), source, IndexOptions(target_recall=target)).build("ivf-flat")
        for target in (0.7, 0.99)
    )
    assert low.tuned.nprobe is not None
    assert high.tuned.nprobe is not None
    assert low.tuned.nprobe < high.tuned.nprobe


def test_a_target_out_of_reach_takes_a_richer_kind_and_says_so(tmp_path: Path) -> None:
    source = MemorySource(np.random.default_rng(0).standard_normal((1500, 8)).astype(np.float32))
    manifest = FaissEngine(tmp_path, source, IndexOptions(target_recall=1.0)).build("ivf-rabitq")
    assert manifest.kind != "ivf-rabitq"  # a byte of code cannot order 1,500 neighbours of 8 dimensions
    assert "ivf-rabitq" in manifest.note
    assert manifest.tuned.recall == 1.0


@pytest.mark.parametrize("row", [np.ones(DIM), np.zeros(DIM)], ids=["equal", "zero"])
def test_vectors_that_are_all_the_same_make_a_sound_index(row: NDArray[np.float64], tmp_path: Path) -> None:
    source = MemorySource(np.repeat(row[None].astype(np.float32), 1500, axis=0))
    index = FaissEngine(tmp_path, source)
    index.build("ivf-rabitq")
    matches = index.search(np.ones((1, DIM)), 5)  # type: ignore[arg-type]
    np.testing.assert_allclose(matches.scores, row.max(), atol=1e-6)
    assert np.unique(matches.ids).size == 5
    assert index.verify() == []


def test_a_rotation_saves_codes_from_dimensions_of_unequal_scale(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    skewed = clustered(4000, DIM) * np.exp(1.5 * rng.standard_normal(DIM)).astype(np.float32)
    manifest = FaissEngine(tmp_path, MemorySource(skewed)).build("ivf-rabitq")
    assert manifest.kind == "ivf-rabitq"
    assert manifest.tuned.k_factor is not None
    assert manifest.tuned.k_factor < 5  # what the codes need unrotated


def test_the_same_seed_gives_the_same_index(tmp_path: Path) -> None:
    source, _ = made(2000)
    one, two = (FaissEngine(tmp_path / name, source).build("ivf-flat") for name in "ab")
    assert one.tuned.tunings == two.tuned.tunings
    assert one.files["ivf.faiss"] == two.files["ivf.faiss"]


@pytest.mark.parametrize(
    ("n", "nlist"), [(0, 1), (39, 1), (20_000, 512), (25_000, 512), (200_000, 2048), (10**6, 4096)]
)
def test_number_of_lists(n: int, nlist: int) -> None:
    assert builder.lists_for(n) == nlist
    assert nlist == 1 or nlist * 39 <= n


# ------------------------------------------------------------------------------------------------------------- upkeep


def test_when_a_build_is_due(tmp_path: Path) -> None:
    source, _ = made(900)
    index = FaissEngine(tmp_path, source, IndexOptions(kind="flat"))
    assert index.due() is None  # small
    source.add(clustered(300, DIM))
    assert "no index yet" in str(index.due())
    index.build()
    assert index.due() is None
    source.remove(source.ids[:120])
    assert index.due() is None
    source.remove(source.ids[:1])
    assert "121 of the index's 1200" in str(index.due())
    index.build()
    source.add(clustered(5001, DIM))
    assert "5001 segments came" in str(index.due())
    assert index.status().due == index.due()


def test_status_tells_what_the_index_is(large: Large) -> None:
    status = large.index.status()
    assert (status.kind, status.n, status.tail, status.tombstones) == ("ivf-rabitq", N, 0, 0)
    assert (status.nlist, status.nprobe) == (512, large.manifest.tuned.nprobe)
    assert status.recall == large.manifest.tuned.recall
    assert status.target == 0.95
    assert status.size is not None
    assert N * DIM * 4 < status.size < N * DIM * 5
    assert status.damage is status.due is None


def test_progress_names_its_stages(tmp_path: Path) -> None:
    source, _ = made(1200)
    told: dict[str, tuple[int, int]] = {}
    FaissEngine(tmp_path, source).build("ivf-flat", lambda stage, done, total: told.update({stage: (done, total)}))
    assert list(told) == ["read", "train", "assign", "add", "tune", "write"]
    assert all(done == total for done, total in told.values())


def test_few_segments_are_compared_exactly_whatever_was_asked(tmp_path: Path) -> None:
    source, _ = made(500)
    manifest = FaissEngine(tmp_path, source).build("ivf-rabitq")
    assert manifest.kind == "flat"
    assert "1000" in manifest.note


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ivf-pq"):
        FaissEngine(tmp_path, made(10)[0]).build("ivf-pq")  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------------ queries


@pytest.mark.parametrize(
    ("query", "words"),
    [
        (np.ones((1, DIM + 1)), "dimensions"),
        (np.ones(DIM), "shape"),
        (np.full((1, DIM), np.nan), "NaN"),
        (np.full((1, DIM), np.inf), "NaN or infinite"),
        (np.zeros((1, DIM)), "zeros"),
    ],
)
def test_a_query_that_points_nowhere_is_refused(large: Large, query: NDArray[np.float64], words: str) -> None:
    for ask in (lambda: large.index.search(query, 5), lambda: large.index.scores(query, large.source.ids[:3])):  # type: ignore[arg-type]
        with pytest.raises(QueryError, match=words) as caught:
            ask()
        assert "\n" not in str(caught.value)


def test_no_results_cannot_be_asked_for(large: Large) -> None:
    with pytest.raises(QueryError, match="nearest 0"):
        large.index.search(large.queries, 0)


def test_no_queries_give_no_rows(any_index: tuple[FaissEngine, MemorySource]) -> None:
    index, source = any_index
    matches = index.search(np.empty((0, DIM)), 7)  # type: ignore[arg-type]
    assert matches.ids.shape == matches.recordings.shape == matches.scores.shape == (0, 7)
    assert index.scores(np.empty((0, DIM)), source.ids[:2]).shape == (0, 2)  # type: ignore[arg-type]


def test_more_than_there_are_gives_all_and_padding(any_index: tuple[FaissEngine, MemorySource]) -> None:
    index, source = any_index
    matches = index.search(clustered(2, DIM), source.ids.size + 10)
    assert (np.sort(matches.ids[:, :-10]) == source.ids).all()  # more than are fetched at once
    assert (np.diff(matches.scores[:, :-10]) <= 0).all()
    for ids, recordings in zip(matches.ids[:, :-10], matches.recordings[:, :-10], strict=True):
        np.testing.assert_array_equal(recordings, source.recordings(ids))
    assert (matches.ids[:, -10:] == -1).all()
    assert (matches.recordings[:, -10:] == -1).all()
    assert np.isneginf(matches.scores[:, -10:]).all()
    assert matches.exact


# ------------------------------------------------------------------------------------------------------------ threads


@pytest.mark.slow
def test_searches_go_on_while_the_collection_changes_and_is_rebuilt(tmp_path: Path) -> None:
    source, queries = made(2500)
    index = FaissEngine(tmp_path, source)
    reader = FaissEngine(tmp_path, source)
    done = threading.Event()
    failures: list[BaseException] = []
    answered = [0] * 3

    def search(number: int) -> None:
        picked = np.random.default_rng(number)
        try:
            while not done.is_set() or not answered[number]:
                query = queries[picked.integers(len(queries))][None]
                living = source.ids  # immutable; what was removed before this line must not come back
                newest = int(living[-1])
                ids = (index, reader, index)[number].search(query, 20).ids[0]
                assert np.unique(ids).size == 20
                assert np.isin(ids[ids <= newest], living).all()
                answered[number] += 1
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=search, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    try:
        for round_ in range(3):
            source.remove(np.random.default_rng(round_).choice(source.ids, 100, replace=False))
            source.add(clustered(100, DIM, seed=20 + round_))
            index.build(("flat", "ivf-rabitq", "ivf-flat")[round_])
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not failures, failures[0]
    assert reader.search(queries, 1).searched == 2500
    assert reader.status().kind == "ivf-flat"
    assert index.verify() == []


def test_open_is_lazy_and_needs_no_folder(tmp_path: Path) -> None:
    source, queries = made(20)
    index = FaissEngine(tmp_path / "not" / "there", source)
    assert index.search(queries, 1).ids.min() > 0
    assert not (tmp_path / "not").exists()


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/smaps").is_file(), reason="only Linux tells what of a file is resident")
def test_searching_does_not_keep_the_whole_file_of_vectors_in_memory(tmp_path: Path) -> None:
    source, queries = made(N, dim=256)
    FaissEngine(tmp_path, source).build("ivf-rabitq")
    index = FaissEngine(tmp_path, source)
    for query in queries[:100]:
        index.search(query[None], 20)
    assert resident(tmp_path / "generations", "vectors.f32") < N * 256 * 4 / 2


def test_rows_read_one_by_one_are_those_of_the_map(large: Large) -> None:
    base = large.index._current_snapshot().base  # type: ignore[union-attr]
    assert isinstance(base, Generation)
    for rows in (np.array([[0, 5], [N - 1, 5]]), np.arange(3000), np.empty(0, np.int64)):
        assert (base.gather(rows) == base.vectors[rows]).all()
        assert base.gather(rows).shape == (*rows.shape, DIM)


def test_rows_of_a_file_cut_short_are_not_made_up(tmp_path: Path) -> None:
    source, _ = made(1000)
    index = FaissEngine(tmp_path, source)
    index.build("flat")
    base = index._current_snapshot().base  # type: ignore[union-attr]
    assert isinstance(base, Generation)
    os.truncate(next(tmp_path.rglob("vectors.f32")), 999 * DIM * 4 + 1)
    assert base.gather(np.array([998, 5])).shape == (2, DIM)
    with pytest.raises(GenerationError, match="ends early"):
        base.gather(np.array([5, 999]))


def resident(folder: Path, name: str) -> int:
    """Bytes of a mapped file that this process holds."""
    lines = iter(Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines())
    held = 0
    for line in lines:
        if line.endswith(name) and str(folder) in line:
            held += next(int(each.split()[1]) * 1024 for each in lines if each.startswith("Rss:"))
    return held
