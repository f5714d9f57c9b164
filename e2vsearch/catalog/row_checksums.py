"""CRC-32 of rows that are shown: recordings, metadata, segments, texts, labels, dynamics.

A database file has no checksums of its own, and a bit that changed in a time, a name or a probability reads like any
other. So the row of each is compared with the CRC-32 that was stored with it before it is shown; a row takes 1 to 3 us.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import attrgetter, itemgetter
from typing import Any

from sqlalchemy import Connection, Row, select, tuple_, update

from e2vsearch.catalog.correction import corrected
from e2vsearch.errors import REPAIR, DamagedRow

_NO_INTEGER = -(1 << 63)  # stands for NULL; no column holds it
_NO_FLOAT = float("nan")  # likewise: SQLite stores it as NULL
_NO_TEXT = b"\xfe"  # likewise, and the next between two texts: UTF-8 has neither byte
_BETWEEN = b"\xff"
_OF_ANOTHER_TYPE = (struct.error, AttributeError, TypeError, ValueError, OverflowError)  # of a damaged cell
_AT_ONCE = 1000  # rows in memory
_DATE_LENGTH = len("2024-03-01 12:30:15.123456")


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


RECORDING = RowChecksum(
    "recording",
    integers=["space_id", "size_bytes", "mtime_ns", "channels", "sampling_rate_hz"],
    floats=["duration_s"],
    # not `course`: it follows from the segments
    texts=["content_sha256", "uri", "name", "recorded_at", "added_at", "format", "note", "roles"],
)
METADATA = RowChecksum("recording_metadata", integers=["recording_id"], floats=["number"], texts=["key", "text"])
SEGMENT = RowChecksum(
    "segment",
    integers=["recording_id", "channel"],
    floats=["start_s", "end_s", "label_score", "arousal", "valence", "level_db"],
    texts=["label", "scores"],
)
# of these three what a segment is shown with, which one statement reads
TEXT = RowChecksum("segment_text", integers=["segment_id"], texts=["text"])
PREDICTION = RowChecksum("segment_label", integers=["segment_id"], floats=["score"], texts=["label"])
EXAMPLE = RowChecksum("label_example", integers=["segment_id"], texts=["label", "vector"])
DYNAMICS = RowChecksum(
    "dynamics",
    integers=["recording_id", "interruptions", "turns"],
    floats=["talk_share", "silence_share", "longest_silence_s", "overtalk"],
    texts=["overlaps", "silences"],
)
CHANNEL_DYNAMICS = RowChecksum(
    "channel_dynamics",
    integers=["recording_id", "channel", "turns", "interruptions"],
    floats=["talk_share", "longest_turn_s"],
)

ALL = (RECORDING, METADATA, SEGMENT, TEXT, PREDICTION, EXAMPLE, DYNAMICS, CHANNEL_DYNAMICS)


def damaged_rows(
    connection: Connection, tables: Mapping[type[Any], RowChecksum]
) -> Iterator[tuple[type[Any], Row[Any]]]:
    """Yield every row of some tables that is not what was stored, each with its table."""
    for table, checksum in tables.items():
        keys = list(table.__table__.primary_key)
        query = select(table.__table__).order_by(*keys).limit(_AT_ONCE)
        rows = connection.execute(query).all()
        while rows:
            yield from ((table, row) for row in rows if not checksum.is_sound(row))
            last = tuple(getattr(rows[-1], key.name) for key in keys)
            rows = connection.execute(query.where(tuple_(*keys) > last)).all()
