"""The field's words: named vectors, the reference embedding of a space, leases and dead letters of the queue."""

from __future__ import annotations

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_MOMENT = sa.DateTime(timezone=True)

_STATES = {"queued": "queued", "taken": "leased", "parked": "dead_letter"}
_BEFORE = {new: old for old, new in _STATES.items()}
_CLUSTER_KEYS = {"moments": "segments", "calls": "recordings"}
_FORMER_CHECK, _CHECK = "ck_job_ck_job_state", "ck_job_state"  # 0004 got the prefix twice

# Postgres renames in place. `(table, constraint before, constraint after)`, in the words of this revision
_CONSTRAINTS = (
    ("named_vector_set", "pk_side", "pk_named_vector_set"),
    ("named_vector_set", "uq_side_name", "uq_named_vector_set_name"),
    ("named_vector", "pk_side_vector", "pk_named_vector"),
    ("named_vector", "fk_side_vector_side_id", "fk_named_vector_set_id"),
    ("named_vector", "fk_side_vector_segment_id", "fk_named_vector_segment_id"),
)


def upgrade() -> None:
    op.execute("UPDATE map SET by = 'recording' WHERE by = 'call'")
    _rename_keys(_CLUSTER_KEYS)
    op.execute("ALTER TABLE space RENAME COLUMN golden TO reference_embedding")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE side RENAME TO named_vector_set")
        op.execute("ALTER SEQUENCE side_id_seq RENAME TO named_vector_set_id_seq")
        op.execute("ALTER TABLE side_vector RENAME TO named_vector")
        op.execute("ALTER TABLE named_vector RENAME COLUMN side_id TO set_id")
        for table, before, after in _CONSTRAINTS:
            op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {before} TO {after}")
        op.execute("ALTER TABLE job RENAME COLUMN holder TO worker")
        _rename_states(_STATES, _FORMER_CHECK, _CHECK)
    else:
        _copy_vectors("side", "side_vector", "side_id", "named_vector_set", "named_vector", "set_id")
        _copy_jobs("holder", "worker", _STATES, _CHECK)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        _rename_states(_BEFORE, _CHECK, _FORMER_CHECK)
        op.execute("ALTER TABLE job RENAME COLUMN worker TO holder")
        for table, before, after in _CONSTRAINTS:
            op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {after} TO {before}")
        op.execute("ALTER TABLE named_vector RENAME COLUMN set_id TO side_id")
        op.execute("ALTER TABLE named_vector RENAME TO side_vector")
        op.execute("ALTER SEQUENCE named_vector_set_id_seq RENAME TO side_id_seq")
        op.execute("ALTER TABLE named_vector_set RENAME TO side")
    else:
        _copy_jobs("worker", "holder", _BEFORE, _FORMER_CHECK)
        _copy_vectors("named_vector_set", "named_vector", "set_id", "side", "side_vector", "side_id")
    op.execute("ALTER TABLE space RENAME COLUMN reference_embedding TO golden")
    _rename_keys({new: old for old, new in _CLUSTER_KEYS.items()})
    op.execute("UPDATE map SET by = 'call' WHERE by = 'recording'")


def _rename_keys(names: Mapping[str, str]) -> None:
    """Rename keys in the clusters of maps; within a JSON string the quotes of a key would have backslashes."""
    for old, new in names.items():
        replaced = f"""REPLACE(CAST(clusters AS TEXT), '"{old}": ', '"{new}": ')"""
        op.execute(
            f"UPDATE map SET clusters = CAST({replaced} AS JSON)"
            if op.get_bind().dialect.name == "postgresql"
            else f"UPDATE map SET clusters = {replaced}"
        )


def _rename_states(names: Mapping[str, str], check: str, new_check: str) -> None:
    """Rename the states of jobs in place; the constraint and the partial index name them too."""
    op.drop_index("ix_job_order", "job")
    op.drop_constraint(op.f(check), "job", type_="check")
    op.execute(_renamed("UPDATE job SET state = {state}", names))
    op.create_check_constraint(op.f(new_check), "job", _one_of(names))
    _create_order(names)


def _copy_vectors(sets: str, vectors: str, key: str, new_sets: str, new_vectors: str, new_key: str) -> None:
    """Copy both tables of named vectors under other names: SQLite renames a table, but none of its constraints."""
    op.create_table(
        new_sets,
        sa.Column("id", _ID, nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("created_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=f"pk_{new_sets}"),
        sa.UniqueConstraint("name", name=f"uq_{new_sets}_name"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        new_vectors,
        sa.Column(new_key, _ID, nullable=False),
        sa.Column("segment_id", _ID, nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint([new_key], [f"{new_sets}.id"], name=f"fk_{new_vectors}_{new_key}", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(
            ["segment_id"], ["segment.id"], name=f"fk_{new_vectors}_segment_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint(new_key, "segment_id", name=f"pk_{new_vectors}"),
    )
    op.execute(f"INSERT INTO {new_sets} (id, name, dim, created_at) SELECT id, name, dim, created_at FROM {sets}")
    op.execute(
        f"INSERT INTO {new_vectors} ({new_key}, segment_id, vector) "
        f"SELECT {key}, segment_id, vector FROM {vectors} ORDER BY {key}, segment_id"
    )
    _copy_sequence(sets, new_sets)
    op.drop_table(vectors)
    op.drop_table(sets)


def _copy_jobs(worker: str, new_worker: str, names: Mapping[str, str], check: str) -> None:
    """Copy the queue, whose check constraint SQLite cannot change in place."""
    op.drop_index("ix_job_order", "job")
    op.rename_table("job", "job_before")
    op.create_table(
        "job",
        sa.Column("id", _ID, nullable=False),
        sa.Column("uri", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("enqueued_at", _MOMENT, nullable=False),
        sa.Column("due_at", _MOMENT),
        sa.Column(new_worker, sa.String(length=255)),
        sa.Column("token", sa.String(length=32)),
        sa.Column("reason", sa.String(length=64)),
        sa.Column("message", sa.Text()),
        sa.Column("details", sa.JSON(none_as_null=True)),
        sa.Column("recorded_at", _MOMENT),
        sa.CheckConstraint(_one_of(names), name=op.f(check)),
        sa.PrimaryKeyConstraint("id", name="pk_job"),
        sa.UniqueConstraint("uri", name="uq_job_uri"),
        sqlite_autoincrement=True,
    )
    same = "id, uri, priority, attempts, enqueued_at, due_at, token, reason, message, details, recorded_at"
    op.execute(
        _renamed(
            f"INSERT INTO job ({same}, state, {new_worker}) SELECT {same}, {{state}}, {worker} FROM job_before", names
        )
    )
    _copy_sequence("job_before", "job")
    op.drop_table("job_before")
    _create_order(names)


def _copy_sequence(before: str, after: str) -> None:
    """Let ids go on from where they were: the id of a deleted last row is not used again."""
    op.execute(f"DELETE FROM sqlite_sequence WHERE name = '{after}'")
    op.execute(
        f"INSERT INTO sqlite_sequence (name, seq) SELECT '{after}', seq FROM sqlite_sequence WHERE name = '{before}'"
    )


def _create_order(names: Mapping[str, str]) -> None:
    last = list(names.values())[-1]
    where = sa.text(f"state <> '{last}'")
    op.create_index(
        "ix_job_order", "job", [sa.text("priority DESC"), "id"], postgresql_where=where, sqlite_where=where
    )  # fmt: skip


def _one_of(names: Mapping[str, str]) -> str:
    return f"state in ({', '.join(repr(name) for name in names.values())})"


def _renamed(statement: str, names: Mapping[str, str]) -> str:
    cases = " ".join(f"WHEN '{old}' THEN '{new}'" for old, new in names.items())
    return statement.format(state=f"CASE state {cases} END")
