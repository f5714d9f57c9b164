"""Whether anything was committed to a database since one looked. Knows connections, nothing of tables."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from sqlalchemy import Engine, text

_T = TypeVar("_T")
_SNAPSHOT = text("SELECT pg_current_snapshot()::text")


class Watch:
    """One look costs 20 us on SQLite, where the least statement through SQLAlchemy takes 100; any thread may look."""

    def __init__(self, engine: Engine) -> None:
        """Asks the database nothing yet."""
        self._engine = engine
        self._is_local = engine.dialect.name == "sqlite"
        self._lock = threading.Lock()
        # SQLite's data_version tells a connection what others committed, not what it committed itself, and means
        # nothing to another: so one is kept that only ever asks this
        self._held: Any = None

    def state(self) -> Hashable:
        """The same only while nothing was committed by anybody.

        On Postgres, where two snapshots that read the same see the same transactions, it costs a round trip.
        """
        if not self._is_local:
            with self._engine.connect() as connection:
                return str(connection.execute(_SNAPSHOT).scalar_one())
        with self._lock:
            if self._held is None:
                self._held = self._engine.raw_connection()
            version: int = self._held.cursor().execute("PRAGMA data_version").fetchone()[0]
            return version

    def again(self, before: tuple[Hashable, _T] | None, read: Callable[[], _T]) -> tuple[Hashable, _T]:
        """What was read before, or what is read now where anything was committed since; with the state it is of.

        On Postgres, where a look costs what reading a row or two costs, it is always read.
        """
        if not self._is_local:
            return None, read()
        state = self.state()  # before reading: too old a state only reads again
        return before if before is not None and before[0] == state else (state, read())

    def close(self) -> None:
        """Let go of the database."""
        with self._lock:
            if self._held is not None:
                self._held.close()
                self._held = None
