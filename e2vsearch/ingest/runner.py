"""The runner of ingestion: threads load recordings side by side, and the calling thread stores them one by one.

Decoders, the resampler and the networks release the interpreter's lock, so threads are enough. A source of work hands
out what is loaded next: a list of files, a watched folder or leased jobs. Whatever stops a run, a rerun goes on: a
stored recording is recognised by its content.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from sqlalchemy.exc import SQLAlchemyError

from e2vsearch.encoders.embedding_files import content_of
from e2vsearch.errors import Cancelled, CatalogError, E2vsearchError
from e2vsearch.ingest import lock
from e2vsearch.ingest.activity import Activity, ActivityTracker
from e2vsearch.ingest.context import IngestContext
from e2vsearch.ingest.metadata import MetadataTable
from e2vsearch.ingest.recording import LoadedRecording, RecordingIngestor, source_path, source_uri, worker_count
from e2vsearch.ingest.reports import IngestCounts, IngestReport, Progress
from e2vsearch.ingest.sources import check_named, sources
from e2vsearch.policy import Role
from e2vsearch.remote.stores import Stores
from e2vsearch.remote.uris import Remote

if TYPE_CHECKING:
    from e2vsearch.ingest.transcripts.alignment import TranscriptFolder


T = TypeVar("T")
L = TypeVar("L")

_log = logging.getLogger(__name__)


class WorkSource(Protocol[T, L]):
    """What a runner works on; all but `load` is called in the thread that runs it.

    Attributes:
        limit: items in work at a time, those that wait to be stored included, so that memory stays bounded.
        poll_s: seconds after which `take` is called again, at the latest.
        ordered: whether items are stored in the order in which they were taken, however long each of them loads.
    """

    limit: int
    poll_s: float
    ordered: bool

    def take(self, count: int, in_work: int) -> Sequence[T] | None:
        """Return at most `count` items to load, perhaps none for now; None once there will be no more.

        Args:
            count: how many more fit in.
            in_work: how many are in work; None ends the run once they are stored.
        """

    def load(self, item: T) -> L:
        """Load one item, in any thread."""

    def store(self, item: T, loaded: Future[L]) -> bool:
        """Store what was loaded, or record the failure; False: it could not be stored now and stays in work."""

    def idle(self) -> None:
        """Wait a while: there is nothing in work and nothing to take."""


class IngestRunner(Generic[T, L]):
    """One pool of threads, and one loop, for every source of work.

    Args:
        source: what is worked on.
        workers: threads that load.
        stop: once it is set, what is loaded is stored, and what is not yet begun is left. Ctrl-C sets it.
        stopping: called then, with the number of recordings that are waited for.
    """

    def __init__(
        self,
        source: WorkSource[T, L],
        workers: int,
        stop: threading.Event,
        stopping: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._source = source
        self._workers = workers
        self._stop = stop
        self._stopping = stopping
        self._in_work: dict[Future[L], T] = {}

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
                running = sum(not (future.cancel() or future.done()) for future in self._in_work)
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
            first = (next(iter(self._in_work)),)
            wait(first if self._source.ordered else self._in_work, self._source.poll_s, FIRST_COMPLETED)
            # a copy: what is stored is taken out
            for future in (takewhile if self._source.ordered else filter)(Future.done, list(self._in_work)):
                self._store(future)
        else:
            self._source.idle()
        return True

    def _store(self, future: Future[L]) -> None:
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
    """A list of files as a source of work, stored in its order: so ids do not depend on which worker was first."""

    poll_s = 0.5
    ordered = True

    def __init__(
        self, ingestor: RecordingIngestor, files: Iterable[Path | Remote], workers: int, counts: IngestCounts
    ) -> None:
        # so that the others have work while one loads long. Loaded ones that wait for it hold vectors alone, of no more
        # audio than `workers` times its own
        self.limit = 32 * workers
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
    activity: Callable[[Activity], None] = lambda _: None,
    stopping: Callable[[int], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> IngestReport:
    """Add recordings: files, folders and globs; what is stored already is not read again.

    Args:
        context: of the collection.
        paths: files, folders and globs, see `e2vsearch.audio.paths.expand`; and ``s3://``, ``gs://`` and ``http(s)://``
            URLs, prefixes that end with ``/`` and globs, see `e2vsearch.remote.stores`.
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
        progress: called after each file, in their order: first for those that are stored and need nothing more.
        activity: called, from any thread but one call at a time, when a phase or a file begins and for each block of
            audio.
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
    activity(Activity("listing"))
    files = list(sources(paths, Stores(stop), of_vectors=of_vectors))
    table = MetadataTable(meta) if meta is not None else None
    folder = transcript_folder(transcripts, files)
    activity(Activity("opening"))
    encoder = None if of_vectors or dry_run else context.pinned_encoder()
    tracker = ActivityTracker(activity)
    ingestor = RecordingIngestor(context, encoder, table, folder, stop, max_audio_s, channel_roles, tracker)
    counts = IngestCounts(len(files), progress=progress)
    ingestor.prefetch(files)
    if dry_run:
        for source in files:
            counts.add(ingestor.plan(source))
        return counts.report(table, folder, interrupted=stop.is_set())
    workers = worker_count(context, encoder, workers)
    left = _left(files, ingestor, counts, stop)
    tracker.expect({source_uri(source): _size(source) for source in left})
    with lock.alone(context.catalog) as alone:
        if not alone:
            _log.warning("another ingest is at work here: this one begins with the last of %d files", len(left))
            left.reverse()  # where they meet, each recognises by content what the other has stored
        IngestRunner(FileList(ingestor, left, workers, counts), workers, stop, stopping).run()
    if context.catalog.space is not None and not stop.is_set():
        tracker.enter("indexing")
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


def _left(
    files: Iterable[Path | Remote], ingestor: RecordingIngestor, counts: IngestCounts, stop: threading.Event
) -> list[Path | Remote]:
    """Return the files that are to be loaded, in their order; count those that are stored and need nothing more."""
    left = []
    for source in files:
        report = None if stop.is_set() else ingestor.recognised(source)
        if report is None:
            left.append(source)
        else:
            counts.add(report)
    return left


def _size(source: Path | Remote) -> int:
    """Return the bytes of a file, 0 where nobody knows."""
    if isinstance(source, Remote):
        return (source.state.size_bytes if source.state is not None else None) or 0
    try:
        return content_of(source).stat().st_size
    except (OSError, E2vsearchError):
        return 0


def paths_from(lines: Iterable[str]) -> Iterator[str]:
    """Return the paths of a list, one a line, without empty lines, and without the mark that Windows begins it with."""
    return (line.rstrip("\r\n").removeprefix("\ufeff") for line in lines if line.strip("\ufeff\r\n\t "))
