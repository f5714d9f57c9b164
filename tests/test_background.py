"""Percentiles: the background of cosines that a collection keeps beside its index."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.projections.background import BACKGROUND, Background
from e2vsearch.types import Space

DIM, CALLS, TURNS = 12, 8, 30


def call(number: int, vectors: NDArray[np.floating]) -> NewRecording:
    segments = tuple(NewSegment(0, 2.0 * at, 2.0 * at + 1.5, each.astype("f4")) for at, each in enumerate(vectors))
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return NewRecording(f"/{number}.wav", str(number), f"{number:064x}", 1, 1, when, 60.0, 1, 8000, "WAV", segments)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    rng = np.random.default_rng(4)
    centres = rng.standard_normal((3, DIM))
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        collection.catalog.pin(Space("saved", "made", DIM), "saved")
        for number in range(CALLS):
            vectors = centres[rng.integers(3, size=TURNS)] + 0.8 * rng.standard_normal((TURNS, DIM))
            collection.catalog.store(call(number, vectors))
    return tmp_path / "index"


@pytest.fixture
def collection(place: Path) -> Iterator[Collection]:
    with e2vsearch.open(place) as collection:
        yield collection


def background(collection: Collection) -> Background:
    return collection.projections.view().background


def percentiles(collection: Collection) -> list[float | None]:
    return [hit.percentile for hit in collection.query("seg:1", by="segment", k=200)]


def true_cosines(collection: Collection) -> NDArray[np.float64]:
    """Of all pairs of segments of different calls, ascending."""
    vectors = collection.projections.view().source.fetch(np.arange(1, CALLS * TURNS + 1)).vectors.astype(np.float64)
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    calls = np.repeat(np.arange(CALLS), TURNS)
    one, other = np.triu_indices(len(units), 1)
    return np.sort((units @ units.T)[one, other][calls[one] != calls[other]])


def test_a_percentile_is_the_share_of_pairs_that_are_less_alike(collection: Collection) -> None:
    cosines = true_cosines(collection)
    result = collection.query("seg:1", by="segment", k=200)
    true = [100 * np.searchsorted(cosines, hit.segment_score or 0) / cosines.size for hit in result]
    assert [hit.percentile for hit in result] == pytest.approx(true, abs=3.0)  # 240 segments are few to sample
    assert collection.query("seg:1", include_self=True)[0].percentile == 100.0
    explained = collection.query("seg:1", by="segment", k=200, explain=True)
    assert [hit.percentile for hit in explained] == [hit.percentile for hit in result]


def test_another_process_gives_the_same(place: Path, collection: Collection) -> None:
    found = percentiles(collection)
    kept = (place / BACKGROUND).stat()
    assert kept.st_mode & 0o077 == 0
    # 4 % more: a draw now would be another one
    collection.catalog.store(call(CALLS, np.random.default_rng(9).standard_normal((TURNS // 3, DIM))))
    with e2vsearch.open(place) as other:
        assert percentiles(other)[:50] == percentiles(collection)[:50]
    assert (place / BACKGROUND).stat() == kept
    assert len(found) == 200


def test_an_ingest_draws_so_that_no_query_has_to(place: Path, collection: Collection) -> None:
    assert not (place / BACKGROUND).exists()
    collection.index.maintain()
    kept = (place / BACKGROUND).stat()
    assert None not in percentiles(collection)
    assert (place / BACKGROUND).stat() == kept


def test_they_are_drawn_again_once_much_has_come_or_gone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        collection.catalog.pin(Space("saved", "made", DIM), "saved")
        collection.catalog.store(call(0, rng.standard_normal((30, DIM))))
        assert collection.query("seg:1", by="segment")[0].percentile is None  # one recording: nothing to compare with
        collection.catalog.store(call(1, rng.standard_normal((30, DIM))))
        assert collection.query("seg:1", by="segment")[0].percentile is not None
        assert background(collection).scores(60).cosines.size == 900
        with e2vsearch.open(tmp_path / "index") as other:
            other.catalog.remove([1])
            background(other).refresh()
        assert background(collection).scores(30).segments == 30
        assert collection.query("seg:31", by="segment")[0].percentile is None


@pytest.mark.parametrize("damage", [b"", b"{}", b"[]\n", b'{"of": 1}\n', b"\xff\n\x00"])
def test_a_damaged_file_is_drawn_anew(place: Path, collection: Collection, damage: bytes) -> None:
    found = percentiles(collection)
    whole = (place / BACKGROUND).read_bytes()
    (place / BACKGROUND).write_bytes(damage)
    assert percentiles(collection) == found
    assert (place / BACKGROUND).read_bytes() == whole
    torn = bytearray(whole)
    torn[-2] ^= 1
    (place / BACKGROUND).write_bytes(torn)
    assert percentiles(collection) == found
    assert (place / BACKGROUND).read_bytes() == whole


def test_they_are_of_one_projection(place: Path, collection: Collection) -> None:
    """A file of another space is not read."""
    percentiles(collection)
    with e2vsearch.open(place.parent / "other", create=True) as other:
        other.catalog.pin(Space("saved", "made", DIM), "saved")
        for number in range(CALLS):
            other.catalog.store(call(number, np.random.default_rng(number).standard_normal((TURNS, DIM))))
        expected = percentiles(other)
        (place.parent / "other" / BACKGROUND).write_bytes((place / BACKGROUND).read_bytes())
        assert percentiles(other) == expected


def test_where_nothing_can_be_written_they_are_drawn_all_the_same(place: Path, collection: Collection) -> None:
    (place / BACKGROUND).mkdir()
    assert None not in percentiles(collection)
    assert percentiles(collection) == percentiles(collection)


def test_what_is_forgotten_is_in_no_sample(place: Path, collection: Collection) -> None:
    percentiles(collection)
    collection.forget("call:3")
    assert not (place / BACKGROUND).exists()
    percentiles(collection)
    assert (place / BACKGROUND).exists()
