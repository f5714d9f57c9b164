"""The space beside the one in use: begun, filled one recording at a time, switched to; and what a switch leaves behind.

A collection has vectors of two spaces at most. Its state is in the database, so that a re-embedding which was killed
goes on where it was, whoever starts it again:

* *building*: it gets vectors. Searches know nothing of it.
* *kept*: it was in use, and a switch back finds its vectors.
* *leaving*: it was in use, and is being deleted.

`space_switch` puts it to use.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, and_, delete, exists, func, insert, select, update

from e2vsearch.catalog.beside import VECTOR_TABLES, BesideSegmentRow, VectorTable
from e2vsearch.catalog.columns import vector_columns
from e2vsearch.catalog.database import retried_on_conflict
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.row_checksums import SEGMENT
from e2vsearch.catalog.rows import note_changes, score_columns
from e2vsearch.catalog.schema import (
    ClassifierRow,
    HeaderRow,
    LabelExampleRow,
    MapRow,
    ProjectionRow,
    SegmentRow,
    SpaceRow,
)
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import REEMBED, SettingsError, SpaceChanged
from e2vsearch.types import Space, segment_id

BUILDING, KEPT, LEAVING = "building", "kept", "leaving"

_AT_ONCE = 2000  # rows deleted in one transaction: 8 MB of 1024-d vectors


@dataclass(frozen=True, slots=True)
class BesideSpace:
    """The space beside the one in use."""

    number: int
    space: Space
    source: str  # what its encoder is opened by
    state: str
    vectors: VectorTable


def beside(catalog: CatalogReader) -> BesideSpace | None:
    """Return the space beside the one in use, None where there is none."""
    with catalog.reading() as connection:
        return _beside(connection)


def _beside(connection: Connection) -> BesideSpace | None:
    row = connection.execute(
        select(SpaceRow.__table__).where(
            SpaceRow.vectors.is_not(None), SpaceRow.id != select(HeaderRow.space_id).scalar_subquery()
        )
    ).first()
    if row is None:
        return None
    space = Space(row.encoder, row.revision, row.dim, tuple(row.labels), row.projection)
    return BesideSpace(row.id, space, row.source, row.state, VECTOR_TABLES[row.vectors])


def progress(catalog: CatalogReader) -> str:
    """Return what is beside the space in use, how far that is, and what to do about it; "" where there is nothing."""
    other = beside(catalog)
    if other is None:
        return ""
    if other.state == BUILDING:
        of = spoken(catalog)
        done = of - len(pending(catalog, other.vectors))
        return f"re-embedding to {other.space}: {done:,} of {of:,} recordings - {REEMBED} --encoder {other.source}"
    if other.state == KEPT:
        return f"kept: {other.space} - delete it with: {REEMBED} --discard"
    return f"{other.space} is not wholly deleted yet - finish with: {REEMBED} --discard"


def begin(catalog: Catalog, space: Space, source: str) -> int:
    """Make room for vectors of another space, unless there is, and return its number.

    Args:
        catalog: in the space in use.
        space: the other one.
        source: what its encoder is opened by.

    Raises:
        SettingsError: there are vectors of a third space.
    """
    with catalog.writing() as connection:
        connection.execute(select(HeaderRow.id).with_for_update())
        other = _beside(connection)
        if other is not None and other.space != space:
            raise SettingsError(_third(catalog.name, other))
        free = next(name for name, table in VECTOR_TABLES.items() if table is not catalog.vectors)
        same = and_(
            SpaceRow.encoder == space.encoder,
            SpaceRow.revision == space.revision,
            SpaceRow.projection == space.projection,
        )
        values: dict[str, Any] = {"source": source, "state": BUILDING, "vectors": free}
        found = connection.execute(update(SpaceRow).where(same).values(**values).returning(SpaceRow.id)).scalar()
        if found is not None:
            return found
        values |= {
            "encoder": space.encoder,
            "revision": space.revision,
            "dim": space.dim,
            "labels": list(space.labels),
            "projection": space.projection,
            "created_at": datetime.now(UTC),
        }
        return connection.execute(insert(SpaceRow).returning(SpaceRow.id), [values]).scalar_one()


def _third(name: str, other: BesideSpace) -> str:
    if other.state == BUILDING:
        return (
            f"{name} is being re-embedded to {other.space} - go on with: {REEMBED} --encoder {other.source}; or give "
            f"that up with: {REEMBED} --discard"
        )
    return (
        f"{name} still holds vectors of {other.space} - go back to them with: {REEMBED} --encoder {other.source}; or "
        f"delete them with: {REEMBED} --discard"
    )


def check_only(catalog: CatalogReader, space: Space) -> None:
    """Check that a re-embedding to a space may begin, and write nothing.

    Raises:
        SettingsError: there are vectors of a third space.
    """
    other = beside(catalog)
    if other is not None and other.state != LEAVING and other.space != space:
        raise SettingsError(_third(str(getattr(catalog, "name", "the collection")), other))


def lacking(table: VectorTable) -> Any:
    """Return the SQL condition that a segment has no vector in a table."""
    return ~exists().where(table.segment_id == SegmentRow.id)


def pending(catalog: CatalogReader, table: VectorTable | None) -> list[int]:
    """Return the recordings with segments that lack a vector in a table, ascending; all with segments without one."""
    query = select(SegmentRow.recording_id).distinct().order_by(SegmentRow.recording_id)
    with catalog.reading() as connection:
        return list(connection.execute(query if table is None else query.where(lacking(table))).scalars())


def spoken(catalog: CatalogReader) -> int:
    """Return how many recordings have segments."""
    with catalog.reading() as connection:
        return connection.execute(select(func.count(func.distinct(SegmentRow.recording_id)))).scalar_one()


def segments_without_vector(target: Catalog, recording: int) -> Sequence[Row[Any]]:
    """Return the rows of a recording's segments that lack a vector in the catalog's space, in order of time.

    Raises:
        DamagedRow: one of them is not what was stored.
    """
    query = select(SegmentRow.__table__).where(SegmentRow.recording_id == recording, lacking(target.vectors))
    with target.reading() as connection:
        rows = connection.execute(query.order_by(SegmentRow.start_s, SegmentRow.id)).all()
    SEGMENT.check(rows, lambda row: segment_id(row.id))
    return rows


@retried_on_conflict
def store(
    target: Catalog,
    recording: int,
    vectors: Mapping[int, NDArray[np.float32]],
    scores: Mapping[int, NDArray[np.float32] | None],
    *,
    note: bool,
) -> int:
    """Store vectors of a recording's segments, in one transaction, and return how many; gone segments are skipped.

    Args:
        target: in the space that is being built.
        recording: its number.
        vectors: ``(dim,)`` of each segment, by number.
        scores: ``(labels,)`` of each segment, by number; None where the encoder has no classes.
        note: whether the change feed is told, because an index of the space has been built already.

    Raises:
        SpaceChanged: another process has given the re-embedding up, or finished it.
    """
    assert target.space is not None
    table = target.vectors
    here = (SegmentRow.recording_id == recording) & lacking(table)
    with target.writing() as connection:
        state = select(SpaceRow.state).where(SpaceRow.id == target.space_number).with_for_update(read=True)
        if connection.execute(state).scalar() != BUILDING:
            raise SpaceChanged(f"{target.name}: another process has ended this re-embedding - see: e2vsearch status")
        stored = connection.execute(select(SegmentRow.__table__).where(here).order_by(SegmentRow.id)).all()
        rows = [row for row in stored if row.id in vectors]
        if not rows:
            return 0
        SEGMENT.check(rows, lambda row: segment_id(row.id))
        columns = score_columns(
            [scores[row.id] for row in rows],
            target.space,
            [row.end_s - row.start_s for row in rows],
            [row.level_db for row in rows],
        )
        connection.execute(
            insert(table), [{"segment_id": row.id, **vector_columns(vectors[row.id], recording)} for row in rows]
        )
        connection.execute(
            insert(BesideSegmentRow),
            [
                {"segment_id": row.id, **each, "crc32": SEGMENT.of_values({**row._mapping, **each})}
                for row, each in zip(rows, columns, strict=True)
            ],
        )
        if note:
            note_changes(connection, "+", [(row.id, recording) for row in rows])
        return len(rows)


def file_examples(catalog: CatalogReader) -> Sequence[Row[int, str, str]]:
    """Return id, label and source, a file with its times, of examples of labels whose audio is not stored."""
    query = select(LabelExampleRow.id, LabelExampleRow.label, LabelExampleRow.source)
    with catalog.reading() as connection:
        return connection.execute(query.where(LabelExampleRow.segment_id.is_(None)).order_by(LabelExampleRow.id)).all()


@dataclass(frozen=True, slots=True)
class LeftBehind:
    """Names of classifiers, maps and projections that were made from vectors of the former space."""

    classifiers: tuple[str, ...] = ()  # they classify nothing more until trained again; their predictions stay
    maps: tuple[str, ...] = ()  # they show where segments lay in the former space
    projections: tuple[str, ...] = ()  # they are deleted


def left_behind(catalog: Catalog) -> LeftBehind:
    """Return what a switch to another space invalidates."""
    of_space = {
        row: select(row.name).distinct().where(row.space_id == catalog.space_number).order_by(row.name)
        for row in (ClassifierRow, MapRow, ProjectionRow)
    }
    with catalog.reading() as connection:
        return LeftBehind(*(tuple(connection.execute(query).scalars()) for query in of_space.values()))


def keep(catalog: Catalog, number: int, *, kept: bool) -> None:
    """Say whether a space that is not in use stays, or is to be deleted."""
    with catalog.writing() as connection:
        used = select(HeaderRow.space_id).scalar_subquery()
        other = and_(SpaceRow.id == number, SpaceRow.id != used)
        connection.execute(update(SpaceRow).where(other).values(state=KEPT if kept else LEAVING))


def clear(catalog: Catalog, other: BesideSpace) -> None:
    """Delete a space that is leaving: its vectors, what it says of segments, and its projections.

    Some thousands of rows go in a transaction, so that nobody waits long; stopped at any time, the next call goes on.
    """
    for table in (other.vectors, BesideSegmentRow):
        some = select(table.segment_id).order_by(table.segment_id).limit(_AT_ONCE).scalar_subquery()
        deleted = 1
        while deleted:
            with catalog.writing() as connection:
                deleted = connection.execute(delete(table).where(table.segment_id.in_(some))).rowcount
    with catalog.writing() as connection:
        connection.execute(delete(ProjectionRow).where(ProjectionRow.space_id == other.number))
        # the row stays, without vectors: classifiers and maps name it as the space they were made in
        connection.execute(update(SpaceRow).where(SpaceRow.id == other.number).values(vectors=None, state=None))
