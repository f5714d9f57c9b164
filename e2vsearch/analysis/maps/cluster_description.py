"""Descriptions of clusters: emotions, labels, over-represented metadata, central segments and trend.

Emotions and labels are counted by point, beside their share of the whole map. Metadata belong to recordings, so there
recordings are counted: those with a point in the cluster, among those with a point on the map.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps import cluster_names, statistics
from e2vsearch.analysis.maps.dataset import MapData, Vectors
from e2vsearch.analysis.maps.types import (
    NAMING_LIFT,
    Association,
    CentralSegment,
    Cluster,
    Layout,
    Proportion,
    TrendPoint,
)
from e2vsearch.catalog.maps import period_start

SEGMENTS = 5
"""Number of central segments of a cluster."""

_SHORTEST_S = 1.0  # a shorter segment is central only where there is nothing longer
_LISTED = 5  # labels and metadata values named a cluster
_FEWEST = 3  # recordings that a metadata value must have: fewer can prove nothing
_DAYS, _WEEKS = 35, 104  # up to so many days a trend goes by day, up to so many weeks by week, else by month


def describe(
    data: MapData, vectors: Vectors, layout: Layout, names: Mapping[int, str] | None = None
) -> tuple[Cluster, ...]:
    """Return every cluster, by number.

    Args:
        data: the points.
        vectors: theirs.
        layout: where they lie.
        names: of clusters that keep the name they have.
    """
    count = int(layout.cluster.max(initial=-1)) + 1
    members = [np.flatnonzero(layout.cluster == number) for number in range(count)]
    recordings = [np.unique(data.recording_ids[rows]) for rows in members]
    emotions = _proportions([point.emotion for point in data.points], layout.cluster, count)
    labels = _proportions([point.label for point in data.points], layout.cluster, count, least_lift=NAMING_LIFT)
    metadata = _associations(data, recordings)
    period, trends = _trends(data, recordings)
    clusters = []
    for number, rows in enumerate(members):
        if not rows.size:
            continue
        x, y = _heart(layout.x[rows], layout.y[rows])
        clusters.append(
            Cluster(
                number=number,
                name=cluster_names.name_of(emotions[number], labels[number], metadata[number]),
                size=int(rows.size),
                share=rows.size / len(data.ids),
                recordings=len(recordings[number]),
                x=x,
                y=y,
                emotions=emotions[number],
                labels=labels[number][:_LISTED],
                metadata=metadata[number][:_LISTED],
                segments=_central(data, vectors, rows, layout.strength[rows]),
                period=period,
                trend=trends[number],
            )
        )
    return cluster_names.distinct(clusters, data, members, names or {})


def _proportions(
    values: Sequence[str | None], cluster: NDArray[np.int32], count: int, least_lift: float = 0.0
) -> list[tuple[Proportion, ...]]:
    """Return each cluster's values by falling number, with their lift over all points."""
    everywhere = Counter(value for value in values if value is not None)
    inside: list[Counter[str]] = [Counter() for _ in range(count)]
    for value, number in zip(values, cluster.tolist(), strict=True):
        if value is not None and number >= 0:
            inside[number][value] += 1
    sizes = np.bincount(cluster[cluster >= 0], minlength=count).tolist()
    described = []
    for counter, size in zip(inside, sizes, strict=True):
        listed = []
        for name, n in sorted(counter.items(), key=lambda pair: (-pair[1], pair[0])):
            share = n / size
            lift = share * len(values) / everywhere[name]
            if lift >= least_lift:
                listed.append(Proportion(name, n, share, lift))
        described.append(tuple(listed))
    return described


def _associations(data: MapData, recordings: Sequence[NDArray[np.int64]]) -> list[tuple[Association, ...]]:
    """Return each cluster's metadata values that more of its recordings have than by chance, the least p first."""
    having: dict[tuple[str, str], set[int]] = defaultdict(set)
    for number, recording in data.recordings.items():
        for key, value in recording.metadata.items():
            having[key, value].add(number)
    total = len(data.recordings)
    values = Counter(key for key, _ in having)
    # a key with about a value a recording, such as a file's checksum, is a name and not a group
    tested = {
        pair: numbers
        for pair, numbers in having.items()
        if _FEWEST <= len(numbers) < total and values[pair[0]] <= total / 2
    }
    tests = [(number, pair) for number in range(len(recordings)) for pair in sorted(tested)]
    if not tests:
        return [() for _ in recordings]
    members = [set(numbers.tolist()) for numbers in recordings]
    both = np.array([len(members[number] & tested[pair]) for number, pair in tests], np.int64)
    with_value = np.array([len(tested[pair]) for _, pair in tests], np.int64)
    in_cluster = np.array([len(members[number]) for number, _ in tests], np.int64)
    p = statistics.over_represented(both, with_value, in_cluster, total)
    expected = with_value * in_cluster / total
    found: list[list[Association]] = [[] for _ in recordings]
    for row in np.flatnonzero(p < statistics.UNUSUAL).tolist():
        number, (key, value) = tests[row]
        lift = both[row] / expected[row]
        found[number].append(Association(key, value, int(both[row]), float(expected[row]), float(lift), float(p[row])))
    return [tuple(sorted(each, key=lambda one: (one.p, -one.lift))) for each in found]


def _central(
    data: MapData, vectors: Vectors, rows: NDArray[np.int64], strength: NDArray[np.float32]
) -> tuple[CentralSegment, ...]:
    """Return the segments nearest to a cluster's centre, one a recording; those under a second come last."""
    weights = np.maximum(strength, 1e-3)
    centre = (vectors.points[rows] * weights[:, None]).sum(0)
    centre /= max(float(np.linalg.norm(centre)), 1e-9)
    inside = np.zeros(len(data.ids), np.bool_)
    inside[rows] = True
    candidates = np.flatnonzero(inside[data.point_of])
    scores = vectors.segments[candidates] @ centre
    long = np.array([data.segments[at].end_s - data.segments[at].start_s >= _SHORTEST_S for at in candidates.tolist()])
    chosen: dict[str, CentralSegment] = {}
    for at in np.lexsort((-scores, ~long)).tolist():
        segment = data.segments[candidates[at]]
        if segment.recording in chosen:
            continue
        chosen[segment.recording] = CentralSegment(
            segment=segment.id,
            recording=segment.recording,
            name=data.points[data.point_of[candidates[at]]].name,
            channel=segment.channel,
            start_s=segment.start_s,
            end_s=segment.end_s,
            emotion=segment.emotion,
            emotion_score=segment.emotion_score,
            text=segment.text,
            score=float(scores[at]),
        )
        if len(chosen) == SEGMENTS:
            break
    return tuple(chosen.values())


def _trends(data: MapData, recordings: Sequence[NDArray[np.int64]]) -> tuple[str, list[tuple[TrendPoint, ...]]]:
    """Return recordings of each cluster by day, week (from Monday) or month, by how far the dates lie apart."""
    days = {number: recording.recorded_at.date() for number, recording in data.recordings.items()}
    span = (max(days.values()) - min(days.values())).days if days else 0
    period = "day" if span <= _DAYS else "week" if span <= 7 * _WEEKS else "month"
    starts = {number: period_start(day, period) for number, day in days.items()}
    totals = sorted(Counter(starts.values()).items())
    trends = []
    for numbers in recordings:
        inside = Counter(starts[number] for number in numbers.tolist())
        trends.append(tuple(TrendPoint(start.isoformat(), inside[start], n, inside[start] / n) for start, n in totals))
    return period, trends


def _heart(x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[float, float]:
    """Return the member nearest to the medians: a crescent has nothing where its medians lie."""
    at = int(np.argmin((x - np.median(x)) ** 2 + (y - np.median(y)) ** 2))
    return float(x[at]), float(y[at])
