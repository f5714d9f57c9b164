"""A CRC-32 of every row that is shown, so that a changed bit is noticed where it is read.

In that of a segment's vector is from now on the recording that the segment is of.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from e2vsearch.catalog.columns import RowChecksum, UtcDateTime, checksum
from e2vsearch.catalog.row_checksums import ALL

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_AT_ONCE = 1000  # rows
_DATES = {"recorded_at", "added_at"}
_LISTS = {"roles", "overlaps", "silences"}


def upgrade() -> None:
    for of in ALL:
        op.add_column(of.table, sa.Column("crc32", sa.BigInteger(), server_default=sa.text("0"), nullable=False))
        _fill(of)
    _mix_recordings()


def downgrade() -> None:
    _mix_recordings()  # twice is none
    for of in reversed(ALL):
        op.drop_column(of.table, "crc32")


def _fill(of: RowChecksum) -> None:
    """Fill the new column in order of the key, some rows in memory at a time."""
    connection = op.get_bind()
    table = sa.Table(of.table, sa.MetaData(), autoload_with=connection)
    keys = list(table.primary_key)
    for column in table.columns:
        if column.name in _DATES:
            column.type = UtcDateTime()
        elif column.name in _LISTS:
            column.type = sa.JSON()
    columns = {column.name: column for column in (*keys, *(table.c[name] for name in of.columns))}
    query = sa.select(*columns.values()).order_by(*keys).limit(_AT_ONCE)
    same = sa.and_(*(key == sa.bindparam(f"its_{key.name}") for key in keys))
    update = sa.update(table).where(same).values(crc32=sa.bindparam("its_crc32"))
    rows = connection.execute(query).mappings().all()
    while rows:
        values = [
            {"its_crc32": of.of_values(dict(row)), **{f"its_{key.name}": row[key.name] for key in keys}} for row in rows
        ]
        connection.execute(update, values)
        last = tuple(rows[-1][key.name] for key in keys)
        rows = connection.execute(query.where(sa.tuple_(*keys) > last)).mappings().all()


def _mix_recordings() -> None:
    """Put the recording into each vector's checksum, or take it out; one that is wrong stays wrong."""
    connection = op.get_bind()
    if connection.dialect.name == "sqlite":
        driver = connection.connection.driver_connection
        assert driver is not None  # it is open
        driver.create_function(
            "mixed", 2, lambda crc32, recording: crc32 ^ checksum(b"", recording), deterministic=True
        )
        op.execute("UPDATE vector SET crc32 = mixed(crc32, (SELECT recording_id FROM segment WHERE id = segment_id))")
        return
    of = sa.table("segment", sa.column("id"), sa.column("recording_id"))
    vector = sa.table("vector", sa.column("segment_id"), sa.column("crc32"))
    query = sa.select(of.c.id, of.c.recording_id).order_by(of.c.id).limit(_AT_ONCE)
    update = sa.update(vector).where(vector.c.segment_id == sa.bindparam("its_id"))
    update = update.values(crc32=vector.c.crc32.op("#")(sa.bindparam("its", type_=sa.BigInteger())))
    last = 0
    while rows := connection.execute(query.where(of.c.id > last)).all():
        connection.execute(update, [{"its_id": row.id, "its": checksum(b"", row.recording_id)} for row in rows])
        last = rows[-1].id
