"""Types of the fixtures that make databases, and a look at the connections that are left open."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.pool import Pool

NewDatabase = Callable[..., str]
"""Makes a database, empty or a copy of the template of that name; gives its URL."""

Copied = Callable[[Callable[[str], object]], str]
"""Fills the test's database as a function does that is given a URL; gives the URL of the test's own."""


@contextmanager
def open_connections() -> Iterator[list[Any]]:
    """Give the driver's connections that are opened inside, less those that are closed, at any moment.

    Python 3.13 warns of a connection that nobody closed, wherever its memory is taken back; older ones say nothing.
    """
    left: list[Any] = []

    def connected(connection: Any, _: Any) -> None:
        left.append(connection)

    def closed(connection: Any, _: Any) -> None:
        left[:] = [each for each in left if each is not connection]

    event.listen(Pool, "connect", connected)
    event.listen(Pool, "close", closed)
    try:
        yield left
    finally:
        event.remove(Pool, "connect", connected)
        event.remove(Pool, "close", closed)
