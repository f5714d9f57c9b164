"""A second space beside the one in use: its vectors, what it says of segments, and projections of its own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.add_column("space", sa.Column("vectors", sa.String(length=16)))
    op.add_column("space", sa.Column("state", sa.String(length=16)))
    op.execute("UPDATE space SET vectors = 'vector'")
    op.create_table(
        "vector_beside",
        sa.Column("segment_id", _ID, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("crc32", sa.BigInteger(), nullable=False),
        *_keys("vector_beside"),
    )
    op.create_table(
        "segment_beside",
        sa.Column("segment_id", _ID, nullable=False),
        sa.Column("label", sa.String(length=64)),
        sa.Column("label_score", sa.Float(53)),
        sa.Column("scores", sa.LargeBinary()),
        sa.Column("arousal", sa.Float(53)),
        sa.Column("valence", sa.Float(53)),
        sa.Column("crc32", sa.BigInteger(), nullable=False),
        *_keys("segment_beside"),
    )
    _unique_projections(["space_id", "name"], "uq_projection_name", "uq_projection_space_id_name")


def downgrade() -> None:
    """Delete the space beside the one in use, and what it has.

    Raises:
        RuntimeError: the one in use has its vectors in the second table, which former schemas do not know.
    """
    connection = op.get_bind()
    used = "SELECT vectors FROM space JOIN collection ON collection.space_id = space.id"
    if connection.execute(sa.text(used)).scalar() == "vector_beside":
        raise RuntimeError("re-embed the collection once more first: its vectors are in a table that 0012 has not")
    op.execute("DELETE FROM projection WHERE space_id NOT IN (SELECT space_id FROM collection)")
    _unique_projections(["name"], "uq_projection_space_id_name", "uq_projection_name")
    op.drop_table("segment_beside")
    op.drop_table("vector_beside")
    op.drop_column("space", "state")
    op.drop_column("space", "vectors")


def _keys(table: str) -> tuple[sa.Constraint, ...]:
    of_segment = sa.ForeignKeyConstraint(
        ["segment_id"], ["segment.id"], name=f"fk_{table}_segment_id", ondelete="CASCADE"
    )
    return sa.PrimaryKeyConstraint("segment_id", name=f"pk_{table}"), of_segment


def _unique_projections(columns: list[str], before: str, after: str) -> None:
    """Change what is unique of projections. SQLite copies the table, which the collection's row refers to."""
    if op.get_bind().dialect.name == "postgresql":
        op.drop_constraint(before, "projection")
        op.create_unique_constraint(after, "projection", columns)
        return
    # no statement may break the reference: rows go into a table of another name, and come back
    op.execute("CREATE TEMPORARY TABLE used_projection AS SELECT projection_id FROM collection")
    op.execute("UPDATE collection SET projection_id = NULL")
    op.execute("CREATE TEMPORARY TABLE former_projection AS SELECT * FROM projection")
    op.execute("DROP TABLE projection")
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
        sa.UniqueConstraint(*columns, name=after),
        sqlite_autoincrement=True,
    )
    op.execute("INSERT INTO projection SELECT * FROM former_projection")
    op.execute("UPDATE collection SET projection_id = (SELECT projection_id FROM used_projection)")
    op.execute("DROP TABLE former_projection")
    op.execute("DROP TABLE used_projection")
