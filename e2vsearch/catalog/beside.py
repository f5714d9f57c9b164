"""The tables of a second space beside the one in use: its vectors, and what it says of each segment.

A space keeps its vectors in the table that `SpaceRow.vectors` names, one of two, so that a switch of spaces moves none
of them and a search joins what it joined before: a key of space and segment in one table would cost an index more.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ColumnClause, Float, ForeignKey, LargeBinary, String

from e2vsearch.catalog.base import Base
from e2vsearch.catalog.schema import VectorRow
from e2vsearch.types import MAX_NAME


class BesideVectorRow(Base):
    """A segment's vector in another space than that of `VectorRow`; the columns are the same."""

    __tablename__ = "vector_beside"

    segment_id: ColumnClause[int] = Column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    vector: ColumnClause[bytes] = Column(LargeBinary)
    crc32: ColumnClause[int] = Column(BigInteger)


class BesideSegmentRow(Base):
    """The columns of a segment that depend on the space, as the space beside the one in use has them."""

    __tablename__ = "segment_beside"

    segment_id: ColumnClause[int] = Column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    label: ColumnClause[str | None] = Column(String(MAX_NAME))
    label_score: ColumnClause[float | None] = Column(Float(53))
    scores: ColumnClause[bytes | None] = Column(LargeBinary)
    arousal: ColumnClause[float | None] = Column(Float(53))
    valence: ColumnClause[float | None] = Column(Float(53))
    crc32: ColumnClause[int] = Column(BigInteger)  # of the segment's row with these columns in it


SPACE_COLUMNS = ("label", "label_score", "scores", "arousal", "valence", "crc32")
"""Columns of `SegmentRow` that a switch of spaces exchanges with `BesideSegmentRow`."""

VectorTable = type[VectorRow] | type[BesideVectorRow]

VECTOR_TABLES: dict[str, VectorTable] = {table.__tablename__: table for table in (VectorRow, BesideVectorRow)}
"""By the names in `SpaceRow.vectors`."""
