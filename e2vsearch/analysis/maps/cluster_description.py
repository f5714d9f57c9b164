"""What a cluster is, in words a person can act on. Knows points with what is known of them, and draws nothing.

Emotions and labels are counted by point, beside their share of the whole map. Metadata belong to calls, so there calls
are counted: those with a point in the cluster, among those with a point on the map.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps import statistics
from e2vsearch.analysis.maps.dataset import Facts, Vectors
from e2vsearch.analysis.maps.types import Association, CentralMoment, Cluster, Proportion, TrendPoint
from e2vsearch.emotions import NAMELESS

MOMENTS = 5
"""How many moments of a cluster are named to listen to."""

_SHORTEST_S = 1.0  # a shorter moment says little; it is named only where there is nothing longer

_LISTED = 5  # labels and metadata values named a cluster

_FEWEST = 3  # calls that a metadata value must have: fewer can prove nothing

_DAYS, _WEEKS = 35, 104  # up to so many days a trend goes by day, up to so many weeks by week, else by month

_TELLING_SHARE, _TELLING_LIFT = 0.2, 1.2  # an emotion or label of at least that much names a cluster

_MOST = 0.5  # or an emotion of at least that share, though it is as common elsewhere


@dataclass(frozen=True, slots=True)
class Drawn:
    """Where the points of `Facts` lie, ``(n,)`` each."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    cluster: NDArray[np.int32]
    strength: NDArray[np.float32]


def describe(known: Facts, found: Vectors, drawn: Drawn, names: Mapping[int, str] | None = None) -> tuple[Cluster, ...]:
    """Every cluster, by number.

    Args:
        known: the points.
        found: their vectors.
        drawn: where they lie.
        names: of clusters that have one already and keep it.
    """
    count = int(drawn.cluster.max(initial=-1)) + 1
    members = [np.flatnonzero(drawn.cluster == number) for number in range(count)]
    calls = [np.unique(known.recordings[rows]) for rows in members]
    emotions = _proportions([item.emotion for item in known.items], drawn.cluster, count)
    labels = _proportions([item.label for item in known.items], drawn.cluster, count, least_lift=_TELLING_LIFT)
    metadata = _associations(known, calls)
    period, trends = _trends(known, calls)
    clusters = []
    for number, rows in enumerate(members):
        if not rows.size:
            continue
        x, y = _heart(drawn.x[rows], drawn.y[rows])
        clusters.append(
            Cluster(
                number=number,
                name=_name(emotions[number], labels[number], metadata[number]),
                size=int(rows.size),
                share=rows.size / len(known.ids),
                calls=len(calls[number]),
                x=x,
                y=y,
                emotions=emotions[number],
                labels=labels[number][:_LISTED],
                metadata=metadata[number][:_LISTED],
                moments=_central(known, found, rows, drawn.strength[rows]),
                period=period,
                trend=trends[number],
            )
        )
    return _told_apart(clusters, names or {})


def _proportions(
    values: Sequence[str | None], cluster: NDArray[np.int32], count: int, least_lift: float = 0.0
) -> list[tuple[Proportion, ...]]:
    """Of each cluster, the values in it by falling number, with their lift over all points."""
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


def _associations(known: Facts, calls: Sequence[NDArray[np.int64]]) -> list[tuple[Association, ...]]:
    """Of each cluster, the metadata values that more of its calls have than chance would give it, surest first."""
    having: dict[tuple[str, str], set[int]] = defaultdict(set)
    for number, call in known.calls.items():
        for key, value in call.metadata.items():
            having[key, value].add(number)
    total = len(known.calls)
    values = Counter(key for key, _ in having)
    # a key with about a value a call, such as a file's checksum, is a name and not a group
    tested = {
        pair: numbers
        for pair, numbers in having.items()
        if _FEWEST <= len(numbers) < total and values[pair[0]] <= total / 2
    }
    asked = [(number, pair) for number in range(len(calls)) for pair in sorted(tested)]
    if not asked:
        return [() for _ in calls]
    members = [set(numbers.tolist()) for numbers in calls]
    both = np.array([len(members[number] & tested[pair]) for number, pair in asked], np.int64)
    with_value = np.array([len(tested[pair]) for _, pair in asked], np.int64)
    in_cluster = np.array([len(members[number]) for number, _ in asked], np.int64)
    p = statistics.corrected(statistics.over_represented(both, with_value, in_cluster, total))
    expected = with_value * in_cluster / total
    found: list[list[Association]] = [[] for _ in calls]
    for row in np.flatnonzero(p < statistics.UNUSUAL).tolist():
        number, (key, value) = asked[row]
        lift = both[row] / expected[row]
        found[number].append(Association(key, value, int(both[row]), float(expected[row]), float(lift), float(p[row])))
    return [tuple(sorted(each, key=lambda one: (one.p, -one.lift))) for each in found]


def _central(
    known: Facts, found: Vectors, rows: NDArray[np.int64], strength: NDArray[np.float32]
) -> tuple[CentralMoment, ...]:
    """The moments nearest to a cluster's centre, one a call; shorter ones come after those of a second and more."""
    weights = np.maximum(strength, 1e-3)
    centre = (found.points[rows] * weights[:, None]).sum(0)
    centre /= max(float(np.linalg.norm(centre)), 1e-9)
    inside = np.zeros(len(known.ids), np.bool_)
    inside[rows] = True
    candidates = np.flatnonzero(inside[known.point])
    scores = found.moments[candidates] @ centre
    long = np.array([known.moments[at].end_s - known.moments[at].start_s >= _SHORTEST_S for at in candidates.tolist()])
    heard: set[str] = set()
    chosen = []
    for at in np.lexsort((-scores, ~long)).tolist():
        moment = known.moments[candidates[at]]
        if moment.recording in heard:
            continue
        heard.add(moment.recording)
        item = known.items[known.point[candidates[at]]]
        chosen.append(
            CentralMoment(
                segment=moment.id,
                recording=moment.recording,
                name=item.name,
                channel=moment.channel,
                start_s=moment.start_s,
                end_s=moment.end_s,
                emotion=moment.emotion,
                emotion_score=moment.emotion_score,
                text=moment.text,
                score=float(scores[at]),
            )
        )
        if len(chosen) == MOMENTS:
            break
    return tuple(chosen)


def _trends(known: Facts, calls: Sequence[NDArray[np.int64]]) -> tuple[str, list[tuple[TrendPoint, ...]]]:
    """Calls of each cluster by day, week (from Monday) or month, whichever suits the span of dates."""
    days = {number: call.recorded_at.date() for number, call in known.calls.items()}
    span = (max(days.values()) - min(days.values())).days if days else 0
    period = "day" if span <= _DAYS else "week" if span <= 7 * _WEEKS else "month"
    starts = {number: _start(day, period) for number, day in days.items()}
    totals = Counter(starts.values())
    trends = []
    for numbers in calls:
        inside = Counter(starts[number] for number in numbers.tolist())
        trends.append(
            tuple(
                TrendPoint(start.isoformat(), inside[start], n, inside[start] / n)
                for start, n in sorted(totals.items())
            )
        )
    return period, trends


def _start(day: date, period: str) -> date:
    if period == "day":
        return day
    return day - timedelta(days=day.weekday()) if period == "week" else day.replace(day=1)


def _heart(x: NDArray[np.float32], y: NDArray[np.float32]) -> tuple[float, float]:
    """The member nearest to the medians: a crescent has nothing where its medians lie."""
    at = int(np.argmin((x - np.median(x)) ** 2 + (y - np.median(y)) ** 2))
    return float(x[at]), float(y[at])


def _name(emotions: Iterable[Proportion], labels: Iterable[Proportion], metadata: Sequence[Association]) -> str:
    """``angry · queue=billing``: what is common in it and commoner than elsewhere."""
    listed = tuple(each for each in emotions if each.name not in NAMELESS)
    telling = [each for each in listed if each.share >= _TELLING_SHARE and each.lift >= _TELLING_LIFT][:2]
    telling = telling or [each for each in listed if each.share >= _MOST]
    parts = [" + ".join(each.name for each in telling) or ("mixed" if listed else "")]
    parts += [each.name for each in labels if each.share >= _TELLING_SHARE][:1]
    parts += [f"{each.key}={each.value}" for each in metadata[:1]]
    return " · ".join(part for part in parts if part) or "cluster"


def _told_apart(clusters: Sequence[Cluster], names: Mapping[int, str]) -> tuple[Cluster, ...]:
    """The clusters with names that differ: ``neutral``, ``neutral (2)`` …, in the order of their numbers."""
    seen: Counter[str] = Counter()
    named = []
    for cluster in clusters:
        seen[cluster.name] += 1
        nth = seen[cluster.name]
        name = cluster.name if nth == 1 else f"{cluster.name} ({nth})"
        named.append(replace(cluster, name=names.get(cluster.number, name)))
    return tuple(named)
