"""A copy of a collection's database while others read and write it. Knows SQLite's files, nothing of what they say."""

from __future__ import annotations

import contextlib
import os
import secrets
import sqlite3
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.engine import URL

from e2vsearch.catalog.database import place, sqlite_file
from e2vsearch.errors import CatalogError


def backup(url: URL, target: Path) -> int:
    """Writes all that is committed at this moment to one new file, and gives its size in bytes.

    SQLite's online backup reads one snapshot of the write-ahead log: nobody waits, and what is committed meanwhile is
    not in it. The file is checked, synced and only then given its name.

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
    aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy(file, aside)
        aside.rename(target)
        return target.stat().st_size
    except (sqlite3.Error, OSError) as error:
        raise CatalogError(f"{target} cannot be written ({error}): free the disk, or name another file") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def _copy(file: Path, aside: Path) -> None:
    source = sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True)
    try:
        copy = sqlite3.connect(aside)
        try:
            source.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, whole by itself
            found = str(copy.execute("PRAGMA quick_check(1)").fetchone()[0])
            if found != "ok":
                raise sqlite3.DatabaseError(f"the copy of {file} is damaged: {found}")
        finally:
            copy.close()
    finally:
        source.close()
    descriptor = os.open(aside, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
