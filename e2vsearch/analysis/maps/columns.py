"""A map's points as columns of numbers, small enough for a page to fetch 100,000 of them at once.

Emotions, labels, values of metadata and recordings' names are coded: a list of words, and a number a point. What is no
longer stored is left out, as everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.analysis.context import AnalysisContext
from e2vsearch.analysis.maps import build, dataset
from e2vsearch.analysis.maps.palette import Colour, cluster_colours
from e2vsearch.catalog import maps as stored
from e2vsearch.errors import NotStored
from e2vsearch.types import By, number_of

ABSENT = 255
"""In an array of bytes: none, or rarer than what is coded."""

_NO_SCORE = -1


@dataclass(frozen=True, slots=True)
class Coded:
    """Words, most frequent first, and the index of each point's, `ABSENT` for none."""

    words: tuple[str, ...]
    codes: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class PointColumns:
    """The points of a map, ids ascending. Arrays are ``(n,)``."""

    name: str
    by: By
    ids: NDArray[np.int64]  # of segments or recordings
    recordings: NDArray[np.int64]
    x: NDArray[np.float32]  # -1 to 1
    y: NDArray[np.float32]
    cluster: NDArray[np.int16]  # -1: none
    start_s: NDArray[np.float32]
    end_s: NDArray[np.float32]
    channel: NDArray[np.uint8]  # `ABSENT`: a recording
    emotion: Coded
    emotion_score: NDArray[np.float32]  # -1 where no class is named
    label: Coded
    colours: Mapping[int, Colour]  # of clusters, by number, and of `NONE`


@dataclass(frozen=True, slots=True)
class ValueColumn:
    """Values of one metadata key, or names, of each point's recording."""

    key: str
    values: tuple[str, ...]  # most frequent first
    codes: NDArray[np.int32]  # index of a value, -1 for none


def point_columns(context: AnalysisContext, name: str = "map") -> PointColumns:
    """Return the points of a stored map.

    Raises:
        NotStored: there is none of that name.
    """
    found = stored.segment_columns(context.catalog, name)
    if found is None:
        build.load(context, name)  # says which there are
        raise NotStored(f"map {name!r} was dropped meanwhile - make it with: e2vsearch map --name {name}")
    run, columns, labels = found
    colours = cluster_colours(build.described(context, run))
    if run.by == "recording":
        return _of_recordings(context, name, colours)
    ids, x, y, cluster, recordings, start, end, channel, emotion, score = columns
    return PointColumns(
        name=name,
        by="segment",
        ids=np.array(ids, np.int64),
        recordings=np.array(recordings, np.int64),
        x=np.array(x, np.float32),
        y=np.array(y, np.float32),
        cluster=np.array(cluster, np.int16),
        start_s=np.array(start, np.float32),
        end_s=np.array(end, np.float32),
        channel=np.array(channel, np.uint8),
        emotion=coded(emotion),
        emotion_score=np.array([_NO_SCORE if each is None else each for each in score], np.float32),
        label=coded([labels.get(number) for number in ids]),
        colours=colours,
    )


def value_column(context: AnalysisContext, name: str, key: str) -> ValueColumn:
    """Return a metadata key's value for each point of a stored map, in the order of `point_columns`.

    ``name`` is the recording's own, and ``meta.name`` a key so called.

    Raises:
        NotStored: no map of that name, or no recording has that key.
        UnlawfulUse: the key names employees.
    """
    context.catalog.policy.check_employees([key])
    own = key == "name"
    key = key.removeprefix("meta.")
    if not own and key not in context.catalog.metadata_keys():
        raise NotStored(f"no recording has a {key!r} - e2vsearch status, or GET /filters, names what there is")
    drawn = build.load(context, name)
    values = stored.recording_values(context.catalog, None if own else key)
    return _value_column(key, [values.get(number) for number in drawn.recordings.tolist()])


def _value_column(key: str, found: Sequence[str | None]) -> ValueColumn:
    words = [word for word, _ in Counter(each for each in found if each is not None).most_common()]
    place: dict[str | None, int] = {word: at for at, word in enumerate(words)}
    return ValueColumn(key, tuple(words), np.array([place.get(each, -1) for each in found], np.int32))


def coded(values: Sequence[str | None]) -> Coded:
    """Return the distinct values, most frequent first, and the index of each; rarer than the 254th has none."""
    common = Counter(value for value in values if value is not None).most_common(ABSENT - 1)
    place: dict[str | None, int] = {value: at for at, (value, _) in enumerate(common)}
    codes = np.array([place.get(value, ABSENT) for value in values], np.uint8)
    return Coded(tuple(value for value, _ in common), codes)


def _of_recordings(context: AnalysisContext, name: str, colours: Mapping[int, Colour]) -> PointColumns:
    drawn = build.load(context, name)
    data = dataset.load_points(context, "recording", drawn.ids, drawn.where)
    rows = np.searchsorted(drawn.ids, data.ids)
    points: Sequence[Any] = data.points
    score = [_NO_SCORE if point.emotion_score is None else point.emotion_score for point in points]
    return PointColumns(
        name=name,
        by="recording",
        ids=data.ids,
        recordings=np.array([number_of(point.recording, "call") for point in points], np.int64),
        x=drawn.x[rows],
        y=drawn.y[rows],
        cluster=drawn.cluster[rows].astype(np.int16),
        start_s=np.zeros(len(rows), np.float32),
        end_s=np.array([point.end_s for point in points], np.float32),
        channel=np.full(len(rows), ABSENT, np.uint8),
        emotion=coded([point.emotion for point in points]),
        emotion_score=np.array(score, np.float32),
        label=coded([point.label for point in points]),
        colours=colours,
    )
