"""Types of columns that SQLite and Postgres do not share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, DateTime, Dialect, Integer, TypeDecorator

from e2vsearch.errors import REPAIR, DamagedDate

# AUTOINCREMENT on SQLite needs the type name INTEGER; without it the id of a deleted last row would be used again
Id = BigInteger().with_variant(Integer, "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """A time with a time zone: SQLite drops the zone, so it is written and read as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """To UTC; a naive time counts as UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """In UTC."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)

    def result_processor(self, dialect: Dialect, coltype: object) -> Callable[[Any], datetime | None] | None:
        """Parse what SQLite keeps as text, which may have been damaged."""
        parse = super().result_processor(dialect, coltype)
        if parse is None or dialect.name != "sqlite":
            return parse

        def process(content: Any) -> datetime | None:
            try:
                return parse(content)
            except (TypeError, ValueError) as error:
                raise DamagedDate(
                    f"a date in the database reads {content!r}, which is none - find and mend it: {REPAIR}"
                ) from error

        return process
