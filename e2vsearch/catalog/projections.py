"""Projections in SQL: their parameters, how they did, and which one is in use. Knows rows, nothing of what they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Select, and_, bindparam, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from e2vsearch.catalog.database import parts
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.rows import score_columns
from e2vsearch.catalog.schema import CollectionRow, ProjectionRow, SegmentRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import NoCollection, NotStored

SCORED_TO = "scored_to"
"""In a report: up to which mark of the change feed segments have the projection's scores. Another database has another
feed."""


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
    """All of them, by name."""
    with catalog.reading() as connection:
        return [StoredProjection(*row) for row in connection.execute(_all().order_by(ProjectionRow.name))]


def find(catalog: CatalogReader, name: str) -> StoredProjection | None:
    """The one of that name, if there is one."""
    with catalog.reading() as connection:
        row = connection.execute(_all().where(ProjectionRow.name == name)).one_or_none()
    return None if row is None else StoredProjection(*row)


def get(catalog: CatalogReader, name: str) -> StoredProjection:
    """The one of that name.

    Raises:
        NotStored: there is none.
    """
    found = find(catalog, name)
    if found is None:
        raise _unknown(catalog, name)
    return found


_USED = select(ProjectionRow.name, ProjectionRow.revision).join(
    CollectionRow, CollectionRow.projection_id == ProjectionRow.id
)


def used(catalog: CatalogReader) -> tuple[str, str] | None:
    """Name and revision of the one in use, None for raw vectors; asked before every query."""

    def read() -> tuple[str, str] | None:
        with catalog.reading() as connection:
            row = connection.execute(_USED).one_or_none()
        return None if row is None else (row.name, row.revision)

    catalog.used_projection = catalog.watch.again(catalog.used_projection, read)
    return catalog.used_projection[1]


def put(catalog: Catalog, projection: StoredProjection, *, replace: bool = True) -> bool:
    """Store a projection; one of that name is replaced, in use or not, unless told to keep it.

    Returns:
        Whether it was stored.

    Raises:
        NoCollection: the collection has no space yet.
    """
    if catalog.space_number is None:
        raise NoCollection(f"{catalog.url.database} holds no recordings yet - add some with: e2vsearch ingest FOLDER")
    try:
        return _put(catalog, projection, replace=replace)
    except IntegrityError:  # on Postgres another process may store one of that name between our look and write
        return _put(catalog, projection, replace=replace)


def _put(catalog: Catalog, projection: StoredProjection, *, replace: bool) -> bool:
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
        same = ProjectionRow.name == projection.name
        found = connection.execute(select(ProjectionRow.id).where(same).with_for_update()).scalar_one_or_none()
        if found is None:
            connection.execute(insert(ProjectionRow), [values])
        elif replace:
            connection.execute(update(ProjectionRow).where(ProjectionRow.id == found).values(values))
        return found is None or replace


def report(catalog: Catalog, projection: StoredProjection) -> bool:
    """Replace the report of a projection; whether that one, of that revision, was still there."""
    told = update(ProjectionRow).where(is_still(projection)).values(report=dict(projection.report))
    with catalog.writing() as connection:
        return connection.execute(told).rowcount > 0


def is_still(projection: StoredProjection) -> ColumnElement[bool]:
    """In SQL: a row is of that projection, and of the revision that it had when it was read."""
    return and_(ProjectionRow.name == projection.name, ProjectionRow.revision == projection.revision)


def use(catalog: Catalog, name: str | None) -> None:
    """Search through that projection from now on; None: the encoder's own vectors.

    Raises:
        NotStored: there is none of that name.
    """
    with catalog.writing() as connection:
        number = None
        if name is not None:
            wanted = select(ProjectionRow.id).where(ProjectionRow.name == name).with_for_update(read=True)
            number = connection.execute(wanted).scalar_one_or_none()
        if name is None or number is not None:
            connection.execute(update(CollectionRow).values(projection_id=number))
            return
    raise _unknown(catalog, name)


def drop(catalog: Catalog, name: str) -> None:
    """Forget a projection; the encoder's own vectors are searched from then on if it was in use.

    Raises:
        NotStored: there is none of that name.
    """
    with catalog.writing() as connection:
        # the collection's row first, as `use` leaves it last: else the two could wait for one another
        number = connection.execute(select(ProjectionRow.id).where(ProjectionRow.name == name)).scalar_one_or_none()
        if number is not None:
            in_use = CollectionRow.projection_id == number
            connection.execute(update(CollectionRow).where(in_use).values(projection_id=None))
            connection.execute(delete(ProjectionRow).where(ProjectionRow.id == number))
            return
    raise _unknown(catalog, name)


def now() -> datetime:
    """The moment a projection is made at."""
    return datetime.now(UTC)


def _all() -> Select[Any]:
    row = ProjectionRow
    return select(row.name, row.kind, row.revision, row.parameters, row.report, row.created_at)


def _unknown(catalog: CatalogReader, name: str) -> NotStored:
    names = ", ".join(["raw", *(each.name for each in listed(catalog))])
    return NotStored(
        f"there is no projection {name!r} - known: {names}; make one with: e2vsearch projection fit LABELS.csv"
    )


_GIVEN = update(SegmentRow).where(SegmentRow.id == bindparam("number"))

_SPOKEN = select(SegmentRow.id, SegmentRow.start_s, SegmentRow.end_s, SegmentRow.level_db)


def put_scores(catalog: Catalog, ids: NDArray[np.int64], scores: NDArray[np.float32], by: StoredProjection) -> bool:
    """Replace the scores of segments, their names, arousal and valence with them, in one transaction.

    Args:
        catalog: pinned to a space.
        ids: ``(n,)``; those that are gone since are passed over.
        scores: ``(n, labels of the space)``.
        by: whose scores they are.

    Returns:
        Whether they were stored; they are not where that projection has been replaced since.
    """
    assert catalog.space is not None
    of = dict(zip(ids.tolist(), scores, strict=True))
    same = select(ProjectionRow.id).where(is_still(by)).with_for_update(read=True)
    with catalog.writing() as connection:
        held = connection.execute(same).scalar_one_or_none()
        for part in parts(list(of)) if held is not None else ():
            there = connection.execute(_SPOKEN.where(SegmentRow.id.in_(part))).all()
            durations_s, levels_db = [row.end_s - row.start_s for row in there], [row.level_db for row in there]
            columns = score_columns([of[row.id] for row in there], catalog.space, durations_s, levels_db)
            rows = [{"number": row.id, **each} for row, each in zip(there, columns, strict=True)]
            if rows:
                connection.execute(_GIVEN, rows)
    return held is not None
