"""Maps as they are made: layout, clusters, what is said of them, neighbours and options."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from made_maps import CALLS, DIM, MOODS, OPTIONS, SEGMENTS, mood_of

from e2vsearch.analysis.maps import cluster_description, dataset, layout, types
from e2vsearch.analysis.maps.types import MapOptions
from e2vsearch.collection import Collection
from e2vsearch.errors import AnalysisError, BadFilter, MissingExtra


def test_clusters_are_the_moods(collection: Collection) -> None:
    drawn = collection.maps.load()
    data = dataset.load_points(collection.maps, "segment", drawn.ids, None)
    assert len(drawn.ids) == CALLS * SEGMENTS
    assert [cluster.number for cluster in drawn.clusters] == [0, 1, 2]
    for cluster in drawn.clusters:
        inside = {
            point.emotion for point, number in zip(data.points, drawn.cluster, strict=True) if number == cluster.number
        }
        assert len(inside) == 1
    assert (drawn.cluster >= 0).mean() > 0.9
    sizes = [cluster.size for cluster in drawn.clusters]
    assert sizes == sorted(sizes, reverse=True)
    assert drawn.unplaced == 0


def test_coordinates_fill_the_square(collection: Collection) -> None:
    drawn = collection.maps.load()
    for axis in (drawn.x, drawn.y):
        assert axis.dtype == np.float32
        assert -1 <= axis.min() < axis.max() <= 1
    assert max(np.abs(drawn.x).max(), np.abs(drawn.y).max()) == pytest.approx(1.0)


def test_same_seed_gives_the_same_map_and_another_another(own: Collection) -> None:
    first = own.maps.load()
    again = own.maps.build("again", options=OPTIONS)
    other = own.maps.build("other", options=replace(OPTIONS, seed=7))
    for name in ("ids", "x", "y", "cluster", "strength"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    assert again.clusters == first.clusters
    assert not np.array_equal(first.x, other.x)


def test_description_says_what_a_person_can_act_on(collection: Collection) -> None:
    drawn = collection.maps.load()
    sad = next(cluster for cluster in drawn.clusters if cluster.emotions[0].name == "sad")
    assert sad.emotions[0].share == 1.0
    share = sum(mood_of(call) == 2 for call in range(CALLS)) / CALLS
    assert sad.emotions[0].lift == pytest.approx(1 / share)
    (queue,) = sad.metadata
    assert (queue.key, queue.value) == ("queue", "support")  # and no ticket: each call has its own
    assert queue.p < 0.001
    assert queue.expected == pytest.approx(queue.recordings * sad.recordings / CALLS)
    assert queue.lift == pytest.approx(queue.recordings / queue.expected)
    assert sad.name == "sad · queue=support"
    assert len({each.recording for each in sad.segments}) == len(sad.segments) == 5
    assert all(each.emotion == "sad" for each in sad.segments)
    assert [each.score for each in sad.segments] == sorted((each.score for each in sad.segments), reverse=True)
    assert sad.period == "day"
    assert sum(step.of for step in sad.trend) == CALLS
    assert sum(step.recordings for step in sad.trend) == sad.recordings
    assert sad.trend[0].start == "2024-03-01"
    assert sum(cluster.share for cluster in drawn.clusters) == pytest.approx((drawn.cluster >= 0).mean())


def test_a_cluster_without_a_telling_emotion_is_mixed(collection: Collection) -> None:
    third = np.arange(1, 36 * SEGMENTS + 1)  # of each mood
    data = dataset.load_points(collection.maps, "segment", third, None)
    nothing = np.zeros(len(data.ids), np.float32)
    drawn = types.Layout(nothing, nothing, np.zeros(len(data.ids), np.int32), nothing)
    (only,) = cluster_description.describe(data, dataset.load_vectors(collection.maps, data), drawn)
    assert (only.name, only.metadata) == ("mixed", ())
    (kept,) = cluster_description.describe(data, dataset.load_vectors(collection.maps, data), drawn, {0: "as it was"})
    assert kept.name == "as it was"
    unclear = tuple(replace(point, emotion="unsure") if at % 3 else point for at, point in enumerate(data.points))
    (only,) = cluster_description.describe(
        replace(data, points=unclear), dataset.load_vectors(collection.maps, data), drawn
    )
    assert only.name == "mixed"  # what is unsure is counted, and names no cluster
    assert (only.emotions[0].name, only.emotions[0].share) == ("unsure", pytest.approx(2 / 3))  # type: ignore[comparison-overlap]


def test_by_call_and_filter(own: Collection) -> None:
    drawn = own.maps.build("calls", by="recording", where="start_s < 2", options=MapOptions(min_cluster_size=5))
    assert len(drawn.ids) == CALLS
    np.testing.assert_array_equal(drawn.ids, drawn.recordings)
    assert len(drawn.clusters) == 3
    data = dataset.load_points(own.maps, "recording", drawn.ids, drawn.where)
    assert len(data.segments) == 2 * CALLS
    vectors = dataset.load_vectors(own.maps, data)
    first, second = vectors.segments[0], vectors.segments[1]
    np.testing.assert_allclose(vectors.points[0], (first + second) / np.linalg.norm(first + second), atol=1e-6)
    assert data.points[0].id == "call:1"
    assert data.points[0].emotion == MOODS[mood_of(0)]
    assert {each.recording for each in drawn.clusters[0].segments} <= {f"call:{number}" for number in drawn.ids}


def test_json_of_a_map_has_everything_but_points(collection: Collection) -> None:
    drawn = collection.maps.load()
    plain = json.loads(json.dumps(drawn.without_points()))
    assert plain["points"] == len(drawn.ids)
    assert plain["options"]["seed"] == 42
    assert "umap-learn" in plain["versions"]
    assert types.Cluster.from_json(plain["clusters"][0]) == drawn.clusters[0]
    assert "x" not in plain


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ({"where": "queue = nowhere"}, AnalysisError, "no segment meets"),
        ({"where": "quue = sales"}, BadFilter, "queue"),
        ({"where": "recording = 1"}, AnalysisError, "too few"),
        ({"options": MapOptions(min_cluster_size=1)}, AnalysisError, "--min-cluster-size"),
        ({"options": MapOptions(min_cluster_size=100)}, AnalysisError, "too few"),
        ({"options": MapOptions(neighbors=1)}, AnalysisError, "--neighbors"),
        ({"options": MapOptions(min_dist=2.0)}, AnalysisError, "--min-dist"),
        ({"by": "mood"}, AnalysisError, "by segment or by recording"),
        ({"name": ""}, AnalysisError, "name"),
    ],
)
def test_what_cannot_be_made_is_said(
    collection: Collection, arguments: dict[str, object], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as raised:
        collection.maps.build(**{"name": "never", **arguments})  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    assert [each.name for each in collection.maps.list()] == ["map"]


def test_missing_extra_is_named(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "umap", None)
    with pytest.raises(MissingExtra, match=r"e2vsearch\[map\]"):
        collection.maps.build()


@pytest.mark.parametrize(
    ("where", "pinned"),
    [
        ("date = today", "date = 2024-03-05"),
        ("date >= YESTERDAY and queue = 'today'", "date >= 2024-03-04 and queue = 'today'"),
        ("today_ish = 1", "today_ish = 1"),
        (None, None),
    ],
)
def test_today_becomes_its_date(where: str | None, pinned: str | None) -> None:
    assert dataset.fix_dates(where, datetime(2024, 3, 5, 12, tzinfo=UTC)) == pinned


def test_neighbours_are_exact_and_begin_with_the_point_itself() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((60, DIM)).astype(np.float32)
    vectors[30:50] = vectors[30]  # twenty twins: a point is not always found among its own nearest
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows, distances = layout.neighbours(vectors, 5, lambda *_: None)
    np.testing.assert_array_equal(rows[:, 0], np.arange(60))
    cosines = vectors @ vectors.T
    expected = 1 - np.sort(cosines, axis=1)[:, ::-1][:, :6]
    np.testing.assert_allclose(distances, np.clip(expected, 0, 2), atol=1e-5)
    assert all(len(set(row)) == 6 for row in rows.tolist())


@pytest.mark.parametrize(("count", "size"), [(12, 3), (42, 10), (60, 15), (1247, 15), (20_000, 200)])
def test_least_cluster_size_follows_the_number_of_points(count: int, size: int) -> None:
    assert layout.resolve(MapOptions(), count).min_cluster_size == size


def test_equally_large_clusters_are_numbered_as_their_first_points_come() -> None:
    pytest.importorskip("sklearn", reason="the 'map' extra is not installed")
    rng = np.random.default_rng(1)
    place = np.tile([2, 0, 1], 8)  # which of three is found first is HDBSCAN's own affair
    points = (np.eye(3)[place] * 10 + 0.1 * rng.standard_normal((24, 3))).astype(np.float32)
    for turned in (points, points[:, ::-1], -points):
        cluster, _ = layout._clusters(turned, MapOptions(min_cluster_size=4), lambda *_: None)
        assert cluster[:6].tolist() == [0, 1, 2, 0, 1, 2]
