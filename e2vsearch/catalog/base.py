"""The base class of all tables, and the column of a row's checksum.

A class declares a table, and its attributes are the table's columns. SQLAlchemy's own declarative classes look the
same, but need its ORM, of which nothing here makes use: loading it and mapping 21 classes took an eighth of a query as
a whole process.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import BigInteger, Boolean, Column, ColumnClause, Integer, MetaData, Table, text
from sqlalchemy.types import TypeEngine

from e2vsearch.catalog.columns import RowChecksum, UtcDateTime

_TYPES: dict[str, type[TypeEngine[Any]]] = {
    int.__name__: Integer,
    bool.__name__: Boolean,
    datetime.__name__: UtcDateTime,
}
"""Of columns that say no more than what is read from them. One of a foreign key is of its target's type."""


class Base:
    """Base of all tables. Constraint names follow one rule, since SQLite migrations need to know them.

    A column is ``name: ColumnClause[int] = Column(...)``, or ``name: ColumnClause[int]`` alone where that says all. It
    is nullable if it is ``ColumnClause[... | None]``.
    """

    metadata: ClassVar[MetaData] = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    __tablename__: ClassVar[str]
    __table_args__: ClassVar[tuple[Any, ...]] = ()
    __table__: ClassVar[Table]

    def __init_subclass__(cls) -> None:
        """Make the table."""
        columns = []
        for name, annotation in cls.__annotations__.items():
            read, _, null = annotation.removeprefix("ColumnClause[").removesuffix("]").partition(" | ")
            column = vars(cls).get(name, Column())
            column.name = column.key = name
            column.nullable = null == "None"
            if column.type._isnull and not column.foreign_keys:
                column.type = _TYPES[read]()
            setattr(cls, name, column)
            columns.append(column)
        constraints = list(cls.__table_args__)
        options = constraints.pop() if constraints and isinstance(constraints[-1], dict) else {}
        cls.__table__ = Table(cls.__tablename__, cls.metadata, *columns, *constraints, **options)

    @classmethod
    def __clause_element__(cls) -> Table:
        """Return the table, where SQLAlchemy is given the class."""
        return cls.__table__


def crc32_column(of: RowChecksum) -> ColumnClause[int]:
    """Make the column of a row's checksum, which every insertion fills; for updates see `RowChecksum.update`."""
    return Column(BigInteger, default=of.default, server_default=text("0"))
