"""Columns whose content is checked when it is read: vectors have a checksum, dates have to be some.

A database file has no checksums: a bit that changes in a vector changes answers, and nothing else tells. So a vector is
never used before it was compared with the CRC-32 that was stored with it; of 1024-d rows one takes 2 us.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, DateTime, Dialect, Integer, TypeDecorator

from e2vsearch.errors import REPAIR, DamagedDate, DamagedVector
from e2vsearch.types import segment_id

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


_NAMED = 5  # segments that a message names


class VectorColumns(Protocol):
    """A row with a vector, whatever else it has."""

    @property
    def vector(self) -> bytes:
        """Little-endian float32."""

    @property
    def crc32(self) -> int:
        """As it was when the vector was stored."""


def checksum(vector: bytes) -> int:
    """Return what is stored beside a vector."""
    return zlib.crc32(vector)


def vector_columns(vector: NDArray[np.float32]) -> dict[str, bytes | int]:
    """Return the columns that a vector ``(dim,)`` is stored in."""
    content = vector.astype("<f4").tobytes()
    return {"vector": content, "crc32": checksum(content)}


def read_vectors(rows: Sequence[VectorColumns], segments: Sequence[int], dim: int) -> NDArray[np.float32]:
    """Return the vectors of n rows, ``(n, dim)``, once each was compared with its checksum.

    Args:
        rows: as the database has them.
        segments: ``(n,)`` numbers of the segments, for the message.
        dim: length of each vector.

    Raises:
        DamagedVector: some are not what was stored.
    """
    contents = [row.vector for row in rows]
    joined = b"".join(contents)
    if list(map(zlib.crc32, contents)) != [row.crc32 for row in rows] or len(joined) != 4 * dim * len(rows):
        raise damaged([at for at, row in zip(segments, rows, strict=True) if not is_sound(row, dim)])
    return np.frombuffer(joined, "<f4").reshape(len(rows), dim).astype(np.float32, copy=False)


def is_sound(row: VectorColumns, dim: int) -> bool:
    """Tell whether a row's vector is what was stored, and of that length."""
    return len(row.vector) == 4 * dim and zlib.crc32(row.vector) == row.crc32


def damaged(segments: Sequence[int]) -> DamagedVector:
    """Return the error for segments whose stored vectors are damaged."""
    names = ", ".join(segment_id(each) for each in segments[:_NAMED])
    more = f" and {len(segments) - _NAMED:,} more" if len(segments) > _NAMED else ""
    return DamagedVector(
        f"the stored vector of {names}{more} is damaged: its checksum is another - "
        f"mend it, or see what to ingest anew, with: {REPAIR}",
        frozenset(segments),
    )
