"""The tables, as SQLAlchemy models. Knows columns and constraints, nothing of what is done with them.

SQLite and Postgres share one definition. A segment's vector has a table of its own, so that filters and listings
read rows of tens of bytes and not of four thousand.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    UniqueConstraint,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

SCHEMA_REVISION = "0001"
"""The newest migration. Revisions are numbered, so that "older" and "newer" can be told without loading Alembic."""

# AUTOINCREMENT on SQLite needs the type name INTEGER; without it the id of a deleted last row would be used again
_Id = BigInteger().with_variant(Integer, "sqlite")


class UtcDateTime(TypeDecorator[datetime]):
    """A moment, always with a time zone: SQLite drops the zone, so it is written and read back as UTC."""

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


class Base(DeclarativeBase):
    """Constraint names follow one rule, since SQLite migrations need them to be known."""

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


class SpaceRow(Base):
    """A space that vectors of this collection live in."""

    __tablename__ = "space"
    __table_args__ = (UniqueConstraint("encoder", "revision", "projection"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    encoder: Mapped[str] = mapped_column(String(255))
    revision: Mapped[str] = mapped_column(String(64))
    dim: Mapped[int]
    labels: Mapped[list[Any]] = mapped_column(JSON)
    projection: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(Text)  # what `encoders.open` was given: a name, or a model folder's path
    created_at: Mapped[datetime]


class CollectionRow(Base):
    """The one row that says which collection this database is, and which space it is pinned to."""

    __tablename__ = "collection"
    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    uuid: Mapped[str] = mapped_column(String(36))
    space_id: Mapped[int | None] = mapped_column(ForeignKey("space.id"))
    created_at: Mapped[datetime]


class RecordingRow(Base):
    """One audio file, a call: known by its content, found by its URI."""

    __tablename__ = "recording"
    __table_args__ = (
        UniqueConstraint("content_sha256", "space_id"),
        UniqueConstraint("uri", "space_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    space_id: Mapped[int] = mapped_column(ForeignKey("space.id"))
    content_sha256: Mapped[str] = mapped_column(String(64))
    uri: Mapped[str] = mapped_column(Text)
    name: Mapped[str] = mapped_column(Text, index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    mtime_ns: Mapped[int] = mapped_column(BigInteger)
    recorded_at: Mapped[datetime] = mapped_column(index=True)
    added_at: Mapped[datetime]
    duration_s: Mapped[float] = mapped_column(Float(53))
    channels: Mapped[int]
    sampling_rate_hz: Mapped[int]
    format: Mapped[str] = mapped_column(String(64))
    note: Mapped[str] = mapped_column(Text)  # "" or why it has no segments


class MetadataRow(Base):
    """One column of ``--meta`` for one recording: as text always, as a number where it is one."""

    __tablename__ = "recording_metadata"
    __table_args__ = (Index(None, "key", "number"),)  # none on text: Postgres indexes no value over 2.7 kB

    recording_id: Mapped[int] = mapped_column(ForeignKey("recording.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    number: Mapped[float | None] = mapped_column(Float(53))


class SegmentRow(Base):
    """One spoken span of one channel."""

    __tablename__ = "segment"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    recording_id: Mapped[int] = mapped_column(ForeignKey("recording.id", ondelete="CASCADE"), index=True)
    channel: Mapped[int]
    start_s: Mapped[float] = mapped_column(Float(53))
    end_s: Mapped[float] = mapped_column(Float(53))
    label: Mapped[str | None] = mapped_column(String(64), index=True)
    label_score: Mapped[float | None] = mapped_column(Float(53))
    scores: Mapped[bytes | None] = mapped_column(LargeBinary)  # little-endian float32, one a label of the space


class VectorRow(Base):
    """A segment's vector as the encoder made it: little-endian float32."""

    __tablename__ = "vector"

    segment_id: Mapped[int] = mapped_column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)


class ChangeRow(Base):
    """The change feed: which segment came or went, in order. Only ever added to.

    Sequence numbers are handed out before commit, so on Postgres a lower `seq` may become visible later than a
    higher one: there readers go by `xid`, the writing transaction, and stop at the transaction horizon.
    """

    __tablename__ = "change"
    __table_args__ = (CheckConstraint("op in ('+', '-')", name="op"), {"sqlite_autoincrement": True})

    seq: Mapped[int] = mapped_column(_Id, primary_key=True)
    xid: Mapped[int | None] = mapped_column(BigInteger, index=True)
    op: Mapped[str] = mapped_column(String(1))
    segment_id: Mapped[int] = mapped_column(BigInteger)
    recording_id: Mapped[int] = mapped_column(BigInteger)


class FailureRow(Base):
    """A file that could not be ingested, and why; gone once it could."""

    __tablename__ = "ingest_failure"
    __table_args__ = (UniqueConstraint("uri"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(_Id, primary_key=True)
    uri: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(String(64), index=True)
    message: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int]
    failed_at: Mapped[datetime]
