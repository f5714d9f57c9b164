"""Stored maps: one row for a map, one for each of its points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any
from typing import cast as as_type

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Select, case, delete, func, insert, select, update

from e2vsearch.catalog.schema import (
    HeaderRow,
    LabelExampleRow,
    MapPointRow,
    MapRow,
    MetadataRow,
    RecordingRow,
    SegmentLabelRow,
    SegmentRow,
)
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import CatalogError

_ROWS_PER_INSERT = 5000


def period_start(day: date, period: str) -> date:
    """Return the first day of the day, week (from Monday) or month that a day is in, as trends of clusters count."""
    if period == "day":
        return day
    return day - timedelta(days=day.weekday()) if period == "week" else day.replace(day=1)


@dataclass(frozen=True, slots=True)
class StoredMap:
    """A map without its points."""

    name: str
    by: str  # "segment" or "recording"
    where: str | None
    options: Mapping[str, Any]  # plain JSON
    clusters: Sequence[Mapping[str, Any]]  # plain JSON
    created_at: datetime


@dataclass(frozen=True, slots=True)
class MapCounts:
    """A map and how many points it has."""

    map: StoredMap
    points: int
    placed: int
    none: int  # points in no cluster


@dataclass(frozen=True, slots=True)
class Points:
    """Points to be stored, ``(n,)`` each."""

    ids: NDArray[np.int64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    cluster: NDArray[np.int32]
    strength: NDArray[np.float32]
    placed: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class StoredPoints(Points):
    """Points whose segment or recording is still stored, ids ascending."""

    recordings: NDArray[np.int64]
    recorded_at: NDArray[np.datetime64]


def items(catalog: Catalog, by: str, where: str | None) -> NDArray[np.int64]:
    """Return the segments that meet a filter, or the recordings with one of them, ascending.

    Raises:
        BadFilter: it does not parse, or names nothing known.
    """
    query = select(SegmentRow.recording_id if by == "recording" else SegmentRow.id).distinct()
    return catalog.ids(query if where is None else query.where(catalog.condition(where)))


def save(catalog: Catalog, stored: StoredMap, points: Points) -> None:
    """Store a map in place of another one of its name, in one transaction.

    Raises:
        CatalogError: the database cannot be written, or holds no recordings yet.
    """
    if catalog.space_number is None:
        raise CatalogError("the collection is pinned to no space yet: ingest recordings before a map is stored")
    with catalog.writing() as connection:
        connection.execute(select(HeaderRow.id).with_for_update())  # of two maps of one name, the later one stays
        connection.execute(delete(MapRow).where(MapRow.name == stored.name))
        row = {
            "name": stored.name,
            "space_id": catalog.space_number,
            "by": stored.by,
            "filter": stored.where,
            "options": dict(stored.options),
            "clusters": [dict(cluster) for cluster in stored.clusters],
            "created_at": stored.created_at,
        }
        number = connection.execute(insert(MapRow).returning(MapRow.id), [row]).scalar_one()
        _insert(connection, number, points)


def add(catalog: Catalog, name: str, points: Points, clusters: Sequence[Mapping[str, Any]]) -> int:
    """Add points to a stored map, replace its clusters, and return how many points were new.

    Points that another process has added meanwhile stay as they are; 0 where the map was dropped meanwhile.
    """
    with catalog.writing() as connection:
        connection.execute(select(HeaderRow.id).with_for_update())
        number = connection.execute(select(MapRow.id).where(MapRow.name == name)).scalar()
        if number is None:
            return 0
        known = connection.execute(select(MapPointRow.item_id).where(MapPointRow.map_id == number)).scalars().all()
        new = ~np.isin(points.ids, np.array(known, np.int64))
        _insert(connection, number, points, new)
        connection.execute(update(MapRow).where(MapRow.id == number).values(clusters=[dict(each) for each in clusters]))
        return int(new.sum())


def load(catalog: Catalog, name: str) -> tuple[StoredMap, StoredPoints] | None:
    """Return a map with those of its points whose segment or recording is still stored, None without a map."""
    with catalog.reading() as connection:
        row = connection.execute(select(MapRow.__table__).where(MapRow.name == name)).one_or_none()
        if row is None:
            return None
        of_recordings = row.by == "recording"
        recording = RecordingRow.id if of_recordings else SegmentRow.recording_id
        query = _on_map(row.id, of_recordings, MapPointRow.item_id, recording, MapPointRow.x, MapPointRow.y)
        query = query.add_columns(MapPointRow.cluster, MapPointRow.strength, MapPointRow.placed)
        ids, of, x, y, cluster, strength, placed = _columns(connection, query.order_by(MapPointRow.item_id), 7)
        times = select(RecordingRow.id, RecordingRow.recorded_at).order_by(RecordingRow.id)
        dated = connection.execute(times.where(RecordingRow.id.in_(_on_map(row.id, of_recordings, recording)))).all()
    numbers = np.array([each.id for each in dated], np.int64)
    moments = [each.recorded_at.astimezone(UTC).replace(tzinfo=None) for each in dated]
    recordings = np.array(of, np.int64)
    points = StoredPoints(
        np.array(ids, np.int64),
        np.array(x, np.float32),
        np.array(y, np.float32),
        np.array(cluster, np.int32),
        np.array(strength, np.float32),
        np.array(placed, np.bool_),
        recordings,
        np.array(moments, "datetime64[s]")[np.searchsorted(numbers, recordings)],
    )
    return _to_map(row), points


def _on_map(number: int, of_recordings: bool, *columns: Any) -> Select[Any]:
    """Return the statement for columns of a map's points whose segment or recording is still stored."""
    query = select(*columns).select_from(MapPointRow).where(MapPointRow.map_id == number)
    if of_recordings:
        return query.join(RecordingRow, RecordingRow.id == MapPointRow.item_id)
    return query.join(SegmentRow, SegmentRow.id == MapPointRow.item_id)


def _columns(connection: Connection, query: Select[Any], width: int) -> list[Sequence[Any]]:
    """Return the columns of a statement of numbers and text, in the driver's own values: twice as fast as its rows."""
    found = as_type("Any", connection.execute(query).cursor).fetchall()
    return list(zip(*found, strict=True)) if found else [()] * width


def segment_columns(catalog: Catalog, name: str) -> tuple[StoredMap, list[Sequence[Any]], dict[int, str]] | None:
    """Return a map of segments, columns of those still stored, and their labels by number.

    The columns are number, x, y, cluster, recording, start and end in seconds, channel, emotion and its probability.
    None without a map of that name, and no columns for one of recordings. A person's label counts before a
    classifier's, and of those the surest.
    """
    columns = (
        *(MapPointRow.item_id, MapPointRow.x, MapPointRow.y, MapPointRow.cluster, SegmentRow.recording_id),
        *(SegmentRow.start_s, SegmentRow.end_s, SegmentRow.channel, SegmentRow.label, SegmentRow.label_score),
    )
    with catalog.reading() as connection:
        row = connection.execute(select(MapRow.__table__).where(MapRow.name == name)).one_or_none()
        if row is None:
            return None
        if row.by == "recording":
            return _to_map(row), [], {}
        query = _on_map(row.id, False, *columns).order_by(MapPointRow.item_id)
        found = _columns(connection, query, len(columns))
        on_map = select(MapPointRow.item_id).where(MapPointRow.map_id == row.id)
        labels: dict[int, str] = {}
        predicted = select(SegmentLabelRow.segment_id, SegmentLabelRow.label).order_by(SegmentLabelRow.score)
        given = select(LabelExampleRow.segment_id, LabelExampleRow.label)
        for each in (
            predicted.where(SegmentLabelRow.segment_id.in_(on_map)),
            given.where(LabelExampleRow.segment_id.in_(on_map)),
        ):
            labels.update((number, label) for number, label in connection.execute(each) if number is not None)
    return _to_map(row), found, labels


def recording_values(catalog: Catalog, key: str | None) -> dict[int, str]:
    """Return the value that each recording has for a metadata key, by its number; for None its name."""
    if key is None:
        query = select(RecordingRow.id, RecordingRow.name)
    else:
        query = select(MetadataRow.recording_id, MetadataRow.text).where(MetadataRow.key == key)
    with catalog.reading() as connection:
        return {number: value for number, value in connection.execute(query)}  # noqa: C416 - rows are no pairs to mypy


def listing(catalog: Catalog) -> list[MapCounts]:
    """Return every map, by name. Points of removed segments are counted: leaving them out takes a join a map."""
    count = (
        func.count(MapPointRow.item_id),
        func.coalesce(func.sum(case((MapPointRow.placed, 1), else_=0)), 0),
        func.coalesce(func.sum(case((MapPointRow.cluster < 0, 1), else_=0)), 0),
    )
    totals = select(MapPointRow.map_id, *count).group_by(MapPointRow.map_id)
    with catalog.reading() as connection:
        counted = {number: tuple(rest) for number, *rest in connection.execute(totals)}
        rows = connection.execute(select(MapRow.__table__).order_by(MapRow.name)).all()
    return [MapCounts(_to_map(row), *counted.get(row.id, (0, 0, 0))) for row in rows]


def drop(catalog: Catalog, name: str) -> bool:
    """Delete a map, and return whether there was one."""
    with catalog.writing() as connection:
        return connection.execute(delete(MapRow).where(MapRow.name == name)).rowcount > 0


def _to_map(row: Any) -> StoredMap:
    return StoredMap(row.name, row.by, row.filter, row.options, row.clusters, row.created_at)


def _insert(connection: Connection, number: int, points: Points, keep: NDArray[np.bool_] | None = None) -> None:
    at = np.arange(len(points.ids)) if keep is None else np.flatnonzero(keep)
    for start in range(0, at.size, _ROWS_PER_INSERT):
        part = at[start : start + _ROWS_PER_INSERT]
        rows = [
            {
                "map_id": number,
                "item_id": id_,
                "x": x,
                "y": y,
                "cluster": cluster,
                "strength": strength,
                "placed": placed,
            }
            for id_, x, y, cluster, strength, placed in zip(
                points.ids[part].tolist(),
                points.x[part].tolist(),
                points.y[part].tolist(),
                points.cluster[part].tolist(),
                points.strength[part].tolist(),
                points.placed[part].tolist(),
                strict=True,
            )
        ]
        connection.execute(insert(MapPointRow), rows)
