"""What a map is made of, read from a collection: points, their vectors, and what is known of them. Writes nothing.

A point is a segment, or a whole call: then its vector is the mean of the unit vectors of those of its segments that
the filter takes, weighted by their length, and its emotion is what `emotions.named_as_one` makes of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.maps.types import Progress
from e2vsearch.catalog import maps as stored
from e2vsearch.emotions import Emotion, named_as_one
from e2vsearch.types import By, Recording, Segment, number_of, recording_id
from e2vsearch.vectors.exact import unit32

_ROWS = 4096  # vectors fetched at a time: 16 MB of 1024-d ones


@dataclass(frozen=True, slots=True)
class Item:
    """What is known of one point: a segment, or a call as a whole."""

    id: str  # "seg:123" or "call:45"
    recording: str
    name: str  # of the recording
    channel: int | None  # None for a call
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
class Facts:
    """What is known of n points with m moments between them; for a map of segments each is its own only moment."""

    by: By
    ids: NDArray[np.int64]  # (n,) ascending
    items: tuple[Item, ...]  # (n,)
    recordings: NDArray[np.int64]  # (n,)
    calls: Mapping[int, Recording]
    moment_ids: NDArray[np.int64]  # (m,) segments, ascending
    moments: tuple[Segment, ...]  # (m,)
    point: NDArray[np.int64]  # (m,) which of the n points a moment belongs to


@dataclass(frozen=True, slots=True)
class Vectors:
    """Unit vectors of what `Facts` names."""

    points: NDArray[np.float32]  # (n, dim)
    moments: NDArray[np.float32]  # (m, dim); the same array where points are segments


def pinned(where: str | None, now: datetime | None = None) -> str | None:
    """A filter with the words today and yesterday as dates, so that a stored map stays the map of its day."""
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


def facts(context: AnalysisContext, by: By, ids: NDArray[np.int64], where: str | None) -> Facts:
    """What is known of segments or recordings, ids ascending; those that are gone are left out.

    Args:
        context: where they are stored.
        by: what `ids` are of.
        ids: ``(n,)`` ascending.
        where: for calls, which of their segments count; a call without such a segment counts with all it has.
    """
    catalog = context.catalog
    if by == "segment":
        moments = tuple(segment for _, segment in catalog.segments(ids.tolist()))
        moment_ids = np.array([number_of(segment.id, "seg") for segment in moments], np.int64)
        recordings = np.array([number_of(segment.recording, "call") for segment in moments], np.int64)
        calls = dict(catalog.recordings(np.unique(recordings).tolist()))
        items = tuple(_of_segment(each, calls[of]) for each, of in zip(moments, recordings.tolist(), strict=True))
        return Facts(by, moment_ids, items, recordings, calls, moment_ids, moments, np.arange(len(moments)))
    moment_ids, of = catalog.segments_of(ids.tolist())
    if where is not None:
        chosen = np.isin(moment_ids, catalog.select(where))
        chosen |= ~np.isin(of, of[chosen])
        moment_ids, of = moment_ids[chosen], of[chosen]
    moments = tuple(segment for _, segment in catalog.segments(moment_ids.tolist()))
    moment_ids = np.array([number_of(segment.id, "seg") for segment in moments], np.int64)
    of = np.array([number_of(segment.recording, "call") for segment in moments], np.int64)
    kept = np.unique(of)
    calls = dict(catalog.recordings(kept.tolist()))
    parts: dict[int, list[Segment]] = {number: [] for number in kept.tolist()}
    for segment, number in zip(moments, of.tolist(), strict=True):
        parts[number].append(segment)
    items = tuple(_of_call(calls[number], parts[number]) for number in kept.tolist())
    return Facts(by, kept, items, kept, calls, moment_ids, moments, np.searchsorted(kept, of))


def order(known: Facts) -> NDArray[np.intp]:
    """Points in an order that the recordings alone decide.

    Ids depend on which file was read first, and a layout on the order of its points: without this, the same calls
    ingested twice would give two maps.
    """
    calls = [known.calls[number].content_sha256 for number in known.recordings.tolist()]
    keys = [(call, item.channel or 0, item.start_s) for call, item in zip(calls, known.items, strict=True)]
    return np.array(sorted(range(len(keys)), key=keys.__getitem__), np.intp)


def vectors(context: AnalysisContext, known: Facts, progress: Progress | None = None) -> Vectors:
    """Unit vectors of points and moments.

    A segment that was removed since `known` was read has zeros, which are near to nothing.
    """
    feed, count = context.view().source, len(known.moment_ids)
    moments = np.zeros((count, feed.dim), np.float32)
    for start in range(0, count, _ROWS):
        part = known.moment_ids[start : start + _ROWS]
        batch = feed.fetch(part)
        moments[start + np.searchsorted(part, batch.ids)] = unit32(batch.vectors)
        if progress is not None:
            progress("reading vectors", min(start + _ROWS, count), count)
    if known.by == "segment":
        return Vectors(moments, moments)
    lengths = np.array([segment.end_s - segment.start_s for segment in known.moments], np.float32)
    points = np.zeros((len(known.ids), feed.dim), np.float32)
    np.add.at(points, known.point, moments * lengths[:, None])
    return Vectors(unit32(points), moments)


def unplaced(context: AnalysisContext, by: By, where: str | None, placed: NDArray[np.int64]) -> NDArray[np.int64]:
    """Segments or recordings that a filter takes and that are not among those placed, ascending."""
    return np.setdiff1d(stored.items(context.catalog, by, where), placed)


def _of_segment(segment: Segment, call: Recording) -> Item:
    return Item(
        id=segment.id,
        recording=segment.recording,
        name=call.name,
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


def _of_call(call: Recording, segments: Sequence[Segment]) -> Item:
    length = sum(segment.end_s - segment.start_s for segment in segments) or 1.0
    scores: Counter[str] = Counter()
    for segment in segments:
        weight = (segment.end_s - segment.start_s) / length
        for name, score in segment.scores.items():
            scores[name] += weight * score  # type: ignore[assignment]  # a Counter adds floats as well
    emotion = _emotion_of([segment for segment in segments if segment.scores])
    labels = Counter(segment.label for segment in segments if segment.label is not None)
    return Item(
        id=call.id,
        recording=recording_id(number_of(call.id, "call")),
        name=call.name,
        channel=None,
        start_s=0.0,
        end_s=call.duration_s,
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
    """What segments that have class probabilities, of one space, are named as a whole."""
    if not segments:
        return None
    return named_as_one(
        np.array([list(segment.scores.values()) for segment in segments]),
        list(segments[0].scores),
        [segment.end_s - segment.start_s for segment in segments],
        [segment.level_db for segment in segments],
    )
