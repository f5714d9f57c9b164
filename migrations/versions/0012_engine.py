"""The engine that holds a collection's vectors, with the reports of its indexes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("collection", sa.Column("engine", sa.JSON(none_as_null=True)))


def downgrade() -> None:
    op.drop_column("collection", "engine")
