"""The frozen dataclasses of maps: options, clusters and their descriptions, the map itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.emotions import NAMELESS
from e2vsearch.palette import tints
from e2vsearch.types import By, Recording

Progress = Callable[[str, int, int], None]
"""Called with a stage's name, how much of it is done, and of how much."""

NONE = -1
"""The cluster number of a point in no cluster."""

ARRAYS = ("ids", "recordings", "recorded_at", "x", "y", "cluster", "strength", "placed")
"""Fields of a `Map` with a value a point."""


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
    """A value of the recordings' metadata that is over-represented in a cluster."""

    key: str
    value: str
    recordings: int  # with that value, and with a point in the cluster
    expected: float  # recordings if the value were independent of the cluster
    lift: float  # recordings over expected
    p: float  # of Fisher's exact test, corrected for all that was tested (Benjamini and Hochberg)


@dataclass(frozen=True, slots=True)
class CentralSegment:
    """One of the segments nearest to a cluster's centre, each of another recording."""

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
    """A cluster's share of the recordings of one day, week or month."""

    start: str  # its first day, ISO 8601, UTC
    recordings: int  # of that time, with a point in the cluster
    of: int  # of that time, with a point on the map
    share: float


NAMING_SHARE, NAMING_LIFT = 0.2, 1.2  # an emotion or label of at least that much names a cluster
_MOST = 0.5  # or an emotion of at least that share, though it is as common elsewhere


def naming(emotions: Iterable[Proportion]) -> list[str]:
    """Return the emotions that a cluster is called by, one or two: common in it and commoner than elsewhere."""
    listed = [each for each in emotions if each.name not in NAMELESS]
    found = [each for each in listed if each.share >= NAMING_SHARE and each.lift >= NAMING_LIFT][:2]
    return [each.name for each in found or [each for each in listed if each.share >= _MOST][:1]]


@dataclass(frozen=True, slots=True)
class Cluster:
    """Points that lie close together, described so that a person can act on them."""

    number: int  # 0 was the largest when the map was made
    name: str  # such as "angry · queue=billing"; it stays when points are placed later
    size: int  # points
    share: float  # of all points
    recordings: int  # with a point in it
    x: float  # where its name belongs
    y: float
    emotions: tuple[Proportion, ...]  # most common first
    labels: tuple[Proportion, ...]  # labels of one's own, most common first
    metadata: tuple[Association, ...]  # surest first; those with p below 0.05
    segments: tuple[CentralSegment, ...]  # nearest to the centre first
    period: str  # "day", "week" or "month": what a step of the trend is
    trend: tuple[TrendPoint, ...]  # without periods that have no recording on the map

    @property
    def main_emotion(self) -> str | None:
        """The emotion that it is called by first, None for a mixed one; its colour is the cluster's."""
        return next(iter(naming(self.emotions)), None)

    def without(self, keys: Collection[str]) -> Cluster:
        """Return the cluster without some keys of the metadata, also in its name: of before they named employees."""
        if not keys:
            return self
        parts = [part for part in self.name.split(" · ") if part.partition("=")[0] not in keys]
        metadata = tuple(each for each in self.metadata if each.key not in keys)
        return replace(self, name=" · ".join(parts) or "cluster", metadata=metadata)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Cluster:
        """Return the cluster that `dataclasses.asdict` made plain values of."""
        parts: dict[str, Callable[..., Any]] = {
            "emotions": Proportion,
            "labels": Proportion,
            "metadata": Association,
            "segments": CentralSegment,
            "trend": TrendPoint,
        }
        whole: dict[str, Any] = dict(values)
        for name, part in parts.items():
            whole[name] = tuple(part(**each) for each in whole[name])
        return cls(**whole)


@dataclass(frozen=True, slots=True)
class Map:
    """The points of a collection or a filter in the plane, with clusters. Arrays are ``(n,)``."""

    name: str
    by: By  # what a point is
    where: str | None  # the filter in force, with "today" as the date it was
    created_at: datetime
    options: MapOptions  # as used, no value None
    versions: Mapping[str, str]  # of the packages that made it
    ids: NDArray[np.int64]  # of segments or of recordings, ascending; removed ones are left out
    recordings: NDArray[np.int64]  # the recording of each
    recorded_at: NDArray[np.datetime64]  # when that was recorded, UTC
    x: NDArray[np.float32]  # -1 to 1
    y: NDArray[np.float32]  # -1 to 1
    cluster: NDArray[np.int32]  # its number, -1 in none
    strength: NDArray[np.float32]  # of its membership, 0 to 1
    placed: NDArray[np.bool_]  # put there after the map was made
    clusters: tuple[Cluster, ...]  # by number
    unplaced: int  # segments or recordings that the filter admits and the map lacks
    left_out: tuple[str, ...] = ()  # metadata keys that name employees, by which no emotion is analysed

    def _repr_html_(self) -> str:
        from e2vsearch.notebook.scatter import no_cluster, scatter

        shades = tints([each.main_emotion for each in self.clusters])
        of = {each.number: shade.light for each, shade in zip(self.clusters, shades, strict=True)}
        colours = [of.get(number, no_cluster()) for number in self.cluster.tolist()]
        names = [(each.name, each.x, each.y) for each in self.clusters]
        about = f"{self.name}: {len(self.ids):,} {self.by}s in {len(self.clusters)} clusters"
        return scatter(self.x, self.y, colours, names, about + (f" where {self.where}" if self.where else ""))

    def without_points(self) -> dict[str, Any]:
        """Return the map as plain values for JSON, without arrays; `points` is their number."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in ARRAYS}
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
class Layout:
    """Coordinates and clusters of points, ``(n,)`` each."""

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    cluster: NDArray[np.int32]
    strength: NDArray[np.float32]
    reach: float = np.inf  # mean cosine distance to its neighbours that 99 % of the points stay below

    def take(self, rows: NDArray[Any]) -> Layout:
        """Return the layout of some of its points, in that order."""
        return Layout(self.x[rows], self.y[rows], self.cluster[rows], self.strength[rows], self.reach)

    def joined(self, other: Layout) -> Layout:
        """Return the points of both."""
        x, y = np.concatenate([self.x, other.x]), np.concatenate([self.y, other.y])
        cluster = np.concatenate([self.cluster, other.cluster])
        return Layout(x, y, cluster, np.concatenate([self.strength, other.strength]), self.reach)


def sound_key(recording: Recording) -> str:
    """Return what a running service asks of a page from elsewhere that plays a recording: 64 bits of its hash."""
    return recording.content_sha256[:16]
