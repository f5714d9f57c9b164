"""The audit log: who asked what, and which ids came back. Triggers refuse to change or delete its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from e2vsearch.catalog.schema import AuditRow
from e2vsearch.types import AuditEntry

_ROWS_PER_READ = 1000


def append(
    connection: Connection, actor: str, action: str, request: Mapping[str, Any], results: Sequence[str] = ()
) -> None:
    """Append an entry, in the caller's transaction.

    Args:
        connection: that writes.
        actor: the door, and whom it knows: ``cli:kim``, ``http``.
        action: ``query``, ``compare``, ``policy`` ….
        request: plain values for JSON: no audio, no vectors.
        results: ids, best first.
    """
    row = {"at": datetime.now(UTC), "actor": actor, "action": action}
    connection.execute(insert(AuditRow), [{**row, "request": dict(request), "results": list(results)}])


def entries(reading: Callable[[], AbstractContextManager[Connection]]) -> Iterator[AuditEntry]:
    """Yield the audit log, the oldest entry first; `reading` opens a connection."""
    query, last = select(AuditRow.__table__).order_by(AuditRow.id).limit(_ROWS_PER_READ), 0
    with reading() as connection:
        while rows := connection.execute(query.where(AuditRow.id > last)).all():
            for row in rows:
                yield AuditEntry(row.id, row.at, row.actor, row.action, row.request, tuple(row.results))
            last = rows[-1].id
