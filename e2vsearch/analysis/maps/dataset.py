"""The points of a map, read from a collection: their vectors, emotions, labels and metadata.

A point is a segment, or a whole recording: then its vector is the mean of the unit vectors of those of its segments
that the filter admits, weighted by their length, and its emotion is `emotions.named_as_one` of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.maps.types import Progress
from e2vsearch.catalog import maps as stored
from e2vsearch.emotions import Emotion, named_as_one
from e2vsearch.policy import Policy
from e2vsearch.types import By, Recording, Segment, number_of
from e2vsearch.vectors.exact import unit32

_ROWS = 4096  # vectors fetched at a time: 16 MB of 1024-d ones


@dataclass(frozen=True, slots=True)
class Point:
    """A segment, or a recording as a whole, with its emotion, scores, label and text."""

    id: str  # "seg:123" or "call:45"
    recording: str
    name: str  # of the recording
    channel: int | None  # None for a recording
    start_s: float
    end_s: float
    emotion: str | None
    emotion_score: float | None
    arousal: float | None
    valence: float | None
    scores: Mapping[str, float]
    text: str | None
    label: str | None
    label_score: float | None


@dataclass(frozen=True, slots=True)
class MapData:
    """The n points of a map with m segments between them; on a map of segments each point is one segment."""

    by: By
    ids: NDArray[np.int64]  # (n,) ascending
    points: tuple[Point, ...]  # (n,)
    recording_ids: NDArray[np.int64]  # (n,)
    recordings: Mapping[int, Recording]
    segment_ids: NDArray[np.int64]  # (m,) ascending
    segments: tuple[Segment, ...]  # (m,)
    point_of: NDArray[np.int64]  # (m,) index of each segment's point


@dataclass(frozen=True, slots=True)
class Vectors:
    """Unit vectors of a map's points and segments."""

    points: NDArray[np.float32]  # (n, dim)
    segments: NDArray[np.float32]  # (m, dim); the same array where points are segments


def fix_dates(where: str | None, now: datetime | None = None) -> str | None:
    """Return a filter with the words today and yesterday as dates, so that a stored map stays the map of its day."""
    if where is None:
        return None
    today = (now or datetime.now(UTC)).date()
    dates = {"today": today.isoformat(), "yesterday": (today - timedelta(days=1)).isoformat()}
    quoted = r""""[^"]*"|'[^']*'|`[^`]*`"""
    return re.sub(
        rf"{quoted}|(?<![\w.:-])(?:today|yesterday)(?![\w.:-])",
        lambda found: dates.get(found.group().lower(), found.group()),
        where,
        flags=re.IGNORECASE,
    )


def load_points(context: AnalysisContext, by: By, ids: NDArray[np.int64], where: str | None) -> MapData:
    """Return points with what the catalog holds of them, ids ascending; removed ones are left out.

    Recordings come without metadata that name employees: no map shows emotion by employee (`e2vsearch.policy`).

    Args:
        context: whose catalog is read.
        by: what `ids` are of.
        ids: ``(n,)`` ascending.
        where: for recordings, which of their segments count; without such a segment, all of them do.
    """
    catalog = context.catalog
    if by == "segment":
        segment_ids = ids
    else:
        segment_ids, of = catalog.segments_of(ids.tolist())
        if where is not None:
            chosen = np.isin(segment_ids, catalog.select(where))
            segment_ids = segment_ids[chosen | ~np.isin(of, of[chosen])]
    segments = tuple(segment for _, segment in catalog.segments(segment_ids.tolist()))
    segment_ids = np.array([number_of(segment.id, "seg") for segment in segments], np.int64)
    of = np.array([number_of(segment.recording, "call") for segment in segments], np.int64)
    numbers = np.unique(of)
    policy = catalog.policy
    recordings = {number: _impersonal(each, policy) for number, each in catalog.recordings(numbers.tolist())}
    if by == "segment":
        points = tuple(_of_segment(each, recordings[at]) for each, at in zip(segments, of.tolist(), strict=True))
        return MapData(by, segment_ids, points, of, recordings, segment_ids, segments, np.arange(len(segments)))
    parts: dict[int, list[Segment]] = {number: [] for number in numbers.tolist()}
    for segment, number in zip(segments, of.tolist(), strict=True):
        parts[number].append(segment)
    points = tuple(_of_recording(recordings[number], parts[number]) for number in numbers.tolist())
    point_of = np.searchsorted(numbers, of)
    return MapData(by, numbers, points, numbers, recordings, segment_ids, segments, point_of)


def order_of(data: MapData) -> NDArray[np.intp]:
    """Return the points in an order that depends on the recordings alone, ``(n,)``.

    Ids depend on which file was read first, and a layout on the order of its points: without this, the same recordings
    ingested twice would give two maps.
    """
    hashes = [data.recordings[number].content_sha256 for number in data.recording_ids.tolist()]
    keys = [(sha256, point.channel or 0, point.start_s) for sha256, point in zip(hashes, data.points, strict=True)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.intp)


def load_vectors(context: AnalysisContext, data: MapData, progress: Progress | None = None) -> Vectors:
    """Return unit vectors of points and segments; a segment removed since `data` was read has zeros."""
    feed, count = context.view().source, len(data.segment_ids)
    segments = np.zeros((count, feed.dim), np.float32)
    for start in range(0, count, _ROWS):
        part = data.segment_ids[start : start + _ROWS]
        batch = feed.fetch(part)
        segments[start + np.searchsorted(part, batch.ids)] = unit32(batch.vectors)
        if progress is not None:
            progress("reading vectors", min(start + _ROWS, count), count)
    if data.by == "segment":
        return Vectors(segments, segments)
    lengths = np.array([segment.end_s - segment.start_s for segment in data.segments], np.float32)
    points = np.zeros((len(data.ids), feed.dim), np.float32)
    np.add.at(points, data.point_of, segments * lengths[:, None])
    return Vectors(unit32(points), segments)


def _impersonal(recording: Recording, policy: Policy) -> Recording:
    hidden = policy.refused(recording.metadata)
    metadata = {key: value for key, value in recording.metadata.items() if key not in hidden}
    return replace(recording, metadata=metadata) if hidden else recording


def unplaced(context: AnalysisContext, by: By, where: str | None, placed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the segments or recordings that a filter admits and that are not among those placed, ascending."""
    return np.setdiff1d(stored.items(context.catalog, by, where), placed)


def _of_segment(segment: Segment, recording: Recording) -> Point:
    return Point(
        id=segment.id,
        recording=segment.recording,
        name=recording.name,
        channel=segment.channel,
        start_s=segment.start_s,
        end_s=segment.end_s,
        emotion=segment.emotion,
        emotion_score=segment.emotion_score,
        arousal=segment.arousal,
        valence=segment.valence,
        scores=segment.scores,
        text=segment.text,
        label=segment.label,
        label_score=segment.label_score,
    )


def _of_recording(recording: Recording, segments: Sequence[Segment]) -> Point:
    length = sum(segment.end_s - segment.start_s for segment in segments) or 1.0
    scores: Counter[str] = Counter()
    for segment in segments:
        weight = (segment.end_s - segment.start_s) / length
        for name, score in segment.scores.items():
            scores[name] += weight * score  # type: ignore[assignment]  # a Counter adds floats as well
    emotion = _emotion_of([segment for segment in segments if segment.scores])
    labels = Counter(segment.label for segment in segments if segment.label is not None)
    return Point(
        id=recording.id,
        recording=recording.id,
        name=recording.name,
        channel=None,
        start_s=0.0,
        end_s=recording.duration_s,
        emotion=None if emotion is None else emotion.name,
        emotion_score=None if emotion is None else emotion.score,
        arousal=None if emotion is None else emotion.arousal,
        valence=None if emotion is None else emotion.valence,
        scores=dict(scores),
        text=None,
        label=labels.most_common(1)[0][0] if labels else None,
        label_score=None,
    )


def _emotion_of(segments: Sequence[Segment]) -> Emotion | None:
    """Return the emotion of segments with class probabilities of one space, as a whole."""
    if not segments:
        return None
    return named_as_one(
        np.array([list(segment.scores.values()) for segment in segments]),
        list(segments[0].scores),
        [segment.end_s - segment.start_s for segment in segments],
        [segment.level_db for segment in segments],
    )
