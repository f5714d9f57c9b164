"""The worker: plan, decode, segment, encode, store; resumable. Knows the order of things, and loses none of them.

Threads read and encode recordings side by side (decoders, resampler and networks all release the interpreter's
lock); the calling thread alone writes, one transaction a recording. Whatever stops it, a rerun goes on: what is
stored is known by its content.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from e2vsearch.errors import Cancelled, SettingsError
from e2vsearch.ingest.context import IngestContext
from e2vsearch.ingest.metadata import MetadataTable
from e2vsearch.ingest.recording import FileFailure, Kind, Outcome, Read, RecordingIngestor, path_of, workers_of
from e2vsearch.ingest.remote.stores import Stores
from e2vsearch.ingest.remote.uris import Remote
from e2vsearch.ingest.sources import sources
from e2vsearch.ingest.watch import STABLE_S, FolderWatch, ReloadedMetadata, rounds
from e2vsearch.vectors.background import BackgroundBuilder

if TYPE_CHECKING:
    from e2vsearch.ingest.transcripts.alignment import TranscriptFolder


_MANY = 64  # recordings from which on one look at all that is stored costs less than one for each
_TEND_EVERY_S = 60.0  # between two looks at whether the index of a watched collection wants building


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come, after each file."""

    path: str  # the file just done
    outcome: Kind
    done: int
    total: int
    failed: int
    audio_s: float  # audio listened to so far in this run


@dataclass(frozen=True, slots=True)
class IngestReport:
    """What a run did with each file it was given."""

    stored: int  # new
    replaced: int  # other content than before at the same place
    already: int  # stored before, unchanged
    moved: int  # stored before, now at another place
    silent: int  # of the stored and replaced: no speech was found
    segments: int
    audio_s: float
    seconds: float
    interrupted: bool
    left: int  # files not looked at, when interrupted
    unused_metadata: int  # rows of --meta that named no file of this run
    failures: tuple[FileFailure, ...]  # of files, and of transcripts
    transcripts: int = 0  # recordings that one was joined to
    unused_transcripts: int = 0  # those of --transcripts that fit no file of this run
    left_out_words: int = 0  # of transcripts, said where no speech was found


def ingest(
    context: IngestContext,
    *paths: str | os.PathLike[str],
    workers: int | None = None,
    meta: str | os.PathLike[str] | None = None,
    transcripts: str | os.PathLike[str] | None = None,
    dry_run: bool = False,
    progress: Callable[[Progress], None] = lambda _: None,
    stop: threading.Event | None = None,
) -> IngestReport:
    """Add recordings: files, folders and globs. What is stored already is not read again.

    Args:
        context: of the collection.
        paths: files, folders and globs, see `e2vsearch.audio.paths.expand`; and ``s3://``, ``gs://`` and ``http(s)://``
            URLs, prefixes that end with ``/`` and globs, see `e2vsearch.ingest.remote.stores`.
        workers: recordings in work at a time, by default as many as keep the encoder busy: one a core, and four a
            core with emotion2vec, which joins their segments.
        meta: a CSV whose columns are joined by file name, see `MetadataTable`.
        transcripts: a folder of ``.srt``, ``.vtt``, ``.json`` or ``.txt``, joined by file name and by time, see
            `e2vsearch.ingest.transcripts`; to recordings stored before as well, without reading their audio.
        dry_run: say what would be done; nothing is written, and no encoder is opened.
        progress: called after each file.
        stop: set it from another thread to end early, as Ctrl-C does.

    Returns:
        What was done, failures included: one bad file never stops the rest.

    Raises:
        EncoderError, MissingExtra, SpaceMismatch: nothing can be encoded at all.
        SettingsError: the metadata cannot be read, or there is no folder of transcripts.
        CatalogError: the database cannot be written.
    """
    stop = stop or threading.Event()
    of_vectors = context.of_vectors
    files = list(sources(paths, Stores(stop), of_vectors=of_vectors))
    table = MetadataTable(meta) if meta is not None else None
    folder = _transcripts(transcripts, files)
    run = IngestRunner(progress=progress, stop=stop)
    if dry_run:
        return run.rehearse(RecordingIngestor(context, None, table, folder, stop), files).report(table, folder)
    encoder = None if of_vectors else context.pinned_encoder()
    count = workers_of(context, encoder, workers)
    report = run.work(RecordingIngestor(context, encoder, table, folder, stop), files, count).report(table, folder)
    if context.catalog.space is not None and not report.interrupted:
        context.maintain()
    return report


def watch(
    context: IngestContext,
    *folders: str | os.PathLike[str],
    workers: int | None = None,
    meta: str | os.PathLike[str] | None = None,
    transcripts: str | os.PathLike[str] | None = None,
    stable_s: float = STABLE_S,
    each: Callable[[Outcome], None] = lambda _: None,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] | None = None,
) -> IngestReport:
    """Add the recordings of some folders, and go on adding those that come or change, until told to stop.

    A file is taken once it has stayed as it is for a while and nobody has it open to write. One that fails is
    noted, and tried again when it changes, after a restart too. One that goes stays in the collection.

    Args:
        context: of the collection.
        folders: watched with all below them.
        workers: as for `ingest`.
        meta: as for `ingest`; the table is read again when it has changed.
        transcripts: as for `ingest`; one is joined if it is there when its recording is taken.
        stable_s: how long a file must have stayed as it is.
        each: called after each recording.
        stop: set it from another thread to end it, as Ctrl-C does.
        clock: seconds, never going back.
        wait: what waits between two looks, by default until `stop` is set, at most.

    Returns:
        What was done, when it has been stopped.

    Raises:
        EncoderError, MissingExtra, SpaceMismatch, SettingsError, CatalogError: as `ingest`.
    """
    if context.of_vectors:
        raise SettingsError("saved vectors cannot be watched - run e2vsearch ingest when there are new ones")
    stop = stop or threading.Event()
    parked = {failure.uri: failure.failed_at for failure in context.catalog.failures()}
    watched = FolderWatch(folders, stable_s=stable_s, parked=parked)
    table = ReloadedMetadata(meta) if meta is not None else None
    _transcripts(transcripts, ())  # a folder that is none is said now, and not with the first recording
    encoder = context.pinned_encoder()
    count = workers_of(context, encoder, workers)
    run = IngestRunner(each=each, stop=stop)
    builder = BackgroundBuilder(context.maintain)
    with suppress(KeyboardInterrupt):
        tended_s = clock() - _TEND_EVERY_S
        for ready in rounds(watched, stop.is_set, clock, wait or stop.wait):
            if ready:
                folder = _transcripts(transcripts, watched.files)
                run.work(
                    RecordingIngestor(context, encoder, table.now() if table else None, folder, stop), ready, count
                )
            if run.changed and not stop.is_set() and clock() - tended_s >= _TEND_EVERY_S:
                builder.start(context.due)  # in a thread of its own: recordings go on being taken
                run.changed, tended_s = False, clock()
    stop.set()
    builder.join()
    return run.report()


def _transcripts(folder: str | os.PathLike[str] | None, recordings: Iterable[Path | Remote]) -> TranscriptFolder | None:
    if folder is None:
        return None
    from e2vsearch.ingest.transcripts.alignment import TranscriptFolder  # not needed to open a collection and query it

    return TranscriptFolder(folder, map(path_of, recordings))


class IngestRunner:
    """Many recordings, side by side, and what became of them in all."""

    def __init__(
        self,
        *,
        progress: Callable[[Progress], None] = lambda _: None,
        each: Callable[[Outcome], None] = lambda _: None,
        stop: threading.Event,
    ) -> None:
        self._progress = progress
        self._each = each
        self._stop = stop
        self._started = time.perf_counter()
        self._kinds: Counter[Kind] = Counter()
        self._failures: list[FileFailure] = []
        self._silent = 0
        self._segments = 0
        self._audio_s = 0.0
        self._total = 0
        self._transcripts = 0
        self._left_out_words = 0
        self.changed = False  # segments came or went; whoever tends the index takes it back

    def rehearse(self, steps: RecordingIngestor, files: Sequence[Path | Remote]) -> Self:
        """Count what would be done with these files; nothing is written."""
        steps.look_ahead()
        self._total = len(files)
        for path in files:
            self._count(steps.rehearse(path))
        return self

    def work(self, steps: RecordingIngestor, files: Sequence[Path | Remote], workers: int) -> Self:
        """Ingest these files in so many threads, until `stop` is set."""
        if len(files) >= _MANY:
            steps.look_ahead()
        self._total += len(files)
        waiting = iter(files)
        with ThreadPoolExecutor(workers, thread_name_prefix="e2vsearch-read") as pool:
            running: set[Future[Read]] = set()
            try:
                # twice as many as are read at once: the next is always ready, and memory stays bounded
                while self._fill(running, steps, waiting, pool, 2 * workers) or running:
                    finished, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in finished:
                        self._settle(steps, future)
            except KeyboardInterrupt:
                self._stop.set()
            except BaseException:
                self._stop.set()  # or the pool would read on to the end before the error is seen
                raise
            for future in running:
                if not future.cancel():
                    self._settle(steps, future)
        return self

    def _fill(
        self,
        running: set[Future[Read]],
        steps: RecordingIngestor,
        waiting: Iterator[Path | Remote],
        pool: ThreadPoolExecutor,
        limit: int,
    ) -> bool:
        while len(running) < limit and not self._stop.is_set():
            path = next(waiting, None)
            if path is None:
                return False
            running.add(pool.submit(steps.read, path))
        return not self._stop.is_set()

    def _settle(self, steps: RecordingIngestor, future: Future[Read]) -> None:
        with suppress(Cancelled):
            self._count(steps.settle(future.result()))

    def _count(self, outcome: Outcome) -> None:
        self._kinds[outcome.outcome] += 1
        self._audio_s += outcome.audio_s
        self._segments += outcome.segments
        self._silent += outcome.outcome in ("stored", "replaced") and not outcome.segments
        self._transcripts += outcome.transcript
        self._left_out_words += outcome.left_out_words
        self._failures += filter(None, (outcome.failure, outcome.transcript_failure))
        self.changed |= outcome.outcome in ("stored", "replaced")
        self._each(outcome)
        done, failed = self._kinds.total(), self._kinds["failed"]
        self._progress(Progress(outcome.uri, outcome.outcome, done, self._total, failed, self._audio_s))

    def report(self, table: MetadataTable | None = None, folder: TranscriptFolder | None = None) -> IngestReport:
        """Return what was done."""
        return IngestReport(
            stored=self._kinds["stored"],
            replaced=self._kinds["replaced"],
            already=self._kinds["already"],
            moved=self._kinds["moved"],
            silent=self._silent,
            segments=self._segments,
            audio_s=self._audio_s,
            seconds=time.perf_counter() - self._started,
            interrupted=self._stop.is_set(),
            left=self._total - self._kinds.total(),
            unused_metadata=table.unused() if table is not None else 0,
            failures=tuple(self._failures),
            transcripts=self._transcripts,
            unused_transcripts=folder.unused() if folder is not None else 0,
            left_out_words=self._left_out_words,
        )


def paths_from(lines: Iterable[str]) -> Iterator[str]:
    """Paths of a list, one a line; empty lines are passed over."""
    return (line.rstrip("\r\n") for line in lines if line.strip())
