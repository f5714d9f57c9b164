"""A map's points as columns, and what its clusters are called."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from made_maps import CALLS, MOODS, SEGMENTS, filled, mood_of

from e2vsearch.analysis.maps import cluster_names, columns, dataset
from e2vsearch.analysis.maps.types import Cluster, MapOptions, Proportion
from e2vsearch.catalog import maps as stored
from e2vsearch.collection import Collection
from e2vsearch.errors import NotStored, UnlawfulUse
from e2vsearch.types import By


def cluster(number: int, emotion: str, size: int) -> Cluster:
    return Cluster(
        number=number,
        name=emotion,
        size=size,
        share=0.5,
        recordings=size,
        x=0.0,
        y=0.0,
        emotions=(Proportion(emotion, size, 1.0, 3.0),),
        labels=(),
        metadata=(),
        segments=(),
        period="day",
        trend=(),
    )


def save_map(collection: Collection, by: By) -> None:
    """A map of which each mood is a cluster; the layout itself takes ten seconds of compiling."""
    ids = np.arange(1, CALLS * (SEGMENTS if by == "segment" else 1) + 1)
    call = (ids - 1) // SEGMENTS if by == "segment" else ids - 1
    of = np.array([mood_of(each) for each in call.tolist()], np.int32)
    x = np.linspace(-1, 1, len(ids), dtype=np.float32)
    points = stored.Points(ids, x, -x, of, np.ones(len(ids), np.float32), np.zeros(len(ids), np.bool_))
    described = [json.loads(json.dumps(asdict(cluster(at, mood, 1)))) for at, mood in enumerate(MOODS)]
    options = {"options": asdict(MapOptions(min_cluster_size=3)), "versions": {}, "reach": 1.0}
    run = stored.StoredMap(by, by, None, options, described, datetime(2024, 3, 1, tzinfo=UTC))
    stored.save(collection.catalog, run, points)


@pytest.fixture
def collection(tmp_path: Path) -> Collection:
    made = filled(tmp_path / "index")
    save_map(made, "segment")
    save_map(made, "recording")
    return made


@pytest.mark.parametrize("by", ["segment", "recording"])
def test_columns_hold_what_the_points_are(collection: Collection, by: By) -> None:
    with collection:
        found = collection.maps.point_columns(by)
        data = dataset.load_points(collection.maps, by, found.ids, None)
        drawn = collection.maps.load(by)
    assert found.by == by
    np.testing.assert_array_equal(found.ids, drawn.ids)
    np.testing.assert_array_equal(found.x, drawn.x)
    np.testing.assert_array_equal(found.cluster, drawn.cluster)
    np.testing.assert_array_equal(found.recordings, drawn.recordings)
    words = [*found.emotion.words, *[None] * 256]
    assert [words[code] for code in found.emotion.codes] == [point.emotion for point in data.points]
    scores = [-1 if point.emotion_score is None else point.emotion_score for point in data.points]
    np.testing.assert_allclose(found.emotion_score, scores, rtol=1e-6)
    np.testing.assert_allclose(found.end_s, [point.end_s for point in data.points])
    assert set(found.colours) == {-1, 0, 1, 2}


def test_what_was_removed_is_left_out_and_labels_are_there(collection: Collection) -> None:
    with collection:
        collection.labels.add("mine", "seg:5")
        collection.remove("call:1")
        found = collection.maps.point_columns("segment")
        assert found.ids.tolist() == list(range(SEGMENTS + 1, CALLS * SEGMENTS + 1))
        assert found.label.words == ("mine",)
        assert found.ids[found.label.codes != columns.ABSENT].tolist() == [5]
        queue = collection.maps.value_column("segment", "queue")
        assert len(queue.codes) == len(found.ids)
        assert {queue.values[code] for code in queue.codes} == {"billing", "sales", "support", "other"}
        assert collection.maps.value_column("segment", "name").values[0].startswith("call")


def test_a_column_of_employees_is_refused(collection: Collection) -> None:
    with collection:
        collection.set_policy(employee_fields=("queue",))
        with pytest.raises(UnlawfulUse, match="emotion by queue"):
            collection.maps.value_column("segment", "queue")
        with pytest.raises(UnlawfulUse, match="emotion by"):
            collection.maps.value_column("segment", "meta.queue")


def test_a_map_or_key_that_is_none_is_named(collection: Collection) -> None:
    with collection:
        with pytest.raises(NotStored, match="no map 'no'"):
            collection.maps.point_columns("no")
        with pytest.raises(NotStored, match="no recording has a 'no'"):
            collection.maps.value_column("segment", "no")


def test_clusters_of_one_name_are_called_by_what_differs(collection: Collection) -> None:
    with collection:
        data = dataset.load_points(collection.maps, "segment", np.arange(1, 91), None)
    loud = [np.arange(0, 30), np.arange(30, 60), np.arange(60, 90)]
    levels = [-20.0, -45.0, -20.0]
    segments = tuple(replace(each, level_db=levels[at // 30]) for at, each in enumerate(data.segments))
    points = tuple(replace(each, arousal=0.5, valence=0.5) for each in data.points)
    data = replace(data, segments=segments, points=points)
    clusters = [cluster(at, "sad", 30) for at in range(3)]
    named = cluster_names.distinct(clusters, data, loud, {})
    assert [each.name for each in named] == ["sad · loud", "sad · quiet", "sad · loud (2)"]
    kept = cluster_names.distinct(clusters, data, loud, {1: "as it was"})
    assert kept[1].name == "as it was"
    alike = replace(data, segments=tuple(replace(each, level_db=None) for each in segments))
    assert [each.name for each in cluster_names.distinct(clusters, alike, loud, {})] == ["sad", "sad (2)", "sad (3)"]
