"""Trends on both databases: counts against an oracle, filters that list exactly the calls, intervals that hold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from databases import Copied
from made_weeks import START, made_call, make
from sqlalchemy import insert

import e2vsearch
from e2vsearch.analysis.trends import measure
from e2vsearch.analysis.trends.interval import interval
from e2vsearch.analysis.trends.types import TrendRow, Trends
from e2vsearch.catalog import maps
from e2vsearch.catalog.schema import ClassifierRow, SegmentLabelRow
from e2vsearch.collection import Collection
from e2vsearch.errors import BadFilter, NotStored, QueryError, UnlawfulUse


@pytest.fixture
def collection(copied: Copied, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Collection]:
    monkeypatch.setenv("E2VSEARCH_CACHE", str(tmp_path / "cache"))
    with e2vsearch.open(copied(make), create=True) as collection:
        yield collection


def short(trends: Trends) -> dict[tuple[str | None, str | None, str], tuple[int, int, int, int]]:
    """The counts of each share that is not 0."""
    return {
        (row.period, row.group, row.value): (row.segments, row.of_segments, row.recordings, row.of_recordings)
        for row in trends
        if row.segments
    }


def cluster(number: int, name: str) -> dict[str, Any]:
    lists: dict[str, Any] = {key: [] for key in ("emotions", "labels", "metadata", "segments", "trend")}
    place = {"size": 1, "share": 0.1, "recordings": 1, "x": 0.0, "y": 0.0, "period": "week"}
    return {"number": number, "name": name, **place, **lists}


def put_map(collection: Collection, name: str, by: str, clusters: dict[int, int]) -> None:
    """Store a map of these segments or recordings, with the cluster of each."""
    ids, at = np.array(list(clusters), np.int64), np.zeros(len(clusters), np.float32)
    points = maps.Points(ids, at, at, np.array(list(clusters.values()), np.int32), at, np.zeros(len(ids), np.bool_))
    described = [cluster(0, "angry · agent=Kim"), cluster(1, "calm")]
    maps.save(collection.catalog, maps.StoredMap(name, by, None, {}, described, START), points)


def test_emotions_by_week(collection: Collection) -> None:
    assert short(collection.trends()) == {
        ("2025-W01", None, "angry"): (3, 8, 2, 3),
        ("2025-W01", None, "calm"): (3, 8, 2, 3),
        ("2025-W01", None, "too short"): (1, 8, 1, 3),
        ("2025-W01", None, "unsure"): (1, 8, 1, 3),
        ("2025-W02", None, "angry"): (1, 6, 1, 2),
        ("2025-W02", None, "calm"): (4, 6, 1, 2),
        ("2025-W02", None, "sad"): (1, 6, 1, 2),
        ("2025-W03", None, "angry"): (5, 8, 1, 3),
        ("2025-W03", None, "calm"): (2, 8, 2, 3),
        ("2025-W03", None, "sad"): (1, 8, 1, 3),
    }
    first = collection.trends()[0]
    where = 'date >= 2024-12-30 and date < 2025-01-06 and emotion = "angry"'
    low, high = 0.04843, 0.876135
    assert first == TrendRow("2025-W01", "2024-12-30", None, "angry", 0.375, low, high, 3, 8, 2, 3, where)


def test_a_value_that_a_period_lacks_has_a_share_of_zero(collection: Collection) -> None:
    (row,) = (each for each in collection.trends() if (each.period, each.value) == ("2025-W02", "unsure"))
    assert (row.share, row.low, row.segments, row.recordings) == (0.0, 0.0, 0, 0)
    assert 0.3 < row.high < 0.8  # two recordings say little


@pytest.mark.parametrize("by", ["day", "week", "month", None])
@pytest.mark.parametrize("group", [None, "queue", "meta.queue", "role", "channel"])
@pytest.mark.parametrize("where", [None, 'queue = billing or emotion in (sad, "too short")'])
def test_each_row_lists_exactly_its_calls(
    collection: Collection, by: Any, group: str | None, where: str | None
) -> None:

    @cache  # a period's values are of the same recordings and segments
    def counted(where: str) -> tuple[int, int]:
        return len(collection.recordings(where=where)), len(collection.segments(where=where))

    for row in collection.trends(by=by, group=group, where=where):
        assert counted(row.where) == (row.recordings, row.segments)
        of = row.where.rpartition(" and ")[0] or "emotion is not null"
        assert counted(of) == (row.of_recordings, row.of_segments)
        assert row.low <= row.share <= row.high
        assert row.share == pytest.approx(row.segments / row.of_segments, abs=1e-6)


def test_without_periods_the_figures_are_those_of_the_status(collection: Collection) -> None:
    counts = collection.status().counts
    found = collection.trends(by=None)
    assert {row.value: row.segments for row in found} == counts.emotions
    assert {row.of_segments for row in found} == {counts.segments}
    assert [row.value for row in found] == ["angry", "calm", "sad", "too short", "unsure"]  # the most common first
    assert sum(row.share for row in found) == pytest.approx(1.0, abs=1e-5)


def test_days_and_months_are_those_of_utc(collection: Collection) -> None:
    at = datetime.fromisoformat("2025-02-01T00:30:00+02:00")  # the last of January, in UTC
    collection.catalog.store(made_call(20, ["sad"], at=at))
    assert [row.period for row in collection.trends(by="day", where="name = call20")] == ["2025-01-31"]
    (row,) = collection.trends(by="month", where="name = call20")
    assert (row.period, row.start) == ("2025-01", "2025-01-01")
    assert row.where == '(name = call20) and date >= 2025-01-01 and date < 2025-02-01 and emotion = "sad"'


def test_years_at_the_end_of_the_calendar(collection: Collection) -> None:
    collection.catalog.store(made_call(20, ["sad"], at=datetime(9999, 12, 31, tzinfo=UTC)))
    for by in ("day", "week", "month"):
        (row,) = collection.trends(by=by, where="name = call20")
        assert len(collection.recordings(where=row.where)) == row.recordings == 1


def test_labels_are_those_that_filters_see(collection: Collection) -> None:
    """A person's label stands in place of the classifiers', of which a segment may have several."""
    with collection.catalog.writing() as connection:
        values = {"name": "c", "space_id": 1, "labels": [], "parameters": b"", "report": {}, "created_at": START}
        connection.execute(insert(ClassifierRow), [{**values, "version": version} for version in (1, 2)])
        given = [(1, 1, "rude"), (1, 2, "rude"), (2, 1, "rude"), (2, 2, "fed up"), (3, 1, "rude"), (9, 1, "fed up")]
        names = ("segment_id", "classifier_id", "label")
        rows = [dict(zip(names, each, strict=True), score=0.9) for each in given]
        connection.execute(insert(SegmentLabelRow), rows)
    collection.labels.add("fed up", "seg:3")
    assert short(collection.trends(of="label")) == {
        ("2025-W01", None, "rude"): (2, 8, 1, 3),
        ("2025-W01", None, "fed up"): (2, 8, 1, 3),
        ("2025-W02", None, "fed up"): (1, 6, 1, 2),
    }
    for row in collection.trends(of="label", group="queue"):
        assert len(collection.recordings(where=row.where)) == row.recordings
        assert len(collection.segments(where=row.where)) == row.segments


def test_clusters_are_shares_of_the_map(collection: Collection) -> None:
    put_map(collection, "map", "segment", {1: 0, 2: 0, 3: 1, 4: -1, 5: 1, 10: 0, 999: 0})
    found = collection.trends(of="cluster")
    assert (found.map, {row.of_segments for row in found}) == ("map", {5, 1})
    assert (
        short(found)
        == {
            ("2025-W01", None, "angry"): (2, 5, 1, 2),  # its name leaves out who spoke
            ("2025-W01", None, "calm"): (2, 5, 2, 2),
            ("2025-W02", None, "angry"): (1, 1, 1, 1),
        }
        or "agent" not in collection.catalog.metadata_keys()
    )
    put_map(collection, "of calls", "recording", {1: 0, 2: 1, 4: 1})
    for name in ("map", "of calls"):
        for row in collection.trends(of="cluster", map=name, group="queue"):
            assert len(collection.recordings(where=row.where)) == row.recordings
            assert len(collection.segments(where=row.where)) == row.segments
    assert [each.id for each in collection.recordings(where="`cluster.of calls` = 1")] == ["call:2", "call:4"]
    assert [each.id for each in collection.recordings(where="`cluster.of calls` is not null")] == [
        "call:1",
        "call:2",
        "call:4",
    ]
    with pytest.raises(NotStored, match=r"no map 'x' \(known: map, of calls\)"):
        collection.trends(of="cluster", map="x")
    with pytest.raises(BadFilter, match="compared with a number"):
        collection.recordings(where="cluster.map = calm")


def test_roles(collection: Collection) -> None:
    collection.set_policy(employee_purpose="safety of the night shift", analyse_agent=True)
    roles = ("agent", "customer")
    call = made_call(20, ["angry", "calm"], channels=[0, 1], roles=roles, at=START + timedelta(days=70))
    collection.catalog.store(call)
    found = short(collection.trends(by=None, group="role"))
    assert found[None, "agent", "angry"] == (1, 1, 1, 1)
    assert found[None, "customer", "calm"] == (1, 1, 1, 1)
    assert found[None, None, "calm"] == (9, 22, 5, 8)


def test_employees_are_refused(collection: Collection) -> None:
    collection.catalog.store(made_call(20, ["sad"], agent="Kim"))
    put_map(collection, "map", "segment", {1: 0})
    for given in (
        {"group": "agent"},
        {"group": "meta.agent"},
        {"where": "agent = Kim"},
        {"of": "cluster", "where": "agent = Kim"},
    ):
        with pytest.raises(UnlawfulUse, match=r"Art\. 5\(1\)\(f\)"):
            collection.trends(**given)
    with pytest.raises(UnlawfulUse):
        collection.recordings(where="agent = Kim and cluster.map = 0")
    assert {row.value for row in collection.trends(of="cluster")} == {"angry"}
    with pytest.raises(QueryError, match="known: channel, queue, role"):
        collection.trends(group="xyz")
    collection.set_policy(employee_purpose="safety of the night shift")
    assert {row.group for row in collection.trends(group="agent")} == {"Kim", None}


def test_the_audit_log_names_who_asked(collection: Collection) -> None:
    collection.set_policy(audit=True)
    collection.trends(group="queue")
    entry = collection.audit()[-1]
    assert (entry.action, entry.request) == ("trends", {"by": "week", "of": "emotion", "group": "queue"})


def test_wrong_questions_have_one_line(collection: Collection, monkeypatch: pytest.MonkeyPatch) -> None:
    for given, message in (
        ({"by": "year"}, "day, week or month"),
        ({"of": "mood"}, "emotion, label and cluster"),
        ({"map": "map"}, "a map has clusters"),
        ({"group": "queu"}, "did you mean queue?"),
        ({"where": "queu = billing"}, "did you mean queue?"),
    ):
        with pytest.raises(QueryError, match=message):
            collection.trends(**given)
    monkeypatch.setattr(measure, "MAX_ROWS", 10)
    with pytest.raises(QueryError, match="15 shares are more than 10: take longer periods"):
        collection.trends()


def test_an_empty_collection_has_no_shares(tmp_path: Path) -> None:
    with e2vsearch.open(tmp_path / "index", create=True) as collection:
        assert list(collection.trends()) == []
        assert list(collection.trends(of="label", group="role")) == []


# --- the interval


def coverage(recordings: int, share: float, alike: float, trials: int = 2000) -> tuple[float, float]:
    """How often the interval, and one that takes segments for independent, has the share that is true.

    Args:
        recordings: in each sample; on average 12 segments each.
        share: that is true.
        alike: correlation between segments of a recording.
        trials: samples.
    """
    rng = np.random.default_rng(recordings)
    of = 1.0 + rng.poisson(rng.gamma(2, 6, (trials, recordings)))
    odds = (1 - alike) / alike
    with_value = rng.binomial(of.astype(int), rng.beta(share * odds, (1 - share) * odds, of.shape)).astype(float)
    segments, total = with_value.sum(1), of.sum(1)
    found = segments / total
    apart = (with_value - found[:, None] * of) / (1 - of / total[:, None])
    low, high = interval(segments, total, (apart**2).sum(1), np.full(trials, float(recordings)))
    naive = 1.96 * np.sqrt(found * (1 - found) / total)
    inside = (low <= share) & (share <= high)
    return float(inside.mean()), float((np.abs(found - share) <= naive).mean())


@pytest.mark.parametrize("recordings", [2, 5, 10, 40, 200])
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
@pytest.mark.parametrize("alike", [0.05, 0.3])
def test_intervals_have_the_true_share(recordings: int, share: float, alike: float) -> None:
    """90 of 100 and more where 95 are meant, also with five calls; as independent segments it would be 50 to 85."""
    found, naive = coverage(recordings, share, alike)
    assert found >= 0.9
    assert naive < 0.87


def test_one_recording_says_little_whatever_its_length() -> None:
    one = (np.array([300.0]), np.array([600.0]), np.array([0.0]), np.array([1.0]))
    (low,), (high,) = interval(*one)
    assert (low, high) == pytest.approx((0.0546, 0.9454), abs=1e-4)


def test_intervals_of_independent_segments_are_wilson_s() -> None:
    """One segment a recording: the interval is that of as many draws, but for t in place of z."""
    y = np.arange(200) < 60
    share, of = 0.3, np.ones(200)
    squares = (((y - share) / (1 - of / 200)) ** 2).sum()
    (low,), (high,) = interval(np.array([60.0]), np.array([200.0]), np.array([squares]), np.array([200.0]))
    assert (low, high) == pytest.approx((0.2407, 0.3668), abs=2e-3)
