"""Projections of the space, and which one is in use."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "projection",
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("revision", sa.String(length=64), nullable=False),
        sa.Column("space_id", _ID, nullable=False),
        sa.Column("parameters", sa.LargeBinary(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["space_id"], ["space.id"], name="fk_projection_space_id"),
        sa.PrimaryKeyConstraint("id", name="pk_projection"),
        sa.UniqueConstraint("name", name="uq_projection_name"),
        sqlite_autoincrement=True,
    )
    # SQLite adds a foreign key with its column alone, and Alembic knows it only by copying the table, which would
    # lose the check that there is one row
    kind = "BIGINT" if op.get_bind().dialect.name == "postgresql" else "INTEGER"
    op.execute(
        f"ALTER TABLE collection ADD COLUMN projection_id {kind} "
        "CONSTRAINT fk_collection_projection_id REFERENCES projection (id)"
    )


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE collection DROP COLUMN projection_id")
    else:  # SQLite drops no column that is a foreign key, so the table is made again as 0001 made it
        op.execute("ALTER TABLE collection RENAME TO collection_before")
        op.create_table(
            "collection",
            sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
            sa.Column("uuid", sa.String(length=36), nullable=False),
            sa.Column("space_id", _ID),
            sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
            sa.CheckConstraint("id = 1", name="ck_collection_single_row"),
            sa.ForeignKeyConstraint(["space_id"], ["space.id"], name="fk_collection_space_id"),
            sa.PrimaryKeyConstraint("id", name="pk_collection"),
        )
        op.execute("INSERT INTO collection SELECT id, uuid, space_id, created_at FROM collection_before")
        op.execute("DROP TABLE collection_before")
    op.drop_table("projection")
