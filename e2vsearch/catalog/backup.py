"""Copies of a collection's database while others read and write it."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy.engine import URL

from e2vsearch.catalog.database import place, sqlite_file
from e2vsearch.catalog.sqlite import explain, open_file
from e2vsearch.errors import CatalogError
from e2vsearch.files import atomic_path, unwritable


def backup(url: URL, target: Path) -> int:
    """Write all that is committed at this moment to one new file, and return its size in bytes.

    SQLite's online backup reads one snapshot of the write-ahead log: no other connection waits, and later commits are
    not in it. The file is checked and synced before it gets its name.

    Args:
        url: of the database.
        target: a file that is not there yet.

    Raises:
        CatalogError: the file is there, or cannot be written; a database in Postgres.
    """
    file = sqlite_file(url)
    if file is None:
        raise CatalogError(
            f"a collection in Postgres is copied by Postgres, while it runs: pg_dump --format=custom --file={target} "
            f"'{place(url)}'"
        )
    if target.exists():
        raise CatalogError(f"{target} is there already - name a new file")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as aside:
            _copy(file, aside)
        return target.stat().st_size
    except sqlite3.Error as error:
        line = explain(error, target, "written") or f"{target} cannot be written: {error} - name another file"
        raise CatalogError(line) from error
    except OSError as error:
        raise CatalogError(unwritable(target, error)) from error


def _copy(file: Path, aside: Path) -> None:
    with closing(open_file(file, sqlite3.connect, {})) as source, closing(sqlite3.connect(aside)) as copy:
        source.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")  # one file, complete without a log
        found = str(copy.execute("PRAGMA quick_check(1)").fetchone()[0])
        if found != "ok":
            raise sqlite3.DatabaseError(f"the copy of {file} is damaged: {found}")
