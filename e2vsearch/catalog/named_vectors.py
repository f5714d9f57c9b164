"""Named vectors: sets of vectors that other models made of segments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sqlalchemy import Connection, Select, delete, func, insert, select

from e2vsearch.catalog.columns import read_vectors, vector_columns
from e2vsearch.catalog.database import ROWS_PER_STATEMENT, chunks
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.schema import NamedVectorRow, NamedVectorSetRow, SegmentRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import NotStored, SettingsError, SpaceMismatch, VectorFileError
from e2vsearch.types import MAX_NAME, NamedVectors, segment_id

EMOTION = "emotion"
"""The name of the collection's own vectors, which no set may have."""

_NAME = re.compile(rf"[A-Za-z_][\w.-]{{0,{MAX_NAME - 1}}}")  # can stand before = and : on the command line


def attach(
    catalog: Catalog,
    name: str,
    ids: NDArray[np.int64],
    vectors: ArrayLike,
    created_at: datetime | None = None,
) -> NamedVectors:
    """Store vectors of segments in a set, which is made if need be; vectors that a segment had there are replaced.

    Args:
        catalog: where they are stored.
        name: of the set.
        ids: ``(n,)`` segments' numbers, each once.
        vectors: ``(n, dim)``, finite; of any length, since only their directions are compared.
        created_at: of a set that is made; None: now.

    Raises:
        SettingsError: the name is not allowed.
        VectorFileError: vectors that are not numbers, not finite, or not one for each id.
        SpaceMismatch: the set has vectors of another dimension.
        NotStored: a segment that the collection does not hold.
    """
    if not is_name(name):
        raise SettingsError(
            f"named vectors cannot be called {name!r} - take a letter, then letters, digits, - and _, as in 'text' "
            f"({EMOTION} is what the collection's own vectors are called)"
        )
    try:
        with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
            rows = np.asarray(vectors, "<f4")
    except (TypeError, ValueError) as error:
        raise VectorFileError(
            f"{name}: holds no numbers, or rows of several lengths - give (n, dim) numbers"
        ) from error
    if rows.ndim != 2 or not rows.shape[1] or len(rows) != len(ids):
        raise VectorFileError(
            f"{name}: vectors of shape {rows.shape} for {len(ids):,} segments - give one row (dim,) for each"
        )
    if not len(ids):
        raise VectorFileError(f"{name}: no vectors - there is nothing to attach")
    if len(np.unique(ids)) != len(ids):
        values, counts = np.unique(ids, return_counts=True)
        raise VectorFileError(f"{name}: {segment_id(int(values[counts > 1][0]))} is there twice - keep one row of it")
    if not np.isfinite(rows).all():
        bad = ids[~np.isfinite(rows).all(axis=1)][0]
        raise VectorFileError(
            f"{name}: the vector of {segment_id(int(bad))} has NaN or infinite values - compute it anew"
        )
    with catalog.writing() as connection:
        set_id = _set_id(connection, name, rows.shape[1], created_at or datetime.now(UTC))
        for pairs in chunks(list(zip(ids.tolist(), rows, strict=True))):
            numbers = [number for number, _ in pairs]
            there = select(SegmentRow.id).where(SegmentRow.id.in_(numbers)).with_for_update(read=True)
            missing = set(numbers) - set(connection.execute(there).scalars())
            if missing:
                raise NotStored(
                    f"{name}: {segment_id(min(missing))} is not in the collection - "
                    "take ids from e2vsearch query --by segment -f json"
                )
            old = (NamedVectorRow.set_id == set_id) & NamedVectorRow.segment_id.in_(numbers)
            connection.execute(delete(NamedVectorRow).where(old))
            new = [{"set_id": set_id, "segment_id": number, **vector_columns(row)} for number, row in pairs]
            connection.execute(insert(NamedVectorRow), new)
    return get(catalog, name)


def is_name(name: str) -> bool:
    """Tell whether a set may be called so."""
    return _NAME.fullmatch(name) is not None and name != EMOTION


def _set_id(connection: Connection, name: str, dim: int, created_at: datetime) -> int:
    query = select(NamedVectorSetRow.id, NamedVectorSetRow.dim).where(NamedVectorSetRow.name == name)
    found = connection.execute(query.with_for_update()).first()
    if found is None:
        row = {"name": name, "dim": dim, "created_at": created_at}
        return connection.execute(insert(NamedVectorSetRow).returning(NamedVectorSetRow.id), [row]).scalar_one()
    if found.dim != dim:
        raise SpaceMismatch(
            f"the named vectors {name!r} have {found.dim} dimensions, not {dim} - "
            f"choose another name, or drop them first: e2vsearch vectors detach {name}"
        )
    return int(found.id)


def listed(catalog: CatalogReader) -> tuple[NamedVectors, ...]:
    """Return every set, by name."""
    row = NamedVectorSetRow
    count = select(func.count()).where(NamedVectorRow.set_id == row.id).scalar_subquery()
    query = select(row.name, row.dim, count.label("segments"), row.created_at).order_by(row.name)
    with catalog.reading() as connection:
        return tuple(NamedVectors(*row) for row in connection.execute(query))


def get(catalog: CatalogReader, name: str) -> NamedVectors:
    """Return one set.

    Raises:
        NotStored: there is none of that name.
    """
    sets = {each.name: each for each in listed(catalog)}
    if name not in sets:
        known = f"there are {', '.join(sets)}" if sets else "there are none yet"
        raise NotStored(
            f"no named vectors are called {name!r}, {known} - add some with: e2vsearch vectors attach {name} FILE"
        )
    return sets[name]


def detach(catalog: Catalog, name: str) -> int:
    """Delete a set, and return how many segments had a vector in it.

    Raises:
        NotStored: there is none of that name.
    """
    segments = get(catalog, name).segments
    with catalog.writing() as connection:
        connection.execute(delete(NamedVectorSetRow).where(NamedVectorSetRow.name == name))
    return segments


def fetch(
    catalog: CatalogReader, named: NamedVectors, ids: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return the vectors of some segments, and which segments have one.

    Args:
        catalog: where they are stored.
        named: the set.
        ids: ``(n,)``, each once.

    Returns:
        Vectors ``(n, dim)``, zeros where a segment has none, and whether it has one ``(n,)``.
    """
    vectors = np.zeros((len(ids), named.dim), np.float32)
    present = np.zeros(len(ids), np.bool_)
    order = np.argsort(ids)
    ascending = ids[order]
    query = vectors_of(named)
    with catalog.reading() as connection:
        for part in chunks(ascending.tolist()):
            dense = part[-1] - part[0] < 2 * len(part)  # 1,000 rows: a range takes 1.1 ms, a list of ids 2.9
            wanted = (
                NamedVectorRow.segment_id.between(part[0], part[-1]) if dense else NamedVectorRow.segment_id.in_(part)
            )
            rows = connection.execute(query.where(wanted)).all()
            stored = [row.segment_id for row in rows]
            found = np.array(stored, np.int64)
            at = np.searchsorted(ascending, found)
            wanted_rows = ascending[np.minimum(at, len(ids) - 1)] == found
            numbers = read_vectors(rows, stored, named.dim)
            vectors[order[at[wanted_rows]]] = numbers[wanted_rows]
            present[order[at[wanted_rows]]] = True
    return vectors, present


def batches(catalog: CatalogReader, named: NamedVectors) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Yield a whole set, a thousand rows at a time: numbers of segments, ascending, and their vectors ``(n, dim)``."""
    query = vectors_of(named).order_by(NamedVectorRow.segment_id).limit(ROWS_PER_STATEMENT)
    last = 0
    with catalog.reading() as connection:
        while rows := connection.execute(query.where(NamedVectorRow.segment_id > last)).all():
            ids = [row.segment_id for row in rows]
            yield np.array(ids, np.int64), read_vectors(rows, ids, named.dim)
            last = ids[-1]


def vectors_of(named: NamedVectors) -> Select[int, bytes, int]:
    """Return the statement that reads the rows of a set."""
    in_set = NamedVectorSetRow.id == NamedVectorRow.set_id
    query = select(NamedVectorRow.segment_id, NamedVectorRow.vector, NamedVectorRow.crc32).join(
        NamedVectorSetRow, in_set
    )
    return query.where(NamedVectorSetRow.name == named.name)
