"""The worker: leased jobs as a source of work, any number of processes on any number of machines."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Literal

from sqlalchemy.exc import InterfaceError, OperationalError, SQLAlchemyError

from e2vsearch.catalog import queue
from e2vsearch.catalog.queue import Job
from e2vsearch.catalog.rows import Lease
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
    SpaceChanged,
    SpaceMismatch,
    VectorFileError,
)
from e2vsearch.ingest.context import IngestContext
from e2vsearch.ingest.metadata import Row
from e2vsearch.ingest.recording import LoadedRecording, RecordingIngestor, log, worker_count
from e2vsearch.ingest.reports import Outcome, RecordingReport, warn_of_roles
from e2vsearch.ingest.runner import IngestRunner
from e2vsearch.ingest.sources import source_of
from e2vsearch.vectors.background import BackgroundBuilder

_log = logging.getLogger(__name__)

_PERMANENT = (
    AudioInvalid,
    AudioNotAFile,
    AudioTooLong,
    AudioUnreadable,
    BadSignal,
    SpaceMismatch,
    VectorFileError,
)
"""Errors that every attempt would end with. A file that is missing, empty or truncated may be on its way."""

_UNAVAILABLE = (CatalogError, OperationalError, InterfaceError)
"""Errors of the database, for now; other SQL errors are of what is stored."""

_MAX_BACKOFF_S = 3600.0

_MAX_POLL_S = 0.5  # a signal that comes while threads are waited for is seen within that time

JobOutcome = Outcome | Literal["retry", "dead-letter", "lost", "given-back"]


@dataclass(frozen=True, slots=True)
class WorkerOptions:
    """Options of a worker."""

    workers: int = 0  # recordings loaded at a time; 0: as many as keep the encoder busy
    lease_s: float = 60.0  # after which another takes over from a worker that is lost
    attempts: int = 3  # after which a recording that fails is a dead letter
    drain: bool = False  # end when nothing is queued or leased
    retry_after_s: float = 30.0  # before the second attempt; four times as long before each further one
    poll_s: float = 1.0  # between two looks at an empty queue
    max_audio_s: float | None = None  # how long a recording may be; None: as the settings say, twelve hours

    def __post_init__(self) -> None:
        for name, least in (("lease_s", 0.1), ("attempts", 1), ("workers", 0)):
            if getattr(self, name) < least:
                raise SettingsError(f"--{name.removesuffix('_s')} must be {least} or more, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class JobReport:
    """What became of one leased job."""

    uri: str
    outcome: JobOutcome
    attempt: int
    waited_s: float  # in the queue, what failed before included
    worker: str  # machine:process:nonce
    audio_s: float = 0.0  # decoded
    seconds: float = 0.0  # of work
    segments: int = 0  # newly stored
    reason: str | None = None  # why it failed
    message: str | None = None

    @property
    def fields(self) -> dict[str, str | float | None]:
        """Plain values as they are logged, by the names of `RecordingReport.fields` and more."""
        factor = round(self.seconds / self.audio_s, 4) if self.audio_s else None
        times = {name: round(getattr(self, name), 3) for name in ("waited_s", "audio_s", "seconds")}
        return {**asdict(self), **times, "real_time_factor": factor}


@dataclass(frozen=True, slots=True)
class WorkReport:
    """Counts of what became of the jobs of a worker."""

    stored: int
    replaced: int
    already: int
    moved: int
    retried: int  # failed, and are queued for another attempt
    dead_letters: int  # failed for good
    lost: int  # the lease ran out: another worker takes them
    given_back: int  # not done when it was stopped
    segments: int
    audio_s: float
    seconds: float


def work(
    context: IngestContext,
    options: WorkerOptions | None = None,
    *,
    stop: threading.Event | None = None,
    done: Callable[[JobReport], None] | None = None,
    stopping: Callable[[int], None] = lambda _: None,
) -> WorkReport:
    """Ingest what is queued, until told to stop, or with `WorkerOptions.drain` until nothing is left.

    Args:
        context: of the collection.
        options: of the worker.
        stop: set it from a signal or another thread to end: what is not done goes back into the queue. Ctrl-C does so.
        done: called after each recording.
        stopping: called once when it is told to end, with the number of recordings that are waited for.

    Raises:
        EncoderError, MissingExtra, SpaceMismatch: nothing can be encoded at all.
        SpaceChanged: the collection was re-embedded: started again, the worker takes the new encoder.
        CatalogError: the database was unavailable for longer than a lease.
    """
    options, stop = options or WorkerOptions(), stop or threading.Event()
    encoder = None if context.of_vectors else context.pinned_encoder()
    workers = worker_count(context, encoder, options.workers)
    ingestor = RecordingIngestor(context, encoder, stop=stop, max_audio_s=options.max_audio_s)
    source = LeasedJobs(context, ingestor, options, workers, stop, done)
    with _every(options.lease_s / 3, source.extend_leases), context.retention():
        IngestRunner(source, workers, stop, stopping).run()
    source.build_index()
    source.builder.join()
    return source.report()


def worker_name() -> str:
    """Return machine:process:nonce, another one at every start: in containers the two first are often ``pod:1``."""
    return f"{socket.gethostname()[:200]}:{os.getpid()}:{secrets.token_hex(4)}"


class LeasedJobs:
    """The jobs of a queue as a source of work.

    Args:
        context: of the collection.
        ingestor: loads and stores the recordings.
        options: of the worker.
        workers: threads that load; one job more is leased, so that the next one is ready.
        stop: ends waits.
        done: called after each recording.
    """

    def __init__(
        self,
        context: IngestContext,
        ingestor: RecordingIngestor,
        options: WorkerOptions,
        workers: int,
        stop: threading.Event,
        done: Callable[[JobReport], None] | None = None,
    ) -> None:
        self.name = worker_name()
        self.limit = workers + 1
        self.ordered = False  # a lease is not held for longer than its own recording takes
        self.poll_s = min(_MAX_POLL_S, options.poll_s)
        self.builder = BackgroundBuilder(context.maintain)
        self._context = context
        self._catalog = context.catalog
        self._ingestor = ingestor
        self._options = options
        self._stop = stop
        self._done = done
        self._leased: dict[Lease, Job] = {}  # one whose lease ran out may be leased again here
        self._outcomes: Counter[JobOutcome] = Counter()
        self._segments = 0
        self._audio_s = 0.0
        self._started = time.monotonic()
        self._stored_since_build = False
        self._warned_of_roles = False
        self._unavailable_since: float | None = None

    def take(self, count: int, in_work: int) -> Sequence[Job] | None:
        """Lease jobs; None once nothing is queued or leased anywhere, with `WorkerOptions.drain`."""
        if any(job.exclusive for job in self._leased.values()):
            return ()
        options = self._options
        try:
            jobs = queue.take(
                self._catalog,
                self.name,
                count,
                lease_s=options.lease_s,
                attempts=options.attempts,
                busy=bool(in_work),
            )
            if not jobs and not in_work and options.drain and self._empty():
                return None
        except _UNAVAILABLE as error:
            self._wait_for_database(error)
            return ()
        self._unavailable_since = None
        self._leased |= {job.lease: job for job in jobs}
        return jobs

    def load(self, item: Job) -> LoadedRecording:
        """Load the recording of a job."""
        row = None
        if item.metadata is not None or item.recorded_at is not None:
            row = Row.of(item.metadata or {}, item.recorded_at)
        return self._ingestor.load(source_of(item.uri), row)

    def store(self, item: Job, loaded: Future[LoadedRecording]) -> bool:
        """Store the recording of a job, or record its failure; False while the database is unavailable."""
        try:
            self._store(item, loaded)
        except (MissingExtra, SpaceChanged):  # what this worker lacks another may have, or it after a restart
            self._give_back(item)
            del self._leased[item.lease]
            raise
        except _UNAVAILABLE as error:
            self._wait_for_database(error)
            return False
        del self._leased[item.lease]  # only now: until then the heartbeat extends its lease
        return True

    def idle(self) -> None:
        """Wait before the next look at an empty queue."""
        self.build_index()
        self._stop.wait(self._options.poll_s)

    def extend_leases(self) -> None:
        """Extend the leases of all that is in work."""
        leases = list(self._leased)
        if not leases:
            return
        try:
            queue.extend(self._catalog, leases, self._options.lease_s)
        except (CatalogError, SQLAlchemyError) as error:  # the next one may; if none does, the leases run out
            _log.warning("the leases were not extended: %s", error)

    def build_index(self) -> None:
        """Build the index in the background, if that is due; one process does at a time, the others go on without.

        Only where the index lies with the collection: of a database by URL, each machine that searches it has an index
        of its own, and builds it itself.
        """
        if self._stored_since_build and self._context.owns_index:
            self._stored_since_build = False
            self.builder.start(self._context.due)

    def report(self) -> WorkReport:
        """Return the counts."""
        return WorkReport(
            stored=self._outcomes["stored"],
            replaced=self._outcomes["replaced"],
            already=self._outcomes["already"],
            moved=self._outcomes["moved"],
            retried=self._outcomes["retry"],
            dead_letters=self._outcomes["dead-letter"],
            lost=self._outcomes["lost"],
            given_back=self._outcomes["given-back"],
            segments=self._segments,
            audio_s=self._audio_s,
            seconds=time.monotonic() - self._started,
        )

    def _store(self, job: Job, future: Future[LoadedRecording]) -> None:
        try:
            loaded = future.result()
        except (Cancelled, CancelledError, *_UNAVAILABLE):
            self._give_back(job)
            return
        except MissingExtra:
            raise
        except E2vsearchError as error:
            self._fail(job, error)
            return
        try:
            report = self._ingestor.store(loaded, job.lease)
        except LeaseLost as error:
            self._count(job, "lost", error=error)
        except (MissingExtra, *_UNAVAILABLE):
            raise
        except E2vsearchError as error:
            self._fail(job, error)
        except SQLAlchemyError as error:  # of what is stored, which the database does not accept
            self._fail(job, E2vsearchError(f"{job.uri}: cannot be stored: {' '.join(str(error).split())[:500]}"))
        else:
            self._stored_since_build |= bool(report.segments)
            if report.unknown_roles and not self._warned_of_roles:
                self._warned_of_roles = True
                warn_of_roles(report.uri)
            self._count(job, report.outcome, report)

    def _fail(self, job: Job, error: E2vsearchError) -> None:
        permanent = isinstance(error, _PERMANENT) or job.attempt >= self._options.attempts
        retry_after_s = min(_MAX_BACKOFF_S, self._options.retry_after_s * 4.0 ** (job.attempt - 1))
        try:
            queue.fail(self._catalog, job.lease, error.reason, str(error), None if permanent else retry_after_s)
        except LeaseLost as lost:
            self._count(job, "lost", error=lost)
        else:
            self._count(job, "dead-letter" if permanent else "retry", error=error)

    def _give_back(self, job: Job) -> None:
        if queue.release(self._catalog, [job.lease]):
            self._count(job, "given-back")

    def _count(
        self, job: Job, outcome: JobOutcome, stored: RecordingReport | None = None, error: E2vsearchError | None = None
    ) -> None:
        report = JobReport(
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
        self._segments += report.segments
        self._audio_s += report.audio_s
        log(report.fields, logging.INFO if error is None else logging.WARNING)
        if self._done is not None:
            self._done(report)

    def _empty(self) -> bool:
        depth = queue.depth(self._catalog)
        return depth.queued + depth.leased == 0

    def _wait_for_database(self, error: Exception) -> None:
        """Wait for a database that is restarted; one that is unavailable for longer than a lease ends the worker."""
        now = time.monotonic()
        self._unavailable_since = self._unavailable_since or now
        if now - self._unavailable_since > self._options.lease_s:
            raise error
        _log.warning("the database is unavailable: %s", error)
        self._stop.wait(self._options.poll_s)


@contextmanager
def _every(seconds: float, function: Callable[[], None]) -> Iterator[None]:
    """Call a function again and again, in a thread of its own, for as long as the context lasts."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(seconds):
            function()

    thread = threading.Thread(target=beat, name="e2vsearch-heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
