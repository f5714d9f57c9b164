"""Courses: dynamic time warping against its own definition, and planted ones found among the same moments reordered."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made import save, silence, speech
from numpy.typing import NDArray
from test_query_language import made_recording

import e2vsearch
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.errors import AudioNotFound, NotStored, QueryError
from e2vsearch.search import trajectory
from e2vsearch.types import Space

DIM = 24
EMOTIONS = ("neutral", "angry", "relieved", "sad")
DRAWS = 25

# --------------------------------------------------------------------------------------------------------- warping


def least_by_walking(cosines: NDArray[np.float64], a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """Of every path there is, the least sum: the definition, without dynamic programming."""
    n, m = cosines.shape

    def walk(i: int, j: int) -> float:
        cost = 1 - cosines[i, j]
        if i == j == 0:
            return float((a[0] + b[0]) * cost)
        ways = []
        if i and j:
            ways.append(walk(i - 1, j - 1) + (a[i] + b[j]) * cost)
        if i:
            ways.append(walk(i - 1, j) + a[i] * cost)
        if j:
            ways.append(walk(i, j - 1) + b[j] * cost)
        return float(min(ways))

    return walk(n - 1, m - 1)


@pytest.mark.parametrize("seed", range(5))
def test_the_least_of_all_paths_is_found_for_many_at_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, sizes = int(rng.integers(1, 6)), np.array([1, 2, 5, 6, 3])
    cosines = rng.uniform(-1, 1, (5, n, 6))
    a = trajectory.shares(rng.uniform(0.5, 4, n))
    b = np.zeros((5, 6))
    for row, size in enumerate(sizes):
        b[row, :size] = trajectory.shares(rng.uniform(0.5, 4, size))
    table = trajectory.dtw(cosines, a, b, sizes, band=1.0)
    for row, size in enumerate(sizes):
        expected = least_by_walking(cosines[row, :, :size], a, b[row, :size])
        assert table[row, -1, size - 1] == pytest.approx(expected, abs=1e-9)
    narrow = trajectory.dtw(cosines, a, b, sizes, band=0.2)
    ends = np.arange(5), -1, sizes - 1
    assert np.isfinite(narrow[ends]).all()  # however narrow, there is a path
    assert (narrow[ends] >= table[ends] - 1e-12).all()


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 9), (2, 40), (40, 2), (3, 3), (7, 50)])
def test_every_two_courses_can_be_matched(n: int, m: int) -> None:
    even = trajectory.shares(np.ones(n)), trajectory.shares(np.ones(m))[None]
    table = trajectory.dtw(np.full((1, n, m), 0.5), *even, np.array([m]), band=0.0)
    assert table[0, -1, -1] == pytest.approx(1.0)  # 2 · (1 - 0.5), whatever the way


# --------------------------------------------------------------------------------------------------------- planted


def course_of(
    rng: np.random.Generator,
    prototypes: NDArray[np.float64],
    stations: Sequence[int],
    noise: float,
    *,
    channel: int = 0,
    start_s: float = 0.0,
) -> list[NewSegment]:
    """A course through some stations: each lasts for two to five segments of one to six seconds."""
    segments = []
    for station in stations:
        for _ in range(rng.integers(2, 6)):
            length = float(rng.uniform(1, 6))
            vector = prototypes[station] + noise * rng.standard_normal(prototypes.shape[1])
            scores = np.full(len(EMOTIONS), 0.1)
            scores[station] = 0.7
            span = (channel, start_s, start_s + length)
            segments.append(NewSegment(*span, vector.astype(np.float32), scores.astype(np.float32)))
            start_s += length + float(rng.uniform(0.2, 2))
    return segments


def recording_of(number: int, segments: Sequence[NewSegment]) -> NewRecording:
    made = made_recording(number, np.zeros((0, DIM)))
    return NewRecording(
        made.uri, made.name, made.content_sha256, 1, 1, made.recorded_at, 600.0, 2, 8000, "WAV", tuple(segments)
    )


def in_another_order(segments: Sequence[NewSegment], order: Sequence[int]) -> list[NewSegment]:
    """The very same moments, the stations in another order, at each other's times."""
    likeliest = [int(np.argmax(each.scores)) for each in segments]  # type: ignore[arg-type]
    moved = [segments[at] for station in order for at, kind in enumerate(likeliest) if kind == station]
    return [
        NewSegment(span.channel, span.start_s, span.end_s, each.vector, each.scores)
        for span, each in zip(segments, moved, strict=True)
    ]


def planted(seed: int, place: Path, noise: float) -> tuple[Collection, str]:
    """Call 1 is the reference; one of the next 15 runs as it does, with other moments at another pace.

    Others hold fresh moments of the same emotions in other orders, or (one in three) the very moments in another
    order: of the planted call, or where the noise is small of the reference itself.
    """
    rng = np.random.default_rng(seed)
    prototypes = rng.standard_normal((len(EMOTIONS), DIM))
    wanted = int(rng.integers(2, 17))
    orders = [order for order in itertools.permutations((0, 1, 2)) if order != (0, 1, 2)]
    reference, match = (course_of(rng, prototypes, (0, 1, 2), noise) for _ in range(2))
    calls = [reference]
    for number in range(2, 17):
        other = orders[rng.integers(len(orders))]
        if number == wanted:
            calls.append(match)
        elif number % 3:
            calls.append(course_of(rng, prototypes, other, noise))
        else:
            calls.append(in_another_order(reference if noise < 0.5 else match, other))
    collection = e2vsearch.open(place, create=True)
    collection.catalog.pin(Space("saved", "made", DIM, EMOTIONS), "saved")
    for number, segments in enumerate(calls, start=1):
        collection.catalog.store(recording_of(number, segments))
    return collection, f"call:{wanted}"


@pytest.mark.slow
@pytest.mark.parametrize("noise", [0.3, 0.7])  # cosine of two moments of one emotion: 0.92, 0.67; of two emotions: 0
def test_the_planted_course_comes_first(tmp_path: Path, noise: float) -> None:
    """In 95 % of draws or more, by a call and by emotions' names; by moments alone it seldom does."""
    by_call = by_names = by_moments = 0
    for seed in range(DRAWS):
        collection, wanted = planted(seed, tmp_path / str(seed), noise)
        with collection:
            by_call += collection.query(trajectory="call:1", k=3)[0].recording == wanted
            by_moments += collection.query("call:1", k=3)[0].recording == wanted
            named = [hit.recording for hit in collection.query(trajectory="neutral,angry,relieved", k=2)]
            by_names += set(named) == {"call:1", wanted}
    assert by_call >= 0.95 * DRAWS, by_call
    assert by_names >= 0.95 * DRAWS, by_names
    assert by_moments <= 0.3 * DRAWS, by_moments


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Collection]:
    collection, _ = planted(3, tmp_path_factory.mktemp("arc") / "index", noise=0.7)
    with collection:
        yield collection


def test_the_same_course_scores_one(collection: Collection) -> None:
    (itself, other, *_) = collection.query(trajectory="call:1", include_self=True)
    assert itself.recording == "call:1"
    assert itself.score == pytest.approx(1.0, abs=1e-6)
    assert [match.reference for match in itself.alignment] == [match.segment for match in itself.alignment]
    assert (other.score or 0) < 0.9
    assert "call:1" not in {hit.recording for hit in collection.query(trajectory="call:1")}


def test_the_score_is_the_mean_cosine_along_the_path(collection: Collection) -> None:
    """Weighted by what each step covers of both; the path begins and ends with both and never goes back."""
    reference = collection.segments("call:1")
    a = dict(zip((s.id for s in reference), trajectory.shares(lengths(reference)), strict=True))
    result = collection.query(trajectory="call:1", k=5, explain=True)
    assert result.trajectory
    assert result.references == ("call:1",)
    for hit in result:
        stored = collection.segments(hit.recording)
        b = dict(zip((s.id for s in stored), trajectory.shares(lengths(stored)), strict=True))
        total, before = 0.0, ("", "")
        for match in hit.alignment:
            weight = (match.reference != before[0]) * a[match.reference] + (match.segment != before[1]) * b[
                match.segment
            ]
            assert weight > 0
            total += weight * match.cosine
            before = match.reference, match.segment
        assert total / 2 == pytest.approx(hit.score, abs=1e-5)
        assert (hit.alignment[0].reference, hit.alignment[0].segment) == (reference[0].id, stored[0].id)
        assert before == (reference[-1].id, stored[-1].id)
        times = [(match.reference_start_s, match.start_s) for match in hit.alignment]
        assert times == sorted(times)
        assert hit.segment_score == max(match.cosine for match in hit.alignment)
        assert hit.segment in {match.segment for match in hit.alignment}
        assert hit.why is not None
        assert hit.why.matches == hit.alignment
        assert hit.percentile is not None


def lengths(segments: Sequence[Any]) -> NDArray[np.float64]:
    return np.array([segment.end_s - segment.start_s for segment in segments])


def nearly(value: Any) -> Any:
    """`value` with its floats rounded: a product of another shape adds up in another order."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, dict):
        return {key: nearly(each) for key, each in value.items()}
    return [nearly(each) for each in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("cells", [1, 200, 1 << 20])
def test_blocks_and_candidates_change_nothing(
    collection: Collection, monkeypatch: pytest.MonkeyPatch, cells: int
) -> None:
    plain = collection.query(trajectory="call:1", k=9)
    assert plain.exact
    monkeypatch.setattr(trajectory, "_CELLS", cells)
    expected = [nearly(asdict(hit)) for hit in plain.hits]
    assert [nearly(asdict(hit)) for hit in collection.query(trajectory="call:1", k=9).hits] == expected
    monkeypatch.setattr(trajectory, "_ALL_CELLS", 0)
    through = collection.query(trajectory="call:1", k=9)
    assert not through.exact
    assert [nearly(asdict(hit)) for hit in through.hits] == expected
    exact = collection.query(trajectory="call:1", k=9, exact=True)
    assert exact.exact
    assert [nearly(asdict(hit)) for hit in exact.hits] == expected


def test_filters_limits_and_stations_of_any_kind(collection: Collection) -> None:
    result = collection.query(trajectory="call:1", where="recording <= 5", group_by=("day",), group_size=3, k=9)
    assert len(result) == 3
    assert {hit.recording for hit in result} <= {f"call:{number}" for number in range(2, 6)}
    stations = collection.query(trajectory=["emotion:neutral", "emotion:angry", "seg:3"], k=2)
    assert stations.references == ("emotion:neutral", "emotion:angry", "seg:3")
    assert {match.reference for match in stations[0].alignment} == set(stations.references)
    by_name = collection.query(trajectory="neutral, angry")
    assert collection.query(trajectory=["emotion:neutral", "emotion:angry"]).hits == by_name.hits
    assert len(collection.query(trajectory="call:1", where="recording = 999999")) == 0


def test_channels_run_by_themselves(tmp_path: Path) -> None:
    """The reference's customer goes from calm to angry beside an even agent; mixed together nobody would see it."""
    rng = np.random.default_rng(0)
    prototypes = rng.standard_normal((4, DIM))

    def stereo(first: Sequence[int], second: Sequence[int]) -> list[NewSegment]:
        return [
            *course_of(rng, prototypes, first, 0.5),
            *course_of(rng, prototypes, second, 0.5, channel=1, start_s=1.0),
        ]

    pairs = [((0, 0, 0), (0, 1, 2)), ((0, 0, 0), (2, 1, 0)), ((0, 1, 2), (0, 0, 0)), ((0, 1, 0), (2, 0, 2))]
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        collection.catalog.pin(Space("saved", "made", DIM, EMOTIONS), "saved")
        for number, pair in enumerate(pairs, start=1):
            collection.catalog.store(recording_of(number, stereo(*pair)))
        result = collection.query(trajectory="call:1")
        assert result[0].recording == "call:3"  # the same two courses, the other way round
        reference = {s.id: s.channel for s in collection.segments("call:1")}
        stored = {s.id: s.channel for s in collection.segments("call:3")}
        assert {(reference[m.reference], stored[m.segment]) for m in result[0].alignment} == {(0, 1), (1, 0)}
        customers = collection.query(trajectory="call:1", where="channel = 1")
        assert {hit.channel for hit in customers} == {1}


def test_a_file_is_a_course(tmp_path: Path) -> None:
    turns = [speech(2.0, seed=at, pitch_hz=100 + 40 * at) for at in range(3)]
    calls = tmp_path / "calls"
    calls.mkdir()
    for name, order in {"up": (0, 1, 2), "down": (2, 1, 0), "middle": (1, 0, 2)}.items():
        save(calls / f"{name}.wav", np.concatenate([part for at in order for part in (turns[at], silence(1.5))]))
    with e2vsearch.open(tmp_path / "index", encoder="fake", create=True) as collection:
        collection.ingest(calls)
        result = collection.query(trajectory=calls / "up.wav")
        assert result[0].name == "up"
        assert result[0].score == pytest.approx(1.0, abs=1e-5)
        assert (result[1].score or 0) < (result[0].score or 0)
        assert all(match.reference.endswith("up.wav") for match in result[0].alignment)
        assert result[0].alignment[0].reference_start_s == pytest.approx(result[0].alignment[0].start_s)


@pytest.mark.parametrize(
    ("given", "options", "error", "says"),
    [
        ("seg:1", {}, QueryError, "seg:1 is a single segment"),
        (["emotion:angry"], {}, QueryError, "single segment"),
        ("call:999", {}, NotStored, "call:999"),
        ("neutral,bored", {}, NotStored, "no emotion or label 'bored'"),
        (["emotion:neutral", "emotion:bored"], {}, NotStored, "bored"),
        (["neutral", "angry"], {}, AudioNotFound, "did you mean emotion:neutral"),
        ("call:1", {"by": "segment"}, QueryError, "by recording"),
        ("call:1", {"avoid": ["seg:3"]}, QueryError, "without avoid"),
        ("call:1", {"emotion": "angry"}, QueryError, "without emotion"),
        ([], {}, e2vsearch.E2vsearchError, "numbers"),
    ],
)
def test_courses_that_make_no_sense(
    collection: Collection, given: Any, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says) as caught:
        collection.query(trajectory=given, **options)
    assert "\n" not in str(caught.value)
    with pytest.raises(QueryError, match="without references"):
        collection.query("seg:1", trajectory="call:1")
