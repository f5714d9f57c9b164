"""Columns whose content is checked when it is read: vectors and rows have a checksum, dates have to be some.

A database file has no checksums of its own: a bit that changed in a vector, a time or a name reads like any other. So a
vector is never used, and a row never shown, before it was compared with the CRC-32 that was stored with it; one of
1024-d takes 2 us, a row 1 to 3.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Connection, DateTime, Dialect, Integer, Row, TypeDecorator, select, update

from e2vsearch.catalog.correction import corrected
from e2vsearch.errors import REPAIR, DamagedDate, DamagedRow, DamagedVector
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

_NO_INTEGER = -(1 << 63)  # stands for NULL; no column holds it
_NO_FLOAT = float("nan")  # likewise: SQLite stores it as NULL
_NO_TEXT = b"\xfe"  # likewise, and the next between two texts: UTF-8 has neither byte
_BETWEEN = b"\xff"
_OF_ANOTHER_TYPE = (struct.error, AttributeError, TypeError, ValueError, OverflowError)  # of a damaged cell
_DATE_LENGTH = len("2024-03-01 12:30:15.123456")


class VectorColumns(Protocol):
    """A row with a vector, whatever else it has."""

    @property
    def vector(self) -> bytes:
        """Little-endian float32."""

    @property
    def crc32(self) -> int:
        """As it was when the vector was stored."""


def integers(values: Sequence[Any]) -> NDArray[np.int64]:
    """Return whole numbers of rows, ``(n,)`` or ``(n, m)``.

    Raises:
        DamagedRow: one of them is none: SQLite keeps values of any type in any column.
    """
    try:
        return np.array(values, np.int64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DamagedRow(f"a number in the database is none - find it: {REPAIR}") from error


def checksum(vector: bytes, recording: int | None = None) -> int:
    """Return what is stored beside a vector.

    In that of a segment's own vector is the recording that the segment is of: each candidate of a search is read with
    both, and a hit of another recording would be as wrong as one of another vector.
    """
    found = zlib.crc32(vector)
    return found if recording is None else found ^ zlib.crc32(recording.to_bytes(8, "little", signed=True))


def vector_columns(vector: NDArray[np.float32], recording: int | None = None) -> dict[str, bytes | int]:
    """Return the columns that a vector ``(dim,)`` is stored in."""
    content = vector.astype("<f4").tobytes()
    return {"vector": content, "crc32": checksum(content, recording)}


def read_vectors(
    rows: Sequence[VectorColumns], segments: Sequence[int], dim: int, recordings: Sequence[int] | None = None
) -> NDArray[np.float32]:
    """Return the vectors of n rows, ``(n, dim)``, once each was compared with its checksum.

    Args:
        rows: as the database has them.
        segments: ``(n,)`` numbers of the segments, for the message.
        dim: length of each vector.
        recordings: ``(n,)`` that the segments are of; None for named vectors.

    Raises:
        DamagedVector: some are not what was stored.
    """
    of: Sequence[int | None] = recordings or [None for _ in rows]
    contents = [row.vector for row in rows]
    joined = b"".join(contents)
    if list(map(checksum, contents, of)) != [row.crc32 for row in rows] or len(joined) != 4 * dim * len(rows):
        each = zip(segments, rows, of, strict=True)
        raise damaged([at for at, row, recording in each if not is_sound(row, dim, recording)])
    return np.frombuffer(joined, "<f4").reshape(len(rows), dim).astype(np.float32, copy=False)


def to_probabilities(scores: bytes | None, labels: Sequence[str]) -> dict[str, float]:
    """Return the probability of each class as a segment's column holds them, none where it is NULL."""
    return {} if scores is None else dict(zip(labels, np.frombuffer(scores, "<f4").tolist(), strict=True))


def is_sound(row: VectorColumns, dim: int, recording: int | None) -> bool:
    """Tell whether a row's vector is what was stored, of that length and of that recording."""
    return len(row.vector) == 4 * dim and checksum(row.vector, recording) == row.crc32


def damaged(segments: Sequence[int]) -> DamagedVector:
    """Return the error for segments whose stored vectors are damaged."""
    names = ", ".join(segment_id(each) for each in segments[:_NAMED])
    more = f" and {len(segments) - _NAMED:,} more" if len(segments) > _NAMED else ""
    return DamagedVector(
        f"the stored vector of {names}{more} is damaged: its checksum is another - "
        f"mend it, or see what to ingest anew, with: {REPAIR}",
        frozenset(segments),
    )


class RowChecksum:
    """The checksum of some columns of a table.

    The columns are written one after another, each in a form that both databases give back as it was stored: whole
    numbers and floats in eight bytes, dates and lists as the text that SQLite has of them.

    Example:
        >>> checksum = RowChecksum("segment_label", integers=["segment_id"], floats=["score"], texts=["label"])
        >>> checksum.of_values({"segment_id": 3, "label": "calm", "score": 0.75})
        3822559307
    """

    def __init__(
        self, table: str, *, integers: Iterable[str] = (), floats: Iterable[str] = (), texts: Iterable[str] = ()
    ) -> None:
        self.table = table
        self.columns = (*integers, *floats, *texts)
        self._integers, self._floats = len(tuple(integers)), len(tuple(floats))
        self._numbers = struct.Struct(f"<{self._integers}q{self._floats}d")
        self._of_row = attrgetter(*self.columns)
        self._of_mapping = itemgetter(*self.columns)

    def of(self, *values: Any) -> int:
        """Return the checksum of the values of all columns, whole numbers first, then floats, then texts."""
        return zlib.crc32(self._encoded(values))

    def of_values(self, values: Mapping[str, Any]) -> int:
        """Return the checksum of a row that is to be stored; columns that are missing are NULL."""
        missing = {name: None for name in self.columns if name not in values}
        return self.of(*self._of_mapping({**values, **missing} if missing else values))

    def default(self, context: Any) -> int:
        """Return the checksum of a row that is being inserted: a default of SQLAlchemy's columns."""
        return self.of_values(context.get_current_parameters())

    def is_sound(self, row: Any) -> bool:
        """Return whether a row that was read, with its column `crc32`, is what was stored."""
        return self.matches(row.crc32, *self._of_row(row))

    def matches(self, crc32: Any, *values: Any) -> bool:
        """Return whether values, in the order of `of`, are those that a checksum was stored for."""
        try:
            return bool(self.of(*values) == crc32)
        except _OF_ANOTHER_TYPE:
            return False

    def corrected(self, row: Any) -> dict[str, Any] | None:
        """Return the column in which one bit changed, as it was stored; None where that cannot be told.

        The checksum itself may be that column.
        """
        values = self._of_row(row)
        try:
            content = self._encoded(values)
            found = corrected(content, row.crc32, None)
            if found is None or found[0] == content:
                return None if found is None else {"crc32": found[1]}
            decoded = self._decoded(found[0])
            changed = [
                {name: _like(new, old)}
                for name, new, old in zip(self.columns, decoded, values, strict=True)
                if new != (_bytes(old) if isinstance(new, bytes) else old)
            ]
        except _OF_ANOTHER_TYPE:
            return None
        return changed[0] if len(changed) == 1 else None

    def check(self, rows: Sequence[Row[Any]], name: Callable[[Any], str]) -> None:
        """Compare rows with their checksums.

        Args:
            rows: of one statement, with the column `crc32`.
            name: of which recording or segment a row is.

        Raises:
            DamagedRow: one of them is not what was stored.
        """
        if not rows:
            return
        # by place: by name a row takes 1.5 to 1.8 times as long
        values = itemgetter(*map(rows[0]._fields.index, ("crc32", *self.columns)))
        for row in rows:
            if not self.matches(*values(row)):
                raise self.damaged(name(row))

    def damaged(self, name: str) -> DamagedRow:
        """Return the error for a row of a recording or segment."""
        return DamagedRow(
            f"what {self.table} holds of {name} is damaged: its checksum is another - "
            f"mend it, or see what to ingest anew, with: {REPAIR}"
        )

    def update(self, connection: Connection, row: type[Any], key: int, values: Mapping[str, Any], name: str) -> None:
        """Update one row by its id, with its checksum; nothing happens if it is gone.

        Args:
            connection: in a transaction.
            row: the model.
            key: the id.
            values: of the columns that change.
            name: of the recording or segment, for the message.

        Raises:
            DamagedRow: it was not what was stored, which a new checksum would hide.
        """
        stored = connection.execute(select(row.__table__).where(row.id == key).with_for_update()).first()
        if stored is None:
            return
        self.check([stored], lambda _: name)
        crc32 = self.of_values({**stored._mapping, **values})
        connection.execute(update(row).where(row.id == key).values(**values, crc32=crc32))

    def _encoded(self, values: tuple[Any, ...]) -> bytes:
        at = self._integers
        numbers = at + self._floats
        packed = self._numbers.pack(
            *[_NO_INTEGER if each is None else each for each in values[:at]],
            *[_NO_FLOAT if each is None else each + 0.0 for each in values[at:numbers]],  # SQLite keeps no -0.0
        )
        texts = [each.encode() if type(each) is str else _bytes(each) for each in values[numbers:]]
        return packed + _BETWEEN.join(texts)

    def _decoded(self, content: bytes) -> list[Any]:
        """Return the numbers of what `_encoded` made, and the bytes of each text."""
        numbers = self._numbers.unpack(content[: self._numbers.size])
        texts = len(self.columns) - len(numbers)
        return [
            *(None if each == _NO_INTEGER or each != each else each for each in numbers),
            *content[self._numbers.size :].split(_BETWEEN, texts - 1)[:texts],  # only the last may hold any bytes
        ]


def _bytes(value: Any) -> bytes:
    if value is None:
        return _NO_TEXT
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bytes):
        return value
    if isinstance(value, datetime):
        in_utc = value if value.tzinfo in (None, UTC) else value.astimezone(UTC)
        return in_utc.isoformat(" ", "microseconds")[:_DATE_LENGTH].encode()
    return json.dumps(value).encode()


def _like(content: Any, value: Any) -> Any:
    """Return a corrected value of the type that the damaged one has."""
    if isinstance(value, str):
        return content.decode()
    if isinstance(value, datetime):
        return datetime.fromisoformat(content.decode()).replace(tzinfo=UTC)
    return json.loads(content) if isinstance(value, list) else content
