"""Write statements inside a caller's transaction, and the records that are written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Connection, String, delete, func, insert, literal_column, select, text, update

from e2vsearch.catalog import row_checksums
from e2vsearch.catalog.base import Base
from e2vsearch.catalog.beside import VectorTable
from e2vsearch.catalog.columns import vector_columns
from e2vsearch.catalog.schema import (
    LEASED,
    ChangeRow,
    FailureRow,
    JobRow,
    MetadataRow,
    RecordingRow,
    SegmentRow,
)
from e2vsearch.emotions import named
from e2vsearch.errors import LeaseLost
from e2vsearch.files import legible
from e2vsearch.policy import Role
from e2vsearch.types import Dynamics, Space


def delete_recordings(connection: Connection, numbers: list[int]) -> int:
    """Delete recordings with all that belongs to them, note it in the change feed, and return how many there were."""
    if not numbers:
        return 0
    removed = select(SegmentRow.id, SegmentRow.recording_id).where(SegmentRow.recording_id.in_(numbers))
    note_changes(connection, "-", [(row.id, row.recording_id) for row in connection.execute(removed)])
    return connection.execute(delete(RecordingRow).where(RecordingRow.id.in_(numbers))).rowcount


def note_changes(connection: Connection, op: str, segments: Sequence[tuple[int, int]]) -> None:
    """Note in the change feed that segments, each with its recording, were added (``+``) or removed (``-``)."""
    if not segments:
        return
    xid: int | None = None
    if connection.dialect.name == "postgresql":
        xid = connection.execute(select(literal_column("pg_current_xact_id()::text::bigint"))).scalar_one()
    rows = [{"op": op, "xid": xid, "segment_id": segment, "recording_id": of} for segment, of in segments]
    _insert_plain(connection, ChangeRow, rows)


def segment_rows(recording: NewRecording, space: Space) -> list[dict[str, Any]]:
    """Return the columns of a recording's segments but for their ids, the recording's and the checksums."""
    columns = score_columns(
        [segment.scores for segment in recording.segments],
        space,
        [segment.end_s - segment.start_s for segment in recording.segments],
        [segment.level_db for segment in recording.segments],
    )
    return [
        {"channel": segment.channel, "start_s": segment.start_s, "end_s": segment.end_s, "level_db": segment.level_db}
        | each
        for segment, each in zip(recording.segments, columns, strict=True)
    ]


def insert_segments(
    connection: Connection,
    number: int,
    rows: Sequence[dict[str, Any]],
    vectors: Sequence[NDArray[np.float32]],
    table: VectorTable,
) -> None:
    """Insert the segments of a stored recording with their vectors, and note it in the change feed.

    Args:
        connection: in a transaction that writes.
        number: of the recording.
        rows: as `segment_rows` returns them.
        vectors: ``(dim,)``, one a segment.
        table: of the vectors.
    """
    if not rows:
        return
    ids = _new_segment_ids(connection, len(rows))
    for id_, row in zip(ids, rows, strict=True):
        row |= {"id": id_, "recording_id": number}
        row["crc32"] = row_checksums.SEGMENT.of_values(row)
    _insert_plain(connection, SegmentRow, rows)
    columns = (vector_columns(vector, number) for vector in vectors)
    _insert_plain(connection, table, [{"segment_id": id_, **each} for id_, each in zip(ids, columns, strict=True)])
    note_changes(connection, "+", [(id_, number) for id_ in ids])


def _insert_plain(connection: Connection, table: type[Base], rows: Sequence[dict[str, Any]]) -> None:
    """Insert rows whose values the driver takes as they are, each with the same columns.

    SQLAlchemy's own insertion looks at each value of each row for what to convert, and psycopg sends each row as a
    statement: both took as long as the database. Here Postgres gets a column as one array.
    """
    names = list(rows[0])
    into = f"INSERT INTO {table.__tablename__} ({', '.join(names)})"
    if connection.dialect.name == "postgresql":
        types = (table.__table__.c[name].type for name in names)
        arrays = ", ".join(
            f"%b::{'TEXT' if isinstance(of, String) else of.compile(connection.dialect)}[]" for of in types
        )
        values = tuple([row[name] for row in rows] for name in names)
        connection.exec_driver_sql(f"{into} SELECT * FROM unnest({arrays})", values)
    else:
        marks = ", ".join("?" * len(names))
        connection.exec_driver_sql(f"{into} VALUES ({marks})", [tuple(row.values()) for row in rows])


def _new_segment_ids(connection: Connection, count: int) -> list[int]:
    """Return ids for that many new segments, ascending and never used before, in a transaction that writes.

    With ids at hand all rows are inserted by one call of the driver. To have them returned, SQLAlchemy inserts rows
    into SQLite one by one, and sorts them in Postgres: half of what storing took.
    """
    if connection.dialect.name == "postgresql":
        return sorted(connection.execute(_NEXT_IN_POSTGRES, {"count": count}).scalars())
    last: int = connection.execute(_LAST_IN_SQLITE).scalar_one()  # nobody else writes until the commit
    return list(range(last + 1, last + 1 + count))


_NEXT_IN_POSTGRES = text("SELECT nextval(pg_get_serial_sequence('segment', 'id')) FROM generate_series(1, :count)")
_LAST_IN_SQLITE = text(
    "SELECT max(coalesce((SELECT max(id) FROM segment), 0), "
    "coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'segment'), 0))"
)


def score_columns(
    scores: Sequence[NDArray[np.float32] | None],
    space: Space,
    durations_s: Sequence[float],
    levels_db: Sequence[float | None],
) -> list[dict[str, Any]]:
    """Return the columns of n segments about their classes: name, its probability, arousal, valence, all probabilities.

    Args:
        scores: ``(n,)`` of ``(labels,)`` each; None where there are none.
        space: of the scores.
        durations_s: ``(n,)``.
        levels_db: ``(n,)`` dBFS; None where that is not known.
    """
    rows: list[dict[str, Any]] = [
        dict.fromkeys(("label", "label_score", "scores", "arousal", "valence")) for _ in range(len(scores))
    ]
    known = [(at, each) for at, each in enumerate(scores) if each is not None]
    if not known:
        return rows
    together = np.stack([each for _, each in known])
    found = named(
        together, space.labels, [durations_s[at] for at, _ in known], [levels_db[at] for at, _ in known]
    )  # fmt: skip
    for (at, each), emotion in zip(known, found, strict=True):
        rows[at] = {
            "label": emotion.name,
            "label_score": emotion.score,
            "scores": each.astype("<f4").tobytes(),
            "arousal": emotion.arousal,
            "valence": emotion.valence,
        }
    return rows


def note_failure(connection: Connection, uri: str, reason: str, message: str, attempts: int = 1) -> None:
    """Note that a file could not be ingested, once a URI; attempts add up."""
    values = {"reason": reason, "message": legible(message), "failed_at": datetime.now(UTC)}
    query = update(FailureRow).where(FailureRow.uri == uri)
    changed = connection.execute(query.values(**values, attempts=FailureRow.attempts + attempts))
    if changed.rowcount == 0:
        connection.execute(insert(FailureRow), [{**values, "uri": uri, "attempts": attempts}])


def set_metadata(connection: Connection, number: int, metadata: Mapping[str, str]) -> None:
    """Insert metadata of a stored recording, whose keys must not be there yet."""
    if metadata:
        rows = [
            {"recording_id": number, "key": key, "text": value, "number": _number(value)}
            for key, value in metadata.items()
        ]
        connection.execute(insert(MetadataRow), rows)


def _number(value: str) -> float | None:
    try:
        number = float(value)
    except ValueError:
        return None
    return number if isfinite(number) else None


@dataclass(frozen=True, slots=True)
class Lease:
    """One attempt at a job: the next attempt has another token."""

    job: int
    token: str


def database_time(connection: Connection) -> datetime:
    """Return the database's time: the workers' clocks may differ by more than a lease lasts.

    On Postgres this is the time of the call and not, as ``now()``, of the transaction's start: a transaction may have
    waited for a lock since. SQLite is a library, so its time is that of the one machine whose processes use the file.
    """
    if connection.dialect.name == "postgresql":
        now: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return now.astimezone(UTC)
    return datetime.now(UTC)


def time_there(connection: Connection) -> ColumnElement[datetime] | datetime:
    """Return the database's time for use in a statement, which spares a query for it."""
    return func.clock_timestamp() if connection.dialect.name == "postgresql" else datetime.now(UTC)


def end_job(connection: Connection, lease: Lease) -> None:
    """Delete a job whose recording is stored in the same transaction, and the failure noted for it.

    Until the commit no other worker can lease or end the job: the row is locked, and its token was this lease's when it
    was deleted, whatever it waited for.

    Raises:
        LeaseLost: the lease has expired, is another worker's now, or was cleared.
    """
    leased = (JobRow.id == lease.job) & (JobRow.token == lease.token) & (JobRow.state == LEASED)
    ended = delete(JobRow).where(leased, JobRow.due_at > time_there(connection)).returning(JobRow.uri)
    uri = connection.execute(ended).scalar_one_or_none()
    if uri is None:
        raise LeaseLost("its lease ran out before it was stored, another worker does it - take a longer --lease")
    connection.execute(delete(FailureRow).where(FailureRow.uri == uri))


@dataclass(frozen=True, slots=True)
class NewSegment:
    """One segment to be stored."""

    channel: int
    start_s: float
    end_s: float
    vector: NDArray[np.float32]  # (dim,), as the encoder made it
    scores: NDArray[np.float32] | None = None  # (labels,) of the collection's space
    level_db: float | None = None  # root mean square of its signal at 16 kHz, dBFS; None where that is not known


@dataclass(frozen=True, slots=True)
class NewRecording:
    """One audio file with its segments, to be stored in one transaction."""

    uri: str
    name: str
    content_sha256: str
    size_bytes: int
    mtime_ns: int
    recorded_at: datetime
    duration_s: float
    channels: int
    sampling_rate_hz: int
    format: str
    segments: tuple[NewSegment, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    note: str = ""  # "" or why there are no segments
    added_at: datetime | None = None  # None: now
    roles: Sequence[Role | None] | None = None  # one a channel; None: not known
    dynamics: Dynamics | None = None  # None: not known
