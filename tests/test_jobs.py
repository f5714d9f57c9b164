"""The queue on SQLite and on a real Postgres: one taker each, leases that end, late commits refused, poison parked."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import numpy as np
import pytest
from sqlalchemy import insert, inspect, select, text, update

from e2vsearch.catalog import queue, upgrade
from e2vsearch.catalog.database import connect
from e2vsearch.catalog.queue import Job, NewJob
from e2vsearch.catalog.rows import NewRecording, NewSegment, database_time
from e2vsearch.catalog.schema import HeaderRow, JobRow, ProjectionRow, SpaceRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import LeaseLost, NotStored, SchemaTooOld
from e2vsearch.types import Space

SPACE = Space("fake", "r1", 4)
LEASE_S, ATTEMPTS = 30.0, 3


@pytest.fixture
def catalog(database_url: str) -> Iterator[Catalog]:
    with closing(Catalog.open(database_url, create=True)) as catalog:
        catalog.pin(SPACE, "fake")
        yield catalog


def now(catalog: Catalog) -> datetime:
    with catalog.reading() as connection:
        return database_time(connection)


def later(catalog: Catalog, seconds: float = LEASE_S + 1) -> datetime:
    return now(catalog) + timedelta(seconds=seconds)


def earlier(catalog: Catalog, seconds: float = LEASE_S + 1) -> datetime:
    """A moment at which a lease that is taken has run out by now."""
    return later(catalog, -seconds)


def enqueue(catalog: Catalog, *uris: str, priority: int = 0, at: datetime | None = None) -> None:
    queue.enqueue(catalog, [NewJob(uri) for uri in uris], priority, at or earlier(catalog, 3600))


def take(catalog: Catalog, count: int = 1, *, at: datetime | None = None, busy: bool = False) -> list[Job]:
    return queue.take(catalog, "here:1", count, lease_s=LEASE_S, attempts=ATTEMPTS, busy=busy, now=at)


def recording(uri: str) -> NewRecording:
    return NewRecording(
        uri=uri,
        name=uri,
        content_sha256=sha256(uri.encode()).hexdigest(),
        size_bytes=10,
        mtime_ns=20,
        recorded_at=datetime(2024, 3, 1, 12, tzinfo=UTC),
        duration_s=60.0,
        channels=2,
        sampling_rate_hz=8000,
        format="WAV PCM_16",
        segments=(NewSegment(0, 0.0, 1.0, np.ones(4, np.float32)),),
    )


def lose(catalog: Catalog, *uris: str, times: int) -> None:
    """Take all so often, and let each lease run out; all of it in the last hour."""
    for attempt in range(1, times + 1):
        found = take(catalog, 9, at=earlier(catalog, 3000 - attempt * (LEASE_S + 1)))
        assert [(job.uri, job.attempt) for job in found] == [(uri, attempt) for uri in uris]


def test_the_order_is_priority_then_age(catalog: Catalog) -> None:
    enqueue(catalog, "a", "b")
    enqueue(catalog, "c", priority=5)
    enqueue(catalog, "d", priority=-1)
    enqueue(catalog, "e")
    assert [job.uri for job in take(catalog, 2)] == ["c", "a"]
    assert [job.uri for job in take(catalog, 9)] == ["b", "e", "d"]
    assert take(catalog) == []


def test_a_recording_is_queued_once(catalog: Catalog) -> None:
    first = queue.enqueue(catalog, [NewJob("b"), NewJob("a"), NewJob("b"), NewJob("c")])
    assert (first.queued, first.waiting, first.dead_letters) == (3, 0, 0)
    (a,) = take(catalog)
    queue.fail(catalog, a.lease, "not-audio", "a: no audio", None)
    (b,) = take(catalog)
    recorded_at = datetime(2024, 5, 1, tzinfo=UTC)
    again = queue.enqueue(catalog, [NewJob(uri, {"agent": "Kim"}, recorded_at) for uri in "abcd"], priority=3)
    assert (again.queued, again.waiting, again.dead_letters) == (1, 2, 1)
    third = queue.enqueue(catalog, [NewJob("c")], priority=1)  # takes neither the priority nor the metadata back
    assert (third.queued, third.waiting, third.dead_letters) == (0, 1, 0)
    c, d = take(catalog, 9)
    assert (c.uri, c.metadata, c.recorded_at) == ("c", {"agent": "Kim"}, recorded_at)
    assert (d.uri, d.attempt) == ("d", 1)
    queue.release(catalog, [b.lease])
    assert [(job.uri, job.metadata, job.attempt) for job in take(catalog, 9)] == [("b", None, 1)]


def test_two_takers_never_get_the_same(database_url: str) -> None:
    """Eight threads with connections of their own: each of two hundred jobs goes to one of them."""
    with closing(Catalog.open(database_url, create=True)) as catalog:
        catalog.pin(SPACE, "fake")
        enqueue(catalog, *(f"{number:03}" for number in range(200)))
        begin = threading.Barrier(8)
        got: list[str] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                with closing(Catalog.open(database_url)) as mine:
                    begin.wait()
                    while found := take(mine, 3):
                        got.extend(job.uri for job in found)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        assert Counter(got) == Counter(f"{number:03}" for number in range(200))


def test_who_takes_does_not_wait_for_who_stores(catalog: Catalog) -> None:
    """On Postgres a locked row is passed over; on SQLite the writer is waited for, milliseconds."""
    if catalog.url.get_backend_name() == "sqlite":
        pytest.skip("SQLite has one writer at a time")
    enqueue(catalog, "a", "b")
    (a,) = take(catalog, at=earlier(catalog))
    with catalog.writing() as connection:
        connection.execute(select(JobRow.id).where(JobRow.id == a.lease.job).with_for_update())
        assert [job.uri for job in take(catalog, 2)] == ["b"]
        assert queue.extend(catalog, [a.lease], LEASE_S, earlier(catalog, LEASE_S)) == 0
    assert [job.uri for job in take(catalog, 2)] == ["a"]


def test_storing_ends_the_job_in_the_same_transaction(catalog: Catalog) -> None:
    enqueue(catalog, "a")
    catalog.fail("a", "truncated", "ends early")
    (job,) = take(catalog)
    assert catalog.store(recording("a"), job.lease).outcome == "stored"
    assert (take(catalog, at=later(catalog)), catalog.failures()) == ([], [])
    with pytest.raises(LeaseLost):
        catalog.store(recording("a"), job.lease)


def _lease_ran_out(catalog: Catalog) -> Job:
    (job,) = take(catalog, at=earlier(catalog))
    return job


def _taken_by_another(catalog: Catalog) -> Job:
    (job,) = take(catalog, at=earlier(catalog))
    (other,) = take(catalog)
    assert other.uri == job.uri
    return job


def _stored_by_another(catalog: Catalog) -> Job:
    (job,) = take(catalog, at=earlier(catalog))
    (other,) = take(catalog)
    catalog.store(recording("z"), other.lease)
    return job


def _given_back(catalog: Catalog) -> Job:
    (job,) = take(catalog)
    assert queue.release(catalog, [job.lease]) == 1
    return job


def _cleared(catalog: Catalog) -> Job:
    (job,) = take(catalog)
    queue.release(catalog, [job.lease])
    assert queue.clear(catalog) == 1
    return job


@pytest.mark.parametrize("lost", [_lease_ran_out, _taken_by_another, _stored_by_another, _given_back, _cleared])
def test_a_late_commit_is_refused_and_stores_nothing(catalog: Catalog, lost: Callable[[Catalog], Job]) -> None:
    enqueue(catalog, "a")
    job = lost(catalog)
    before = catalog.counts(), queue.state(catalog).workers
    with pytest.raises(LeaseLost, match="--lease"):
        catalog.store(recording("a"), job.lease)
    with pytest.raises(LeaseLost):
        queue.finish(catalog, job.lease)
    assert queue.extend(catalog, [job.lease], LEASE_S) == 0
    assert (catalog.counts(), queue.state(catalog).workers) == before


def test_of_two_who_store_the_same_one_does(database_url: str) -> None:
    """A worker that stalled commits at the same moment as the one that took its job over, forty times."""
    with closing(Catalog.open(database_url, create=True)) as catalog:
        catalog.pin(SPACE, "fake")
        names = [f"{number:02}" for number in range(40)]
        enqueue(catalog, *names)
        late = take(catalog, 40, at=earlier(catalog))
        good = take(catalog, 40)
        outcomes: list[str] = []

        def store(held: list[Job]) -> None:
            with closing(Catalog.open(database_url)) as mine:
                for job in held:
                    try:
                        outcomes.append(mine.store(recording(job.uri), job.lease).outcome)
                    except LeaseLost:
                        outcomes.append("lost")

        threads = [threading.Thread(target=store, args=(held,)) for held in (late, good)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(outcomes) == {"stored": 40, "lost": 40}
        assert (catalog.counts().recordings, queue.depth(catalog).leased) == (40, 0)


def test_a_lease_that_is_extended_goes_on(catalog: Catalog) -> None:
    enqueue(catalog, "a")
    start = earlier(catalog, LEASE_S - 1)
    (job,) = take(catalog, at=start)
    assert queue.extend(catalog, [job.lease], LEASE_S) == 1
    assert take(catalog, at=start + timedelta(seconds=LEASE_S + 5)) == []  # it would have run out without
    assert catalog.store(recording("a"), job.lease).outcome == "stored"


def test_extending_does_not_revive_what_ran_out(catalog: Catalog) -> None:
    enqueue(catalog, "a", "b")
    a, b = take(catalog, 2, at=earlier(catalog))
    (again,) = take(catalog)
    assert again.uri == "a"
    assert queue.extend(catalog, [a.lease, b.lease], LEASE_S) == 0
    assert [job.uri for job in take(catalog, 2)] == ["b"]


def test_what_failed_is_tried_again_after_its_back_off(catalog: Catalog) -> None:
    enqueue(catalog, "a")
    (job,) = take(catalog)
    queue.fail(catalog, job.lease, "missing", "a: no such file", 20.0)
    assert (take(catalog), catalog.failures()) == ([], [])
    assert queue.depth(catalog).delayed == 1
    (again,) = take(catalog, at=later(catalog, 21))
    assert again.attempt == 2
    with pytest.raises(LeaseLost):
        queue.fail(catalog, job.lease, "missing", "a: no such file", 20.0)


def test_what_is_given_up_is_parked_with_its_reason(catalog: Catalog) -> None:
    enqueue(catalog, "a", "b")
    (job,) = take(catalog)
    queue.fail(catalog, job.lease, "not-audio", "a: is no audio", None)
    assert [job.uri for job in take(catalog, 9, at=later(catalog, 9999))] == ["b"]
    (failure,) = catalog.failures()
    assert (failure.uri, failure.reason, failure.message, failure.attempts) == ("a", "not-audio", "a: is no audio", 1)
    (parked,) = queue.state(catalog).dead_letters
    assert (parked.uri, parked.reason, parked.message, parked.attempts) == ("a", "not-audio", "a: is no audio", 1)
    with pytest.raises(NotStored, match="b is no dead letter"):
        queue.retry(catalog, ["a", "b"])
    assert queue.retry(catalog, ["a"]) == 1
    assert queue.retry(catalog) == 0
    (again,) = take(catalog, 9)
    assert (again.uri, again.attempt) == ("a", 1)
    queue.finish(catalog, again.lease)
    assert list(catalog.failures()) == []


def test_what_ends_its_workers_is_tried_alone_and_then_parked(catalog: Catalog) -> None:
    """The poison is done with a neighbour until nobody knows which of them it was; the neighbour is saved."""
    enqueue(catalog, "poison", "neighbour")
    lose(catalog, "neighbour", "poison", times=ATTEMPTS)  # a batch is queued in order of names
    enqueue(catalog, "fresh")
    assert take(catalog, 9, busy=True) == []  # they come first, and not to a worker that has others in work
    (neighbour,) = take(catalog, 9)
    assert (neighbour.uri, neighbour.exclusive) == ("neighbour", True)
    catalog.store(recording("neighbour"), neighbour.lease)
    (alone,) = take(catalog, 9, at=earlier(catalog))
    assert (alone.uri, alone.exclusive) == ("poison", True)
    assert [(job.uri, job.exclusive) for job in take(catalog, 9)] == [("fresh", False)]  # the poison is a dead letter
    (failure,) = catalog.failures()
    assert (failure.uri, failure.reason, failure.attempts) == ("poison", "worker-lost", ATTEMPTS + 1)
    assert "here:1" in failure.message
    assert "queue retry" in failure.message


def test_what_was_given_back_counts_as_not_taken(catalog: Catalog) -> None:
    enqueue(catalog, "a")
    for _ in range(ATTEMPTS + 2):
        (job,) = take(catalog)
        assert (job.attempt, job.exclusive) == (1, False)
        queue.release(catalog, [job.lease], earlier(catalog, 3600))
    lose(catalog, "a", times=ATTEMPTS)
    (alone,) = take(catalog)
    queue.release(catalog, [alone.lease])
    (again,) = take(catalog)
    assert again.exclusive  # what was to be tried alone still is


def test_the_state_of_the_queue(catalog: Catalog) -> None:
    start = now(catalog)
    enqueue(catalog, "old", at=start - timedelta(seconds=100))
    enqueue(catalog, "new", "newer", "newest", at=start)
    empty_handed = queue.depth(catalog, start)
    assert (empty_handed.queued, empty_handed.leased, empty_handed.oldest_s) == (4, 0, pytest.approx(100.0))  # type: ignore[comparison-overlap]
    take(catalog, 2, at=start)
    queue.take(catalog, "there:2", 1, lease_s=5.0, attempts=ATTEMPTS, now=start)
    found = queue.state(catalog, start + timedelta(seconds=10))
    assert [(holder.name, holder.jobs) for holder in found.workers] == [("here:1", 2), ("there:2", 1)]
    assert found.workers[0].leased_until == start + timedelta(seconds=LEASE_S)
    assert (found.depth.queued, found.depth.leased, found.depth.expired, found.depth.dead_letters) == (1, 3, 1, 0)
    assert found.depth.oldest_s == pytest.approx(110.0)


def test_an_empty_queue(catalog: Catalog) -> None:
    assert queue.depth(catalog) == queue.Depth(0, 0, 0, 0, 0, 0.0)
    assert queue.clear(catalog) == queue.retry(catalog) == queue.extend(catalog, [], LEASE_S) == 0
    assert queue.enqueue(catalog, []) == queue.Enqueued(0, 0, 0)


def test_clearing_leaves_what_is_in_work(catalog: Catalog) -> None:
    enqueue(catalog, "a", "b", "c")
    a, b = take(catalog, 2)
    queue.fail(catalog, b.lease, "empty", "b: no bytes", None)
    assert queue.clear(catalog, dead_letters_only=True) == 1
    assert queue.clear(catalog) == 1
    assert catalog.store(recording("a"), a.lease).outcome == "stored"


def test_many_are_taken_in_order_of_an_index(catalog: Catalog) -> None:
    """A queue of a million must not be sorted to take one."""
    enqueue(catalog, *(f"{number}" for number in range(2500)))
    with catalog.writing() as connection:
        connection.execute(update(JobRow).where(JobRow.id % 7 == 0).values(state="dead_letter", due_at=None))
        query = (
            "SELECT id FROM job WHERE due_at <= '2999-01-01' AND state <> 'dead_letter' "
            "ORDER BY priority DESC, id LIMIT 1"
        )
        if connection.dialect.name == "postgresql":
            connection.execute(text("ANALYZE job"))
            plan = str(connection.execute(text(f"EXPLAIN {query}")).all())
            assert "Sort" not in plan
        else:
            plan = str(connection.execute(text(f"EXPLAIN QUERY PLAN {query}")).all())
            assert "TEMP B-TREE" not in plan
        assert "ix_job_order" in plan


def test_a_collection_from_before_the_queue_is_upgraded_whole(empty_database_url: str) -> None:
    from alembic import command

    engine = connect(empty_database_url)
    config = upgrade._config()
    at = datetime(2024, 3, 1, tzinfo=UTC)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        space = {"id": 1, "encoder": "fake", "revision": "r1", "dim": 4, "labels": [], "projection": "raw"}
        connection.execute(insert(SpaceRow), [{**space, "source": "fake", "created_at": at}])
        projection = {
            "id": 1,
            "name": "p",
            "kind": "head",
            "revision": "x",
            "space_id": 1,
            "parameters": b"",
            "report": {},
        }
        connection.execute(insert(ProjectionRow), [{**projection, "created_at": at}])
        row = {"id": 1, "uuid": "a-uuid", "space_id": 1, "created_at": at, "projection_id": 1}
        connection.execute(insert(HeaderRow), [row])
    with pytest.raises(SchemaTooOld, match="e2vsearch db upgrade"):
        Catalog.open(empty_database_url)
    upgrade.upgrade(engine)
    with closing(Catalog.open(empty_database_url)) as catalog:
        catalog.store(recording("before"))
        enqueue(catalog, "a")
        (job,) = take(catalog)
        catalog.store(recording("a"), job.lease)
        assert (catalog.collection_id, catalog.counts().recordings) == ("a-uuid", 2)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
        assert connection.execute(select(HeaderRow.projection_id)).scalar_one() == 1
    assert "job" not in inspect(engine).get_table_names()
    engine.dispose()
