"""A CRC-32 of every row that is shown, so that a changed bit is noticed where it is read."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from e2vsearch.catalog.columns import RowChecksum, UtcDateTime
from e2vsearch.catalog.row_checksums import ALL

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_AT_ONCE = 1000  # rows
_DATES = {"recorded_at", "added_at"}
_LISTS = {"roles", "overlaps", "silences"}


def upgrade() -> None:
    for checksum in ALL:
        op.add_column(checksum.table, sa.Column("crc32", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
        _fill(checksum)


def downgrade() -> None:
    for checksum in reversed(ALL):
        op.drop_column(checksum.table, "crc32")


def _fill(checksum: RowChecksum) -> None:
    """Fill the new column in order of the key, some rows in memory at a time."""
    connection = op.get_bind()
    table = sa.Table(checksum.table, sa.MetaData(), autoload_with=connection)
    keys = list(table.primary_key)
    for column in table.columns:
        if column.name in _DATES:
            column.type = UtcDateTime()
        elif column.name in _LISTS:
            column.type = sa.JSON()
    columns = {column.name: column for column in (*keys, *(table.c[name] for name in checksum.columns))}
    query = sa.select(*columns.values()).order_by(*keys).limit(_AT_ONCE)
    same = sa.and_(*(key == sa.bindparam(f"its_{key.name}") for key in keys))
    update = sa.update(table).where(same).values(crc32=sa.bindparam("its_crc32"))
    rows = connection.execute(query).mappings().all()
    while rows:
        values = [
            {"its_crc32": checksum.of_values(dict(row)), **{f"its_{key.name}": row[key.name] for key in keys}}
            for row in rows
        ]
        connection.execute(update, values)
        last = tuple(rows[-1][key.name] for key in keys)
        rows = connection.execute(query.where(sa.tuple_(*keys) > last)).mappings().all()
