"""The runner of ingestion: threads load recordings side by side, and the calling thread stores them one by one.

Decoders, the resampler and the networks release the interpreter's lock, so threads are enough. A source of work hands
out what is loaded next: a list of files, a watched folder or leased jobs. Whatever stops a run, a rerun goes on: a
stored recording is recognised by its content.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from e2vsearch.errors import Cancelled, CatalogError, E2vsearchError
from e2vsearch.ingest import lock
from e2vsearch.ingest.context import IngestContext
from e2vsearch.ingest.metadata import MetadataTable
from e2vsearch.ingest.recording import (
    FileFailure,
    LoadedRecording,
    Outcome,
    RecordingIngestor,
    RecordingReport,
    source_path,
    warn_of_roles,
    worker_count,
)
from e2vsearch.ingest.remote.stores import Stores
from e2vsearch.ingest.remote.uris import Remote
from e2vsearch.ingest.sources import check_named, sources
from e2vsearch.policy import Role

if TYPE_CHECKING:
    from e2vsearch.ingest.transcripts.alignment import TranscriptFolder


MANY = 64  # recordings from which on one query for all that is stored costs less than one for each

T = TypeVar("T")

_log = logging.getLogger(__name__)


class WorkSource(Protocol[T]):
    """What a runner works on; all but `load` is called in the thread that runs it.

    Attributes:
        limit: items in work at a time, those that wait to be stored included, so that memory stays bounded.
        poll_s: seconds after which `take` is called again, at the latest.
    """

    limit: int
    poll_s: float

    def take(self, count: int, in_work: int) -> Sequence[T] | None:
        """Return at most `count` items to load, perhaps none for now; None once there will be no more.

        Args:
            count: how many more fit in.
            in_work: how many are in work; None ends the run once they are stored.
        """

    def load(self, item: T) -> LoadedRecording:
        """Load one item, in any thread."""

    def store(self, item: T, loaded: Future[LoadedRecording]) -> bool:
        """Store what was loaded, or record the failure; False: it could not be stored now and stays in work."""

    def idle(self) -> None:
        """Wait a while: there is nothing in work and nothing to take."""


class IngestRunner(Generic[T]):
    """One pool of threads, and one loop, for every source of work.

    Args:
        source: what is worked on.
        workers: threads that load.
        stop: once it is set, what is loaded is stored, and what is not yet begun is left. Ctrl-C sets it.
        stopping: called then, with the number of recordings that are waited for.
    """

    def __init__(
        self,
        source: WorkSource[T],
        workers: int,
        stop: threading.Event,
        stopping: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._workers = workers
        self._stop = stop
        self._stopping = stopping
        self._in_work: dict[Future[LoadedRecording], T] = {}

    def run(self) -> None:
        """Work until the source has no more, or `stop` is set.

        Raises:
            E2vsearchError, sqlalchemy.exc.SQLAlchemyError: what the source raises; `stop` is set then.
        """
        with ThreadPoolExecutor(self._workers, thread_name_prefix="e2vsearch-load") as pool:
            failed = False
            try:
                while not self._stop.is_set() and self._turn(pool):
                    pass
            except KeyboardInterrupt:
                self._stop.set()
            except BaseException:
                self._stop.set()  # or the pool would load on to the end before the error is seen
                failed = True
                raise
            finally:
                running = sum(not future.cancel() for future in self._in_work)
                if self._stop.is_set() and not failed:
                    self._stopping(running)
                self._finish()

    def _turn(self, pool: ThreadPoolExecutor) -> bool:
        free = self._source.limit - len(self._in_work)
        taken = self._source.take(free, len(self._in_work)) if free > 0 else ()
        if taken is None and not self._in_work:
            return False
        for item in taken or ():
            self._in_work[pool.submit(self._source.load, item)] = item
        if self._in_work:
            finished, _ = wait(self._in_work, self._source.poll_s, FIRST_COMPLETED)
            for future in finished:
                self._store(future)
        else:
            self._source.idle()
        return True

    def _store(self, future: Future[LoadedRecording]) -> None:
        stored = True
        try:
            stored = self._source.store(self._in_work[future], future)
        finally:
            if stored:
                del self._in_work[future]

    def _finish(self) -> None:
        """Store what is being loaded, and leave the rest."""
        for future in list(self._in_work):
            try:
                self._store(future)
            except (CatalogError, SQLAlchemyError) as error:
                _log.warning("%d recordings were left: %s", len(self._in_work) + 1, error)
                return
            except E2vsearchError as error:
                _log.warning("a recording was left: %s", error)


class FileList:
    """A list of files as a source of work."""

    poll_s = 0.5

    def __init__(
        self, ingestor: RecordingIngestor, files: Iterable[Path | Remote], workers: int, counts: IngestCounts
    ) -> None:
        self.limit = 2 * workers  # so that the next one is always ready to be stored
        self._ingestor = ingestor
        self._files = iter(files)
        self._counts = counts

    def take(self, count: int, in_work: int) -> list[Path | Remote] | None:  # noqa: ARG002 - as every source
        """Return the next files; None after the last."""
        return list(islice(self._files, count)) or None

    def load(self, item: Path | Remote) -> LoadedRecording:
        """Load one file."""
        return self._ingestor.load(item)

    def store(self, item: Path | Remote, loaded: Future[LoadedRecording]) -> bool:  # noqa: ARG002 - as every source
        """Store one file, or record its failure."""
        with suppress(Cancelled, CancelledError):
            self._counts.add(self._ingestor.store(loaded.result()))
        return True

    def idle(self) -> None:
        """Return at once: a list has files until its end."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, after each file."""

    path: str  # the file just done
    outcome: Outcome
    done: int
    total: int
    failed: int
    audio_s: float  # decoded so far in this run


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Counts of what became of the files of a run."""

    stored: int  # new
    replaced: int  # other content than before at the same place
    already: int  # stored before, unchanged
    moved: int  # stored before, now at another place
    silent: int  # of the stored and replaced: no speech was found
    segments: int
    audio_s: float
    seconds: float
    interrupted: bool
    left: int  # files not reached, when interrupted
    unused_metadata: int  # rows of --meta that named no file of this run
    failures: tuple[FileFailure, ...]  # of files, and of transcripts
    transcripts: int = 0  # recordings that one was joined to
    unused_transcripts: int = 0  # those of --transcripts that fit no file of this run
    left_out_words: int = 0  # of transcripts, where no segment is stored
    unknown_roles: int = 0  # new recordings of which it is not known whose voices their channels have
    other_roles: int = 0  # stored before with other roles than those given now: they stay as they are


class IngestCounts:
    """What became of the recordings of a run so far.

    Args:
        total: files of the run, as far as they are known.
        progress: called after each file.
        each: called with what became of each recording.
    """

    def __init__(
        self,
        total: int = 0,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        each: Callable[[RecordingReport], None] = lambda _: None,
    ) -> None:
        self.total = total
        self.changed = False  # segments came or went; who builds the index takes it back
        self._progress = progress
        self._each = each
        self._started = time.perf_counter()
        self._outcomes: Counter[Outcome] = Counter()
        self._failures: list[FileFailure] = []
        self._sums: Counter[str] = Counter()
        self._audio_s = 0.0

    def add(self, report: RecordingReport) -> None:
        """Count one recording."""
        new = report.outcome in ("stored", "replaced")
        self._outcomes[report.outcome] += 1
        self._audio_s += report.audio_s
        self._sums.update(
            segments=report.segments,
            silent=int(new and not report.segments and report.audio_s > 0),  # a plan has listened to nothing
            transcripts=int(report.transcript),
            left_out_words=report.left_out_words,
            unknown_roles=int(report.unknown_roles),
            other_roles=int(report.other_roles),
        )
        if report.unknown_roles and self._sums["unknown_roles"] == 1:
            warn_of_roles(report.uri)
        self._failures += filter(None, (report.failure, report.transcript_failure))
        self.changed |= new
        self._each(report)
        done, failed = self._outcomes.total(), self._outcomes["failed"]
        self._progress(Progress(report.uri, report.outcome, done, self.total, failed, self._audio_s))

    def report(
        self, table: MetadataTable | None = None, folder: TranscriptFolder | None = None, *, interrupted: bool
    ) -> IngestReport:
        """Return the counts."""
        return IngestReport(
            stored=self._outcomes["stored"],
            replaced=self._outcomes["replaced"],
            already=self._outcomes["already"],
            moved=self._outcomes["moved"],
            silent=self._sums["silent"],
            segments=self._sums["segments"],
            audio_s=self._audio_s,
            seconds=time.perf_counter() - self._started,
            interrupted=interrupted,
            left=self.total - self._outcomes.total(),
            unused_metadata=table.unused() if table is not None else 0,
            failures=tuple(self._failures),
            transcripts=self._sums["transcripts"],
            unused_transcripts=folder.unused() if folder is not None else 0,
            left_out_words=self._sums["left_out_words"],
            unknown_roles=self._sums["unknown_roles"],
            other_roles=self._sums["other_roles"],
        )


def ingest(
    context: IngestContext,
    *paths: str | os.PathLike[str],
    workers: int | None = None,
    meta: str | os.PathLike[str] | None = None,
    transcripts: str | os.PathLike[str] | None = None,
    channel_roles: Mapping[int, Role] | None = None,
    dry_run: bool = False,
    max_audio_s: float | None = None,
    progress: Callable[[Progress], None] = lambda _: None,
    stopping: Callable[[int], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> IngestReport:
    """Add recordings: files, folders and globs; what is stored already is not read again.

    Args:
        context: of the collection.
        paths: files, folders and globs, see `e2vsearch.audio.paths.expand`; and ``s3://``, ``gs://`` and ``http(s)://``
            URLs, prefixes that end with ``/`` and globs, see `e2vsearch.ingest.remote.stores`.
        workers: recordings in work at a time, by default as many as keep the encoder busy: one a core, and four a
            core with emotion2vec, which joins their segments.
        meta: a CSV whose columns are joined by file name, see `MetadataTable`.
        transcripts: a folder of ``.srt``, ``.vtt``, ``.json`` or ``.txt``, joined by file name and by time, see
            `e2vsearch.ingest.transcripts`; to recordings stored before as well, without reading their audio.
        channel_roles: whose voice a channel has, ``{0: "agent", 1: "customer"}``, see `e2vsearch.policy.Policy`: by
            default what ``role_0``, ``role_1`` … of `meta` say, else the collection's policy. An agent's channel is not
            analysed.
        dry_run: report what would be done; nothing is written, and no encoder is opened.
        max_audio_s: how long a recording may be, seconds; by default as the settings say, twelve hours.
        progress: called after each file.
        stopping: called once when the run ends early, with the number of recordings that are waited for.
        stop: set it from another thread to end early, as Ctrl-C does.

    Returns:
        The counts, failures included: one bad file never stops the rest.

    Raises:
        EncoderError, MissingExtra, SpaceMismatch: nothing can be encoded at all.
        AudioNotFound: nothing is there of what is named.
        SettingsError: the metadata cannot be read, or there is no folder of transcripts.
        CatalogError: the database cannot be written.
    """
    stop = stop or threading.Event()
    of_vectors = context.of_vectors
    check_named(paths)
    files = list(sources(paths, Stores(stop), of_vectors=of_vectors))
    table = MetadataTable(meta) if meta is not None else None
    folder = transcript_folder(transcripts, files)
    encoder = None if of_vectors or dry_run else context.pinned_encoder()
    ingestor = RecordingIngestor(context, encoder, table, folder, stop, max_audio_s, channel_roles)
    counts = IngestCounts(len(files), progress=progress)
    if dry_run or len(files) >= MANY:
        ingestor.prefetch()
    if dry_run:
        for source in files:
            counts.add(ingestor.plan(source))
        return counts.report(table, folder, interrupted=stop.is_set())
    workers = worker_count(context, encoder, workers)
    with lock.alone(context.catalog) as alone:
        if not alone:
            _log.warning("another ingest is at work here: this one begins with the last of %d files", len(files))
            files.reverse()  # where they meet, each recognises by content what the other has stored
        IngestRunner(FileList(ingestor, files, workers, counts), workers, stop, stopping).run()
    if context.catalog.space is not None and not stop.is_set():
        context.maintain()
    return counts.report(table, folder, interrupted=stop.is_set())


def transcript_folder(
    folder: str | os.PathLike[str] | None, recordings: Iterable[Path | Remote]
) -> TranscriptFolder | None:
    """Return the transcripts in a folder, None without one.

    Raises:
        SettingsError: it is no folder.
    """
    if folder is None:
        return None
    from e2vsearch.ingest.transcripts.alignment import TranscriptFolder  # not needed to open a collection and query it

    return TranscriptFolder(folder, map(source_path, recordings))


def paths_from(lines: Iterable[str]) -> Iterator[str]:
    """Return the paths of a list, one a line, without empty lines."""
    return (line.rstrip("\r\n") for line in lines if line.strip())
