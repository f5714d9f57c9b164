"""Two ingests into one collection notice each other: without that nothing is lost or doubled, but decoded twice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from e2vsearch.catalog.database import sqlite_file
from e2vsearch.catalog.writer import Catalog

LOCK = "ingest.lock"
"""Beside a collection's database: held while a list of files is ingested."""


@contextmanager
def alone(catalog: Catalog) -> Iterator[bool]:
    """Hold a collection for one list of files, and yield whether no other process does; True in Postgres."""
    from filelock import FileLock, Timeout

    file = sqlite_file(catalog.url)
    lock = FileLock(file.with_name(LOCK), timeout=0, mode=0o600) if file is not None else None
    others = False
    if lock is not None:
        try:
            lock.acquire()
        except Timeout:
            others = True
        except (OSError, NotImplementedError):  # a folder without locks, or a disk that is full
            lock = None
    try:
        yield not others
    finally:
        if lock is not None and not others:
            lock.release()
