"""Projections in SQL: their parameters, how they did, and which one is in use. Knows rows, nothing of what they do."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from e2vsearch.catalog.reading import Reading
from e2vsearch.catalog.store import Catalog
from e2vsearch.catalog.tables import CollectionRow, ProjectionRow
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


def listed(catalog: Reading) -> list[StoredProjection]:
    """All of them, by name."""
    with catalog.reading() as connection:
        return [StoredProjection(*row) for row in connection.execute(_all().order_by(ProjectionRow.name))]


def find(catalog: Reading, name: str) -> StoredProjection | None:
    """The one of that name, if there is one."""
    with catalog.reading() as connection:
        row = connection.execute(_all().where(ProjectionRow.name == name)).one_or_none()
    return None if row is None else StoredProjection(*row)


def get(catalog: Reading, name: str) -> StoredProjection:
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


def used(catalog: Reading) -> tuple[str, str] | None:
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


def _unknown(catalog: Reading, name: str) -> NotStored:
    names = ", ".join(["raw", *(each.name for each in listed(catalog))])
    return NotStored(f"there is no projection {name!r} - known: {names}; make one with: e2vsearch space fit LABELS.csv")
