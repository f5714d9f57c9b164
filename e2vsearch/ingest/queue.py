"""Recordings into the queue, for workers to take. Knows paths and metadata; reads no audio and opens no encoder."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from e2vsearch.catalog import queue as jobs
from e2vsearch.catalog.queue import Job, NewJob
from e2vsearch.errors import (
    AudioInvalid,
    AudioNotAFile,
    AudioTooLong,
    AudioUnreadable,
    BadSignal,
    Cancelled,
    CatalogError,
    E2vsearchError,
    LeaseLost,
    MissingExtra,
    SettingsError,
    SpaceMismatch,
    VectorFileError,
)
from e2vsearch.ingest.context import IngestContext
from e2vsearch.ingest.metadata import MetadataTable, Row
from e2vsearch.ingest.recording import (
    FileFailure,
    Kind,
    Outcome,
    Read,
    RecordingIngestor,
    log,
    named,
    path_of,
    workers_of,
)
from e2vsearch.ingest.remote.stores import Stores
from e2vsearch.ingest.sources import source_of, sources
from e2vsearch.vectors.background import BackgroundBuilder


@dataclass(frozen=True, slots=True)
class QueueReport:
    """What became of the recordings that were to be queued."""

    queued: int
    waiting: int  # in the queue before, or in work
    parked: int  # given up before, and left so: `e2vsearch queue retry` queues them again
    already: int  # stored before, unchanged
    unused_metadata: int  # rows of --meta that named no recording
    failures: tuple[FileFailure, ...]  # not there, or not to be listed


def enqueue(
    context: IngestContext,
    *paths: str | os.PathLike[str],
    priority: int = 0,
    meta: str | os.PathLike[str] | None = None,
) -> QueueReport:
    """Queue recordings for workers, see `e2vsearch.ingest.queue`.

    Args:
        context: whose queue.
        paths: files, folders, globs and URLs; workers find them by the same names.
        priority: those of a higher one are taken first.
        meta: a CSV whose columns are joined by file name, see `MetadataTable`.

    Raises:
        SettingsError: the metadata cannot be read, or a URL is no recording's or is signed: its signature would have to
            be kept with it.
        CatalogError: the database cannot be written.
    """
    of_vectors = context.of_vectors
    table = MetadataTable(meta) if meta is not None else None
    stores = Stores()
    steps = RecordingIngestor(context, None, table)
    steps.look_ahead()
    already = 0
    failures: list[FileFailure] = []

    def new() -> Iterator[NewJob]:
        nonlocal already
        for source in sources(paths, stores, of_vectors=of_vectors):
            if not isinstance(source, Path) and source.url != source.uri:
                raise SettingsError(f"{source.uri}: a signed address is no good in a queue - use e2vsearch ingest")
            outcome = steps.rehearse(source)
            row = table.find(path_of(source), named(source)) if table is not None else None
            if outcome.failure is not None:
                failures.append(outcome.failure)
            elif outcome.outcome == "already" and row is None:  # with metadata, a worker joins that
                already += 1
            else:
                uri = str(source) if isinstance(source, Path) else source.uri
                yield NewJob(uri, row.metadata if row else None, row.recorded_at if row else None)

    done = jobs.enqueue(context.catalog, new(), priority)
    unused = table.unused() if table is not None else 0
    return QueueReport(done.queued, done.waiting, done.dead_letters, already, unused, tuple(failures))


_log = logging.getLogger(__name__)

_HOPELESS = (
    AudioInvalid,
    AudioNotAFile,
    AudioTooLong,
    AudioUnreadable,
    BadSignal,
    SpaceMismatch,
    VectorFileError,
)
"""Errors that another try would meet again. A file that is missing, empty or truncated may be on its way."""

_AWAY = (
    CatalogError,
    OperationalError,
    InterfaceError,
)  # the database, for now; other SQL errors are of what is stored

_LONGEST_BACK_OFF_S = 3600.0
_AT_ONCE_S = 0.5  # how soon a signal is seen that came while threads were waited for
End = Kind | Literal["again", "parked", "lost", "given-back"]


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """How a worker goes about it."""

    workers: int = 0  # recordings in work at a time; 0: as many as keep the encoder busy
    lease_s: float = 60.0  # how soon another takes over from a worker that is lost
    attempts: int = 3  # then a recording that fails is parked
    drain: bool = False  # end when nothing is queued or in work anywhere
    again_s: float = 30.0  # wait before the second attempt; four times as long before each further one
    poll_s: float = 1.0  # how often an empty queue is looked at

    def __post_init__(self) -> None:
        for name, least in (("lease_s", 0.1), ("attempts", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"--{name.removesuffix('_s')} must be {least} or more, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Done:
    """What a worker did with one recording it had taken."""

    uri: str
    outcome: End
    attempt: int
    waited_s: float  # in the queue, what failed before included
    worker: str  # machine:process
    audio_s: float = 0.0  # listened to
    seconds: float = 0.0  # of work
    segments: int = 0  # newly stored
    reason: str | None = None  # why it failed
    message: str | None = None

    @property
    def fields(self) -> dict[str, str | float | None]:
        """What is logged of it, under the names that `Outcome.fields` has and some of its own."""
        factor = round(self.seconds / self.audio_s, 4) if self.audio_s else None
        times = {name: round(getattr(self, name), 3) for name in ("waited_s", "audio_s", "seconds")}
        return {**asdict(self), **times, "real_time_factor": factor}


@dataclass(frozen=True, slots=True)
class WorkReport:
    """What a worker did from its start to its end."""

    stored: int
    replaced: int
    already: int
    moved: int
    again: int  # failed, and are tried again
    parked: int  # failed, and are given up
    lost: int  # the lease ran out: another does them
    given_back: int  # taken and not done when it was stopped
    segments: int
    audio_s: float
    seconds: float


class Worker:
    """Takes recordings from a collection's queue, several at a time, until it is stopped or the queue is empty.

    Args:
        context: whose queue; stays the caller's to close.
        options: how it goes about it.
        stop: set it, from a signal or another thread, to end: what is not done is given back.
        done: called after each recording, in the thread that runs the worker.
    """

    def __init__(
        self,
        context: IngestContext,
        options: WorkerOptions | None = None,
        stop: threading.Event | None = None,
        done: Callable[[Done], None] | None = None,
    ) -> None:
        self.name = f"{socket.gethostname()}:{os.getpid()}"
        self._context = context
        self._catalog = context.catalog
        self._options = options or WorkerOptions()
        self._stop = stop or threading.Event()
        self._done = done
        self._threads = 1  # until it is known what keeps the encoder busy
        self._mender = BackgroundBuilder(context.maintain)
        self._hand: dict[Future[Read], Job] = {}
        self._outcomes: Counter[End] = Counter()
        self._segments = 0
        self._audio_s = 0.0
        self._stored_since_built = False
        self._away_since: float | None = None

    @property
    def in_work(self) -> int:
        """Recordings that it holds now."""
        return len(self._hand)

    def run(self) -> WorkReport:
        """Work until `stop` is set, or with `WorkerOptions.drain` until nothing is left.

        Raises:
            EncoderError, MissingExtra, SpaceMismatch: nothing can be encoded at all.
            CatalogError: the database was away for longer than a lease.
        """
        started = time.monotonic()
        of_vectors = self._context.of_vectors
        encoder = None
        if not of_vectors:
            encoder = self._context.pinned_encoder()
        self._threads = workers_of(self._context, encoder, self._options.workers)
        steps = RecordingIngestor(self._context, encoder, stop=self._stop)
        with (
            ThreadPoolExecutor(self._threads, thread_name_prefix="e2vsearch-read") as pool,
            _Heartbeat(self._beat, self._options.lease_s / 3),
        ):
            try:
                while not self._stop.is_set() and self._turn(pool, steps):
                    pass
                self._mend()
            finally:
                self._stop.set()  # or the pool would read on to the end before an error is seen
                self._give_back(steps)
        self._mender.join()
        return self._finished(started)

    def _turn(self, pool: ThreadPoolExecutor, steps: RecordingIngestor) -> bool:
        """Take what fits, and wait for what is ready; False once there is nothing left to do."""
        try:
            self._take(pool, steps)
            if self._hand:
                finished, _ = wait(self._hand, min(_AT_ONCE_S, self._options.poll_s), FIRST_COMPLETED)
                for future in finished:
                    self._settle(steps, future)
            elif self._options.drain and self._empty():
                return False
            else:
                self._mend()
                self._stop.wait(self._options.poll_s)
        except _AWAY as error:
            self._bear(error)
        else:
            self._away_since = None
        return True

    def _take(self, pool: ThreadPoolExecutor, steps: RecordingIngestor) -> None:
        free = self._threads + 1 - len(self._hand)
        if free <= 0 or any(job.exclusive for job in self._hand.values()):
            return
        options = self._options
        for job in jobs.take(
            self._catalog, self.name, free, lease_s=options.lease_s, attempts=options.attempts, busy=bool(self._hand)
        ):
            self._hand[pool.submit(_read, steps, job)] = job

    def _settle(self, steps: RecordingIngestor, future: Future[Read]) -> None:
        """Store what was read, or say why it could not be; while the database is away it stays in hand."""
        job = self._hand[future]
        try:
            self._conclude(steps, future, job)
        except MissingExtra:  # the worker's lack and not the recording's: another may have what it takes
            self._give(job)
            del self._hand[future]
            raise
        del self._hand[future]  # only now: until then the heartbeat keeps its lease

    def _conclude(self, steps: RecordingIngestor, future: Future[Read], job: Job) -> None:
        try:
            read = future.result()
        except (Cancelled, CancelledError, *_AWAY):  # nothing was found out
            self._give(job)
            return
        except MissingExtra:
            raise
        except E2vsearchError as error:
            self._failed(job, error)
            return
        try:
            outcome = steps.settle(read, job.lease)
        except LeaseLost as error:
            self._note(job, "lost", error=error)
        except (MissingExtra, *_AWAY):
            raise
        except E2vsearchError as error:
            self._failed(job, error)
        except SQLAlchemyError as error:  # something in it that the database does not take
            self._failed(job, E2vsearchError(f"{job.uri}: cannot be stored: {' '.join(str(error).split())[:500]}"))
        else:
            self._stored_since_built |= bool(outcome.segments)
            self._note(job, outcome.outcome, outcome)

    def _failed(self, job: Job, error: E2vsearchError) -> None:
        given_up = isinstance(error, _HOPELESS) or job.attempt >= self._options.attempts
        again_s = min(_LONGEST_BACK_OFF_S, self._options.again_s * 4.0 ** (job.attempt - 1))
        try:
            jobs.fail(self._catalog, job.lease, error.reason, str(error), None if given_up else again_s)
        except LeaseLost as lost:
            self._note(job, "lost", error=lost)
        else:
            self._note(job, "parked" if given_up else "again", error=error)

    def _give(self, job: Job) -> None:
        if jobs.release(self._catalog, [job.lease]):
            self._note(job, "given-back")

    def _give_back(self, steps: RecordingIngestor) -> None:
        """Store what is read to its end, and give the rest back; one that cannot be is taken when its lease ends."""
        for future in self._hand:
            future.cancel()
        for future, job in list(self._hand.items()):
            try:
                self._settle(steps, future)
            except (*_AWAY, MissingExtra) as error:
                _log.warning("%s was not given back: %s", job.uri, error)

    def _note(self, job: Job, outcome: End, stored: Outcome | None = None, error: E2vsearchError | None = None) -> None:
        done = Done(
            uri=job.uri,
            outcome=outcome,
            attempt=job.attempt,
            waited_s=job.waited_s,
            worker=self.name,
            audio_s=stored.audio_s if stored is not None else 0.0,
            seconds=stored.seconds if stored is not None else 0.0,
            segments=stored.segments if stored is not None else 0,
            reason=error.reason if error is not None else None,
            message=str(error) if error is not None else None,
        )
        self._outcomes[outcome] += 1
        self._segments += done.segments
        self._audio_s += done.audio_s
        log(done.fields, logging.INFO if error is None else logging.WARNING)
        if self._done is not None:
            self._done(done)

    def _empty(self) -> bool:
        depth = jobs.depth(self._catalog)
        return depth.queued + depth.leased == 0

    def _mend(self) -> None:
        """Build the index aside, if that is due; one process does at a time, and the others go on without.

        Only where the index lies with the collection: of a database by URL, each machine that searches it has an index
        of its own, and builds it itself.
        """
        if self._stored_since_built and self._context.owns_index:
            self._stored_since_built = False
            self._mender.start(self._context.due)

    def _beat(self) -> None:
        leases = [job.lease for job in list(self._hand.values())]
        if not leases:
            return
        try:
            jobs.extend(self._catalog, leases, self._options.lease_s)
        except (CatalogError, SQLAlchemyError) as error:  # another beat may reach it; if none does, the leases run out
            _log.warning("the leases were not extended: %s", error)

    def _bear(self, error: Exception) -> None:
        """A database that is restarted is back in seconds; one that is away for longer ends the worker."""
        now = time.monotonic()
        self._away_since = self._away_since or now
        if now - self._away_since > self._options.lease_s:
            raise error
        _log.warning("the database is away: %s", error)
        self._stop.wait(self._options.poll_s)

    def _finished(self, started: float) -> WorkReport:
        return WorkReport(
            stored=self._outcomes["stored"],
            replaced=self._outcomes["replaced"],
            already=self._outcomes["already"],
            moved=self._outcomes["moved"],
            again=self._outcomes["again"],
            parked=self._outcomes["parked"],
            lost=self._outcomes["lost"],
            given_back=self._outcomes["given-back"],
            segments=self._segments,
            audio_s=self._audio_s,
            seconds=time.monotonic() - started,
        )


def _read(steps: RecordingIngestor, job: Job) -> Read:
    row = None
    if job.metadata is not None or job.recorded_at is not None:
        row = Row(job.metadata or {}, job.recorded_at)
    return steps.read(source_of(job.uri), row)


class _Heartbeat:
    """Calls something again and again in a thread of its own, for as long as the context lasts."""

    def __init__(self, beat: Callable[[], None], every_s: float) -> None:
        self._beat = beat
        self._every_s = every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="e2vsearch-heartbeat", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._beat()


def work(
    context: IngestContext,
    options: WorkerOptions | None = None,
    *,
    stop: threading.Event | None = None,
    done: Callable[[Done], None] | None = None,
) -> WorkReport:
    """Ingest what is queued, until told to stop, see `Worker`; any number of processes may, on any number of machines.

    Args:
        context: of the collection.
        options: how it goes about it; ``WorkerOptions(drain=True)`` ends when nothing is left.
        stop: set it from another thread to end: what is not done goes back into the queue.
        done: called after each recording.

    Raises:
        EncoderError, MissingExtra, SpaceMismatch: nothing can be encoded at all.
        CatalogError: the database was away for longer than a lease.
    """
    return Worker(context, options, stop, done).run()


class Queue(IngestContext):
    """The facet `Collection.queue`: recordings that wait for workers, on any number of machines."""

    add = enqueue
    work = work

    def state(self) -> jobs.QueueState:
        """Return what waits, what is being worked on, and what failed too often."""
        return jobs.state(self.catalog)

    def retry(self, uris: Sequence[str] | None = None) -> int:
        """Queue dead letters again, all by default, and return how many.

        Raises:
            NotStored: one that is named is no dead letter.
        """
        return jobs.retry(self.catalog, uris)

    def clear(self, *, dead_letters_only: bool = False) -> int:
        """Delete what nobody works on, or the dead letters alone, and return how many."""
        return jobs.clear(self.catalog, dead_letters_only=dead_letters_only)
