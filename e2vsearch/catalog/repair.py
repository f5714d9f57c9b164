"""Mends what a damaged database itself, or an index, still tells: vectors, dates, indexes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, and_, select, text, update
from sqlalchemy.exc import DatabaseError

from e2vsearch.catalog import sqlite
from e2vsearch.catalog.beside import VectorTable
from e2vsearch.catalog.cells import StoredDate, damaged_dates
from e2vsearch.catalog.columns import checksum
from e2vsearch.catalog.correction import corrected
from e2vsearch.catalog.integrity import (
    DamagedVectorRow,
    damaged_vectors,
    integrity_problems,
    only_indexes,
    text_index_problem,
)
from e2vsearch.catalog.row_checksums import RECORDING, damaged_rows
from e2vsearch.catalog.schema import AuditRow, NamedVectorRow, NamedVectorSetRow, RecordingRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import CatalogError
from e2vsearch.types import segment_id

Copies = Callable[[NDArray[np.int64]], tuple[NDArray[np.float32], NDArray[np.bool_]]]
"""Returns unit vectors ``(n, dim)`` of segments ``(n,)`` as an index holds them, and which it has."""


def repair(catalog: Catalog, copies: Copies) -> list[str]:
    """Mend what can be mended without a doubt, and return what was, one line each.

    A vector becomes again what its checksum is of, and so does a row in which one bit changed. A date that is none
    is that with one bit turned back, or that of the recording's file.
    Indexes are made again from their tables. Nothing is deleted.

    Args:
        catalog: of the collection.
        copies: of its vectors.

    Raises:
        CatalogError: the database cannot be written.
    """
    sqlite_file = catalog.url.get_backend_name() == "sqlite"
    lines = [*(_dates(catalog) if sqlite_file else ()), *_rows(catalog)]  # first: a vector's checksum has its recording
    return [*lines, *_vectors(catalog, copies), *(_indexes(catalog) if sqlite_file else ())]


def _vectors(catalog: Catalog, copies: Copies) -> Iterator[str]:
    for row in list(damaged_vectors(catalog)):
        unit = None
        if row.named is None and row.table is catalog.vectors:  # an index holds the space in use
            units, present = copies(np.array([row.segment], np.int64))
            unit = units[0] if present[0] else None
        found = corrected(row.vector, row.crc32 ^ checksum(b"", row.recording), unit)
        if found is None or len(found[0]) != 4 * row.dim or not np.isfinite(np.frombuffer(found[0], "<f4")).all():
            continue
        _update(catalog, row, found[0])
        yield f"the vector of {segment_id(row.segment)}{f' in {row.named.name}' if row.named else ''}"


def _update(catalog: Catalog, row: DamagedVectorRow, vector: bytes) -> None:
    table: VectorTable | type[NamedVectorRow] = row.table
    same: ColumnElement[bool] = row.table.segment_id == row.segment
    if row.named is not None:
        table = NamedVectorRow
        of_set = select(NamedVectorSetRow.id).where(NamedVectorSetRow.name == row.named.name).scalar_subquery()
        same = (NamedVectorRow.segment_id == row.segment) & (NamedVectorRow.set_id == of_set)
    with catalog.writing() as connection:  # unless another process stored another one meanwhile
        unchanged = (table.vector == row.vector) & (table.crc32 == row.crc32)
        connection.execute(
            update(table).where(same, unchanged).values(vector=vector, crc32=checksum(vector, row.recording))
        )


def _rows(catalog: Catalog) -> Iterator[str]:
    with catalog.reading() as connection:
        found = list(damaged_rows(connection))
    for of, table, row in found:
        values = of.corrected(row)
        if values is None:
            continue
        keys = list(table.primary_key)
        same = [key == getattr(row, key.name) for key in keys]
        unchanged = [table.c[name] == getattr(row, name) for name in values]
        with catalog.writing() as connection:
            connection.execute(update(table).where(*same, *unchanged).values(values))
        (column,) = values
        yield f"{column} of {table.name} {', '.join(str(getattr(row, key.name)) for key in keys)}"


def _dates(catalog: Catalog) -> Iterator[str]:
    with catalog.reading() as connection:
        found = list(damaged_dates(connection))
    for each in found:
        table, keys = each.table, list(each.table.primary_key)
        same = and_(*(column == value for column, value in zip(keys, each.key, strict=True)))
        if table is AuditRow.__table__:  # its rows cannot be changed
            continue
        with catalog.writing() as connection:
            values: dict[str, Any] = {each.column.name: datetime.now(UTC)}
            connection.execute(update(table).where(same).values(values))
            if table is RecordingRow.__table__:
                values = _of_recording(connection.execute(select(table).where(same)).one(), each)
                connection.execute(update(table).where(same).values(values))
        yield f"{each}: it is {values[each.column.name]:%Y-%m-%d %H:%M:%S} now"


def _of_recording(row: Any, damaged: StoredDate) -> dict[str, Any]:
    """Return the date that makes the row's checksum right, else that of its file with a checksum of what is there."""
    stored, name = dict(row._mapping), damaged.column.name
    content = bytearray(damaged.content.encode())
    for at in range(8 * len(content)):
        content[at // 8] ^= 1 << at % 8
        with suppress(ValueError):
            date = datetime.fromisoformat(content.decode()).replace(tzinfo=UTC)
            if RECORDING.of_values({**stored, name: date}) == row.crc32:
                return {name: date}
        content[at // 8] ^= 1 << at % 8
    values = {name: datetime.fromtimestamp(row.mtime_ns / 1e9, UTC)}
    return {**values, "crc32": RECORDING.of_values({**stored, **values})}


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
