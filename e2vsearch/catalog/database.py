"""SQL engines for SQLite and Postgres, set up for durable commits, and the locations of collections."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, Dialect, ExceptionContext, make_url
from sqlalchemy.exc import (
    ArgumentError,
    DatabaseError,
    DataError,
    DBAPIError,
    DisconnectionError,
    IntegrityError,
    ProgrammingError,
    StatementError,
)
from sqlalchemy.pool import ConnectionPoolEntry

from e2vsearch.catalog import sqlite
from e2vsearch.errors import BadFilter, CatalogError, SettingsError, first_line, missing_extra
from e2vsearch.files import private_file, private_folder, unwritable
from e2vsearch.settings import user_cache

_P = ParamSpec("_P")
_T = TypeVar("_T")
_OPENED_AT = "e2vsearch_opened_at"  # in a connection's `info`: how often the engine had been disposed of


def connect(url: str | URL) -> Engine:
    """Return the engine for a database URL; it connects when first used.

    Raises:
        CatalogError: it is no URL, or one of a database that is neither SQLite nor Postgres.
        MissingExtra: Postgres without psycopg.
    """
    url = parse_url(url)
    engine = _sqlite(url) if url.get_backend_name() == "sqlite" else _postgres(url)
    _close_those_in_use(engine)
    return engine


def parse_url(url: str | URL) -> URL:
    """Parse the URL of a database that can hold a collection.

    Raises:
        CatalogError: it is no such URL.
    """
    try:
        found = make_url(url)
    except ArgumentError as error:
        raise CatalogError(f"{url} is no database URL - write e.g. postgresql://user@host/calls") from error
    kind = found.drivername.partition("+")[0]
    if kind not in ("sqlite", "postgresql", "postgres"):
        raise CatalogError(f"{kind} is not supported - use a folder (SQLite) or postgresql://user@host/database")
    return found.set(drivername="postgresql+psycopg") if kind != "sqlite" else found


def sqlite_file(url: str | URL) -> Path | None:
    """Return the file that a SQLite URL names, None for any other URL."""
    found = parse_url(url)
    return Path(found.database or "") if found.get_backend_name() == "sqlite" else None


def make_folder(folder: Path) -> None:
    """Make the folder of a collection, if it is not there.

    Raises:
        CatalogError: it cannot be made.
    """
    try:
        private_folder(folder)
    except OSError as error:
        raise CatalogError(unwritable(folder, error)) from error


def reachable(engine: Engine) -> None:
    """Check that the database can be connected to.

    Raises:
        CatalogError: it cannot, with the first line of the server's message.
    """
    try:
        with engine.connect():
            pass
    except DatabaseError as error:
        cure = "check that it runs and lets you in, or name another --index"
        if engine.dialect.name == "sqlite":
            cure = "check that it is a collection's database, or name another --index"
        raise CatalogError(f"cannot open {place(engine.url)}: {first_line(error)} - {cure}") from error


def is_file(path: Path) -> bool:
    """Return whether there is a file.

    Raises:
        CatalogError: this user may not look.
    """
    try:
        return path.is_file()
    except PermissionError as error:
        why = f"{path} may not be read by this user"
        raise CatalogError(f"{why}: give it the permission, or run this as the owner") from error


@contextmanager
def driver_errors(url: URL) -> Iterator[None]:
    """Give the errors of rows that are read past SQLAlchemy their lines, as the engine gives its own.

    Raises:
        CatalogError: a SQLite file cannot be read.
    """
    try:
        yield
    except sqlite3.Error as error:
        line = sqlite.explain(error, Path(url.database or ""), "read")
        raise CatalogError(
            line or f"{place(url)} cannot be read: {first_line(error)} - check it with e2vsearch db verify"
        ) from error


@contextmanager
def filtering() -> Iterator[None]:
    """Name the filter where the database cannot run it.

    Raises:
        BadFilter: it is too long or too deep, or a value is out of its range.
    """
    try:
        yield
    except StatementError as error:
        of_statement = getattr(error.orig, "sqlite_errorname", "") in ("SQLITE_ERROR", "SQLITE_TOOBIG")
        if not (of_statement or isinstance(error, DataError | ProgrammingError) or not isinstance(error, DBAPIError)):
            raise
        why = f"--where cannot be run by the database ({first_line(error)})"
        raise BadFilter(f"{why} - write it with fewer terms, or smaller values") from error


def place(url: URL) -> str:
    """Return how messages name the database: a file's path, or the URL without its password."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    return url.set(drivername="postgresql").render_as_string(hide_password=True)


def write_error(url: URL, error: DatabaseError) -> CatalogError:
    """Return the error for a database that cannot be written: the server is gone, say. A file has lines of its own."""
    cure = "check that the server runs and lets you in, then run this again"
    return CatalogError(f"{place(url)} cannot be written: {first_line(error)} - {cure}")


def _sqlite(url: URL) -> Engine:
    path = Path(url.database or "")
    if not url.database or not path.parent.is_dir():
        raise CatalogError(f"there is no folder {path.parent} to keep the database in - make it first")
    with suppress(OSError):  # SQLite says it better
        private_file(path)  # its log and shared memory get the same mode
    # the connection used last is used next: its page cache is warm
    engine = create_engine(
        url, connect_args={"timeout": sqlite.BUSY_TIMEOUT_S}, pool_use_lifo=True, json_deserializer=_parsed
    )

    @event.listens_for(engine, "do_connect")
    def open_file(dialect: Dialect, record: ConnectionPoolEntry, _: Any, parameters: dict[str, Any]) -> Any:
        def opened(name: str, **more: Any) -> Any:
            return dialect.connect(name, **parameters, **more)

        return sqlite.open_file(path, opened, record.info)

    @event.listens_for(engine, "connect")
    def set_up(connection: Any, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late; `begin` below sends it
        for pragma in ("synchronous = FULL", "foreign_keys = ON", "secure_delete = ON", "cache_size = -65536"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "checkout")
    def check(_: Any, record: ConnectionPoolEntry, __: Any) -> None:
        if sqlite.STATE in record.info and not sqlite.is_current(path, record.info):
            raise DisconnectionError  # the pool opens another

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        # A transaction that reads first and then writes fails at once with "database is locked" when another wrote
        # in between (180 of 240 in a test with four processes); BEGIN IMMEDIATE waits instead.
        writes = connection.get_execution_options().get("e2vsearch_writes")
        if writes:
            sqlite.refuse_writes(connection.info)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    @event.listens_for(engine, "handle_error")
    def explain(context: ExceptionContext) -> None:
        connection = context.connection
        writes = connection is not None and connection.get_execution_options().get("e2vsearch_writes")
        what = "opened" if connection is None else "written" if writes else "read"
        line = sqlite.explain(context.original_exception, path, what)
        if line is not None:
            raise CatalogError(line) from context.original_exception

    return engine


def _parsed(content: str) -> Any:
    """Parse JSON, which SQLite keeps as text."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise CatalogError(
            "a cell of the database should hold JSON, and is damaged - find it: e2vsearch db verify"
        ) from error


def _postgres(url: URL) -> Engine:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise missing_extra("a collection in Postgres", "postgres") from error
    return create_engine(url, pool_pre_ping=True)


def _close_those_in_use(engine: Engine) -> None:
    """Close connections that are in use when the engine is disposed of, once they are not: SQLAlchemy forgets them.

    A thread that reads, or rows that are read to the middle, would hold the database's file until Python cleans up.
    """
    disposed = 0

    @event.listens_for(engine, "engine_disposed")
    def count(_: Engine) -> None:
        nonlocal disposed
        disposed += 1

    @event.listens_for(engine, "connect")
    def note(_: Any, record: ConnectionPoolEntry) -> None:
        record.info[_OPENED_AT] = disposed

    @event.listens_for(engine, "checkin")
    def close(_: Any, record: ConnectionPoolEntry) -> None:
        if record.info.get(_OPENED_AT, disposed) != disposed:
            record.invalidate()


@dataclass(frozen=True, slots=True)
class Location:
    """Where a collection's catalog is, and where its generations go."""

    named: str  # as the user wrote it
    url: URL  # of the database
    folder: Path | None  # that holds ``generations/``; None: one in the cache, named by the collection's UUID

    def cached(self, cache: str, collection_id: str) -> Path:
        """Return the folder for generations: the collection's own, or one in the cache."""
        if self.folder is not None:
            return self.folder
        base = Path(cache).expanduser() if cache else user_cache()
        return base / collection_id


def locate(index: str | os.PathLike[str]) -> Location:
    """Return the location that ``--index`` names.

    Raises:
        SettingsError: it names a file.
        CatalogError: it is a URL that cannot hold a collection.
    """
    text = os.fspath(index)
    if "://" in text:
        url = parse_url(text)
        file = sqlite_file(url)
        return Location(place(url), url, file.parent if file is not None else None)
    folder = Path(text).expanduser()
    if is_file(folder):
        raise SettingsError(
            f"{folder} is a file - a collection is a folder, or a database URL such as sqlite:///{text}"
        )
    # not by text: a folder's name may hold "?" or "%", which mean something in a URL
    return Location(text, URL.create("sqlite", database=str((folder / "catalog.db").absolute())), folder)


def retried_on_conflict(write: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorate a function that looks and then writes in one transaction: it is called again after a conflict.

    On Postgres another process may store the same between our look and our write. The second look sees it.
    """

    @wraps(write)
    def written(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        with suppress(IntegrityError):
            return write(*args, **kwargs)
        return write(*args, **kwargs)

    return written


ROWS_PER_STATEMENT = 1000
"""Ids in one IN list, or rows in one INSERT: SQLite takes at most 32,766 values a statement."""


def chunks(values: Sequence[_T]) -> Iterator[Sequence[_T]]:
    """Yield values in pieces that one statement takes."""
    for start in range(0, len(values), ROWS_PER_STATEMENT):
        yield values[start : start + ROWS_PER_STATEMENT]
