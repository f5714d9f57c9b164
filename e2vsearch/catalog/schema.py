"""The tables, as SQLAlchemy models.

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
    Float,
    ForeignKey,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlalchemy.orm import Mapped, mapped_column

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

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    encoder: Mapped[str] = mapped_column(String(255))
    revision: Mapped[str] = mapped_column(String(64))
    dim: Mapped[int]
    labels: Mapped[list[Any]] = mapped_column(JSON)
    projection: Mapped[str] = mapped_column(String(64))
    source: Mapped[str] = mapped_column(Text)  # what `encoders.open` was given: a name, or a model folder's path
    created_at: Mapped[datetime]
    reference_embedding: Mapped[bytes | None] = mapped_column(LargeBinary)  # little-endian float32: of one fixed clip
    vectors: Mapped[str | None] = mapped_column(String(16))  # the table of its vectors; NULL: they were deleted
    state: Mapped[str | None] = mapped_column(String(16))  # of one that is not in use, see `catalog.spaces`


class HeaderRow(Base):
    """The one row of the collection: its UUID, the space it is pinned to, the projection in use."""

    __tablename__ = "collection"
    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    uuid: Mapped[str] = mapped_column(String(36))
    space_id: Mapped[int | None] = mapped_column(ForeignKey("space.id"))
    created_at: Mapped[datetime]
    projection_id: Mapped[int | None] = mapped_column(ForeignKey("projection.id"))  # NULL: raw vectors are searched
    policy: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # how it may be used
    engine: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # see `engine_choice`


class ProjectionRow(Base):
    """A projection of a space's vectors; `HeaderRow` names the one in use."""

    __tablename__ = "projection"
    __table_args__ = (UniqueConstraint("space_id", "name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    kind: Mapped[str] = mapped_column(String(16))
    revision: Mapped[str] = mapped_column(String(64))  # a hash of its parameters
    space_id: Mapped[int] = mapped_column(ForeignKey("space.id"))
    parameters: Mapped[bytes] = mapped_column(LargeBinary)  # plain arrays in .npz, read without pickle
    report: Mapped[dict[str, Any]] = mapped_column(JSON)  # how it was made, and how well it does
    created_at: Mapped[datetime]


class RecordingRow(Base):
    """One audio file, a call: identified by its content, found by its URI."""

    __tablename__ = "recording"
    __table_args__ = (
        UniqueConstraint("content_sha256", "space_id"),
        UniqueConstraint("uri", "space_id"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
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
    roles: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))  # one a channel; NULL: not known
    course: Mapped[str | None] = mapped_column(String(16))  # of its segments' valence; NULL: too few of them to tell
    crc32: Mapped[int] = crc32_column(row_checksums.RECORDING)


class DynamicsRow(Base):
    """Who speaks when in a recording. Those ingested before 0010, or from vectors alone, have none."""

    __tablename__ = "dynamics"

    recording_id: Mapped[int] = mapped_column(ForeignKey("recording.id", ondelete="CASCADE"), primary_key=True)
    talk_share: Mapped[float] = mapped_column(Float(53))
    silence_share: Mapped[float] = mapped_column(Float(53))
    longest_silence_s: Mapped[float] = mapped_column(Float(53))
    # NULL where channels are not of different voices
    overtalk: Mapped[float | None] = mapped_column(Float(53))
    interruptions: Mapped[int | None]
    turns: Mapped[int | None]
    overlaps: Mapped[list[Any]] = mapped_column(JSON)  # [start, end] each, seconds
    silences: Mapped[list[Any]] = mapped_column(JSON)
    crc32: Mapped[int] = crc32_column(row_checksums.DYNAMICS)


class ChannelDynamicsRow(Base):
    """How one channel of a recording takes turns; NULL as in `DynamicsRow`."""

    __tablename__ = "channel_dynamics"

    recording_id: Mapped[int] = mapped_column(ForeignKey("dynamics.recording_id", ondelete="CASCADE"), primary_key=True)
    channel: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    talk_share: Mapped[float] = mapped_column(Float(53))
    turns: Mapped[int | None]
    interruptions: Mapped[int | None]
    longest_turn_s: Mapped[float | None] = mapped_column(Float(53))
    crc32: Mapped[int] = crc32_column(row_checksums.CHANNEL_DYNAMICS)


class MetadataRow(Base):
    """One column of ``--meta`` for one recording: as text, and as a number where it is one."""

    __tablename__ = "recording_metadata"
    __table_args__ = (Index(None, "key", "number"),)  # none on text: Postgres indexes no value over 2.7 kB

    recording_id: Mapped[int] = mapped_column(ForeignKey("recording.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    number: Mapped[float | None] = mapped_column(Float(53))
    crc32: Mapped[int] = crc32_column(row_checksums.METADATA)


class SegmentRow(Base):
    """One segment of speech in one channel."""

    __tablename__ = "segment"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    recording_id: Mapped[int] = mapped_column(ForeignKey("recording.id", ondelete="CASCADE"), index=True)
    channel: Mapped[int]
    start_s: Mapped[float] = mapped_column(Float(53))
    end_s: Mapped[float] = mapped_column(Float(53))
    # what `emotions.named` makes of `scores`, duration and level: a class, "unsure" or "too short"
    label: Mapped[str | None] = mapped_column(String(MAX_NAME), index=True)
    label_score: Mapped[float | None] = mapped_column(Float(53))  # NULL where no class is named
    scores: Mapped[bytes | None] = mapped_column(LargeBinary)  # little-endian float32, one a label of the space
    arousal: Mapped[float | None] = mapped_column(Float(53))  # 0 to 1, as valence; NULL where no class has any
    valence: Mapped[float | None] = mapped_column(Float(53))
    level_db: Mapped[float | None] = mapped_column(Float(53))  # dBFS at 16 kHz; NULL: stored before 0006, or no audio
    crc32: Mapped[int] = crc32_column(row_checksums.SEGMENT)


class VectorRow(Base):
    """A segment's vector as the encoder made it: little-endian float32."""

    __tablename__ = "vector"

    segment_id: Mapped[int] = mapped_column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    crc32: Mapped[int] = mapped_column(BigInteger)  # of `vector` and the recording, see `columns.checksum`


class ChangeRow(Base):
    """The change feed: segments added and removed, in order. Rows are only ever added.

    Sequence numbers are handed out before commit, so on Postgres a lower `seq` may become visible later than a
    higher one: there readers go by `xid`, the writing transaction, and stop at the transaction horizon.
    """

    __tablename__ = "change"
    __table_args__ = (CheckConstraint("op in ('+', '-')", name="op"), {"sqlite_autoincrement": True})

    seq: Mapped[int] = mapped_column(Id, primary_key=True)
    xid: Mapped[int | None] = mapped_column(BigInteger, index=True)
    op: Mapped[str] = mapped_column(String(1))
    segment_id: Mapped[int] = mapped_column(BigInteger)
    recording_id: Mapped[int] = mapped_column(BigInteger)


class FailureRow(Base):
    """A file that could not be ingested, and why; deleted once it could."""

    __tablename__ = "ingest_failure"
    __table_args__ = (UniqueConstraint("uri"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uri: Mapped[str] = mapped_column(Text)
    reason: Mapped[str] = mapped_column(String(64), index=True)
    message: Mapped[str] = mapped_column(Text)
    attempts: Mapped[int]
    failed_at: Mapped[datetime]


class SegmentTextRow(Base):
    """The text of a segment, from a transcript.

    Migration 0002 adds the full-text index over `words`: on Postgres a GIN index, on SQLite the FTS5 table
    ``segment_words`` with triggers that update it. Neither can be declared in a model.
    """

    __tablename__ = "segment_text"

    segment_id: Mapped[int] = mapped_column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    text: Mapped[str] = mapped_column(Text)
    words: Mapped[str] = mapped_column(Text)  # the same as the full-text index takes it: one CJK character a word
    crc32: Mapped[int] = crc32_column(row_checksums.TEXT)


class LabelExampleRow(Base):
    """An example of a label: a stored segment, or a vector of audio that is not stored."""

    __tablename__ = "label_example"
    __table_args__ = (
        CheckConstraint("(segment_id is null) <> (vector is null)", name="segment_or_vector"),
        UniqueConstraint("segment_id"),  # a segment has one label: another one replaces it
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    label: Mapped[str] = mapped_column(String(MAX_NAME), index=True)
    segment_id: Mapped[int | None] = mapped_column(ForeignKey("segment.id", ondelete="CASCADE"))
    vector: Mapped[bytes | None] = mapped_column(LargeBinary)  # little-endian float32, as the encoder made it
    source: Mapped[str] = mapped_column(Text)  # the file and its times, or the segment's id, as it was given
    speaker: Mapped[str | None] = mapped_column(Text)  # where that is known: a speaker is never in both folds
    created_at: Mapped[datetime]
    crc32: Mapped[int] = crc32_column(row_checksums.EXAMPLE)


class ClassifierRow(Base):
    """A classifier of labels of one's own, pinned to a space. Never changed: training again makes a new version."""

    __tablename__ = "classifier"
    __table_args__ = (UniqueConstraint("name", "version"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    version: Mapped[int]
    space_id: Mapped[int] = mapped_column(ForeignKey("space.id"))
    labels: Mapped[list[Any]] = mapped_column(JSON)  # in the order of its probabilities
    parameters: Mapped[bytes] = mapped_column(LargeBinary)  # plain arrays in .npz, read without pickle
    report: Mapped[dict[str, Any]] = mapped_column(JSON)  # how it was trained, and how well it does
    created_at: Mapped[datetime]
    watermark: Mapped[int | None] = mapped_column(BigInteger)  # of the change feed, up to which segments are classified
    min_score: Mapped[float | None] = mapped_column(Float(53))  # predictions with a lower probability were not stored


class SegmentLabelRow(Base):
    """A prediction: the likeliest label that a classifier gives a segment."""

    __tablename__ = "segment_label"
    __table_args__ = (Index(None, "label", "score"),)

    segment_id: Mapped[int] = mapped_column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    classifier_id: Mapped[int] = mapped_column(ForeignKey("classifier.id", ondelete="CASCADE"), primary_key=True)
    label: Mapped[str] = mapped_column(String(MAX_NAME))
    score: Mapped[float] = mapped_column(Float(53))  # its calibrated probability
    crc32: Mapped[int] = crc32_column(row_checksums.PREDICTION)


class MapRow(Base):
    """A map: its filter, options, and clusters with their descriptions."""

    __tablename__ = "map"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    space_id: Mapped[int] = mapped_column(ForeignKey("space.id"))
    by: Mapped[str] = mapped_column(String(16))  # what a point is: "segment" or "recording"
    filter: Mapped[str | None] = mapped_column(Text)  # the --where in force
    options: Mapped[dict[str, Any]] = mapped_column(JSON)
    clusters: Mapped[list[Any]] = mapped_column(JSON)
    created_at: Mapped[datetime]


class MapPointRow(Base):
    """The position of a segment or recording on a map."""

    __tablename__ = "map_point"
    __table_args__ = (Index(None, "map_id", "cluster"),)

    map_id: Mapped[int] = mapped_column(ForeignKey("map.id", ondelete="CASCADE"), primary_key=True)
    item_id: Mapped[int] = mapped_column(BigInteger, primary_key=True)  # of a segment or of a recording: map.by says
    x: Mapped[float] = mapped_column(Float(53))
    y: Mapped[float] = mapped_column(Float(53))
    cluster: Mapped[int]  # -1: none
    strength: Mapped[float] = mapped_column(Float(53))  # of its membership, 0 to 1
    placed: Mapped[bool]  # added after the map was made


class NamedVectorSetRow(Base):
    """A named set of vectors that another model made of segments."""

    __tablename__ = "named_vector_set"
    __table_args__ = (UniqueConstraint("name"), {"sqlite_autoincrement": True})

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    name: Mapped[str] = mapped_column(String(MAX_NAME))
    dim: Mapped[int]
    created_at: Mapped[datetime]


class NamedVectorRow(Base):
    """One segment's vector in a named set: little-endian float32."""

    __tablename__ = "named_vector"

    set_id: Mapped[int] = mapped_column(ForeignKey("named_vector_set.id", ondelete="CASCADE"), primary_key=True)
    segment_id: Mapped[int] = mapped_column(ForeignKey("segment.id", ondelete="CASCADE"), primary_key=True)
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    crc32: Mapped[int] = mapped_column(BigInteger)  # of `vector`, see `columns`


class AuditRow(Base):
    """What was asked of the collection, by whom, and which ids came back. Rows are only ever added."""

    __tablename__ = "audit"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    at: Mapped[datetime]
    actor: Mapped[str] = mapped_column(Text)
    action: Mapped[str] = mapped_column(String(32))
    request: Mapped[dict[str, Any]] = mapped_column(JSON)
    results: Mapped[list[Any]] = mapped_column(JSON)  # ids, best first


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

    id: Mapped[int] = mapped_column(Id, primary_key=True)
    uri: Mapped[str] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int]  # higher first
    attempts: Mapped[int]  # a lease that was released does not count
    enqueued_at: Mapped[datetime]
    # when it may be leased: a queued job at once or after its back-off, a leased one at its lease's end, a dead letter
    # never
    due_at: Mapped[datetime | None]
    worker: Mapped[str | None] = mapped_column(String(255))  # machine:process:nonce of the one with the lease
    token: Mapped[str | None] = mapped_column(String(32))  # of the lease, another one at every attempt
    reason: Mapped[str | None] = mapped_column(String(64))  # of its last failure
    message: Mapped[str | None] = mapped_column(Text)
    details: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))  # its columns of --meta
    recorded_at: Mapped[datetime | None]


# in the order of leasing; without dead letters, which would be read again at every lease
Index(
    "ix_job_order",
    JobRow.priority.desc(),
    JobRow.id,
    postgresql_where=JobRow.state != DEAD_LETTER,
    sqlite_where=JobRow.state != DEAD_LETTER,
)
