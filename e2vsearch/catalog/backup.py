"""Copies of a collection's database while others read and write it."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import create_engine
from sqlalchemy.engine import URL
from sqlalchemy.pool import StaticPool

from e2vsearch.catalog.beside import VECTOR_TABLES
from e2vsearch.catalog.columns import checksum
from e2vsearch.catalog.database import place, sqlite_file
from e2vsearch.catalog.row_checksums import damaged_rows
from e2vsearch.catalog.schema import NamedVectorRow, SegmentRow
from e2vsearch.catalog.sqlite import explain, open_file
from e2vsearch.errors import REPAIR, CatalogError
from e2vsearch.files import atomic_path, clear_abandoned, private_file, private_folder, unwritable
from e2vsearch.types import segment_id


def backup(url: URL, target: str | os.PathLike[str]) -> int:
    """Write all that is committed at this moment to one new file, and return its size in bytes.

    SQLite's online backup reads one snapshot of the write-ahead log: no other connection waits, and later commits are
    not in it. The file is checked, every page and vector of it, and synced before it gets its name. What a killed
    backup to the same file left is removed.

    Args:
        url: of the database.
        target: a file that is not there yet.

    Raises:
        CatalogError: the file is there, or cannot be written; the database is damaged; a database in Postgres.
    """
    target = Path(target).expanduser().absolute()
    file = sqlite_file(url)
    if file is None:
        raise CatalogError(
            f"a collection in Postgres is copied by Postgres, while it runs: pg_dump --format=custom --file={target} "
            f"'{place(url)}'"
        )
    if target.exists():
        raise CatalogError(f"{target} is there already - name a new file")
    try:
        private_folder(target.parent)
        clear_abandoned(target)
        with atomic_path(target) as aside:
            try:
                _copy(file, private_file(aside))
            finally:
                for suffix in ("-wal", "-shm", "-journal"):  # of a copy that failed
                    aside.with_name(aside.name + suffix).unlink(missing_ok=True)
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
        _check(copy, file)


def _check(copy: sqlite3.Connection, file: Path) -> None:
    """Check every page, vector and row of a copy.

    Raises:
        CatalogError: one of them is damaged, in the copy and so in the database.
    """
    found = str(copy.execute("PRAGMA integrity_check(1)").fetchone()[0])
    for table in (*VECTOR_TABLES, NamedVectorRow.__tablename__):
        if found == "ok":
            of = "recording_id" if table in VECTOR_TABLES else "NULL"
            joined = f"{table} JOIN {SegmentRow.__tablename__} ON id = segment_id"
            rows = copy.execute(f"SELECT segment_id, vector, {table}.crc32, {of} FROM {joined}")
            wrong = next((segment for segment, vector, crc32, of in rows if checksum(vector, of) != crc32), None)
            found = "ok" if wrong is None else f"the vector of {segment_id(wrong)}"
    if found == "ok":
        with create_engine("sqlite://", creator=lambda: copy, poolclass=StaticPool).connect() as connection:
            row = next(damaged_rows(connection), None)
            found = "ok" if row is None else f"a row of {row[0].table}"
    if found != "ok":
        raise CatalogError(f"{file} is damaged, and was not backed up ({found}) - mend it first: {REPAIR}")
