"""Of which columns the checksum of each row is: of all that is shown of a recording and its segments."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Row, Table, select, tuple_

from e2vsearch.catalog.base import Base
from e2vsearch.catalog.columns import RowChecksum

_AT_ONCE = 1000  # rows in memory

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


def damaged_rows(connection: Connection) -> Iterator[tuple[RowChecksum, Table, Row[Any]]]:
    """Yield every row that is not what was stored, with its checksum and its table."""
    for checksum in ALL:
        table = Base.metadata.tables[checksum.table]
        keys = list(table.primary_key)
        query = select(table).order_by(*keys).limit(_AT_ONCE)
        rows = connection.execute(query).all()
        while rows:
            yield from ((checksum, table, row) for row in rows if not checksum.is_sound(row))
            last = tuple(getattr(rows[-1], key.name) for key in keys)
            rows = connection.execute(query.where(tuple_(*keys) > last)).all()
