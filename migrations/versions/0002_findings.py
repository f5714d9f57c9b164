"""What people find in a collection: transcripts, labels, classifiers, maps, side vectors."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)
_DOUBLE = sa.Float(precision=53)

# an external-content table: FTS5 keeps the index alone, the words stay in segment_text. They come folded and apart
# (catalog.texts), so they need the tokenizer that takes every character beyond ASCII for a letter
_SQLITE_WORDS = (
    "CREATE VIRTUAL TABLE segment_words USING fts5("
    "words, content='segment_text', content_rowid='segment_id', tokenize='ascii')",
    """CREATE TRIGGER segment_text_added AFTER INSERT ON segment_text BEGIN
        INSERT INTO segment_words (rowid, words) VALUES (new.segment_id, new.words);
    END""",
    """CREATE TRIGGER segment_text_gone AFTER DELETE ON segment_text BEGIN
        INSERT INTO segment_words (segment_words, rowid, words) VALUES ('delete', old.segment_id, old.words);
    END""",
    """CREATE TRIGGER segment_text_changed AFTER UPDATE ON segment_text BEGIN
        INSERT INTO segment_words (segment_words, rowid, words) VALUES ('delete', old.segment_id, old.words);
        INSERT INTO segment_words (rowid, words) VALUES (new.segment_id, new.words);
    END""",
)


def upgrade() -> None:
    op.create_table(
        "segment_text",
        sa.Column("segment_id", _ID, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["segment_id"], ["segment.id"], name="fk_segment_text_segment_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("segment_id", name="pk_segment_text"),
    )
    op.create_table(
        "label_example",
        sa.Column("id", _ID, nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("segment_id", _ID),
        sa.Column("vector", sa.LargeBinary()),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("speaker", sa.Text()),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.CheckConstraint("(segment_id is null) <> (vector is null)", name="ck_label_example_segment_or_vector"),
        sa.ForeignKeyConstraint(["segment_id"], ["segment.id"], name="fk_label_example_segment_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_label_example"),
        sa.UniqueConstraint("segment_id", name="uq_label_example_segment_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_label_example_label", "label_example", ["label"])
    op.create_table(
        "classifier",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("space_id", _ID, nullable=False),
        sa.Column("labels", sa.JSON(), nullable=False),
        sa.Column("parameters", sa.LargeBinary(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.Column("watermark", sa.BigInteger()),
        sa.Column("min_score", _DOUBLE),
        sa.ForeignKeyConstraint(["space_id"], ["space.id"], name="fk_classifier_space_id"),
        sa.PrimaryKeyConstraint("id", name="pk_classifier"),
        sa.UniqueConstraint("name", "version", name="uq_classifier_name_version"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "segment_label",
        sa.Column("segment_id", _ID, nullable=False),
        sa.Column("classifier_id", _ID, nullable=False),
        sa.Column("label", sa.String(length=64), nullable=False),
        sa.Column("score", _DOUBLE, nullable=False),
        sa.ForeignKeyConstraint(["segment_id"], ["segment.id"], name="fk_segment_label_segment_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["classifier_id"], ["classifier.id"], name="fk_segment_label_classifier_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("segment_id", "classifier_id", name="pk_segment_label"),
    )
    op.create_index("ix_segment_label_label_score", "segment_label", ["label", "score"])
    op.create_table(
        "map",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("space_id", _ID, nullable=False),
        sa.Column("by", sa.String(length=16), nullable=False),
        sa.Column("filter", sa.Text()),
        sa.Column("options", sa.JSON(), nullable=False),
        sa.Column("clusters", sa.JSON(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["space.id"], name="fk_map_space_id"),
        sa.PrimaryKeyConstraint("id", name="pk_map"),
        sa.UniqueConstraint("name", name="uq_map_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "map_point",
        sa.Column("map_id", _ID, nullable=False),
        sa.Column("item_id", sa.BigInteger(), nullable=False),
        sa.Column("x", _DOUBLE, nullable=False),
        sa.Column("y", _DOUBLE, nullable=False),
        sa.Column("cluster", sa.Integer(), nullable=False),
        sa.Column("strength", _DOUBLE, nullable=False),
        sa.Column("placed", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["map_id"], ["map.id"], name="fk_map_point_map_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("map_id", "item_id", name="pk_map_point"),
    )
    op.create_index("ix_map_point_map_id_cluster", "map_point", ["map_id", "cluster"])
    op.create_table(
        "side",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_side"),
        sa.UniqueConstraint("name", name="uq_side_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "side_vector",
        sa.Column("side_id", _ID, nullable=False),
        sa.Column("segment_id", _ID, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["side_id"], ["side.id"], name="fk_side_vector_side_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["segment_id"], ["segment.id"], name="fk_side_vector_segment_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("side_id", "segment_id", name="pk_side_vector"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("CREATE INDEX ix_segment_text_words ON segment_text USING gin (to_tsvector('simple', words))")
        for table in ("side_vector", "label_example"):  # as for `vector` in 0001
            op.execute(f"ALTER TABLE {table} ALTER COLUMN vector SET STORAGE EXTERNAL")
    else:
        for statement in _SQLITE_WORDS:
            op.execute(statement)


def downgrade() -> None:
    if op.get_bind().dialect.name != "postgresql":
        op.execute("DROP TABLE segment_words")
    for table in (
        "side_vector",
        "side",
        "map_point",
        "map",
        "segment_label",
        "classifier",
        "label_example",
        "segment_text",
    ):
        op.drop_table(table)
