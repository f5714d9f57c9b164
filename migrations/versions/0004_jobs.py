"""The queue that workers take recordings from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "job",
        sa.Column("id", _ID, nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("enqueued_at", _MOMENT, nullable=False),
        sa.Column("due_at", _MOMENT),
        sa.Column("holder", sa.String(length=255)),
        sa.Column("token", sa.String(length=32)),
        sa.Column("reason", sa.String(length=64)),
        sa.Column("message", sa.Text()),
        sa.Column("details", sa.JSON(none_as_null=True)),
        sa.Column("recorded_at", _MOMENT),
        sa.CheckConstraint("state in ('queued', 'taken', 'parked')", name="ck_job_state"),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.UniqueConstraint("uri", name="uq_job_uri"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_job_order",
        "job",
        [sa.text("priority DESC"), "id"],
        postgresql_where=sa.text("state <> 'parked'"),
        sqlite_where=sa.text("state <> 'parked'"),
    )


def downgrade() -> None:
    op.drop_table("job")
