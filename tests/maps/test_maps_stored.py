"""Maps in the catalog, on both databases."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from made import save, speech
from made_maps import SPACE, recording, vector

import e2vsearch
from e2vsearch.analysis.maps import types
from e2vsearch.catalog import maps as stored
from e2vsearch.catalog.writer import Catalog
from e2vsearch.collection import Collection


def points(count: int, placed: bool = False, first: int = 1) -> stored.Points:
    return stored.Points(
        np.arange(first, first + count),
        np.linspace(-1, 1, count, dtype=np.float32),
        np.zeros(count, np.float32),
        (np.arange(count) % 2 - 1).astype(np.int32),
        np.ones(count, np.float32),
        np.full(count, placed),
    )


def run_of(name: str, clusters: int = 1) -> stored.StoredMap:
    described = [{"number": number} for number in range(clusters)]
    return stored.StoredMap(name, "segment", None, {"reach": 0.5}, described, datetime(2024, 3, 1, tzinfo=UTC))


def test_maps_are_stored_replaced_extended_and_dropped(database_url: str, tmp_path: Path) -> None:
    catalog = Catalog.open(database_url, create=True)
    catalog.pin(SPACE, "saved")
    rng = np.random.default_rng(0)
    for call in range(4):
        catalog.store(recording(call, tmp_path, [vector(0, rng) for _ in range(3)], 0))
    np.testing.assert_array_equal(stored.items(catalog, "segment", None), np.arange(1, 13))
    np.testing.assert_array_equal(stored.items(catalog, "recording", "recording in (1, 3)"), [1, 3])
    stored.save(catalog, run_of("a"), points(6))
    stored.save(catalog, run_of("b"), points(4))
    stored.save(catalog, run_of("a", clusters=2), points(8))
    run, found = stored.load(catalog, "a")  # type: ignore[misc]
    assert len(run.clusters) == 2
    np.testing.assert_array_equal(found.x, points(8).x)
    np.testing.assert_array_equal(found.recordings, [1, 1, 1, 2, 2, 2, 3, 3])
    assert found.recorded_at[0] == np.datetime64("2024-03-01T00:00:00")
    assert stored.add(catalog, "a", points(4, placed=True, first=7), [{"number": 5}]) == 2  # 7 and 8 are there
    assert stored.add(catalog, "no", points(4), []) == 0
    counted = {each.map.name: (each.points, each.placed, each.none) for each in stored.listing(catalog)}
    assert counted == {"a": (10, 2, 5), "b": (4, 0, 2)}
    found_columns = stored.segment_columns(catalog, "b")
    assert found_columns is not None
    _, columns, labels = found_columns
    assert [list(columns[at]) for at in (0, 3, 4, 8)] == [[1, 2, 3, 4], [-1, 0, -1, 0], [1, 1, 1, 2], ["angry"] * 4]
    assert labels == {}
    assert stored.segment_columns(catalog, "no") is None
    assert stored.recording_values(catalog, "ticket") == {number: f"T{number - 1}" for number in range(1, 5)}
    assert stored.recording_values(catalog, None)[2] == "call1"
    assert stored.drop(catalog, "a")
    assert not stored.drop(catalog, "a")
    assert stored.load(catalog, "a") is None
    catalog.close()


def test_a_run_that_fails_leaves_the_old_one(database_url: str, tmp_path: Path) -> None:
    catalog = Catalog.open(database_url, create=True)
    catalog.pin(SPACE, "saved")
    catalog.store(recording(0, tmp_path, [vector(0, np.random.default_rng(0)) for _ in range(3)], 0))
    stored.save(catalog, run_of("a"), points(3))
    twice = replace(points(3), ids=np.array([1, 1, 2]))
    with pytest.raises(Exception, match=r"(?i)unique"):
        stored.save(catalog, run_of("a", clusters=9), twice)
    run, found = stored.load(catalog, "a")  # type: ignore[misc]
    assert (len(run.clusters), len(found.ids)) == (1, 3)
    catalog.close()


def test_results_are_plain_values(collection: Collection) -> None:
    json.dumps([asdict(each) for each in collection.maps.load().clusters])


def test_the_order_of_ingestion_makes_no_difference(umap: None, tmp_path: Path) -> None:
    """Ids go by which file was read first; the map does not."""
    folder = tmp_path / "calls"
    folder.mkdir()
    for number in range(12):
        save(folder / f"{number:02d}.wav", speech(3.0, seed=number))
    files = sorted(folder.iterdir())
    places: list[dict[str, tuple[float, float]]] = []
    for at, paths in enumerate((files, files[::-1])):
        with e2vsearch.open(tmp_path / str(at), encoder="fake", create=True) as collection:
            for path in paths:
                collection.ingest(path)
            drawn = collection.maps.build(options=types.MapOptions(min_cluster_size=3))
            names = [collection.recordings(each.recording)[0].name for _, each in collection.catalog.segments()]
            places.append(dict(zip(names, zip(drawn.x.tolist(), drawn.y.tolist(), strict=True), strict=True)))
    assert places[0] == places[1]
