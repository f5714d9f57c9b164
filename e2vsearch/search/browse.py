"""Segments or recordings without a reference: what meets a filter or has some words, the newest recordings first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from sqlalchemy import ColumnElement, and_, func, select

from e2vsearch.catalog.database import chunks, filtering
from e2vsearch.catalog.schema import RecordingRow, SegmentRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.search.query import Query
from e2vsearch.search.rank import Ranking

_NEWEST = (RecordingRow.recorded_at.desc(), RecordingRow.id.desc())
_IN_ORDER = (SegmentRow.start_s, SegmentRow.channel, SegmentRow.id)


def newest(catalog: Catalog, query: Query) -> tuple[Callable[[int], Ranking], int]:
    """Return what ranks the newest n, and how many segments the query leaves.

    A recording comes with the first of its segments that the query leaves.

    Raises:
        BadFilter: the filter or the words are invalid.
        UnlawfulUse: emotion by employee, see `e2vsearch.policy`.
    """
    conditions: list[ColumnElement[bool]] = []
    if query.where is not None:
        conditions.append(catalog.condition(query.where))
    if query.text is not None:
        from e2vsearch.catalog.text_search import condition

        conditions.append(condition(catalog, query.text))
    left = and_(*conditions)
    with filtering(), catalog.reading() as connection:
        searched = connection.execute(select(func.count()).select_from(SegmentRow).where(left)).scalar_one()
    rank = _segments if query.by == "segment" else _recordings
    return partial(rank, catalog, left, searched), searched


def _segments(catalog: Catalog, left: Any, searched: int, n: int) -> Ranking:
    query = select(SegmentRow.id, SegmentRow.recording_id).where(left)
    query = query.join(RecordingRow, RecordingRow.id == SegmentRow.recording_id)
    with filtering(), catalog.reading() as connection:
        rows = connection.execute(query.order_by(*_NEWEST, *_IN_ORDER).limit(n)).all()
    return _ranking([row.id for row in rows], [row.recording_id for row in rows], searched)


def _recordings(catalog: Catalog, left: Any, searched: int, n: int) -> Ranking:
    with_one = select(SegmentRow.recording_id).where(left)
    query = select(RecordingRow.id).where(RecordingRow.id.in_(with_one)).order_by(*_NEWEST).limit(n)
    first: dict[int, int] = {}
    with filtering(), catalog.reading() as connection:
        recordings = list(connection.execute(query).scalars())
        for part in chunks(recordings):
            of_part = select(SegmentRow.recording_id, SegmentRow.id).where(left, SegmentRow.recording_id.in_(part))
            for recording, segment in connection.execute(of_part.order_by(*_IN_ORDER)):
                first.setdefault(recording, segment)
    found = [each for each in recordings if each in first]
    return _ranking([first[each] for each in found], found, searched)


def _ranking(segments: list[int], recordings: list[int], searched: int) -> Ranking:
    return Ranking(segments, recordings, (), (), searched, exact=True)
