"""The timeline of a call: channels, shares, strongest segments, and a course that is planted or cannot be told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

import e2vsearch
from e2vsearch.analysis.timeline import RoleShares, Timeline, TurningPoint
from e2vsearch.catalog import projections
from e2vsearch.catalog.rows import NewRecording, NewSegment
from e2vsearch.collection import Collection
from e2vsearch.course import Change, changes, course_of
from e2vsearch.emotions import affect
from e2vsearch.errors import NotStored, QueryError
from e2vsearch.policy import Role
from e2vsearch.types import Space

SPACE = Space("made", "0" * 64, 4, ("angry", "neutral", "happy"))
CALM: Sequence[float] = (0.05, 0.9, 0.05)
ANGRY: Sequence[float] = (0.9, 0.05, 0.05)
GLAD: Sequence[float] = (0.05, 0.05, 0.9)
BETWEEN: Sequence[float] = (0.45, 0.5, 0.05)
WHEN = datetime(2026, 11, 16, tzinfo=UTC)


def valence(scores: Sequence[float]) -> float:
    (found,) = affect(np.array([scores]), SPACE.labels)[1]
    assert found is not None
    return found


def made_call(
    *lines: Sequence[Sequence[float]],
    roles: tuple[Role | None, ...] | None = None,
    number: int = 1,
    length_s: float = 2.0,
    level_db: float | None = -20.0,
) -> NewRecording:
    """A call of one segment a line after the other, `length_s` each, of these class probabilities."""
    segments = []
    for channel, line in enumerate(lines):
        for at, scores in enumerate(line):
            start_s = at * 5.0 + channel * 2.5
            vector = np.ones(SPACE.dim, np.float32) * (at + 1)
            values = vector, np.array(scores, np.float32), level_db
            segments.append(NewSegment(channel, start_s, start_s + length_s, *values))
    about = f"/calls/{number}.wav", f"{number}", f"{number:064x}", 1, 1, WHEN, 5.0 * max(map(len, lines), default=1)
    return NewRecording(*about, max(len(lines), 1), 8000, "WAV", tuple(segments), roles=roles)


@pytest.fixture
def collection(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Collection]:
    monkeypatch.setenv("E2VSEARCH_CACHE", str(tmp_path / "cache"))
    with e2vsearch.open(database_url, create=True) as collection:
        collection.catalog.pin(SPACE, "made")
        yield collection


def stored(collection: Collection, recording: NewRecording) -> Timeline:
    return collection.timeline(f"call:{collection.catalog.store(recording).id}")


def test_channels_shares_and_strongest(collection: Collection) -> None:
    found = stored(collection, made_call([CALM, ANGRY, BETWEEN], [GLAD], roles=(None, "customer")))
    assert [(each.channel, each.role, each.analysed, each.speech_s) for each in found.channels] == [
        (0, None, True, 6.0),
        (1, "customer", True, 2.0),
    ]
    assert [each.emotion for each in found.channels[0].segments] == ["neutral", "angry", "unsure"]
    assert found.recording == collection.recordings("call:1")[0]
    assert [each for line in found.channels for each in line.segments] == sorted(
        collection.segments("call:1"), key=lambda each: each.channel
    )
    assert found.summary.by_role == (
        RoleShares(None, 3, 6.0, {"angry": 1 / 3, "neutral": 1 / 3, "unsure": 1 / 3}),
        RoleShares("customer", 1, 2.0, {"happy": 1.0}),
    )
    assert found.summary.strongest == ("seg:4", "seg:2")
    assert (found.summary.course, found.summary.turning_points, found.dynamics) == (None, (), None)


@pytest.mark.parametrize(
    ("line", "course", "turns"),
    [
        ([CALM] * 4 + [ANGRY] * 4, "worsening", [(20.0, "seg:5", "worsening", "angry")]),
        ([ANGRY] * 6 + [GLAD] * 5, "improving", [(30.0, "seg:7", "improving", "happy")]),
        (
            [CALM] * 5 + [ANGRY] * 5 + [CALM] * 5,
            "mixed",
            [(25.0, "seg:6", "worsening", "angry"), (50.0, "seg:11", "improving", "neutral")],
        ),
        ([CALM] * 8, "steady", []),
        ([CALM, ANGRY] * 8, "steady", []),  # as often at the end as at the beginning
        ([CALM] * 4 + [ANGRY] * 3, None, []),  # too few to tell
        ([], None, []),
    ],
)
def test_a_planted_course(collection: Collection, line: list[Sequence[float]], course: str | None, turns: list) -> None:  # type: ignore[type-arg]
    summary = stored(collection, made_call(line)).summary
    assert summary.course == course
    assert [(each.at_s, each.segment, each.direction, each.emotion) for each in summary.turning_points] == turns


def test_a_turning_point_has_the_means_of_both_sides(collection: Collection) -> None:
    (point,) = stored(collection, made_call([CALM] * 5 + [BETWEEN] * 4)).summary.turning_points
    before, after = round(valence(CALM), 6), round(valence(BETWEEN), 6)
    assert point == TurningPoint(25.0, 0, "seg:6", "worsening", before, after, "unsure")


@pytest.mark.parametrize("unheard", [{"length_s": 0.9}, {"level_db": -60.0}])
def test_what_is_too_short_or_quiet_has_no_course(collection: Collection, unheard: dict[str, float]) -> None:
    summary = stored(collection, made_call([CALM] * 6 + [ANGRY] * 6, **unheard)).summary  # type: ignore[arg-type]
    assert (summary.course, summary.strongest, summary.turning_points) == (None, (), ())


def test_the_course_is_the_customers(collection: Collection) -> None:
    worse, better = [CALM] * 6 + [ANGRY] * 6, [ANGRY] * 6 + [CALM] * 6
    assert stored(collection, made_call(worse, better)).summary.course == "mixed"
    assert (
        stored(collection, made_call(worse, better, roles=(None, "customer"), number=2)).summary.course == "improving"
    )
    of_agent = made_call(worse, better, roles=("agent", None), number=3)
    found = stored(collection, of_agent)  # as if it had been analysed before the policy said otherwise
    assert (found.channels[0].analysed, found.channels[0].segments) == (False, ())
    assert (found.summary.course, [each.role for each in found.summary.by_role]) == ("improving", [None])
    collection.set_policy(employee_purpose="a made reason", analyse_agent=True)
    assert [each.analysed for each in collection.timeline("call:3").channels] == [True, True]


def test_the_stored_course_is_the_timelines_and_follows_new_scores(collection: Collection) -> None:
    catalog = collection.catalog
    lines: dict[str | None, list[Sequence[float]]] = {
        "worsening": [CALM] * 5 + [ANGRY] * 5,
        "improving": [ANGRY] * 5 + [GLAD] * 5,
        "mixed": [CALM] * 8 + [ANGRY] * 8 + [GLAD] * 8,
        "steady": [CALM] * 9,
        None: [CALM] * 3,
    }
    for number, line in enumerate(lines.values(), 1):
        assert catalog.store(made_call(line, number=number)).id == number
    for number, course in enumerate(lines, 1):
        assert collection.timeline(f"call:{number}").summary.course == course
        where = f"course = {course}" if course else "course is null"
        assert [each.id for each in collection.recordings(where=where)] == [f"call:{number}"]
    stored_projection = projections.StoredProjection("shipped", "network", "1", b"", {}, WHEN)
    projections.put(catalog, stored_projection)
    ids = catalog.segments_of([1])[0]
    new = np.array([GLAD if at > 4 else ANGRY for at in range(ids.size)], np.float32)
    assert projections.put_scores(catalog, ids, new, stored_projection)
    assert collection.timeline("call:1").summary.course == "improving"
    found = collection.recordings(where='course = "improving"')
    assert [each.id for each in found] == ["call:1", "call:2"]


def test_every_door_says_the_same(collection: Collection) -> None:
    for number in range(1, 4):
        collection.catalog.store(made_call([CALM] * number, [ANGRY] * 2, number=number))
    counts = collection.status().counts
    found = [collection.timeline(each.id) for each in collection.recordings()]
    assert sum(len(channel.segments) for each in found for channel in each.channels) == counts.segments
    assert sum(channel.speech_s for each in found for channel in each.channels) == counts.speech_s
    assert sum(share.segments for each in found for share in each.summary.by_role) == counts.segments


def test_a_recording_is_found_by_path_and_name(collection: Collection) -> None:
    collection.catalog.store(made_call([CALM], number=1))
    collection.catalog.store(made_call([CALM], number=2))
    assert collection.timeline("/calls/2.wav") == collection.timeline("2") == collection.timeline("call:2")
    with pytest.raises(QueryError, match=r"/calls names 2 recordings \(call:1, call:2\) - name one"):
        collection.timeline("/calls")
    for missing in "call:9", "/calls/9.wav", "nine":
        with pytest.raises(NotStored, match=missing):
            collection.timeline(missing)


def test_changes_are_where_the_mean_changes() -> None:
    rng = np.random.default_rng(5)
    noise = rng.normal(0, 0.05, 60)
    steps = np.repeat([0.5, 0.25, 0.45], 20)
    assert [each.at for each in changes((steps + noise).tolist())] == [20, 40]
    assert changes(noise.tolist()) == []
    assert changes([0.5] * 20 + [0.45] * 20) == []  # real, and no news
    assert changes([0.5] * 4 + [0.4] * 4 + [0.3] * 4) == [Change(4, 8, 0.5, 0.4), Change(8, 12, 0.4, 0.3)]
    assert course_of([[0.5] * 7, []]) is None


def test_chance_makes_a_change_of_one_series_in_twenty_at_most() -> None:
    rng = np.random.default_rng(0)
    for size in 8, 12, 24, 60:
        for series in (
            rng.normal(0.4, 0.1, (200, size)),
            np.where(rng.random((200, size)) < 0.3, 0.245, 0.5) + rng.normal(0, 0.02, (200, size)),
            rng.beta(0.5, 0.5, (200, size)),
        ):
            assert sum(bool(changes(row)) for row in series.tolist()) <= 10 + 5  # of 200; and what chance adds
