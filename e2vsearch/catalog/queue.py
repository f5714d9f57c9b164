"""The queue of recordings to be ingested, in the same database.

A job is queued, leased or a dead letter, and deleted once its recording is stored. A worker holds a lease until it
ends, and longer if it is extended; a job whose lease has expired is free again. A recording is stored exactly once by
two rules: leasing locks rows and skips locked ones (``FOR UPDATE SKIP LOCKED``), and storing checks the lease again in
its own transaction (`e2vsearch.catalog.rows.end_job`). On SQLite, which has one writer at a time, ``BEGIN IMMEDIATE``
is the lock.

Every function that depends on time takes `now`, for tests; the default is the database's time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, Row, Update, case, delete, func, select, type_coerce, update

from e2vsearch.catalog.columns import UtcDateTime
from e2vsearch.catalog.database import chunks
from e2vsearch.catalog.reader import CatalogReader
from e2vsearch.catalog.rows import Lease, database_time, end_job, note_failure, time_there
from e2vsearch.catalog.schema import DEAD_LETTER, LEASED, QUEUED, JobRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import LeaseLost, NotStored

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
    """A leased job."""

    lease: Lease
    uri: str
    attempt: int  # 1 at the first
    waited_s: float  # since it was queued, what failed before included
    metadata: Mapping[str, str] | None
    recorded_at: datetime | None
    exclusive: bool = False  # workers were lost over it: it is processed alone


@dataclass(frozen=True, slots=True)
class Enqueued:
    """Counts of recordings that were handed to `enqueue`."""

    queued: int
    waiting: int  # were queued or leased already
    dead_letters: int  # failed for good before; `retry` queues them again


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """A worker and its leases."""

    name: str  # machine:process:nonce
    jobs: int
    leased_until: datetime  # of the lease that ends first


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A recording that failed for good."""

    uri: str
    reason: str
    message: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Depth:
    """Counts of jobs by state."""

    queued: int
    leased: int
    dead_letters: int
    delayed: int  # of the queued: failed, and wait for their next attempt
    expired: int  # of the leased: the lease has run out
    oldest_s: float  # age of the job that was queued first, dead letters aside; 0 if there is none


@dataclass(frozen=True, slots=True)
class QueueState:
    """The whole queue at one moment."""

    depth: Depth
    workers: tuple[LeaseHolder, ...] = ()
    dead_letters: tuple[DeadLetter, ...] = field(default=())


def enqueue(catalog: Catalog, jobs: Iterable[NewJob], priority: int = 0, now: datetime | None = None) -> Enqueued:
    """Queue recordings, each once.

    A job that is queued already gets the higher priority and the newer metadata of the two. A leased job or a dead
    letter stays as it is.
    """
    queued = waiting = dead_letters = 0
    once = {job.uri: job for job in jobs}
    # in order of their names: two that queue the same ones in different orders would wait for each other's rows
    for part in chunks(sorted(once.values(), key=lambda job: job.uri)):
        with catalog.writing() as connection:
            now = now or database_time(connection)
            there = select(JobRow.state, func.count().label("n")).where(JobRow.uri.in_([job.uri for job in part]))
            found = {row.state: row.n for row in connection.execute(there.group_by(JobRow.state))}
            rows = [
                {
                    "uri": job.uri,
                    "state": QUEUED,
                    "priority": priority,
                    "attempts": 0,
                    "enqueued_at": now,
                    "due_at": now,
                    "details": dict(job.metadata) if job.metadata is not None else None,
                    "recorded_at": job.recorded_at,
                }
                for job in part
            ]
            _insert(connection, rows)
        dead_letters += found.get(DEAD_LETTER, 0)
        waiting += found.get(QUEUED, 0) + found.get(LEASED, 0)
        queued += len(part) - sum(found.values())
    return Enqueued(queued, waiting, dead_letters)


def _insert(connection: Connection, rows: list[dict[str, Any]]) -> None:
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects.postgresql import insert  # 25 ms, where most collections are in SQLite
    else:
        from sqlalchemy.dialects.sqlite import insert  # type: ignore[assignment]
    statement = insert(JobRow)
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
    worker: str,
    count: int,
    *,
    lease_s: float,
    attempts: int,
    busy: bool = False,
    now: datetime | None = None,
) -> list[Job]:
    """Lease jobs, the highest priority first and then the longest queued, in one short transaction.

    A job whose lease has expired is leased again. After `attempts` of that, the recordings in work beside it may be to
    blame as well: it is tried once more alone, and becomes a dead letter if that ends its worker too.

    Args:
        catalog: whose queue.
        worker: its name for people.
        count: at most so many.
        lease_s: length of each lease.
        attempts: how often a recording is tried.
        busy: whether the worker has other recordings in work, so that it gets no exclusive job.
        now: the time.
    """
    jobs: list[Job] = []
    with catalog.writing() as connection:
        there = now or time_there(connection)
        columns = JobRow.__table__, type_coerce(there, UtcDateTime()).label("now")
        due = select(*columns).where(JobRow.due_at <= there, JobRow.state != DEAD_LETTER)
        due = due.order_by(JobRow.priority.desc(), JobRow.id).limit(count).with_for_update(skip_locked=True)
        for row in connection.execute(due).all():
            if row.attempts > attempts:
                _give_up(connection, row, WORKER_LOST, _ended_workers(row))
                continue
            exclusive = row.attempts >= attempts
            if exclusive and (jobs or busy):
                break  # this worker fills up no more, and comes back for it with empty hands
            lease = Lease(row.id, uuid4().hex)
            lost = {"reason": WORKER_LOST, "message": f"{row.worker} was lost over it"} if row.state == LEASED else {}
            connection.execute(
                _of(row.id).values(
                    state=LEASED,
                    attempts=row.attempts + 1,
                    worker=worker,
                    token=lease.token,
                    due_at=row.now + timedelta(seconds=lease_s),
                    **lost,
                )
            )
            waited_s = (row.now - row.enqueued_at).total_seconds()
            details = (row.details, row.recorded_at)
            jobs.append(Job(lease, row.uri, row.attempts + 1, max(0.0, waited_s), *details, exclusive))
            if exclusive:
                break
    return jobs


def extend(catalog: Catalog, leases: Sequence[Lease], lease_s: float, now: datetime | None = None) -> int:
    """Extend leases that have not expired, and return how many there were.

    The row of a recording that is being stored is locked, and needs no longer lease: it is skipped, so that the other
    leases do not expire meanwhile.
    """
    tokens = [lease.token for lease in leases]
    with catalog.writing() as connection:
        now = now or database_time(connection)
        ours = select(JobRow.id).where(JobRow.token.in_(tokens), JobRow.state == LEASED, JobRow.due_at > now)
        numbers = connection.execute(ours.with_for_update(skip_locked=True)).scalars().all()
        longer = update(JobRow).where(JobRow.id.in_(numbers)).values(due_at=now + timedelta(seconds=lease_s))
        connection.execute(longer)
    return len(numbers)


def finish(catalog: Catalog, lease: Lease) -> None:
    """End a job whose recording needed no storing.

    Raises:
        LeaseLost: the lease is another's now, or has run out.
    """
    with catalog.writing() as connection:
        end_job(connection, lease)


def release(catalog: Catalog, leases: Sequence[Lease], now: datetime | None = None) -> int:
    """Release leases, as if they had not been taken, and return how many were still valid."""
    tokens = [lease.token for lease in leases]
    with catalog.writing() as connection:
        now = now or database_time(connection)
        ours = update(JobRow).where(JobRow.token.in_(tokens), JobRow.state == LEASED)
        released = ours.values(state=QUEUED, attempts=JobRow.attempts - 1, due_at=now, worker=None, token=None)
        return connection.execute(released).rowcount


def fail(
    catalog: Catalog,
    lease: Lease,
    reason: str,
    message: str,
    retry_after_s: float | None,
    now: datetime | None = None,
) -> None:
    """Note that a recording could not be ingested.

    Args:
        catalog: whose queue.
        lease: its lease.
        reason: a short stable word.
        message: what happened, and the cure.
        retry_after_s: when to try again; None: never, the job becomes a dead letter and one of `Catalog.failures`.
        now: the time.

    Raises:
        LeaseLost: another worker has the lease now, and reports the outcome.
    """
    ours = (JobRow.id == lease.job) & (JobRow.token == lease.token) & (JobRow.state == LEASED)
    with catalog.writing() as connection:
        row = connection.execute(select(JobRow.__table__).where(ours).with_for_update()).first()
        if row is None:
            raise LeaseLost("the lease ran out before the failure was noted - another worker tries it")
        if retry_after_s is None:
            _give_up(connection, row, reason, message)
            return
        due_at = (now or database_time(connection)) + timedelta(seconds=retry_after_s)
        values = {"state": QUEUED, "due_at": due_at, "worker": None, "token": None}
        connection.execute(_of(row.id).values(**values, reason=reason, message=message))


def depth(catalog: CatalogReader, now: datetime | None = None) -> Depth:
    """Return how many jobs there are in each state."""
    with catalog.reading() as connection:
        now = now or database_time(connection)
        queued, leased, dead = (JobRow.state == each for each in (QUEUED, LEASED, DEAD_LETTER))
        query = select(
            func.count().filter(queued).label("queued"),
            func.count().filter(leased).label("leased"),
            func.count().filter(dead).label("dead_letters"),
            func.count().filter(queued & (JobRow.due_at > now)).label("delayed"),
            func.count().filter(leased & (JobRow.due_at <= now)).label("expired"),
            func.min(JobRow.enqueued_at).filter(~dead).label("oldest"),
        )
        found = connection.execute(query.select_from(JobRow)).one()
    oldest_s = (now - found.oldest).total_seconds() if found.oldest is not None else 0.0
    return Depth(found.queued, found.leased, found.dead_letters, found.delayed, found.expired, max(0.0, oldest_s))


def state(catalog: CatalogReader, now: datetime | None = None) -> QueueState:
    """Return the whole queue: its depth, the workers, and the dead letters in the order in which they were queued."""
    leases = select(JobRow.worker, func.count().label("n"), func.min(JobRow.due_at).label("until"))
    leases = leases.where(JobRow.state == LEASED).group_by(JobRow.worker).order_by(JobRow.worker)
    dead = select(JobRow.__table__).where(JobRow.state == DEAD_LETTER).order_by(JobRow.id)
    with catalog.reading() as connection:
        workers = tuple(LeaseHolder(row.worker, row.n, row.until) for row in connection.execute(leases))
        dead_letters = tuple(
            DeadLetter(row.uri, row.reason, row.message, row.attempts) for row in connection.execute(dead)
        )
    return QueueState(depth(catalog, now), workers, dead_letters)


def retry(catalog: Catalog, uris: Sequence[str] | None = None, now: datetime | None = None) -> int:
    """Queue dead letters again, all of them by default, as if new, and return how many there were.

    Raises:
        NotStored: one of `uris` is no dead letter.
    """
    with catalog.writing() as connection:
        now = now or database_time(connection)
        again = {"state": QUEUED, "attempts": 0, "due_at": now, "enqueued_at": now}
        if uris is None:
            return connection.execute(update(JobRow).where(JobRow.state == DEAD_LETTER).values(**again)).rowcount
        for uri in uris:
            one = update(JobRow).where(JobRow.state == DEAD_LETTER, JobRow.uri == uri)
            if connection.execute(one.values(**again)).rowcount == 0:
                raise NotStored(f"{uri} is no dead letter - e2vsearch queue lists them")
    return len(uris)


def clear(catalog: Catalog, *, dead_letters_only: bool = False) -> int:
    """Delete all jobs that are not leased, or the dead letters only, and return how many there were."""
    gone = JobRow.state == DEAD_LETTER if dead_letters_only else JobRow.state != LEASED
    with catalog.writing() as connection:
        return connection.execute(delete(JobRow).where(gone)).rowcount


def _of(number: int) -> Update:
    return update(JobRow).where(JobRow.id == number)


def _give_up(connection: Connection, row: Row[Any], reason: str, message: str) -> None:
    values = {"state": DEAD_LETTER, "due_at": None, "worker": None, "token": None}
    connection.execute(_of(row.id).values(**values, reason=reason, message=message))
    note_failure(connection, row.uri, reason, message, row.attempts)


def _ended_workers(row: Row[Any]) -> str:
    return (
        f"{row.uri}: {row.attempts} workers were lost over it, the last ({row.worker}) with nothing else in work - "
        "mend or remove it, or give workers more memory or a longer --lease, then: e2vsearch queue retry"
    )
