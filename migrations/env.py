"""How Alembic reaches the database: `e2vsearch.catalog` hands it an open connection."""

from __future__ import annotations

from alembic import context

from e2vsearch.catalog import beside  # noqa: F401 - two more tables
from e2vsearch.catalog.schema import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    render_as_batch=connection.dialect.name == "sqlite",  # SQLite alters a table by copying it
    compare_type=True,
)
with context.begin_transaction():
    context.run_migrations()
