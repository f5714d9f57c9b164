"""The switch to the space that was built, in one transaction.

It takes the space in use, the columns of segments that depend on it, recordings, courses, and examples of labels along.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, bindparam, delete, select, update

from e2vsearch.catalog.beside import SPACE_COLUMNS, VECTOR_TABLES, BesideSegmentRow
from e2vsearch.catalog.database import ROWS_PER_STATEMENT, chunks
from e2vsearch.catalog.dynamics import set_courses
from e2vsearch.catalog.row_checksums import EXAMPLE, RECORDING
from e2vsearch.catalog.rows import delete_recordings
from e2vsearch.catalog.schema import HeaderRow, LabelExampleRow, ProjectionRow, RecordingRow, SegmentRow, SpaceRow
from e2vsearch.catalog.spaces import BUILDING, KEPT, LEAVING, lacking
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import SpaceChanged
from e2vsearch.types import recording_id


def switch(
    catalog: Catalog,
    number: int,
    *,
    without: Sequence[int],
    examples: Mapping[int, NDArray[np.float32] | None],
    projection: str | None,
    keep: bool,
) -> bool:
    """Put the space that was built to use, in one transaction, and return whether it was: not while vectors lack.

    Args:
        catalog: in the former space.
        number: of the new one.
        without: recordings that are removed, because they have no vectors of it.
        examples: vectors ``(dim,)`` of examples of labels whose audio is not stored, by id; None: it is removed.
        projection: of the new space, that searches go through; None: raw vectors.
        keep: whether the former space's vectors stay, else they are to be deleted.

    Raises:
        DamagedRow: a recording is not what was stored.
        SpaceChanged: another process has ended this re-embedding.
    """
    target = next(table for table in VECTOR_TABLES.values() if table is not catalog.vectors)
    with catalog.writing() as connection:
        # in this order, as `projections.use` locks them
        connection.execute(select(ProjectionRow.id).with_for_update()).all()
        used = connection.execute(select(HeaderRow.space_id).with_for_update()).scalar_one()
        if used == number:
            return True
        row = connection.execute(select(SpaceRow.state).where(SpaceRow.id == number).with_for_update()).one()
        if used != catalog.space_number or row.state != BUILDING:
            raise SpaceChanged(f"{catalog.name}: another process has ended this re-embedding - see: e2vsearch status")
        for part in chunks(list(without)):
            of_part = select(SegmentRow.recording_id).distinct().where(SegmentRow.recording_id.in_(part))
            gone = connection.execute(of_part.where(lacking(target))).scalars().all()
            delete_recordings(connection, list(gone))
        if connection.execute(select(SegmentRow.id).where(lacking(target)).limit(1)).first() is not None:
            connection.rollback()
            return False
        if not _replace_examples(connection, examples):
            connection.rollback()
            return False
        _exchange(connection)
        _move_recordings(connection, number)
        connection.execute(update(SpaceRow).where(SpaceRow.id == used).values(state=KEPT if keep else LEAVING))
        connection.execute(update(SpaceRow).where(SpaceRow.id == number).values(state=None))
        named = select(ProjectionRow.id).where(ProjectionRow.name == projection, ProjectionRow.space_id == number)
        through = None if projection is None else connection.execute(named).scalar_one()
        connection.execute(update(HeaderRow).values(space_id=number, projection_id=through))
    return True


def _replace_examples(connection: Connection, examples: Mapping[int, NDArray[np.float32] | None]) -> bool:
    """Replace the vectors of examples that are not stored segments; whether none came since they were read."""
    query = select(LabelExampleRow.__table__).where(LabelExampleRow.segment_id.is_(None))
    stored = connection.execute(query).all()
    if any(row.id not in examples for row in stored):
        return False
    for row in stored:
        vector = examples[row.id]
        same = LabelExampleRow.id == row.id
        if vector is None:
            connection.execute(delete(LabelExampleRow).where(same))
            continue
        values = {"vector": vector.astype("<f4").tobytes()}
        crc32 = EXAMPLE.of_values({**row._mapping, **values})
        connection.execute(update(LabelExampleRow).where(same).values(**values, crc32=crc32))
    return True


_SET_SEGMENT = update(SegmentRow).where(SegmentRow.id == bindparam("number"))
_SET_BESIDE = update(BesideSegmentRow).where(BesideSegmentRow.segment_id == bindparam("number"))
_SET_RECORDING = update(RecordingRow).where(RecordingRow.id == bindparam("number"))


def _exchange(connection: Connection) -> None:
    """Exchange the columns of segments that depend on the space with those of the space beside."""
    new = [getattr(BesideSegmentRow, name).label(f"new_{name}") for name in SPACE_COLUMNS]
    old = [getattr(SegmentRow, name) for name in SPACE_COLUMNS]
    query = select(SegmentRow.id, *old, *new).join(BesideSegmentRow, BesideSegmentRow.segment_id == SegmentRow.id)
    for rows in _paged(connection, query.order_by(SegmentRow.id), SegmentRow.id):
        theirs = [{"number": row.id, **{name: getattr(row, f"new_{name}") for name in SPACE_COLUMNS}} for row in rows]
        ours = [{"number": row.id, **{name: getattr(row, name) for name in SPACE_COLUMNS}} for row in rows]
        connection.execute(_SET_SEGMENT, theirs)
        connection.execute(_SET_BESIDE, ours)


def _move_recordings(connection: Connection, number: int) -> None:
    query = select(RecordingRow.__table__).order_by(RecordingRow.id)
    for rows in _paged(connection, query, RecordingRow.id):
        RECORDING.check(rows, lambda row: recording_id(row.id))
        values = [
            {"number": row.id, "space_id": number}
            | {"crc32": RECORDING.of_values({**row._mapping, "space_id": number})}
            for row in rows
        ]
        connection.execute(_SET_RECORDING, values)
        set_courses(connection, [row.id for row in rows])


def _paged(connection: Connection, query: Any, key: Any) -> Iterator[Sequence[Row[Any]]]:
    query, last = query.limit(ROWS_PER_STATEMENT), 0
    while rows := connection.execute(query.where(key > last)).all():
        yield rows
        last = rows[-1].id
