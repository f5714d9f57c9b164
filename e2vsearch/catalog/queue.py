"""The queue that workers take recordings from, in the same database. Knows rows and leases, nothing of audio.

A job is queued, taken or parked, and gone once its recording is stored. Who takes one has it until its lease ends,
and longer if it is extended; a lease that ended is open to all. Exactly once comes from two rules: taking locks rows
and passes over locked ones (``FOR UPDATE SKIP LOCKED``), and storing checks the lease again in its own transaction
(`e2vsearch.catalog.rows.end`). On SQLite, which has one writer at a time, ``BEGIN IMMEDIATE`` is the lock.

Every function that depends on time takes `now`, for tests; by default the database is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Update, case, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from e2vsearch.catalog.database import parts
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.rows import TAKEN, Lease, clock, end, note_failure
from e2vsearch.catalog.schema import JobRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import LeaseLost, NotStored

QUEUED, PARKED = "queued", "parked"

WORKER_LOST = "worker-lost"
"""The reason of a job whose lease ran out: its worker was killed, hung, or could not reach the database."""


@dataclass(frozen=True, slots=True)
class NewJob:
    """A recording to be queued, with what ``--meta`` says of it."""

    uri: str
    metadata: Mapping[str, str] | None = None
    recorded_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Job:
    """A job that was taken."""

    holding: Lease
    uri: str
    attempt: int  # 1 at the first
    waited_s: float  # since it was queued, what failed before included
    metadata: Mapping[str, str] | None
    recorded_at: datetime | None
    alone: bool = False  # workers were lost over it: nothing else may be in work beside it


@dataclass(frozen=True, slots=True)
class Enqueued:
    """What became of recordings that were to be queued."""

    queued: int
    waiting: int  # were in the queue already, or in work
    parked: int  # given up before; `retry` queues them again


@dataclass(frozen=True, slots=True)
class Holder:
    """A worker that has recordings in work."""

    name: str  # machine:process
    jobs: int
    leased_until: datetime  # of the lease that ends first


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A recording that was given up."""

    uri: str
    reason: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Depth:
    """How full the queue is."""

    queued: int
    taken: int
    parked: int
    later: int  # of the queued: failed, and wait to be tried again
    lost: int  # of the taken: the lease has run out
    oldest_s: float  # age of the longest queued or taken one, 0 if there is none


@dataclass(frozen=True, slots=True)
class QueueState:
    """The whole queue at one moment."""

    depth: Depth
    holders: tuple[Holder, ...] = ()
    parked: tuple[DeadLetter, ...] = field(default=())


def enqueue(catalog: Catalog, jobs: Iterable[NewJob], priority: int = 0, now: datetime | None = None) -> Enqueued:
    """Queue recordings, each once: one that waits already gets the higher priority and the newer metadata of the two.

    One in work or given up is left as it is.
    """
    queued = waiting = parked = 0
    once = {job.uri: job for job in jobs}
    # in order of their names: two that queue the same ones in different orders would wait for each other's rows
    for part in parts(sorted(once.values(), key=lambda job: job.uri)):
        with catalog.writing() as connection:
            moment = now or clock(connection)
            there = select(JobRow.state, func.count().label("n")).where(JobRow.uri.in_([job.uri for job in part]))
            found = {row.state: row.n for row in connection.execute(there.group_by(JobRow.state))}
            rows = [
                {
                    "uri": job.uri,
                    "state": QUEUED,
                    "priority": priority,
                    "attempts": 0,
                    "enqueued_at": moment,
                    "due_at": moment,
                    "details": dict(job.metadata) if job.metadata is not None else None,
                    "recorded_at": job.recorded_at,
                }
                for job in part
            ]
            _insert(connection, rows)
        parked += found.get(PARKED, 0)
        waiting += found.get(QUEUED, 0) + found.get(TAKEN, 0)
        queued += len(part) - sum(found.values())
    return Enqueued(queued, waiting, parked)


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(JobRow)
    new = statement.excluded
    connection.execute(
        statement.on_conflict_do_update(
            index_elements=[JobRow.uri],
            set_={
                "priority": case((new.priority > JobRow.priority, new.priority), else_=JobRow.priority),
                "details": func.coalesce(new.details, JobRow.details),
                "recorded_at": func.coalesce(new.recorded_at, JobRow.recorded_at),
            },
            where=JobRow.state == QUEUED,
        ),
        rows,
    )


def take(
    catalog: Catalog,
    holder: str,
    count: int,
    *,
    lease_s: float,
    attempts: int,
    busy: bool = False,
    now: datetime | None = None,
) -> list[Job]:
    """Take recordings, highest priority first and then the longest queued, in one short transaction.

    A recording whose lease ran out is taken again. After `attempts` of that, what it was in work with may be to blame
    just as well: so it is tried once more with nothing beside it, and parked if that ends its worker too.

    Args:
        catalog: whose queue.
        holder: the worker, as a person knows it.
        count: at most so many.
        lease_s: until when they are its own.
        attempts: how often a recording is tried.
        busy: the worker has others in work, so one that must be alone is not for it now.
        now: the time.
    """
    jobs: list[Job] = []
    with catalog.writing() as connection:
        moment = now or clock(connection)
        due = select(JobRow.__table__).where(JobRow.due_at <= moment, JobRow.state != PARKED)
        due = due.order_by(JobRow.priority.desc(), JobRow.id).limit(count).with_for_update(skip_locked=True)
        for row in connection.execute(due).all():
            if row.attempts > attempts:
                _park(connection, row, WORKER_LOST, _ended_workers(row))
                continue
            alone = row.attempts >= attempts
            if alone and (jobs or busy):
                break  # this worker fills up no more, and comes back for it with empty hands
            holding = Lease(row.id, uuid4().hex)
            lost = {"reason": WORKER_LOST, "message": f"{row.holder} was lost over it"} if row.state == TAKEN else {}
            connection.execute(
                _of(row.id).values(
                    state=TAKEN,
                    attempts=row.attempts + 1,
                    holder=holder,
                    token=holding.token,
                    due_at=moment + timedelta(seconds=lease_s),
                    **lost,
                )
            )
            waited_s = (moment - row.enqueued_at).total_seconds()
            details = (row.details, row.recorded_at)
            jobs.append(Job(holding, row.uri, row.attempts + 1, max(0.0, waited_s), *details, alone))
            if alone:
                break
    return jobs


def extend(catalog: Catalog, holdings: Sequence[Lease], lease_s: float, now: datetime | None = None) -> int:
    """Extend leases that have not run out; gives how many there were.

    One that is being stored at this moment is locked, needs it no more, and must not be waited for: the others' leases
    go on meanwhile.
    """
    tokens = [holding.token for holding in holdings]
    with catalog.writing() as connection:
        moment = now or clock(connection)
        ours = select(JobRow.id).where(JobRow.token.in_(tokens), JobRow.state == TAKEN, JobRow.due_at > moment)
        numbers = connection.execute(ours.with_for_update(skip_locked=True)).scalars().all()
        longer = update(JobRow).where(JobRow.id.in_(numbers)).values(due_at=moment + timedelta(seconds=lease_s))
        connection.execute(longer)
    return len(numbers)


def finish(catalog: Catalog, holding: Lease) -> None:
    """End a job whose recording needed no storing.

    Raises:
        LeaseLost: the lease is another's now, or has run out.
    """
    with catalog.writing() as connection:
        end(connection, holding)


def release(catalog: Catalog, holdings: Sequence[Lease], now: datetime | None = None) -> int:
    """Give back what was taken and not done, as if it had not been; gives how many were still held."""
    tokens = [holding.token for holding in holdings]
    with catalog.writing() as connection:
        moment = now or clock(connection)
        ours = update(JobRow).where(JobRow.token.in_(tokens), JobRow.state == TAKEN)
        given = ours.values(state=QUEUED, attempts=JobRow.attempts - 1, due_at=moment, holder=None, token=None)
        return connection.execute(given).rowcount


def fail(
    catalog: Catalog,
    holding: Lease,
    reason: str,
    message: str,
    again_s: float | None,
    now: datetime | None = None,
) -> None:
    """Say that a recording could not be ingested.

    Args:
        catalog: whose queue.
        holding: its lease.
        reason: a short stable word.
        message: what happened, and the cure.
        again_s: when to try again; None parks it, and notes it where `Catalog.failures` shows it.
        now: the time.

    Raises:
        LeaseLost: the lease is another's now: it will say what became of it.
    """
    ours = (JobRow.id == holding.job) & (JobRow.token == holding.token) & (JobRow.state == TAKEN)
    with catalog.writing() as connection:
        row = connection.execute(select(JobRow.__table__).where(ours).with_for_update()).first()
        if row is None:
            raise LeaseLost("the lease ran out before the failure was noted - another worker tries it")
        if again_s is None:
            _park(connection, row, reason, message)
            return
        due_at = (now or clock(connection)) + timedelta(seconds=again_s)
        values = {"state": QUEUED, "due_at": due_at, "holder": None, "token": None}
        connection.execute(_of(row.id).values(**values, reason=reason, message=message))


def depth(catalog: CatalogReader, now: datetime | None = None) -> Depth:
    """How full the queue is."""
    with catalog.reading() as connection:
        moment = now or clock(connection)
        queued, taken, parked = (JobRow.state == each for each in (QUEUED, TAKEN, PARKED))
        query = select(
            func.count().filter(queued).label("queued"),
            func.count().filter(taken).label("taken"),
            func.count().filter(parked).label("parked"),
            func.count().filter(queued & (JobRow.due_at > moment)).label("later"),
            func.count().filter(taken & (JobRow.due_at <= moment)).label("lost"),
            func.min(JobRow.enqueued_at).filter(~parked).label("oldest"),
        )
        found = connection.execute(query.select_from(JobRow)).one()
    oldest_s = (moment - found.oldest).total_seconds() if found.oldest is not None else 0.0
    return Depth(found.queued, found.taken, found.parked, found.later, found.lost, max(0.0, oldest_s))


def state(catalog: CatalogReader, now: datetime | None = None) -> QueueState:
    """The whole queue: how full it is, who works on it, and what was given up, the first given up first."""
    held = select(JobRow.holder, func.count().label("n"), func.min(JobRow.due_at).label("until"))
    held = held.where(JobRow.state == TAKEN).group_by(JobRow.holder).order_by(JobRow.holder)
    given_up = select(JobRow.__table__).where(JobRow.state == PARKED).order_by(JobRow.id)
    with catalog.reading() as connection:
        holders = tuple(Holder(row.holder, row.n, row.until) for row in connection.execute(held))
        parked = tuple(
            DeadLetter(row.uri, row.reason, row.message, row.attempts) for row in connection.execute(given_up)
        )
    return QueueState(depth(catalog, now), holders, parked)


def retry(catalog: Catalog, uris: Sequence[str] | None = None, now: datetime | None = None) -> int:
    """Queue parked recordings again, all of them by default, as if new; gives how many there were.

    Raises:
        NotStored: one that is named is not parked.
    """
    with catalog.writing() as connection:
        moment = now or clock(connection)
        again = {"state": QUEUED, "attempts": 0, "due_at": moment, "enqueued_at": moment}
        if uris is None:
            return connection.execute(update(JobRow).where(JobRow.state == PARKED).values(**again)).rowcount
        for uri in uris:
            parked = update(JobRow).where(JobRow.state == PARKED, JobRow.uri == uri)
            if connection.execute(parked.values(**again)).rowcount == 0:
                raise NotStored(f"{uri} is not among the parked - e2vsearch queue lists them")
    return len(uris)


def clear(catalog: Catalog, *, parked_only: bool = False) -> int:
    """Empty the queue of all that nobody has in work, or of what is parked; gives how many there were."""
    gone = JobRow.state == PARKED if parked_only else JobRow.state != TAKEN
    with catalog.writing() as connection:
        return connection.execute(delete(JobRow).where(gone)).rowcount


def _of(number: int) -> Update:
    return update(JobRow).where(JobRow.id == number)


def _park(connection: Connection, row: Row[Any], reason: str, message: str) -> None:
    values = {"state": PARKED, "due_at": None, "holder": None, "token": None}
    connection.execute(_of(row.id).values(**values, reason=reason, message=message))
    note_failure(connection, row.uri, reason, message, row.attempts)


def _ended_workers(row: Row[Any]) -> str:
    return (
        f"{row.uri}: {row.attempts} workers were lost over it, the last ({row.holder}) with nothing else in work - "
        "mend or remove it, or give workers more memory or a longer --lease, then: e2vsearch queue retry"
    )
