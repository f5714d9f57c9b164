"""What a map is and says, as frozen dataclasses. Knows no collection and no libraries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.types import By

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

NONE = -1
"""The cluster of a point that is in none."""


@dataclass(frozen=True, slots=True)
class MapOptions:
    """How a map is made. The defaults are what `benchmarks/clusters.py` measures."""

    min_cluster_size: int | None = None  # None: 15, or a hundredth of the points if that is more, a quarter of a few
    min_samples: int = 5  # of HDBSCAN: the more, the more points are in no cluster
    neighbors: int = 15  # of UMAP: fewer show small groups, more the whole
    min_dist: float = 0.1  # of UMAP, in the picture alone: the less, the tighter the groups
    dimensions: int = 5  # of the UMAP layout that is clustered, which is not the picture
    seed: int = 42  # the same collection and seed give the same coordinates


@dataclass(frozen=True, slots=True)
class Proportion:
    """How common an emotion or a label is in a cluster, beside how common it is on the whole map."""

    name: str
    count: int  # points of the cluster
    share: float  # of the cluster's points
    lift: float  # share over the share on the whole map: 1.0 is as everywhere


@dataclass(frozen=True, slots=True)
class Association:
    """A value of the calls' metadata that is over-represented in a cluster."""

    key: str
    value: str
    calls: int  # with that value, and with a point in the cluster
    expected: float  # calls there would be if the value had nothing to do with the cluster
    lift: float  # calls over expected
    p: float  # of Fisher's exact test, corrected for all that was tested (Benjamini and Hochberg)


@dataclass(frozen=True, slots=True)
class CentralMoment:
    """One of a cluster's most typical moments, each of another call: what to listen to first."""

    segment: str  # "seg:123"
    recording: str  # "call:45"
    name: str
    channel: int
    start_s: float
    end_s: float
    emotion: str | None
    emotion_score: float | None
    text: str | None
    score: float  # cosine with the cluster's centre


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """How much of a cluster there was in one day, week or month."""

    start: str  # its first day, ISO 8601, UTC
    calls: int  # recorded then, with a point in the cluster
    of: int  # recorded then, with a point on the map
    share: float


@dataclass(frozen=True, slots=True)
class Cluster:
    """Points that lie close together, described so that a person can act on them."""

    number: int  # 0 was the largest when the map was made
    name: str  # such as "angry · queue=billing"; it stays when points are placed later
    size: int  # points
    share: float  # of all points
    calls: int  # that have a point in it
    x: float  # where its name belongs
    y: float
    emotions: tuple[Proportion, ...]  # most common first
    labels: tuple[Proportion, ...]  # labels of one's own, most common first
    metadata: tuple[Association, ...]  # surest first; those with p below 0.05
    moments: tuple[CentralMoment, ...]  # most typical first
    period: str  # "day", "week" or "month": what a step of the trend is
    trend: tuple[TrendPoint, ...]  # periods without a call on the map are left out

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cluster:
        """What `dataclasses.asdict` made of one."""
        parts: dict[str, Callable[..., Any]] = {
            "emotions": Proportion,
            "labels": Proportion,
            "metadata": Association,
            "moments": CentralMoment,
            "trend": TrendPoint,
        }
        whole: dict[str, Any] = dict(values)
        for name, part in parts.items():
            whole[name] = tuple(part(**each) for each in whole[name])
        return cls(**whole)


@dataclass(frozen=True, slots=True)
class Map:
    """A collection, or what a filter left of it, laid out in the plane and put into clusters. Arrays are ``(n,)``."""

    name: str
    by: By  # what a point is
    where: str | None  # the filter in force, with "today" as the date it was
    created_at: datetime
    options: MapOptions  # as they came to be: no None
    versions: Mapping[str, str]  # of what made it
    ids: NDArray[np.int64]  # of segments or of recordings, ascending; what was removed since is not among them
    recordings: NDArray[np.int64]  # the recording of each
    recorded_at: NDArray[np.datetime64]  # when that was recorded, UTC
    x: NDArray[np.float32]  # -1 to 1
    y: NDArray[np.float32]  # -1 to 1
    cluster: NDArray[np.int32]  # its number, -1 in none
    strength: NDArray[np.float32]  # of its membership, 0 to 1
    placed: NDArray[np.bool_]  # put there after the map was made
    clusters: tuple[Cluster, ...]  # by number
    unplaced: int  # segments or calls that the filter takes and that are not on the map

    def without_points(self) -> dict[str, Any]:
        """The map as plain values for JSON, less its arrays; `points` says how many there are."""
        arrays = {"ids", "recordings", "recorded_at", "x", "y", "cluster", "strength", "placed"}
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in arrays}
        plain |= {"created_at": self.created_at.isoformat(), "options": asdict(self.options)}
        plain |= {"versions": dict(self.versions), "clusters": [asdict(cluster) for cluster in self.clusters]}
        return plain | {"points": len(self.ids), "none": int((self.cluster == NONE).sum())}


@dataclass(frozen=True, slots=True)
class MapSummary:
    """One stored map in a list of them."""

    name: str
    by: By
    where: str | None
    created_at: datetime
    points: int
    placed: int  # of them, put there after it was made
    none: int  # of them, in no cluster
    clusters: int


@dataclass(frozen=True, slots=True)
class Periods:
    """The two stretches of time that `anomalies` compares: baseline up to `recent_from`, recent from there on."""

    baseline_from: datetime
    recent_from: datetime
    until: datetime
    baseline_calls: int  # recorded then, with a point on the map
    recent_calls: int


@dataclass(frozen=True, slots=True)
class Anomaly:
    """How a cluster's share of the calls grew from the baseline to the recent period."""

    cluster: int
    name: str
    recent_calls: int  # with a point in the cluster
    baseline_calls: int
    expected: float  # recent calls there would be at the baseline's rate
    ratio: float | None  # recent rate over baseline rate; None where the baseline has no call of the cluster
    low: float  # of the ratio's 95 % interval
    high: float | None  # None: without bound
    p: float  # that it grew by chance: exact, one-sided, corrected for the number of clusters
    unusual: bool  # p is below 0.05


@dataclass(frozen=True, slots=True)
class Laid:
    """What laying out and clustering found, ``(n,)`` each."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    cluster: NDArray[np.int32]
    strength: NDArray[np.float32]
    reach: float = field(default=np.inf)  # mean cosine distance to its neighbours that 99 % of the points stay below

    def reordered(self, order: NDArray[np.intp]) -> Laid:
        """As it would be had its points not been put in that order before."""
        back = np.argsort(order)
        return Laid(self.x[back], self.y[back], self.cluster[back], self.strength[back], self.reach)
