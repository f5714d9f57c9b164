"""Maps as recordings come and go: placing and removal, and the test of over-representation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_maps import SEGMENTS, recording, vector

from e2vsearch.analysis.maps import build, dataset, statistics, transform
from e2vsearch.analysis.maps.types import Layout
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
    data = dataset.load_points(collection.maps, "segment", drawn.ids, None)
    vectors = dataset.load_vectors(collection.maps, data).points
    left_out = np.arange(len(drawn.ids)) % 5 == 0
    kept = ~left_out
    base = Layout(drawn.x[kept], drawn.y[kept], drawn.cluster[kept], drawn.strength[kept])
    put = transform.transform(vectors[left_out], vectors[kept], base, 15)
    certain = drawn.cluster[left_out] >= 0
    assert (put.cluster == drawn.cluster[left_out])[certain].mean() > 0.95
    assert (put.strength[put.cluster >= 0] > 0).all()
    apart = np.hypot(put.x - drawn.x[left_out], put.y - drawn.y[left_out])
    assert np.median(apart) < 0.15  # the map is 2 wide


def test_placing_asks_no_more_neighbours_than_there_are() -> None:
    one = np.eye(1, 4, dtype=np.float32)
    base = Layout(np.array([0.5]), np.array([-0.5]), np.array([0]), np.array([1.0]), 0.1)
    put = transform.transform(np.concatenate([one, -one]), one, base, 15)
    assert put.x.tolist() == [0.5, 0.5]
    assert put.cluster.tolist() == [0, -1]


def test_removed_calls_vanish(own: Collection) -> None:
    before = own.maps.load()
    gone = before.clusters[0].segments[0].recording
    own.remove(gone)
    after = own.maps.load()
    assert len(after.ids) == len(before.ids) - SEGMENTS
    assert after.clusters[0].size == before.clusters[0].size - SEGMENTS
    assert after.clusters[0].recordings == before.clusters[0].recordings - 1
    assert gone not in {each.recording for each in after.clusters[0].segments}
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
    for guessed, p in ((4, 1 / 70), (3, 17 / 70)):  # Fisher, 1935
        one = (np.array([each]) for each in (guessed, 4, 4))
        np.testing.assert_allclose(statistics.over_represented(*one, 8), [p])  # type: ignore[arg-type, call-arg]


def test_correction_for_many_tests() -> None:
    pytest.importorskip("scipy")
    both, same = np.array([3, 4, 1]), np.array([4, 4, 4])
    p = statistics.over_represented(both, same, same, 8)  # alone 17/70, 1/70 and 69/70
    np.testing.assert_allclose(p, [17 / 70 * 3 / 2, 3 / 70, 69 / 70])
