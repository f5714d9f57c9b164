"""Mends what a damaged database itself, or an index, still tells: vectors, dates, indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, and_, select, text, update
from sqlalchemy.exc import DatabaseError

from e2vsearch.catalog import sqlite
from e2vsearch.catalog.cells import damaged_dates
from e2vsearch.catalog.columns import checksum
from e2vsearch.catalog.correction import corrected
from e2vsearch.catalog.integrity import (
    DamagedVectorRow,
    damaged_vectors,
    integrity_problems,
    only_indexes,
    text_index_problem,
)
from e2vsearch.catalog.schema import AuditRow, NamedVectorRow, NamedVectorSetRow, RecordingRow, VectorRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import CatalogError
from e2vsearch.types import segment_id

Copies = Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""Returns unit vectors ``(n, dim)`` of segments ``(n,)`` as an index holds them, and which it has."""


def repair(catalog: Catalog, copies: Copies) -> list[str]:
    """Mend what can be mended without a doubt, and return what was, one line each.

    A vector becomes again what its checksum is of. A date that is none becomes that of the recording's file, or now.
    Indexes are made again from their tables. Nothing is deleted.

    Args:
        catalog: of the collection.
        copies: of its vectors.

    Raises:
        CatalogError: the database cannot be written.
    """
    lines = [*_vectors(catalog, copies)]
    if catalog.url.get_backend_name() == "sqlite":
        lines += [*_dates(catalog), *_indexes(catalog)]
    return lines


def _vectors(catalog: Catalog, copies: Copies) -> Iterator[str]:
    for row in list(damaged_vectors(catalog)):
        unit = None
        if row.named is None:
            units, present = copies(np.array([row.segment], np.int64))
            unit = units[0] if present[0] else None
        found = corrected(row.vector, row.crc32, unit)
        if found is None or len(found[0]) != 4 * row.dim or not np.isfinite(np.frombuffer(found[0], "<f4")).all():
            continue
        _update(catalog, row, found[0])
        yield f"the vector of {segment_id(row.segment)}{f' in {row.named.name}' if row.named else ''}"


def _update(catalog: Catalog, row: DamagedVectorRow, vector: bytes) -> None:
    table: type[VectorRow | NamedVectorRow] = VectorRow
    same: ColumnElement[bool] = VectorRow.segment_id == row.segment
    if row.named is not None:
        table = NamedVectorRow
        of_set = select(NamedVectorSetRow.id).where(NamedVectorSetRow.name == row.named.name).scalar_subquery()
        same = (NamedVectorRow.segment_id == row.segment) & (NamedVectorRow.set_id == of_set)
    with catalog.writing() as connection:  # unless another process stored another one meanwhile
        unchanged = (table.vector == row.vector) & (table.crc32 == row.crc32)
        connection.execute(update(table).where(same, unchanged).values(vector=vector, crc32=checksum(vector)))


def _dates(catalog: Catalog) -> Iterator[str]:
    with catalog.reading() as connection:
        found = list(damaged_dates(connection))
    for each in found:
        table, keys = each.table, list(each.table.primary_key)
        same = and_(*(column == value for column, value in zip(keys, each.key, strict=True)))
        if table is AuditRow.__table__:  # its rows cannot be changed
            continue
        with catalog.writing() as connection:
            date = datetime.now(UTC)
            if table is RecordingRow.__table__:
                mtime_ns = connection.execute(select(RecordingRow.mtime_ns).where(same)).scalar_one()
                date = datetime.fromtimestamp(mtime_ns / 1e9, UTC)
            connection.execute(update(table).where(same).values({each.column: date}))
        yield f"{each}: it is {date:%Y-%m-%d %H:%M:%S} now"


def _indexes(catalog: Catalog) -> Iterator[str]:
    try:
        if text_index_problem(catalog) is not None:
            with catalog.writing() as connection:
                connection.execute(text("INSERT INTO segment_words (segment_words) VALUES ('rebuild')"))
            yield "the text index"
        if only_indexes(integrity_problems(catalog)):
            with catalog.writing() as connection:
                connection.execute(text("REINDEX"))
            yield "the indexes of the tables"
    except (CatalogError, DatabaseError) as error:
        if not sqlite.is_damage(error):
            raise
        return  # `integrity.verify` tells of it
