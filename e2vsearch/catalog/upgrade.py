"""Makes and upgrades the database's schema, by Alembic.

Opening a collection does not load Alembic: it compares the stored revision with `SCHEMA_REVISION`. Nor does a new
SQLite file: it is made of ``migrations/sqlite.sql``, what the migrations come to, in 9 ms where they take 80.
"""

from __future__ import annotations

import re
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, inspect, text
from sqlalchemy.exc import OperationalError

from e2vsearch.catalog.database import write_error
from e2vsearch.catalog.schema import SCHEMA_REVISION
from e2vsearch.errors import CatalogError, NoCollection, SchemaTooNew, SchemaTooOld

if TYPE_CHECKING:
    from alembic.config import Config

_LOCK_KEY = 0x6532_7673  # "e2vs": the Postgres advisory lock that lets one process upgrade at a time
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True, slots=True)
class Revision:
    """One step of the schema's history."""

    revision: str
    message: str
    applied: bool


def current(engine: Engine) -> str | None:
    """Return the schema revision of the database, None where there is no collection in it."""
    with engine.connect() as connection:
        return _current(connection)


def check(engine: Engine, place: str) -> None:
    """Check that the schema is the one that this version works with.

    Raises:
        NoCollection: the database is empty.
        SchemaTooOld: it needs an upgrade, which the message says how to do.
        SchemaTooNew: it was made by a newer version.
    """
    revision = current(engine)
    if revision == SCHEMA_REVISION:
        return
    if revision is None:
        raise NoCollection(f"no collection in {place} - make one with: e2vsearch ingest FOLDER --index {place}")
    if revision.isdigit() and int(revision) < int(SCHEMA_REVISION):
        raise SchemaTooOld(
            f"{place} has schema {revision}, this version works with {SCHEMA_REVISION} - "
            f"back it up, then type: e2vsearch db upgrade --index {place}"
        )
    raise SchemaTooNew(
        f"{place} has schema {revision}, newer than the {SCHEMA_REVISION} of this version - "
        "upgrade e2vsearch itself: pip install -U e2vsearch"
    )


def upgrade(engine: Engine) -> None:
    """Bring the database to `SCHEMA_REVISION`, from an empty one too; nothing happens if it is there already.

    Raises:
        SchemaTooNew: it was made by a newer version.
        CatalogError: the package's migrations are missing, or the database cannot be written.
    """
    try:
        _upgrade(engine)
    except OperationalError as error:
        raise write_error(engine.url, error) from error


def migrate(connection: Connection) -> None:
    """Run the migrations that the database lacks, within a transaction that writes."""
    from alembic import command

    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def snapshot(connection: Connection) -> str:
    """Return the SQL that makes the SQLite database's schema anew: what ``migrations/sqlite.sql`` holds."""
    query = "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite#_%' ESCAPE '#'"
    made = {row.name: row.sql for row in connection.execute(text(f"{query} ORDER BY rowid"))}
    virtual = [name for name, sql in made.items() if sql.startswith("CREATE VIRTUAL TABLE")]
    # a virtual table makes its own tables, named after it
    statements = [sql for name, sql in made.items() if not name.startswith(tuple(f"{of}_" for of in virtual))]
    statements.append(f"INSERT INTO alembic_version (version_num) VALUES ('{_current(connection)}')")
    return re.sub(r" +$", "", "".join(f"{statement};\n" for statement in statements), flags=re.MULTILINE)


def _upgrade(engine: Engine) -> None:
    # Alembic's context is one for the whole process
    with _ONE_AT_A_TIME, engine.execution_options(e2vsearch_writes=True).begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK_KEY})
        revision = _current(connection)
        if revision == SCHEMA_REVISION:
            return
        if revision is not None and (not revision.isdigit() or int(revision) > int(SCHEMA_REVISION)):
            raise SchemaTooNew(f"the database has schema {revision}, newer than {SCHEMA_REVISION}: upgrade e2vsearch")
        if revision is None and connection.dialect.name == "sqlite":
            for statement in _statements((_migrations() / "sqlite.sql").read_text(encoding="utf-8")):
                connection.exec_driver_sql(statement)
            revision = _current(connection)
        if revision != SCHEMA_REVISION:
            migrate(connection)


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script; those of a trigger are one with it."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def history(engine: Engine) -> list[Revision]:
    """Return every revision of the schema, oldest first."""
    from alembic.script import ScriptDirectory

    applied = current(engine) or ""
    scripts = list(ScriptDirectory.from_config(_config()).walk_revisions())
    return [Revision(script.revision, script.doc, script.revision <= applied) for script in reversed(scripts)]


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    revision: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return revision


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_migrations()).replace("%", "%%"))
    return config


def _migrations() -> Path:
    package = Path(__file__).parent.parent
    for folder in (package / "migrations", package.parent / "migrations"):  # in a wheel; in a checkout
        if (folder / "env.py").is_file():
            return folder
    raise CatalogError(f"the migrations are missing beside {package}: reinstall e2vsearch")
