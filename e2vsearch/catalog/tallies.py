"""Counts of segments, for each recording and each value, which is what the spread between recordings is computed from.

The database groups: of 100,000 segments some thousands of rows come back.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import ColumnElement, Null, Select, Subquery, func, null, or_, select, true, union_all

from e2vsearch.catalog.database import filtering
from e2vsearch.catalog.filters import RoleOf
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.schema import (
    LabelExampleRow,
    MapPointRow,
    MapRow,
    MetadataRow,
    RecordingRow,
    SegmentLabelRow,
    SegmentRow,
)

Of = Literal["emotion", "label", "cluster"]
"""Counted values: emotions as shown, labels of one's own, or clusters of a map."""

Part = Literal["role", "channel"]
"""Keys that split a recording: the role or the channel of a segment."""


class Tally(NamedTuple):
    """Segments of one recording."""

    recording: int
    part: Any  # the role or channel; None where recordings are not split
    value: Any  # an emotion, a label or a cluster's number; None: all of them
    segments: int


def count(
    catalog: CatalogReader, of: Of, where: str | None = None, part: Part | None = None, map_name: str | None = None
) -> tuple[list[Tally], list[Tally]]:
    """Return the segments of each recording by value, and all of them among which those are.

    Segments without any emotion, and those that the map lacks, are in neither; segments without a label are among all.

    Args:
        catalog: of the collection.
        of: what is counted.
        where: the filter.
        part: count roles or channels apart.
        map_name: of a stored map, for clusters.

    Raises:
        BadFilter: `where` is invalid.
        UnlawfulUse: emotion by employee, see `e2vsearch.policy`.
    """
    condition = true() if where is None else catalog.condition(where)
    among: Select[Any] = select(SegmentRow.recording_id).select_from(SegmentRow).where(condition)
    part_: ColumnElement[Any] = null()
    if part is not None:
        among = among.join(RecordingRow, RecordingRow.id == SegmentRow.recording_id)
        part_ = RoleOf() if part == "role" else SegmentRow.channel.expression
    value: ColumnElement[Any] = SegmentRow.label.expression
    if of == "label":
        labels = _labels()
        value = labels.c.label
        valued = among.join(labels, labels.c.segment_id == SegmentRow.id)
    elif of == "cluster":
        value = MapPointRow.cluster.expression
        valued = among = _on_map(among, map_name or "")
    else:
        valued = among = among.where(SegmentRow.label.is_not(None))
    with filtering(), catalog.reading() as connection:
        found = connection.execute(_grouped(valued, part_, value)).all()
        everything = connection.execute(_grouped(among, part_, null())).all()
    return [Tally._make(row) for row in found], [Tally._make(row) for row in everything]


def _grouped(query: Select[Any], *columns: ColumnElement[Any]) -> Select[Any]:
    """Return the columns of a `Tally`; of a recording, a null is one group whatever the database groups it by."""
    by = (each for each in columns if not isinstance(each, Null))
    return query.add_columns(*columns, func.count()).group_by(SegmentRow.recording_id, *by)


def recorded_at(catalog: CatalogReader) -> dict[int, datetime]:
    """Return when each recording was made, UTC."""
    with catalog.reading() as connection:
        return {
            row.id: row.recorded_at for row in connection.execute(select(RecordingRow.id, RecordingRow.recorded_at))
        }


def metadata_of(catalog: CatalogReader, key: str) -> dict[int, str]:
    """Return one key of the metadata, of the recordings that have it."""
    query = select(MetadataRow.recording_id, MetadataRow.text).where(MetadataRow.key == key)
    with catalog.reading() as connection:
        return {row.recording_id: row.text for row in connection.execute(query)}


def _labels() -> Subquery:
    """Return the labels of segments as filters see them: a person's or, where there is none, every classifier's."""
    by_person = select(LabelExampleRow.segment_id, LabelExampleRow.label).where(LabelExampleRow.segment_id.is_not(None))
    judged = select(LabelExampleRow.segment_id).where(LabelExampleRow.segment_id.is_not(None))
    by_classifier = select(SegmentLabelRow.segment_id, SegmentLabelRow.label).distinct()
    return union_all(by_person, by_classifier.where(SegmentLabelRow.segment_id.not_in(judged))).subquery()


def _on_map(query: Select[Any], name: str) -> Select[Any]:
    of_segment, of_recording = MapPointRow.item_id == SegmentRow.id, MapPointRow.item_id == SegmentRow.recording_id
    point = or_((MapRow.by == "segment") & of_segment, (MapRow.by == "recording") & of_recording)
    return query.join(MapRow, MapRow.name == name).join(MapPointRow, (MapPointRow.map_id == MapRow.id) & point)
