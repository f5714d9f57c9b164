"""Write ``sqlite.sql``: the schema that the migrations make of an empty SQLite database, to be made at once.

python migrations/snapshot.py
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from e2vsearch.catalog import upgrade
from e2vsearch.catalog.database import connect

SNAPSHOT = Path(__file__).parent / "sqlite.sql"


def migrated(folder: Path) -> str:
    """Return the schema of a database in that folder, migrated from nothing."""
    engine = connect(f"sqlite:///{folder / 'migrated.db'}")
    with engine.execution_options(e2vsearch_writes=True).begin() as connection:
        upgrade.migrate(connection)
        made = upgrade.snapshot(connection)
    engine.dispose()
    return made


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        SNAPSHOT.write_text(migrated(Path(folder)), encoding="utf-8")
