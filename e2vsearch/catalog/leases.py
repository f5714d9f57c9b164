"""The lease that a worker has on a recording: what it says, and its end. Knows one row of the queue, nothing of order.

It is a file of its own because storing a recording ends its job in the same transaction, see `Catalog.store`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, func, select

from e2vsearch.catalog.tables import FailureRow, JobRow
from e2vsearch.errors import LeaseLost

TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class Holding:
    """That a job was taken, once: another taking of it has another token."""

    job: int
    token: str


def clock(connection: Connection) -> datetime:
    """The database's own time: the workers' clocks may differ by more than a lease lasts.

    On Postgres it is the moment of asking and not, as ``now()``, of the transaction's beginning: a transaction may have
    waited for a lock since. SQLite is a library, so its time is that of the one machine whose processes use the file.
    """
    if connection.dialect.name == "postgresql":
        moment: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)
    return datetime.now(UTC)


def end(connection: Connection, holding: Holding) -> None:
    """End a job, for its recording is stored in this same transaction; a failure noted for it is taken back.

    From here to the commit the row is locked: nobody can take it, nor end it twice.

    Raises:
        LeaseLost: it was taken again, has run out, or was cleared.
    """
    ours = (JobRow.id == holding.job) & (JobRow.token == holding.token) & (JobRow.state == TAKEN)
    locked = connection.execute(select(JobRow.uri, JobRow.due_at).where(ours).with_for_update()).first()
    if locked is None or locked.due_at <= clock(connection):  # asked after any wait for the lock
        raise LeaseLost("its lease ran out before it was stored, another worker does it - take a longer --lease")
    connection.execute(delete(JobRow).where(JobRow.id == holding.job))
    connection.execute(delete(FailureRow).where(FailureRow.uri == locked.uri))
