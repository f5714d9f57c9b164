"""Rows and what they mean: statements inside a transaction that somebody else opened, and rows to dataclasses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from math import isfinite
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, delete, insert, literal_column, select, update

from e2vsearch.catalog.records import NewRecording, Recording, Segment, recording_id, segment_id
from e2vsearch.catalog.tables import ChangeRow, FailureRow, MetadataRow, RecordingRow, SegmentRow, VectorRow
from e2vsearch.emotions import named
from e2vsearch.space import Space

ROWS_PER_STATEMENT = 1000
"""Ids in one IN list, or rows in one INSERT: SQLite takes at most 32,766 values a statement."""

_T = TypeVar("_T")


def parts(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Values in pieces that one statement takes."""
    for start in range(0, len(values), ROWS_PER_STATEMENT):
        yield values[start : start + ROWS_PER_STATEMENT]


def delete_recordings(connection: Connection, numbers: list[int]) -> int:
    """Delete recordings with all that belongs to them, and say so in the change feed; gives how many there were."""
    if not numbers:
        return 0
    gone = select(SegmentRow.id, SegmentRow.recording_id).where(SegmentRow.recording_id.in_(numbers))
    _note_changes(connection, "-", [(row.id, row.recording_id) for row in connection.execute(gone)])
    return connection.execute(delete(RecordingRow).where(RecordingRow.id.in_(numbers))).rowcount


def _note_changes(connection: Connection, op: str, segments: Sequence[tuple[int, int]]) -> None:
    if not segments:
        return
    xid: int | None = None
    if connection.dialect.name == "postgresql":
        xid = connection.execute(select(literal_column("pg_current_xact_id()::text::bigint"))).scalar_one()
    rows = [{"op": op, "xid": xid, "segment_id": segment, "recording_id": of} for segment, of in segments]
    connection.execute(insert(ChangeRow), rows)


def insert_segments(connection: Connection, number: int, recording: NewRecording, space: Space) -> None:
    """Insert the segments of a stored recording with their vectors, and say so in the change feed."""
    if not recording.segments:
        return
    columns = scored(
        [segment.scores for segment in recording.segments],
        space,
        [segment.end_s - segment.start_s for segment in recording.segments],
        [segment.level_db for segment in recording.segments],
    )
    rows = [
        {"recording_id": number, "channel": segment.channel, "start_s": segment.start_s, "end_s": segment.end_s}
        | {"level_db": segment.level_db, **each}
        for segment, each in zip(recording.segments, columns, strict=True)
    ]
    statement = insert(SegmentRow).returning(SegmentRow.id, sort_by_parameter_order=True)
    ids = connection.execute(statement, rows).scalars().all()
    vectors = [
        {"segment_id": id_, "vector": segment.vector.astype("<f4").tobytes()}
        for id_, segment in zip(ids, recording.segments, strict=True)
    ]
    connection.execute(insert(VectorRow), vectors)
    _note_changes(connection, "+", [(id_, number) for id_ in ids])


def scored(
    scores: Sequence[NDArray[np.float32] | None],
    space: Space,
    durations_s: Sequence[float],
    levels_db: Sequence[float | None],
) -> list[dict[str, Any]]:
    """What the rows of n segments hold of their classes: name, its probability, arousal, valence, all probabilities.

    Args:
        scores: ``(n,)`` of ``(labels,)`` each; None where there are none.
        space: that they are of.
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
    values = {"reason": reason, "message": message, "failed_at": datetime.now(UTC)}
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


def to_recording(row: Row[Any], metadata: Mapping[str, str]) -> Recording:
    """A row of `RecordingRow` and its metadata as what the catalog gives."""
    return Recording(
        id=recording_id(row.id),
        uri=row.uri,
        name=row.name,
        content_sha256=row.content_sha256,
        size_bytes=row.size_bytes,
        mtime_ns=row.mtime_ns,
        recorded_at=row.recorded_at,
        added_at=row.added_at,
        duration_s=row.duration_s,
        channels=row.channels,
        sampling_rate_hz=row.sampling_rate_hz,
        format=row.format,
        note=row.note,
        metadata=metadata,
    )


def to_segment(row: Row[Any], labels: tuple[str, ...], said: Mapping[str, Any] | None = None) -> Segment:
    """A row of `SegmentRow` as what the catalog gives; `labels` are its space's, `said` what others say of it."""
    scores = {} if row.scores is None else dict(zip(labels, np.frombuffer(row.scores, "<f4").tolist(), strict=True))
    return Segment(
        id=segment_id(row.id),
        recording=recording_id(row.recording_id),
        channel=row.channel,
        start_s=row.start_s,
        end_s=row.end_s,
        emotion=row.label,
        emotion_score=row.label_score,
        scores=scores,
        arousal=row.arousal,
        valence=row.valence,
        level_db=row.level_db,
        **(said or {}),
    )
