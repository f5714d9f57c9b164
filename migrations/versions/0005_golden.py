"""The golden vector of a space: what its encoder made of one fixed clip when the collection was pinned to it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("space", sa.Column("golden", sa.LargeBinary()))


def downgrade() -> None:
    op.drop_column("space", "golden")
