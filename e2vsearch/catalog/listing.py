"""Recordings a page at a time, and what their metadata says. Knows rows and filters, nothing of who asks."""

from __future__ import annotations

from sqlalchemy import func, select

from e2vsearch.catalog.reading import Reading
from e2vsearch.catalog.records import Recording
from e2vsearch.catalog.tables import MetadataRow, RecordingRow, SegmentRow

MAX_VALUE_LENGTH = 100
"""Longer values are notes, which nobody picks from a list."""


def page(catalog: Reading, limit: int, after: int = 0, where: str | None = None) -> list[Recording]:
    """Recordings in order of their ids.

    Args:
        catalog: of the collection.
        limit: how many at most.
        after: only those with a greater number.
        where: only those with a segment that meets this filter.

    Raises:
        BadFilter: `where` does not parse, or names nothing known.
    """
    query = select(RecordingRow.id).where(RecordingRow.id > after).order_by(RecordingRow.id).limit(limit)
    if where is not None:
        query = query.where(RecordingRow.id.in_(select(SegmentRow.recording_id).where(catalog.condition(where))))
    with catalog.reading() as connection:
        numbers = list(connection.execute(query).scalars())
    return [recording for _, recording in catalog.recordings(numbers)] if numbers else []


def metadata_values(catalog: Reading, most: int) -> dict[str, list[str]]:
    """Every metadata key with its most frequent values, the most frequent first; at most so many of each."""
    counted = select(MetadataRow.key, MetadataRow.text, func.count().label("n"))
    counted = counted.where(func.length(MetadataRow.text) <= MAX_VALUE_LENGTH)
    of_values = counted.group_by(MetadataRow.key, MetadataRow.text).subquery()
    rank = func.row_number().over(partition_by=of_values.c.key, order_by=(of_values.c.n.desc(), of_values.c.text))
    ranked = select(of_values.c.key, of_values.c.text, rank.label("rank")).subquery()
    query = select(ranked.c.key, ranked.c.text).where(ranked.c.rank <= most).order_by(ranked.c.key, ranked.c.rank)
    found: dict[str, list[str]] = {key: [] for key in sorted(catalog.metadata_keys())}
    with catalog.reading() as connection:
        for key, value in connection.execute(query):
            found.setdefault(key, []).append(value)
    return found
