"""The base class of all models, and the column of a row's checksum."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, MetaData, text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from e2vsearch.catalog.columns import RowChecksum, UtcDateTime


class Base(DeclarativeBase):
    """Base of all models. Constraint names follow one rule, since SQLite migrations need to know them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {datetime: UtcDateTime()}  # noqa: RUF012 - SQLAlchemy reads it from the class


def crc32_column(of: RowChecksum) -> Mapped[int]:
    """Make the column of a row's checksum, which every insertion fills; for updates see `RowChecksum.update`."""
    return mapped_column(BigInteger, default=of.default, server_default=text("0"))
