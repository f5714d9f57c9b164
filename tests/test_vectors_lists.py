"""Finding lists: by codes of their centres, and how many a filter takes. Through the real FAISS."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from memory_source import MemorySource, clustered
from numpy.typing import NDArray

from e2vsearch.vectors import exact
from e2vsearch.vectors.faiss import nprobe
from e2vsearch.vectors.faiss.index import FaissEngine
from e2vsearch.vectors.faiss.ivf import Ivf, faiss_module
from e2vsearch.vectors.faiss.ivf_writer import fill
from e2vsearch.vectors.faiss.nprobe import RecallModel
from e2vsearch.vectors.faiss.storage import Generation
from e2vsearch.vectors.recall import held_out

LISTS, DIM = 700, 1024  # 2.8 MB of centres


def filled(
    path: Path, dim: int = DIM, kind: str = "ivf-rabitq"
) -> tuple[Ivf, NDArray[np.float32], NDArray[np.float32]]:
    """Lists around made centres, those, and queries."""
    centres, rows, queries = np.split(exact.unit32(clustered(LISTS + 2000 + 100, dim)), [LISTS, LISTS + 2000])
    fill(kind, rows, centres, 0, path, lambda *_: None)
    return Ivf.read(path, 2000, dim, LISTS), centres, queries


def share_found(true: NDArray[np.int64], found: NDArray[np.int64]) -> float:
    return float(np.mean([np.isin(row, some).mean() for row, some in zip(true, found, strict=True)]))


def true_lists(centres: NDArray[np.float32], queries: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    return np.asarray(np.argsort(-(queries @ centres.T), axis=1)[:, :count], np.int64)


@pytest.mark.parametrize("dim", [1024, 1000], ids=["power of two", "any"])
@pytest.mark.parametrize("kind", ["ivf-rabitq", "ivf-flat"])
def test_lists_are_found_by_codes_of_their_centres(kind: str, dim: int, tmp_path: Path) -> None:
    faiss = faiss_module()
    ivf, centres, queries = filled(tmp_path / "ivf", dim, kind)
    assert isinstance(faiss.downcast_index(ivf._inner.quantizer), faiss.IndexRefine)
    for count in (10, 30, 90):  # of more, fewer are compared for each
        near = ivf.nearest(queries, count)
        assert share_found(true_lists(centres, queries, count), near.lists) > 0.98
        assert share_found(true_lists(centres, queries, count // 2), near.lists) > 0.99
        scores = np.take_along_axis(queries @ centres.T, near.lists, axis=1)
        np.testing.assert_allclose(near.scores, scores, atol=1e-5)  # exact, of those that are found
    assert share_found(true_lists(centres, queries, 50), ivf.nearest(queries, LISTS).lists[:, :50]) > 0.999
    np.testing.assert_allclose(ivf.centroids(), centres, atol=1e-5)


def test_few_or_short_centres_are_all_compared(tmp_path: Path) -> None:
    faiss = faiss_module()
    ivf, centres, queries = filled(tmp_path / "ivf", 64)
    assert isinstance(faiss.downcast_index(ivf._inner.quantizer), faiss.IndexFlat)
    np.testing.assert_array_equal(ivf.nearest(queries, 10).lists, true_lists(centres, queries, 10))


def test_codes_cost_no_row(tmp_path: Path) -> None:
    """What the lists hold is found in full through them, all lists visited."""
    ivf, _, queries = filled(tmp_path / "ivf")
    assert (np.sort(ivf.search(queries[:5], 2000, LISTS), axis=1) == np.arange(2000)).all()
    bits = np.packbits(np.arange(2000) % 2 == 0, bitorder="little")
    found = ivf.search_near(ivf.nearest(queries[:5], LISTS), 1000, bits)
    assert (np.sort(found, axis=1) == np.arange(0, 2000, 2)).all()


# --------------------------------------------------------------------------------------------------------- recall model


def test_deeper_results_take_as_many_lists_as_hold_the_same_share() -> None:
    ranks = np.tile(np.arange(2000) // 10, (50, 1))  # ten rows to a list, nearest first
    points = RecallModel.fit(ranks, 20, 2, 0.95).points  # the nearest 20 are in the first two, all of them
    assert points[0] == (20, 2)
    assert [rows for rows, _ in points] == [20, 40, 100, 200, 500, 1000, 2000]
    for rows, lists in points[1:]:
        assert lists == np.ceil(0.9875 * rows / 10)  # a quarter of the 0.05 that may be missed is left out
    assert RecallModel.fit(ranks[:, :100], 20, 2, 0.95).points[-1][0] == 100  # no further than neighbours are known
    half = RecallModel.fit(ranks, 20, 1, 0.95).points
    assert half[-1] == (2000, 100)


def test_lists_never_fall_as_results_grow() -> None:
    ranks = np.concatenate([np.full((10, 20), 50), np.zeros((10, 1980), np.int64)], axis=1)
    assert RecallModel.fit(ranks, 20, 51, 0.9).points[-1] == (2000, 51)


def test_lists_between_and_beyond_what_was_measured() -> None:
    model = RecallModel(((20, 10), (200, 40), (2000, 160)))
    found = model.lists_for(np.array([1.0, 20, 200, np.sqrt(200 * 2000), 4000]))
    np.testing.assert_allclose(found, [10, 10, 40, 80, 320])


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Generation, NDArray[np.float32], NDArray[np.float32]]:
    """A generation of 25,000 vectors, those, and queries."""
    stored, queries = np.split(clustered(25_300, 64), [25_000])
    index = FaissEngine(tmp_path_factory.mktemp("built"), MemorySource(stored))
    manifest = index.build()
    base = index._current()
    assert base is not None
    assert base.tuned == manifest.tuned  # as it was read back
    return base, exact.unit32(stored), exact.unit32(queries)


@pytest.mark.slow
def test_lists_hold_the_same_share_at_every_depth(
    built: tuple[Generation, NDArray[np.float32], NDArray[np.float32]],
) -> None:
    base, stored, queries = built
    assert base.ivf is not None
    assert base.tuned.model is not None
    lists_at = dict(base.tuned.model.points)
    assert lists_at[20] == base.tuned.nprobe
    lists_of = base.ivf.list_of_row
    order = base.ivf.nearest(queries, base.ivf.nlist).lists
    shares = {}
    for rows, lists in lists_at.items():
        nearest, visited = np.argsort(-(queries @ stored.T), axis=1)[:, :rows], order[:, :lists]
        shares[rows] = share_found(lists_of[nearest], visited)  # type: ignore[arg-type]
    assert max(shares.values()) - min(shares.values()) < 0.02
    assert min(shares.values()) > 0.94


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.9, 0.95, 0.99])
def test_tuning_starts_where_lists_hold_enough(
    built: tuple[Generation, NDArray[np.float32], NDArray[np.float32]], target: float
) -> None:
    """Fewer lists than `Trial.fewest_lists` hold too little for any re-rank."""
    base, stored, _ = built
    assert base.ivf is not None
    rows = held_out(base.ids, 0)[0]
    trial = nprobe.Trial(base.ivf, stored, stored[rows], rows, 256)
    for k in (20, 256):
        fewest = trial.fewest_lists(k, target)
        widest = nprobe.most_candidates("ivf-rabitq")
        assert fewest > 1
        assert trial.recall(k, fewest - 1, widest).lower_bound < target + 0.001  # scores that tie count either way
        assert trial.recall(k, fewest, widest).lower_bound >= target - 0.01
