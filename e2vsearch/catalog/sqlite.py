"""SQLite files: opened for reading even where nothing can be written, and every error of theirs with its cure.

A database in write-ahead logging needs a file ``-shm`` beside it even to be read, which a read-only or full disk does
not give it. Such a file is opened as ``immutable`` instead, without locks, if its log holds nothing that is not in the
database yet; and opened again, once it was changed.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from e2vsearch.errors import CatalogError, first_line

BUSY_TIMEOUT_S = 60
"""How long a writer waits for another process's transaction. A recording is stored in milliseconds."""

READ_ONLY = "e2vsearch_read_only"
"""Key in a connection's `info` where nothing can be written: the line that says why, with the cure."""

STATE = "e2vsearch_state"
"""Key in its `info`: the state of the files when it was opened, without locks."""

_FULL = ("SQLITE_FULL", "SQLITE_IOERR")  # a full disk is an I/O error too, where a file cannot be made longer
_FORBIDDEN = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")
_LOCKED = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_PROTOCOL")
_NO_TEXT = "Could not decode to UTF-8"  # the driver's own error, of a byte that was text when it was written
_NO_SCHEMA = ("no such table", "no such column")  # the revision was compared before: one was there
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")


def open_file(file: Path, opened: Callable[..., Any], info: dict[Any, Any]) -> Any:
    """Return a connection to a database file, in write-ahead logging, or else one that can only read.

    Args:
        file: of the database; made if it is not there.
        opened: makes a connection of a path or URI, as `sqlite3.connect`.
        info: of the connection; has `READ_ONLY` if it can only read.

    Raises:
        sqlite3.Error: it cannot be read either.
    """
    for key in (READ_ONLY, STATE):
        info.pop(key, None)
    state = files_state(file)
    connection = None
    try:
        connection = opened(str(file))
        _use_wal(connection)
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    except UnicodeDecodeError as error:  # the driver's, of what SQLite quotes in its message of a damaged schema
        if connection is not None:
            connection.close()
        damage = sqlite3.DatabaseError("the schema is malformed")
        damage.sqlite_errorname = _DAMAGED[0]
        raise damage from error
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        if not _is(error, *_FULL, *_FORBIDDEN) or not _whole(file):
            raise
        info[READ_ONLY], info[STATE] = explain(error, file, "written"), state
    else:
        return connection
    connection = opened(f"file:{quote(str(file.absolute()))}?immutable=1", uri=True)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def is_current(file: Path, info: dict[Any, Any]) -> bool:
    """Return whether a connection that takes no locks sees the file as it is: it does not, once that was changed."""
    return bool(info[STATE] == files_state(file))


def files_state(file: Path) -> tuple[int, ...]:
    """Return times and sizes of a database and its logs, which change with every commit."""
    state: list[int] = []
    for path in (file, *_logs(file)):
        try:
            stat = path.stat()
        except OSError:
            state += (0, 0)
        else:
            state += (stat.st_mtime_ns, stat.st_size)
    return tuple(state)


def explain(error: BaseException, file: Path, what: str) -> str | None:
    """Return what a disk, a permission, a lock or damage did to a database, in one line with the cure; else None.

    Args:
        error: of sqlite3, or what SQLAlchemy made of it.
        file: of the database.
        what: could not be done, such as ``written``.
    """
    found = getattr(error, "orig", None) or error
    if not isinstance(found, sqlite3.Error):
        return None
    cure = _cure(found, file)
    return None if cure is None else f"{file} cannot be {what}: {first_line(found)} - {cure}"


def is_damage(error: BaseException) -> bool:
    """Return whether an error, or what it was made of, says that a database file is damaged."""
    causes = (error, error.__cause__, getattr(error, "orig", None))
    return any(each is not None and _is(each, *_DAMAGED) for each in causes)


def _cure(error: sqlite3.Error, file: Path) -> str | None:
    if _is(error, *_DAMAGED) or str(error).startswith((_NO_TEXT, *_NO_SCHEMA)):
        return "restore it from a backup, or name another --index; e2vsearch db verify checks it"
    if _is(error, *_LOCKED):
        return f"{_holder(file)}: wait until it is done; on a network share, only where that has locks"
    if _is(error, *_FULL):
        return "the disk is full, or fails: free some of it, then run this again; what is stored stays as it is"
    if _is(error, *_FORBIDDEN):
        there = os.path.exists(file)  # noqa: PTH110 - Path.exists raises where this user may not look
        if (there and not os.access(file, os.R_OK)) or not os.access(file.parent, os.X_OK):
            return "this user may not read it: give it the permission, or run this as its owner"
        if there and not _whole(file) and not os.access(file.parent, os.W_OK):
            return (
                "the folder is read-only, and a log beside the database holds what is not in it yet: open it once "
                "where it can be written, or in a copy of the folder"
            )
        return "the folder is read-only, or another user's: make it writable, or work on a copy of it"
    return None


def _is(error: BaseException, *names: str) -> bool:
    """Return whether an error is one of these, or of their extended codes, such as ``SQLITE_IOERR_SHMSIZE``."""
    name = str(getattr(error, "sqlite_errorname", ""))
    return any(name == each or name.startswith(f"{each}_") for each in names)


def _whole(file: Path) -> bool:
    """Return whether a database is there, and no log holds a part of it."""
    try:
        return file.stat().st_size > 0 and not any(log.is_file() and log.stat().st_size for log in _logs(file))
    except OSError:
        return False


def _logs(file: Path) -> tuple[Path, Path]:
    return file.with_name(f"{file.name}-wal"), file.with_name(f"{file.name}-journal")


def _holder(file: Path) -> str:
    """Return who writes to a database, as far as Linux tells."""
    numbers = set()
    for path in (file, file.with_name(f"{file.name}-shm")):
        try:
            numbers.add(str(path.stat().st_ino))
        except OSError:
            continue
    try:
        lines = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        lines = []
    fields = [line.split() for line in lines if "WRITE" in line]
    found = {each[4] for each in fields if len(each) > 5 and each[5].rpartition(":")[2] in numbers}
    found -= {str(os.getpid()), "-1"}
    return f"process {', '.join(sorted(found))} is writing to it" if found else "another process is writing to it"


def _use_wal(connection: Any) -> None:
    """Switch to write-ahead logging, once for the file's life; SQLite's own timeout does not cover this change."""
    until = time.monotonic() + BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if not _is(error, *_LOCKED) or time.monotonic() > until:
                raise
            time.sleep(0.01)  # another process is making the same file
        else:
            return


def refuse_writes(info: dict[Any, Any]) -> None:
    """Check that a connection can write; one that cannot is opened anew for its next use.

    Raises:
        CatalogError: it cannot.
    """
    why = info.get(READ_ONLY)
    if why is not None:
        info[STATE] = None
        raise CatalogError(why)
