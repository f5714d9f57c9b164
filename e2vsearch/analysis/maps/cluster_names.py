"""Names of clusters: what is common in one and commoner than elsewhere; of two so called, what differs between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.maps.dataset import MapData, Point
from e2vsearch.analysis.maps.types import NAMING_SHARE, Association, Cluster, Proportion, naming
from e2vsearch.emotions import NAMELESS

_APART = 0.5  # standard deviations between means: a medium effect (Cohen 1988)

_Measured = Callable[[Point, float | None], float | None]

# what is measured of a point and its level in dBFS, and how a cluster with more or less of it is called
_MEASURES: tuple[tuple[_Measured, str, str], ...] = (
    (lambda point, _: point.arousal, "excited", "calm"),
    (lambda point, _: point.valence, "pleasant", "unpleasant"),
    (lambda _, level_db: level_db, "loud", "quiet"),
    (lambda point, _: point.end_s - point.start_s, "long", "short"),
)


def name_of(emotions: Iterable[Proportion], labels: Iterable[Proportion], metadata: Sequence[Association]) -> str:
    """Return a name such as ``angry · queue=billing``: what is common in it and commoner than elsewhere."""
    listed = tuple(emotions)
    mixed = "mixed" if any(each.name not in NAMELESS for each in listed) else ""
    parts = [" + ".join(naming(listed)) or mixed]
    parts += [each.name for each in labels if each.share >= NAMING_SHARE][:1]
    parts += [f"{each.key}={each.value}" for each in metadata[:1]]
    return " · ".join(part for part in parts if part) or "cluster"


def distinct(
    clusters: Sequence[Cluster], data: MapData, members: Sequence[NDArray[np.int64]], names: Mapping[int, str]
) -> tuple[Cluster, ...]:
    """Return the clusters with different names, in the order of their numbers.

    Clusters of one name get what sets each apart from the others so called: ``sad · quiet``, ``sad · long``. What
    nothing sets apart is numbered: ``neutral``, ``neutral (2)`` …

    Args:
        clusters: named by `name_of`.
        data: the points.
        members: of each cluster, by its number.
        names: of clusters that keep the name they have.
    """
    shared = {name for name, n in Counter(each.name for each in clusters).items() if n > 1}
    values = _measured(data) if shared else np.zeros((0, 0))
    seen: Counter[str] = Counter()
    named = []
    for cluster in clusters:
        name = cluster.name
        if name in shared:
            others = [members[each.number] for each in clusters if each.name == name and each is not cluster]
            difference = _difference(values, members[cluster.number], np.concatenate(others))
            name = f"{name} · {difference}" if difference else name
        seen[name] += 1
        numbered = name if seen[name] == 1 else f"{name} ({seen[name]})"
        named.append(replace(cluster, name=names.get(cluster.number, numbered)))
    return tuple(named)


def _measured(data: MapData) -> NDArray[np.float64]:
    """Return `_MEASURES` of each point, ``(n, measures)``, in standard deviations; NaN where it has none."""
    levels = [segment.level_db for segment in data.segments] if data.by == "segment" else [None] * len(data.points)
    rows = [
        [np.nan if (value := of(point, level)) is None else value for of, _, _ in _MEASURES]
        for point, level in zip(data.points, levels, strict=True)
    ]
    values = np.array(rows, np.float64).reshape(-1, len(_MEASURES))
    known = ~np.isnan(values)
    count = np.maximum(known.sum(0), 1)
    mean = np.where(known, values, 0).sum(0) / count
    deviation = np.sqrt((np.where(known, values - mean, 0) ** 2).sum(0) / count)
    scaled: NDArray[np.float64] = (values - mean) / np.where(deviation > 0, deviation, np.inf)
    return scaled


def _difference(values: NDArray[np.float64], inside: NDArray[np.int64], outside: NDArray[np.int64]) -> str:
    """Return the word for what sets points apart most from others, "" where nothing does."""
    found = []
    for column, (_, more, less) in zip(values.T, _MEASURES, strict=True):
        here, there = column[inside], column[outside]
        if np.isnan(here).all() or np.isnan(there).all():
            continue
        apart = float(np.nanmean(here) - np.nanmean(there))
        found.append((abs(apart), more if apart > 0 else less))
    size, word = max(found, default=(0.0, ""))
    return word if size >= _APART else ""
