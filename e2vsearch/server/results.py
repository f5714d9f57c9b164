"""The results that only the service has, beside those that every door returns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from e2vsearch.analysis.labels.types import ClassifiedSegment, ClassifierReport, LabelCount, Suggestion
from e2vsearch.analysis.maps.types import Cluster, MapOptions, MapSummary
from e2vsearch.types import By, Recording, Segment


@dataclass(frozen=True, slots=True)
class EmbeddingSegment:
    """One segment with its vector and probabilities."""

    channel: int
    start_s: float
    end_s: float
    emotion: str | None  # one of the encoder's classes, "unsure" or "too short"
    emotion_score: float | None  # its probability; None where no class is named
    arousal: float | None  # 0 calm to 1 excited, by the class probabilities
    valence: float | None  # 0 unpleasant to 1 pleasant
    level_db: float | None  # root mean square, dBFS
    scores: Mapping[str, float]
    vector: list[float]


@dataclass(frozen=True, slots=True)
class Embedding:
    """A recording's vectors."""

    space: str
    dim: int
    segments: list[EmbeddingSegment]


@dataclass(frozen=True, slots=True)
class RecordingPage:
    """Some recordings, in order of their ids or the newest first."""

    recordings: list[Recording]
    next: str | None  # `after` of the page that follows; None on the last
    emotions: Mapping[str, Mapping[str, float]] | None = None  # of each, as in `Call`; with the newest first
    hint: str | None = None  # why there are none, where the filter names what does not exist


@dataclass(frozen=True, slots=True)
class RecordingSegments:
    """One recording with all of its segments, in order of time."""

    recording: Recording
    segments: list[Segment]


@dataclass(frozen=True, slots=True)
class SegmentRecording:
    """One segment, and the recording that it is of."""

    segment: Segment
    recording: Recording


@dataclass(frozen=True, slots=True)
class RecordingPeaks:
    """A recording's waveform: the largest magnitude in each of n equal parts, for every channel."""

    duration_s: float
    channels: int
    peaks: list[list[float]]


@dataclass(frozen=True, slots=True)
class SegmentPeaks:
    """A segment's waveform."""

    start_s: float
    end_s: float
    peaks: list[float]


@dataclass(frozen=True, slots=True)
class Filters:
    """What a filter can name."""

    fields: list[str]  # of every collection
    metadata: Mapping[str, list[str]]  # of this one: key to its most frequent values
    emotions: list[str]  # the encoder's classes
    labels: list[str]
    left_out: list[str]  # metadata keys that name employees, by which no emotion is analysed


@dataclass(frozen=True, slots=True)
class Classification:
    """A classifier's predictions for a recording."""

    segments: list[ClassifiedSegment]


@dataclass(frozen=True, slots=True)
class LabelNeeds:
    """How many examples a label needs."""

    train: int  # at least
    measure: int  # for figures that mean something
    recordings: int  # or speakers, that these come from


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels, and the classifiers trained on them."""

    labels: list[LabelCount]
    classifiers: list[ClassifierReport]
    needs: LabelNeeds


@dataclass(frozen=True, slots=True)
class Suggestions:
    """Segments to label next, the most informative first."""

    suggestions: list[Suggestion]


@dataclass(frozen=True, slots=True)
class Maps:
    """The maps that are stored."""

    maps: list[MapSummary]


@dataclass(frozen=True, slots=True)
class MapView:
    """A map without its points."""

    name: str
    by: By  # what a point is
    where: str | None
    created_at: datetime
    options: MapOptions
    points: int
    none: int  # of them, in no cluster
    unplaced: int  # segments or recordings that came since and are not on it
    clusters: list[Cluster]
    left_out: list[str]  # metadata keys that name employees, by which no emotion is analysed


@dataclass(frozen=True, slots=True)
class MapPoints:
    """A map's points, a column each."""

    segments: list[int] | None  # numbers of their ids, where a point is a segment
    calls: list[int] | None  # numbers of their ids, where a point is a recording
    x: list[float]  # -1 to 1
    y: list[float]  # -1 to 1
    cluster: list[int]  # -1: none


@dataclass(frozen=True, slots=True)
class Removed:
    """How many were removed."""

    removed: int


@dataclass(frozen=True, slots=True)
class Health:
    """That it runs."""

    status: Literal["ok"] = "ok"
