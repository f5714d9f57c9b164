"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)
_DOUBLE = sa.Float(precision=53)


def upgrade() -> None:
    op.create_table(
        "change",
        sa.Column("seq", _ID, nullable=False),
        sa.Column("xid", sa.BigInteger()),
        sa.Column("op", sa.String(length=1), nullable=False),
        sa.Column("segment_id", sa.BigInteger(), nullable=False),
        sa.Column("recording_id", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("op in ('+', '-')", name="ck_change_op"),
        sa.PrimaryKeyConstraint("seq", name="pk_change"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_change_xid", "change", ["xid"])
    op.create_table(
        "ingest_failure",
        sa.Column("id", _ID, nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("failed_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ingest_failure"),
        sa.UniqueConstraint("uri", name="uq_ingest_failure_uri"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_ingest_failure_reason", "ingest_failure", ["reason"])
    op.create_table(
        "space",
        sa.Column("id", _ID, nullable=False),
        sa.Column("encoder", sa.String(length=255), nullable=False),
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("projection", sa.String(length=64), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_space"),
        sa.UniqueConstraint("encoder", "revision", "projection", name="uq_space_encoder_revision_projection"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "collection",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("uuid", sa.String(length=36), nullable=False),
        sa.Column("space_id", _ID),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.CheckConstraint("id = 1", name="ck_collection_single_row"),
        sa.ForeignKeyConstraint(["space_id"], ["space.id"], name="fk_collection_space_id"),
        sa.PrimaryKeyConstraint("id", name="pk_collection"),
    )
    op.create_table(
        "recording",
        sa.Column("id", _ID, nullable=False),
        sa.Column("space_id", _ID, nullable=False),
        sa.Column("content_sha256", sa.String(length=64), nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", _MOMENT, nullable=False),
        sa.Column("added_at", _MOMENT, nullable=False),
        sa.Column("duration_s", _DOUBLE, nullable=False),
        sa.Column("channels", sa.Integer(), nullable=False),
        sa.Column("sampling_rate_hz", sa.Integer(), nullable=False),
        sa.Column("format", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["space.id"], name="fk_recording_space_id"),
        sa.PrimaryKeyConstraint("id", name="pk_recording"),
        sa.UniqueConstraint("content_sha256", "space_id", name="uq_recording_content_sha256_space_id"),
        sa.UniqueConstraint("uri", "space_id", name="uq_recording_uri_space_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_recording_name", "recording", ["name"])
    op.create_index("ix_recording_recorded_at", "recording", ["recorded_at"])
    op.create_table(
        "recording_metadata",
        sa.Column("recording_id", _ID, nullable=False),
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("number", _DOUBLE),
        sa.ForeignKeyConstraint(
            ["recording_id"], ["recording.id"], name="fk_recording_metadata_recording_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("recording_id", "key", name="pk_recording_metadata"),
    )
    op.create_index("ix_recording_metadata_key_number", "recording_metadata", ["key", "number"])
    op.create_table(
        "segment",
        sa.Column("id", _ID, nullable=False),
        sa.Column("recording_id", _ID, nullable=False),
        sa.Column("channel", sa.Integer(), nullable=False),
        sa.Column("start_s", _DOUBLE, nullable=False),
        sa.Column("end_s", _DOUBLE, nullable=False),
        sa.Column("label", sa.String(length=64)),
        sa.Column("label_score", _DOUBLE),
        sa.Column("scores", sa.LargeBinary()),
        sa.ForeignKeyConstraint(["recording_id"], ["recording.id"], name="fk_segment_recording_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_segment"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_segment_label", "segment", ["label"])
    op.create_index("ix_segment_recording_id", "segment", ["recording_id"])
    op.create_table(
        "vector",
        sa.Column("segment_id", _ID, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["segment_id"], ["segment.id"], name="fk_vector_segment_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("segment_id", name="pk_vector"),
    )
    if op.get_bind().dialect.name == "postgresql":
        # vectors do not compress: EXTERNAL keeps them out of line as they are
        op.execute("ALTER TABLE vector ALTER COLUMN vector SET STORAGE EXTERNAL")


def downgrade() -> None:
    for table in (
        "vector",
        "segment",
        "recording_metadata",
        "recording",
        "collection",
        "space",
        "ingest_failure",
        "change",
    ):
        op.drop_table(table)
