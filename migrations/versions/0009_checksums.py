"""A CRC-32 of every vector, so that a changed bit is noticed where it is read."""

from __future__ import annotations

import zlib

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_KEYS = {"vector": ("segment_id",), "named_vector": ("set_id", "segment_id")}
_PARENTS = {"segment_id": "segment", "set_id": "named_vector_set"}
_AT_ONCE = 1000  # rows: 4 MB of 1024-d vectors


def upgrade() -> None:
    for table, keys in _KEYS.items():
        if op.get_bind().dialect.name == "postgresql":
            op.add_column(table, sa.Column("crc32", sa.BigInteger()))
            _fill(table, keys)
            op.alter_column(table, "crc32", nullable=False)
        else:
            _copy(table, keys)


def downgrade() -> None:
    for table in _KEYS:
        op.drop_column(table, "crc32")


def _copy(table: str, keys: tuple[str, ...]) -> None:
    """Copy a table: SQLite adds no column that is filled and not null, and an update would write each row twice."""
    connection = op.get_bind()
    driver = connection.connection.driver_connection
    assert driver is not None  # it is open
    driver.create_function("crc32", 1, zlib.crc32, deterministic=True)
    op.rename_table(table, f"{table}_before")
    op.create_table(
        table,
        *(sa.Column(key, _ID, nullable=False) for key in keys),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("crc32", sa.BigInteger(), nullable=False),
        *(
            sa.ForeignKeyConstraint([key], [f"{_PARENTS[key]}.id"], name=f"fk_{table}_{key}", ondelete="CASCADE")
            for key in keys
        ),
        sa.PrimaryKeyConstraint(*keys, name=f"pk_{table}"),
    )
    columns = f"{', '.join(keys)}, vector"
    op.execute(
        f"INSERT INTO {table} ({columns}, crc32) "
        f"SELECT {columns}, crc32(vector) FROM {table}_before ORDER BY {', '.join(keys)}"
    )
    op.drop_table(f"{table}_before")


def _fill(table: str, keys: tuple[str, ...]) -> None:
    """Fill the new column in order of the key, some rows in memory at a time."""
    connection = op.get_bind()
    columns = [sa.column(key, sa.BigInteger()) for key in keys]
    rows = sa.table(table, *columns, sa.column("vector"), sa.column("crc32"))
    query = sa.select(*columns, rows.c.vector).order_by(*columns).limit(_AT_ONCE)
    same = sa.and_(*(column == sa.bindparam(f"its_{column.name}") for column in columns))
    update = sa.update(rows).where(same).values(crc32=sa.bindparam("its_crc32"))
    last = tuple(0 for _ in keys)
    while found := connection.execute(query.where(sa.tuple_(*columns) > last)).all():
        values = [
            {"its_crc32": zlib.crc32(row.vector)} | {f"its_{key}": getattr(row, key) for key in keys} for row in found
        ]
        connection.execute(update, values)
        last = tuple(getattr(found[-1], key) for key in keys)
