"""The tables, as classes whose attributes are columns.

SQLite and Postgres share one definition. A segment's vector has a table of its own, so that filters and listings
read rows of tens of bytes and not of four thousand.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Column,
    ColumnClause,
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)

from e2vsearch.catalog import row_checksums
from e2vsearch.catalog.base import Base as Base
from e2vsearch.catalog.base import crc32_column
from e2vsearch.catalog.columns import Id
from e2vsearch.types import MAX_NAME

SCHEMA_REVISION = "0013"
"""The newest migration. Revisions are numbered, so that "older" and "newer" can be told without loading Alembic."""


class SpaceRow(Base):
    """A space that vectors of this collection live in."""

    __tablename__ = "space"
    __table_args__ = (UniqueConstraint("encoder", "revision", "projection"), {"sqlite_autoincrement": True})

    id: ColumnClause[int] = Column(Id, primary_key=True)
    encoder: ColumnClause[str] = Column(String(255))
    revision: ColumnClause[str] = Column(String(64))
    dim: ColumnClause[int]
    labels: ColumnClause[list[Any]] = Column(JSON)
    projection: ColumnClause[str] = Column(String(64))
    source: ColumnClause[str] = Column(Text)  # what `encoders.open` was given: a name, or a model folder's path
    created_at: ColumnClause[datetime]
    reference_embedding: ColumnClause[bytes | None] = Column(LargeBinary)  # little-endian float32: of one fixed clip
    vectors: ColumnClause[str | None] = Column(String(16))  # the table of its vectors; NULL: they were deleted
    state: ColumnClause[str | None] = Column(String(16))  # of one that is not in use, see `catalog.spaces`


class HeaderRow(Base):
    """The one row of the collection: its UUID, the space it is pinned to, the projection in use."""

    __tablename__ = "collection"
    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)

    id: ColumnClause[int] = Column(primary_key=True, autoincrement=False)
    uuid: ColumnClause[str] = Column(String(36))
    space_id: ColumnClause[int | None] = Column(ForeignKey("space.id"))
    created_at: ColumnClause[datetime]
    projection_id: ColumnClause[int | None] = Column(ForeignKey("projection.id"))  # NULL: raw vectors are searched
    policy: ColumnClause[dict[str, Any] | None] = Column(JSON(none_as_null=True))  # how it may be used
    engine: ColumnClause[dict[str, Any] | None] = Column(JSON(none_as_null=True))  # see `engine_choice`


class ProjectionRow(Base):
    """A projection of a space's vectors; `HeaderRow` names the one in use."""

    __tablename__ = "projection"
    __table_args__ = (UniqueConstraint("space_id", "name"), {"sqlite_autoincrement": True})

    id: ColumnClause[int] = Column(Id, primary_key=True)
    name: ColumnClause[str] = Column(String(MAX_NAME))
    kind: ColumnClause[str] = Column(String(16))
    revision: ColumnClause[str] = Column(String(64))  # a hash of its parameters
    space_id: ColumnClause[int] = Column(ForeignKey("space.id"))
    parameters: ColumnClause[bytes] = Column(LargeBinary)  # plain arrays in .npz, read without pickle
    report: ColumnClause[dict[str, Any]] = Column(JSON)  # how it was made, and how well it does
    created_at: ColumnClause[datetime]


class RecordingRow(Base):
    """One audio file, a call: identified by its content, found by its URI."""

    __tablename__ = "recording"
    __table_args__ = (
        UniqueConstraint("content_sha256", "space_id"),
        UniqueConstraint("uri", "space_id"),
        {"sqlite_autoincrement": True},
    )

    id: ColumnClause[int] = Column(Id, primary_key=True)
    space_id: ColumnClause[int] = Column(ForeignKey("space.id"))
    content_sha256: ColumnClause[str] = Column(String(64))
    uri: ColumnClause[str] = Column(Text)
    name: ColumnClause[str] = Column(Text, index=True)
    size_bytes: ColumnClause[int] = Column(BigInteger)
    mtime_ns: ColumnClause[int] = Column(BigInteger)
    recorded_at: ColumnClause[datetime] = Column(index=True)
    added_at: ColumnClause[datetime]
    duration_s: ColumnClause[float] = Column(Float(53))
    channels: ColumnClause[int]
    sampling_rate_hz: ColumnClause[int]
    format: ColumnClause[str] = Column(String(64))
    note: ColumnClause[str] = Column(Text)  # "" or why it has no segments
    roles: ColumnClause[list[Any] | None] = Column(JSON(none_as_null=True))  # one a channel; NULL: not known
    course: ColumnClause[str | None] = Column(String(16))  # of its segments' valence; NULL: too few of them to tell
    crc32: ColumnClause[int] = crc32_column(row_checksums.RECORDING)


class DynamicsRow(Base):
    """Who speaks when in a recording. Those ingested before 0010, or from vectors alone, have none."""

    __tablename__ = "dynamics"

    recording_id: ColumnClause[int] = Column(ForeignKey("recording.id", ondelete="CASCADE"), primary_key=True)
    talk_share: ColumnClause[float] = Column(Float(53))
    silence_share: ColumnClause[float] = Column(Float(53))
    longest_silence_s: ColumnClause[float] = Column(Float(53))
    # NULL where channels are not of different voices
    overtalk: ColumnClause[float | None] = Column(Float(53))
    interruptions: ColumnClause[int | None]
    turns: ColumnClause[int | None]
    overlaps: ColumnClause[list[Any]] = Column(JSON)  # [start, end] each, seconds
    silences: ColumnClause[list[Any]] = Column(JSON)
    crc32: ColumnClause[int] = crc32_column(row_checksums.DYNAMICS)


class ChannelDynamicsRow(Base):
    """How one channel of a recording takes turns; NULL as in `DynamicsRow`."""

    __tablename__ = "channel_dynamics"

    recording_id: ColumnClause[int] = Column(ForeignKey("dynamics.recording_id", ondelete="CASCADE"), primary_key=True)
    channel: ColumnClause[int] = Column(primary_key=True, autoincrement=False)
    talk_share: ColumnClause[float] = Column(Float(53))
    turns: ColumnClause[int | None]
    interruptions: ColumnClause[int | None]
    longest_turn_s: ColumnClause[float | None] = Column(Float(53))
    crc32: ColumnClause[int] = crc32_column(row_checksums.CHANNEL_DYNAMICS)


class MetadataRow(Base):
    """One column of ``--meta`` for one recording: as text, and as a number where it is one."""

    __tablename__ = "recording_metadata"
    __table_args__ = (Index(None, "key", "number"),)  # none on text: Postgres indexes no value over 2.7 kB

    recording_id: ColumnClause[int] = Column(ForeignKey("recording.id", ondelete="CASCADE"), primary_key=True)
    key: ColumnClause[str] = Column(String(255), primary_key=True)
    text: ColumnClause[str] = Column(Text)
    number: ColumnClause[float | None] = Column(Float(53))
    crc32: ColumnClause[int] = crc32_column(row_checksums.METADATA)


class SegmentRow(Base):
    """One segment of speech in one channel."""

    __tablename__ = "segment"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: ColumnClause[int] = Column(Id, primary_key=True)
    recording_id: ColumnClause[int] = Column(ForeignKey("recording.id", ondelete="CASCADE"), index=True)
    channel: ColumnClause[int]
    start_s: ColumnClause[float] = Column(Float(53))
    end_s: ColumnClause[float] = Column(Float(53))
    # what `emotions.named` makes of `scores`, duration and level: a class, "unsure" or "too short"
    label: ColumnClause[str | None] = Column(String(MAX_NAME), index=True)
    label_score: ColumnClause[float | None] = Column(Float(53))  # NULL where no class is named
    scores: ColumnClause[bytes | None] = Column(LargeBinary)  # little-endian float32, one a label of the space
    arousal: ColumnClause[float | None] = Column(Float(53))  # 0 to 1, as valence; NULL where no class has any
    valence: ColumnClause[float | None] = Column(Float(53))
    level_db: ColumnClause[float | None] = Column(Float(53))  # dBFS at 16 kHz; NULL: stored before 0006, or no audio
    crc32: ColumnClause[int] = crc32_column(row_checksums.SEGMENT)


class VectorRow(Base):
    """A segment's vector as the encoder made it: little-endian float32."""

    __tablename__ = "vector"

    segment_id: ColumnClause[int] = Column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    vector: ColumnClause[bytes] = Column(LargeBinary)
    crc32: ColumnClause[int] = Column(BigInteger)  # of `vector` and the recording, see `columns.checksum`


class ChangeRow(Base):
    """The change feed: segments added and removed, in order. Rows are only ever added.

    Sequence numbers are handed out before commit, so on Postgres a lower `seq` may become visible later than a
    higher one: there readers go by `xid`, the writing transaction, and stop at the transaction horizon.
    """

    __tablename__ = "change"
    __table_args__ = (CheckConstraint("op in ('+', '-')", name="op"), {"sqlite_autoincrement": True})

    seq: ColumnClause[int] = Column(Id, primary_key=True)
    xid: ColumnClause[int | None] = Column(BigInteger, index=True)
    op: ColumnClause[str] = Column(String(1))
    segment_id: ColumnClause[int] = Column(BigInteger)
    recording_id: ColumnClause[int] = Column(BigInteger)


class FailureRow(Base):
    """A file that could not be ingested, and why; deleted once it could."""

    __tablename__ = "ingest_failure"
    __table_args__ = (UniqueConstraint("uri"), {"sqlite_autoincrement": True})

    id: ColumnClause[int] = Column(Id, primary_key=True)
    uri: ColumnClause[str] = Column(Text)
    reason: ColumnClause[str] = Column(String(64), index=True)
    message: ColumnClause[str] = Column(Text)
    attempts: ColumnClause[int]
    failed_at: ColumnClause[datetime]


class SegmentTextRow(Base):
    """The text of a segment, from a transcript.

    Migration 0002 adds the full-text index over `words`: on Postgres a GIN index, on SQLite the FTS5 table
    ``segment_words`` with triggers that update it. Neither can be declared in a model.
    """

    __tablename__ = "segment_text"

    segment_id: ColumnClause[int] = Column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    text: ColumnClause[str] = Column(Text)
    words: ColumnClause[str] = Column(Text)  # the same as the full-text index takes it: one CJK character a word
    crc32: ColumnClause[int] = crc32_column(row_checksums.TEXT)


class LabelExampleRow(Base):
    """An example of a label: a stored segment, or a vector of audio that is not stored."""

    __tablename__ = "label_example"
    __table_args__ = (
        CheckConstraint("(segment_id is null) <> (vector is null)", name="segment_or_vector"),
        UniqueConstraint("segment_id"),  # a segment has one label: another one replaces it
        {"sqlite_autoincrement": True},
    )

    id: ColumnClause[int] = Column(Id, primary_key=True)
    label: ColumnClause[str] = Column(String(MAX_NAME), index=True)
    segment_id: ColumnClause[int | None] = Column(ForeignKey("segment.id", ondelete="CASCADE"))
    vector: ColumnClause[bytes | None] = Column(LargeBinary)  # little-endian float32, as the encoder made it
    source: ColumnClause[str] = Column(Text)  # the file and its times, or the segment's id, as it was given
    speaker: ColumnClause[str | None] = Column(Text)  # where that is known: a speaker is never in both folds
    created_at: ColumnClause[datetime]
    crc32: ColumnClause[int] = crc32_column(row_checksums.EXAMPLE)


class ClassifierRow(Base):
    """A classifier of labels of one's own, pinned to a space. Never changed: training again makes a new version."""

    __tablename__ = "classifier"
    __table_args__ = (UniqueConstraint("name", "version"), {"sqlite_autoincrement": True})

    id: ColumnClause[int] = Column(Id, primary_key=True)
    name: ColumnClause[str] = Column(String(MAX_NAME))
    version: ColumnClause[int]
    space_id: ColumnClause[int] = Column(ForeignKey("space.id"))
    labels: ColumnClause[list[Any]] = Column(JSON)  # in the order of its probabilities
    parameters: ColumnClause[bytes] = Column(LargeBinary)  # plain arrays in .npz, read without pickle
    report: ColumnClause[dict[str, Any]] = Column(JSON)  # how it was trained, and how well it does
    created_at: ColumnClause[datetime]
    watermark: ColumnClause[int | None] = Column(BigInteger)  # of the change feed, up to which segments are classified
    min_score: ColumnClause[float | None] = Column(Float(53))  # predictions with a lower probability were not stored


class SegmentLabelRow(Base):
    """A prediction: the likeliest label that a classifier gives a segment."""

    __tablename__ = "segment_label"
    __table_args__ = (Index(None, "label", "score"),)

    segment_id: ColumnClause[int] = Column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    classifier_id: ColumnClause[int] = Column(ForeignKey("classifier.id", ondelete="CASCADE"), primary_key=True)
    label: ColumnClause[str] = Column(String(MAX_NAME))
    score: ColumnClause[float] = Column(Float(53))  # its calibrated probability
    crc32: ColumnClause[int] = crc32_column(row_checksums.PREDICTION)


class MapRow(Base):
    """A map: its filter, options, and clusters with their descriptions."""

    __tablename__ = "map"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    id: ColumnClause[int] = Column(Id, primary_key=True)
    name: ColumnClause[str] = Column(String(MAX_NAME))
    space_id: ColumnClause[int] = Column(ForeignKey("space.id"))
    by: ColumnClause[str] = Column(String(16))  # what a point is: "segment" or "recording"
    filter: ColumnClause[str | None] = Column(Text)  # the --where in force
    options: ColumnClause[dict[str, Any]] = Column(JSON)
    clusters: ColumnClause[list[Any]] = Column(JSON)
    created_at: ColumnClause[datetime]


class MapPointRow(Base):
    """The position of a segment or recording on a map."""

    __tablename__ = "map_point"
    __table_args__ = (Index(None, "map_id", "cluster"),)

    map_id: ColumnClause[int] = Column(ForeignKey("map.id", ondelete="CASCADE"), primary_key=True)
    item_id: ColumnClause[int] = Column(BigInteger, primary_key=True)  # of a segment or of a recording: map.by says
    x: ColumnClause[float] = Column(Float(53))
    y: ColumnClause[float] = Column(Float(53))
    cluster: ColumnClause[int]  # -1: none
    strength: ColumnClause[float] = Column(Float(53))  # of its membership, 0 to 1
    placed: ColumnClause[bool]  # added after the map was made


class NamedVectorSetRow(Base):
    """A named set of vectors that another model made of segments."""

    __tablename__ = "named_vector_set"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    id: ColumnClause[int] = Column(Id, primary_key=True)
    name: ColumnClause[str] = Column(String(MAX_NAME))
    dim: ColumnClause[int]
    created_at: ColumnClause[datetime]


class NamedVectorRow(Base):
    """One segment's vector in a named set: little-endian float32."""

    __tablename__ = "named_vector"

    set_id: ColumnClause[int] = Column(ForeignKey("named_vector_set.id", ondelete="CASCADE"), primary_key=True)
    segment_id: ColumnClause[int] = Column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    vector: ColumnClause[bytes] = Column(LargeBinary)
    crc32: ColumnClause[int] = Column(BigInteger)  # of `vector`, see `columns`


class AuditRow(Base):
    """What was asked of the collection, by whom, and which ids came back. Rows are only ever added."""

    __tablename__ = "audit"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: ColumnClause[int] = Column(Id, primary_key=True)
    at: ColumnClause[datetime]
    actor: ColumnClause[str] = Column(Text)
    action: ColumnClause[str] = Column(String(32))
    request: ColumnClause[dict[str, Any]] = Column(JSON)
    results: ColumnClause[list[Any]] = Column(JSON)  # ids, best first


QUEUED, LEASED, DEAD_LETTER = "queued", "leased", "dead_letter"
"""States of a job."""


class JobRow(Base):
    """A recording to be ingested by a worker: queued, leased or a dead letter. Deleted once it is stored."""

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("uri"),
        CheckConstraint(f"state in ('{QUEUED}', '{LEASED}', '{DEAD_LETTER}')", name="state"),
        {"sqlite_autoincrement": True},
    )

    id: ColumnClause[int] = Column(Id, primary_key=True)
    uri: ColumnClause[str] = Column(Text)
    state: ColumnClause[str] = Column(String(16))
    priority: ColumnClause[int]  # higher first
    attempts: ColumnClause[int]  # a lease that was released does not count
    enqueued_at: ColumnClause[datetime]
    # when it may be leased: a queued job at once or after its back-off, a leased one at its lease's end, a dead letter
    # never
    due_at: ColumnClause[datetime | None]
    worker: ColumnClause[str | None] = Column(String(255))  # machine:process:nonce of the one with the lease
    token: ColumnClause[str | None] = Column(String(32))  # of the lease, another one at every attempt
    reason: ColumnClause[str | None] = Column(String(64))  # of its last failure
    message: ColumnClause[str | None] = Column(Text)
    details: ColumnClause[dict[str, Any] | None] = Column(JSON(none_as_null=True))  # its columns of --meta
    recorded_at: ColumnClause[datetime | None]


# In the order of leasing. The migration makes it without dead letters, which would be read again at every lease: a
# condition of Postgres's loads that dialect, 25 ms of a process with one query of a collection in SQLite.
Index("ix_job_order", JobRow.priority.desc(), JobRow.id)
