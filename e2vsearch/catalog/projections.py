"""Stored projections: parameters, reports, which one is in use; and the scores of segments that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, and_, bindparam, delete, insert, select, update

from e2vsearch.catalog.beside import BesideSegmentRow
from e2vsearch.catalog.database import chunks, retried_on_conflict
from e2vsearch.catalog.dynamics import set_courses
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.row_checksums import SEGMENT
from e2vsearch.catalog.rows import score_columns
from e2vsearch.catalog.schema import HeaderRow, ProjectionRow, SegmentRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import NoCollection, NotStored

SCORED_TO = "scored_to"
"""Key of a report: watermark of the change feed up to which segments have the projection's scores."""


@dataclass(frozen=True, slots=True)
class StoredProjection:
    """One projection of the collection's space."""

    name: str
    kind: str
    revision: str
    parameters: bytes  # plain arrays in .npz
    report: Mapping[str, Any]  # how it was made, and how well it does
    created_at: datetime


def listed(catalog: CatalogReader) -> list[StoredProjection]:
    """Return all projections, by name."""
    with catalog.reading() as connection:
        return [StoredProjection(*row) for row in connection.execute(_all(catalog).order_by(ProjectionRow.name))]


def find(catalog: CatalogReader, name: str) -> StoredProjection | None:
    """Return the projection of that name, None if there is none."""
    with catalog.reading() as connection:
        row = connection.execute(_all(catalog).where(ProjectionRow.name == name)).one_or_none()
    return None if row is None else StoredProjection(*row)


def get(catalog: CatalogReader, name: str) -> StoredProjection:
    """Return the projection of that name.

    Raises:
        NotStored: there is none.
    """
    found = find(catalog, name)
    if found is None:
        raise _unknown(catalog, name)
    return found


_USED = select(ProjectionRow.name, ProjectionRow.revision).join(HeaderRow, HeaderRow.projection_id == ProjectionRow.id)


def used(catalog: CatalogReader) -> tuple[str, str] | None:
    """Return name and revision of the projection in use, None for raw vectors."""
    with catalog.reading() as connection:
        row = connection.execute(_USED.where(ProjectionRow.space_id == catalog.space_number)).one_or_none()
    return None if row is None else (row.name, row.revision)


@retried_on_conflict
def put(catalog: Catalog, projection: StoredProjection, *, replace: bool = True) -> bool:
    """Store a projection; one of that name is replaced, in use or not, if `replace` is set.

    Returns:
        Whether it was stored.

    Raises:
        NoCollection: the collection has no space yet.
    """
    if catalog.space_number is None:
        raise NoCollection(f"{catalog.url.database} holds no recordings yet - add some with: e2vsearch ingest FOLDER")
    values = {
        "name": projection.name,
        "kind": projection.kind,
        "revision": projection.revision,
        "space_id": catalog.space_number,
        "parameters": projection.parameters,
        "report": dict(projection.report),
        "created_at": projection.created_at,
    }
    with catalog.writing() as connection:
        same = _named(catalog, projection.name)
        found = connection.execute(select(ProjectionRow.id).where(same).with_for_update()).scalar_one_or_none()
        if found is None:
            connection.execute(insert(ProjectionRow), [values])
        elif replace:
            connection.execute(update(ProjectionRow).where(ProjectionRow.id == found).values(values))
        return found is None or replace


def report(catalog: Catalog, projection: StoredProjection) -> bool:
    """Replace the report of a projection, and return whether that revision of it was still stored."""
    query = update(ProjectionRow).where(is_still(catalog, projection)).values(report=dict(projection.report))
    with catalog.writing() as connection:
        return connection.execute(query).rowcount > 0


def is_still(catalog: CatalogReader, projection: StoredProjection) -> ColumnElement[bool]:
    """Return the SQL condition that a row is that projection, of that revision."""
    return and_(_named(catalog, projection.name), ProjectionRow.revision == projection.revision)


def use(catalog: Catalog, name: str | None) -> None:
    """Put a projection to use for searches; None: the encoder's own vectors. Of a space that is not in use: nothing.

    Raises:
        NotStored: there is none of that name.
    """
    with catalog.writing() as connection:
        number = None
        if name is not None:
            wanted = select(ProjectionRow.id).where(_named(catalog, name)).with_for_update(read=True)
            number = connection.execute(wanted).scalar_one_or_none()
        if name is None or number is not None:
            of_space = HeaderRow.space_id == catalog.space_number
            connection.execute(update(HeaderRow).where(of_space).values(projection_id=number))
            return
    raise _unknown(catalog, name)


def drop(catalog: Catalog, name: str) -> None:
    """Delete a projection; if it was in use, the encoder's own vectors are searched from then on.

    Raises:
        NotStored: there is none of that name.
    """
    with catalog.writing() as connection:
        # the collection's row first: `use` locks it last, and in another order the two could deadlock
        number = connection.execute(select(ProjectionRow.id).where(_named(catalog, name))).scalar_one_or_none()
        if number is not None:
            in_use = HeaderRow.projection_id == number
            connection.execute(update(HeaderRow).where(in_use).values(projection_id=None))
            connection.execute(delete(ProjectionRow).where(ProjectionRow.id == number))
            return
    raise _unknown(catalog, name)


def _all(catalog: CatalogReader) -> Select[Any]:
    row = ProjectionRow
    query = select(row.name, row.kind, row.revision, row.parameters, row.report, row.created_at)
    return query.where(row.space_id == catalog.space_number)


def _named(catalog: CatalogReader, name: str) -> ColumnElement[bool]:
    return and_(ProjectionRow.name == name, ProjectionRow.space_id == catalog.space_number)


def _unknown(catalog: CatalogReader, name: str) -> NotStored:
    names = ", ".join(["raw", *(each.name for each in listed(catalog))])
    return NotStored(
        f"there is no projection {name!r} - known: {names}; make one with: e2vsearch projection fit LABELS.csv"
    )


_SET_SCORES = update(SegmentRow).where(SegmentRow.id == bindparam("number"))
_SET_SCORES_BESIDE = update(BesideSegmentRow).where(BesideSegmentRow.segment_id == bindparam("number"))
_STORED = select(SegmentRow.__table__)


def put_scores(catalog: Catalog, ids: NDArray[np.int64], scores: NDArray[np.float32], by: StoredProjection) -> bool:
    """Replace the scores of segments, and the names, arousal, valence and courses that follow, in one transaction.

    Args:
        catalog: pinned to a space.
        ids: ``(n,)``; segments that were removed meanwhile are skipped, and damaged ones, which a new checksum would
            hide.
        scores: ``(n, labels of the space)``.
        by: the projection that gave the scores.

    Returns:
        Whether they were stored; they are not if that projection has been replaced meanwhile.
    """
    assert catalog.space is not None
    of = dict(zip(ids.tolist(), scores, strict=True))
    same = select(ProjectionRow.id).where(is_still(catalog, by)).with_for_update(read=True)
    used = select(HeaderRow.space_id)
    with catalog.writing() as connection:
        held = connection.execute(same).scalar_one_or_none()
        in_use = connection.execute(used).scalar_one() == catalog.space_number
        for part in chunks(list(of)) if held is not None else ():
            rows_of_part = connection.execute(_STORED.where(SegmentRow.id.in_(part)))
            stored = [row for row in rows_of_part if SEGMENT.is_sound(row)]
            durations_s, levels_db = [row.end_s - row.start_s for row in stored], [row.level_db for row in stored]
            columns = score_columns([of[row.id] for row in stored], catalog.space, durations_s, levels_db)
            rows = [
                {"number": row.id, **each, "crc32": SEGMENT.of_values({**row._mapping, **each})}
                for row, each in zip(stored, columns, strict=True)
            ]
            if rows and not in_use:
                connection.execute(_SET_SCORES_BESIDE, rows)
            elif rows:
                connection.execute(_SET_SCORES, rows)
                set_courses(connection, sorted({row.recording_id for row in stored}))
    return held is not None
