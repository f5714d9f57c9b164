"""Workers on one queue, on SQLite and on a real Postgres: kills, stalls, poison and databases that go away."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import make_url, update

import e2vsearch
from e2vsearch.catalog import queue
from e2vsearch.catalog.schema import JobRow
from e2vsearch.catalog.writer import Catalog
from e2vsearch.collection import Collection
from e2vsearch.errors import MissingExtra
from e2vsearch.ingest import recording as ingest_recording
from e2vsearch.ingest.reports import RecordingReport
from e2vsearch.ingest.worker import JobReport, WorkerOptions, worker_name

QUICK = WorkerOptions(workers=2, drain=True, retry_after_s=0.0, poll_s=0.01)


@pytest.fixture
def collection(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Collection]:
    monkeypatch.setenv("E2VSEARCH_CACHE", str(tmp_path / "cache"))
    with e2vsearch.open(database_url, encoder="fake", create=True) as collection:
        yield collection


def names(collection: Collection) -> list[str]:
    return sorted(recording.name for _, recording in collection.catalog.recordings())


def test_what_is_queued_is_ingested(collection: Collection, calls: Path, tmp_path: Path) -> None:
    meta = tmp_path / "calls.csv"
    meta.write_text("file,agent,date\n0.wav,Kim,2024-03-01\nnone.wav,Lee,2024-03-01\n", encoding="utf-8")
    queued = collection.queue.add(calls, tmp_path / "missing.wav", meta=meta)
    assert (queued.queued, queued.already, queued.unused_metadata) == (6, 0, 1)
    assert [failure.reason for failure in queued.failures] == ["missing"]
    done: list[JobReport] = []
    report = collection.queue.work(QUICK, done=done.append)
    assert (report.stored, report.dead_letters, report.given_back) == (6, 0, 0)
    assert report.segments == collection.catalog.counts().segments == 12
    assert report.audio_s == pytest.approx(6 * 5.0, abs=0.1)
    assert Counter(each.outcome for each in done) == {"stored": 6}
    assert all(each.attempt == 1 and each.seconds > 0 for each in done)
    (kim,) = collection.recordings(where='agent = "Kim"')
    assert (kim.name, kim.recorded_at.date().isoformat()) == ("0", "2024-03-01")
    assert queue.depth(collection.catalog).queued == 0
    again = collection.queue.add(calls, meta=meta)  # only what has metadata goes through the queue again
    assert (again.queued, again.already) == (1, 5)
    meta.write_text("file,agent\n0.wav,Joe\n", encoding="utf-8")
    collection.queue.add(calls / "0.wav", meta=meta)
    assert collection.queue.work(QUICK).already == 1
    assert collection.recordings(where='agent = "Joe"')[0].name == "0"


def test_two_first_processes_of_two_containers_are_two_workers(
    collection: Collection, calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection.queue.add(calls)
    with monkeypatch.context() as container:
        container.setattr("socket.gethostname", lambda: "pod")
        container.setattr("os.getpid", lambda: 1)
        workers = [worker_name() for _ in range(2)]
    for worker in workers:
        queue.take(collection.catalog, worker, 1, lease_s=60, attempts=3)
    holders = [(each.name, each.jobs) for each in queue.state(collection.catalog).workers]
    assert sorted(holders) == sorted((worker, 1) for worker in workers)
    assert all(re.fullmatch(r"pod:1:[0-9a-f]{8}", worker) for worker in workers)


def test_as_ingest_would_have_stored_them(tmp_path: Path, calls: Path) -> None:
    with (
        e2vsearch.open(tmp_path / "a", encoder="fake", create=True) as one,
        e2vsearch.open(tmp_path / "b", encoder="fake", create=True) as two,
    ):
        one.ingest(calls)
        two.queue.add(calls)
        two.queue.work(QUICK)
        kept = [
            {(segment.start_s, segment.end_s, recordings[segment.recording]) for _, segment in each.catalog.segments()}
            for each in (one, two)
            for recordings in [{recording.id: recording.uri for _, recording in each.catalog.recordings()}]
        ]
        assert kept[0] == kept[1] != set()


def test_a_worker_holds_no_more_than_it_can_do(collection: Collection, calls: Path) -> None:
    collection.queue.add(calls)
    held: list[int] = []
    collection.queue.work(QUICK, done=lambda _: held.append(queue.depth(collection.catalog).leased))
    assert len(held) == 6
    assert max(held) <= 3  # two threads, and the next


def test_several_workers_share_one_queue(database_url: str, calls: Path) -> None:
    done: list[JobReport] = []
    with e2vsearch.open(database_url, encoder="fake", create=True) as collection:
        collection.queue.add(calls)

        def work() -> None:
            with e2vsearch.open(database_url, encoder="fake", create=True) as mine:
                mine.queue.work(QUICK, done=done.append)

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(each.outcome for each in done) == {"stored": 6}
        assert names(collection) == ["0", "1", "2", "3", "4", "5"]
        assert collection.catalog.counts().segments == 12


def test_a_late_commit_stores_nothing_and_the_other_does(collection: Collection, calls: Path) -> None:
    """A worker stalls for longer than its lease, between reading and storing, and another has taken over."""
    collection.queue.add(calls / "0.wav")
    done: list[JobReport] = []
    other: list[str] = []
    store = ingest_recording.RecordingIngestor.store

    def stalled(
        steps: ingest_recording.RecordingIngestor, loaded: ingest_recording.LoadedRecording, lease: object = None
    ) -> RecordingReport:
        if not other:
            with collection.catalog.writing() as connection:  # as if a minute had passed
                connection.execute(update(JobRow).values(due_at=JobRow.enqueued_at))
            other.append("takes over")
            collection.queue.work(QUICK, done=lambda each: other.append(each.outcome))
        return store(steps, loaded, lease)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_recording.RecordingIngestor, "store", stalled)
        report = collection.queue.work(QUICK, done=done.append)
    assert other == ["takes over", "stored"]
    assert [(each.outcome, each.reason) for each in done] == [("lost", "lease-lost")]
    assert (report.stored, report.lost) == (0, 1)
    assert collection.catalog.counts().recordings == 1


def test_the_heartbeat_keeps_what_is_slow(collection: Collection, calls: Path) -> None:
    """A recording that takes five leases is still its first worker's."""
    collection.queue.add(calls / "0.wav")
    load = ingest_recording.RecordingIngestor.load
    lease_s = 1.0
    options = WorkerOptions(workers=1, drain=True, lease_s=lease_s, poll_s=0.01)
    seen: set[int] = set()

    def slow(steps: ingest_recording.RecordingIngestor, *arguments: object) -> ingest_recording.LoadedRecording:
        leases = 0
        ends = None
        waited = threading.Event()
        while leases < 5 and not waited.wait(0.02):
            (holder,) = queue.state(collection.catalog).workers
            leases += ends is not None and holder.leased_until > ends
            ends = holder.leased_until
            seen.add(len(queue.take(collection.catalog, "thief", 1, lease_s=9.0, attempts=3)))
        return load(steps, *arguments)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_recording.RecordingIngestor, "load", slow)
        report = collection.queue.work(options)
    assert seen == {0}
    assert (report.stored, report.lost) == (1, 0)


@pytest.mark.parametrize(
    ("make", "reason", "attempts"),
    [
        (lambda path: path.write_text("no audio at all " * 400, encoding="utf-8"), "not-audio", 1),
        (lambda path: path.write_bytes(b""), "empty", 3),
        (lambda path: path.unlink(), "missing", 3),
    ],
)
def test_what_cannot_be_read_is_parked(
    collection: Collection,
    calls: Path,
    tmp_path: Path,
    make: Callable[[Path], object],
    reason: str,
    attempts: int,
) -> None:
    """At once where another try would meet the same again, else after three."""
    bad = tmp_path / "bad.wav"
    bad.write_bytes((calls / "1.wav").read_bytes())
    collection.queue.add(bad, calls / "0.wav")
    make(bad)
    done: list[JobReport] = []
    report = collection.queue.work(QUICK, done=done.append)
    assert (report.stored, report.retried, report.dead_letters) == (1, attempts - 1, 1)
    assert {each.reason for each in done if each.uri == str(bad)} == {reason}
    (failure,) = collection.failures()
    assert (failure.uri, failure.reason, failure.attempts) == (str(bad), reason, attempts)
    (parked,) = queue.state(collection.catalog).dead_letters
    assert (parked.uri, parked.message) == (str(bad), failure.message)
    bad.write_bytes((calls / "1.wav").read_bytes())
    assert collection.queue.add(bad).dead_letters == 1
    assert queue.retry(collection.catalog) == 1
    assert collection.queue.work(QUICK).stored == 1
    assert list(collection.failures()) == []


def test_a_back_off_is_waited_for(collection: Collection, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").write_bytes(b"")
    collection.queue.add(tmp_path / "empty.wav")
    stop = threading.Event()
    collection.queue.work(WorkerOptions(retry_after_s=100.0, poll_s=0.01), stop=stop, done=lambda _: stop.set())
    depth = queue.depth(collection.catalog)
    assert (depth.queued, depth.delayed) == (1, 1)
    (row,) = queue.take(collection.catalog, "x", 1, lease_s=1, attempts=3, now=_in(collection.catalog, 101)) or [None]  # type: ignore[list-item]
    assert row is not None
    assert row.attempt == 2


def _in(catalog: Catalog, seconds: float) -> Any:
    from datetime import timedelta

    from e2vsearch.catalog.rows import database_time

    with catalog.reading() as connection:
        return database_time(connection) + timedelta(seconds=seconds)


def test_stopping_gives_back_what_is_not_done(collection: Collection, calls: Path) -> None:
    collection.queue.add(calls)
    stop = threading.Event()
    done: list[JobReport] = []

    def first(each: JobReport) -> None:
        done.append(each)
        stop.set()

    report = collection.queue.work(QUICK, stop=stop, done=first)
    depth = queue.depth(collection.catalog)
    assert depth.leased == 0
    assert depth.queued + report.stored == 6
    assert report.stored >= 1
    collection.queue.work(QUICK)
    assert names(collection) == ["0", "1", "2", "3", "4", "5"]


def test_a_lack_of_the_worker_is_not_the_recordings_fault(collection: Collection, calls: Path) -> None:
    collection.queue.add(calls)

    def lacking(*_: object) -> ingest_recording.LoadedRecording:
        raise MissingExtra("reading s3:// needs the 'remote' extra")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingest_recording.RecordingIngestor, "load", lacking)
        with pytest.raises(MissingExtra):
            collection.queue.work(QUICK)
    depth = queue.depth(collection.catalog)
    assert (depth.queued, depth.leased, depth.delayed) == (6, 0, 0)


def test_what_the_database_does_not_take_is_parked(collection: Collection, calls: Path) -> None:
    if collection.catalog.url.get_backend_name() == "sqlite":
        pytest.skip("SQLite takes any text")
    collection.queue.add(calls / "0.wav", calls / "1.wav")
    with collection.catalog.writing() as connection:
        connection.execute(update(JobRow).where(JobRow.uri.like("%0.wav")).values(details={"agent": "Kim\0"}))
    report = collection.queue.work(QUICK)
    assert (report.stored, report.dead_letters) == (1, 1)
    assert "cannot be stored" in collection.failures()[0].message


def test_a_database_that_goes_away_and_comes_back(
    database_url: str, postgres_url: str, calls: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All its connections are cut while a recording is in work: nothing is lost, nothing is stored twice."""
    if database_url.startswith("sqlite"):
        pytest.skip("a file does not go away")
    import psycopg

    cut: list[int] = []
    cutter = threading.Lock()  # recordings are read side by side: one of them cuts, the others wait until it has
    load = ingest_recording.RecordingIngestor.load

    def cutting(steps: ingest_recording.RecordingIngestor, *arguments: object) -> ingest_recording.LoadedRecording:
        found = load(steps, *arguments)  # type: ignore[arg-type]
        with cutter:
            if not cut:
                with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as connection:
                    kill = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
                    cut.append(len(connection.execute(kill, [make_url(database_url).database]).fetchall()))
        return found

    with e2vsearch.open(database_url, encoder="fake", create=True) as collection, pytest.MonkeyPatch.context() as patch:
        collection.queue.add(calls)
        patch.setattr(ingest_recording.RecordingIngestor, "load", cutting)
        report = collection.queue.work(QUICK)
        assert cut[0] >= 1
        assert (report.stored + report.lost, names(collection)) == (6, ["0", "1", "2", "3", "4", "5"])


# ------------------------------------------------------------------------------------------------------- processes

SLOW = """
import sys, threading, e2vsearch
from e2vsearch.ingest.worker import WorkerOptions
from e2vsearch.ingest.recording import RecordingIngestor
load = RecordingIngestor.load
def slow(steps, source, row=None):
    if source.name == sys.argv[2]:
        print("in work", flush=True)
        while not steps._stop.wait(0.01):
            pass
        from e2vsearch.errors import Cancelled
        raise Cancelled
    return load(steps, source, row)
RecordingIngestor.load = slow
import signal
stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
with e2vsearch.open(sys.argv[1], encoder="fake") as collection:
    report = collection.queue.work(WorkerOptions(workers=2, lease_s=float(sys.argv[3]), poll_s=0.01), stop=stop)
    print(report.given_back, flush=True)
"""


@pytest.fixture
def slow_worker(database_url: str) -> Iterator[Callable[[str, float], subprocess.Popen[str]]]:
    """A worker in a process of its own that never gets done with one of its recordings."""
    started: list[subprocess.Popen[str]] = []

    def start(name: str, lease_s: float) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SLOW, database_url, name, str(lease_s)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "in work\n"
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.slow
def test_a_killed_workers_recordings_are_taken_over(
    collection: Collection, calls: Path, slow_worker: Callable[[str, float], subprocess.Popen[str]]
) -> None:
    collection.queue.add(calls)
    process = slow_worker("0.wav", 0.5)
    process.send_signal(signal.SIGKILL)
    process.wait()
    report = collection.queue.work(QUICK)  # --drain waits for leases that are about to end
    assert report.stored >= 1
    assert names(collection) == ["0", "1", "2", "3", "4", "5"]
    assert collection.catalog.counts().segments == 12
    assert queue.depth(collection.catalog) == queue.Depth(0, 0, 0, 0, 0, 0.0)


@pytest.mark.slow
def test_sigterm_gives_back(
    collection: Collection, calls: Path, slow_worker: Callable[[str, float], subprocess.Popen[str]]
) -> None:
    collection.queue.add(calls / "0.wav")
    process = slow_worker("0.wav", 60.0)
    assert queue.depth(collection.catalog).leased == 1
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert process.stdout is not None
    assert process.stdout.read() == "1\n"
    depth = queue.depth(collection.catalog)
    assert (depth.queued, depth.leased) == (1, 0)
    assert collection.queue.work(QUICK).stored == 1
