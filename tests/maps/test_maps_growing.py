"""Maps as calls come and go: placing, removal, and clusters that grew by more than chance."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from made_maps import CALLS, SEGMENTS, recording, vector

from e2vsearch.analysis.maps import build, dataset, growth, statistics, transform
from e2vsearch.collection import Collection
from e2vsearch.errors import AnalysisError, NotStored


def test_new_segments_are_placed_and_strange_ones_are_not(own: Collection, tmp_path: Path) -> None:
    before = own.maps.load()
    rng = np.random.default_rng(9)
    strange = [vector(12, rng, 0.02) for _ in range(2)]
    own.catalog.store(recording(100, tmp_path, [vector(1, rng) for _ in range(4)], 1))
    own.catalog.store(recording(101, tmp_path, strange, 0))
    assert own.maps.load().unplaced == 6
    assert own.maps.place() == 6
    assert own.maps.place() == 0
    drawn = own.maps.load()
    assert drawn.unplaced == 0
    calm = next(cluster for cluster in drawn.clusters if cluster.emotions[0].name == "calm")
    new = drawn.placed
    assert drawn.cluster[new].tolist() == [calm.number] * 4 + [-1] * 2
    np.testing.assert_array_equal(drawn.x[~new], before.x)
    mapped = before.cluster == calm.number
    assert before.x[mapped].min() <= drawn.x[new][:4].min() <= drawn.x[new][:4].max() <= before.x[mapped].max()
    assert calm.size == mapped.sum() + 4
    assert [cluster.name for cluster in drawn.clusters] == [cluster.name for cluster in before.clusters]
    assert own.maps.list()[0].placed == 6


def test_placing_agrees_with_having_been_there(collection: Collection) -> None:
    drawn = collection.maps.load()
    known = dataset.facts(collection.maps, "segment", drawn.ids, None)
    vectors = dataset.vectors(collection.maps, known).points
    left_out = np.arange(len(drawn.ids)) % 5 == 0
    kept = ~left_out
    base = transform.Base(
        vectors[kept], drawn.x[kept], drawn.y[kept], drawn.cluster[kept], drawn.strength[kept], reach=np.inf
    )
    put = transform.put(vectors[left_out], base, 15)
    certain = drawn.cluster[left_out] >= 0
    assert (put.cluster == drawn.cluster[left_out])[certain].mean() > 0.95
    assert (put.strength[put.cluster >= 0] > 0).all()
    apart = np.hypot(put.x - drawn.x[left_out], put.y - drawn.y[left_out])
    assert np.median(apart) < 0.15  # the map is 2 wide


def test_placing_asks_no_more_neighbours_than_there_are() -> None:
    one = np.eye(1, 4, dtype=np.float32)
    base = transform.Base(one, np.array([0.5]), np.array([-0.5]), np.array([0]), np.array([1.0]), 0.1)  # type: ignore[arg-type]
    put = transform.put(np.concatenate([one, -one]), base, 15)
    assert put.x.tolist() == [0.5, 0.5]
    assert put.cluster.tolist() == [0, -1]


def test_removed_calls_vanish(own: Collection) -> None:
    before = own.maps.load()
    gone = before.clusters[0].moments[0].recording
    own.remove(gone)
    after = own.maps.load()
    assert len(after.ids) == len(before.ids) - SEGMENTS
    assert after.clusters[0].size == before.clusters[0].size - SEGMENTS
    assert after.clusters[0].calls == before.clusters[0].calls - 1
    assert gone not in {moment.recording for moment in after.clusters[0].moments}
    own.remove(*(f"call:{number}" for number in np.unique(after.recordings)))
    empty = own.maps.load()
    assert (len(empty.ids), empty.clusters) == (0, ())


def test_nothing_left_to_place_by(own: Collection, tmp_path: Path) -> None:
    own.remove(where="duration_s > 0")
    own.catalog.store(recording(100, tmp_path, [vector(1, np.random.default_rng(1))], 1))
    with pytest.raises(AnalysisError, match="make it again"):
        own.maps.place()


@pytest.mark.parametrize("act", [build.load, build.place, build.drop])
def test_unknown_map_is_named_with_those_there_are(collection: Collection, act: object) -> None:
    with pytest.raises(NotStored, match=r"no map 'mpa' \(known: map\)"):
        act(collection, "mpa")  # type: ignore[operator]


def test_fisher_on_the_lady_tasting_tea() -> None:
    pytest.importorskip("scipy")
    p = statistics.over_represented(np.array([4, 3]), np.array([4, 4]), np.array([4, 4]), 8)
    np.testing.assert_allclose(p, [1 / 70, 17 / 70])  # Fisher, 1935


def test_growth_is_a_fair_coin_when_exposures_are_equal() -> None:
    pytest.importorskip("scipy")
    assert statistics.grew(5, 0, 100, 100) == pytest.approx(1 / 32)
    assert statistics.grew(0, 5, 100, 100) == 1.0
    assert statistics.grew(5, 5, 20, 80) == pytest.approx(
        1 - sum((0.8**10, 10 * 0.2 * 0.8**9, 45 * 0.04 * 0.8**8, 120 * 0.008 * 0.8**7, 210 * 0.0016 * 0.8**6))
    )
    low, high = statistics.ratio_interval(10, 10, 50, 50)
    assert high is not None
    assert low < 1 < high
    assert low * high == pytest.approx(1.0)
    assert statistics.ratio_interval(5, 0, 50, 50)[1] is None


def test_correction_for_many_tests() -> None:
    np.testing.assert_allclose(statistics.corrected([0.01, 0.04, 0.03, 0.005]), [0.02, 0.04, 0.04, 0.02])
    assert statistics.corrected([]).size == 0
    assert statistics.corrected([0.9, 1.0]).max() == 1.0


def test_the_cluster_that_grew_is_found(collection: Collection) -> None:
    found = growth.anomalies(collection.maps.load(), recent_days=7, baseline_days=28)
    assert [each.unusual for each in found] == [True, False, False]
    assert found[0].name.startswith("sad")
    assert found[0].recent_calls == 21
    assert found[0].baseline_calls == 12
    assert found[0].expected == pytest.approx(8.0, abs=0.5)
    assert found[0].ratio == pytest.approx(21 / found[0].expected)
    assert found[0].low > 1
    spans = growth.periods(collection.maps.load())
    assert spans.recent_calls == sum(call >= 36 for call in range(CALLS))
    assert spans.until - spans.recent_from == timedelta(days=7)


@pytest.mark.parametrize("arguments", [{"recent_days": 0.1}, {"baseline_days": 0.1}, {"recent_days": 365}])
def test_too_little_to_compare_is_said(collection: Collection, arguments: dict[str, float]) -> None:
    with pytest.raises(AnalysisError, match="too few calls to compare"):
        growth.anomalies(collection.maps.load(), **arguments)  # type: ignore[arg-type]
