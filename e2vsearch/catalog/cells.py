"""Cells of a SQLite file that hold no date, or no JSON: SQLite keeps both as text, in which a bit may have changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column, Connection, String, Table, select, type_coerce

from e2vsearch.catalog.columns import UtcDateTime
from e2vsearch.catalog.schema import Base, RecordingRow
from e2vsearch.errors import REPAIR, DamagedDate
from e2vsearch.types import recording_id


@dataclass(frozen=True, slots=True)
class StoredDate:
    """A cell that should hold a date."""

    table: Table
    column: Column[Any]
    key: tuple[Any, ...]  # of the row
    content: str

    def __str__(self) -> str:
        of = self.table.name
        row = recording_id(self.key[0]) if of == RecordingRow.__tablename__ else f"{of} {', '.join(map(str, self.key))}"
        return f"{self.column.name} of {row} reads {self.content!r}, which is no date"


def damaged_dates(connection: Connection) -> Iterator[StoredDate]:
    """Yield every date of a SQLite database that cannot be parsed."""
    for table, column, key, content in _cells(connection, UtcDateTime):
        if not _is_date(content):
            yield StoredDate(table, column, key, str(content))


def damaged_json(connection: Connection) -> Iterator[str]:
    """Yield the column and row of every cell of a SQLite database that should hold JSON, and does not."""
    for table, column, key, content in _cells(connection, JSON):
        if not _is_json(content):
            yield f"{column.name} of {table.name} {', '.join(map(str, key))} is no JSON"


def _cells(connection: Connection, kind: type) -> Iterator[tuple[Table, Column[Any], tuple[Any, ...], Any]]:
    """Yield table, column, key and unparsed content of every cell of that type that is not null."""
    for table in Base.metadata.sorted_tables:
        columns = [column for column in table.columns if isinstance(column.type, kind)]
        keys = list(table.primary_key)
        if not columns:
            continue
        query = select(*keys, *(type_coerce(column, String).label(f"{column.name}_text") for column in columns))
        for row in connection.execute(query.order_by(*keys)):
            key, contents = tuple(row)[: len(keys)], tuple(row)[len(keys) :]
            for column, content in zip(columns, contents, strict=True):
                if content is not None:
                    yield table, column, key, content


def date_error(connection: Connection, error: DamagedDate) -> DamagedDate:
    """Return the error with the row that the date is in."""
    found = next(damaged_dates(connection), None)
    return error if found is None else DamagedDate(f"{found} - give it another with: {REPAIR}")


def _is_json(content: object) -> bool:
    try:
        json.loads(content)  # type: ignore[arg-type]
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _is_date(content: object) -> bool:
    try:
        datetime.fromisoformat(content)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
    return True
