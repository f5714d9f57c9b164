"""The worker: plan, decode, segment, encode, store; resumable. Knows the order of things, and loses none of them.

Threads read and encode recordings side by side (decoders, resampler and networks all release the interpreter's
lock); the calling thread alone writes, one transaction a recording. Whatever stops it, a rerun goes on: what is
stored is known by its content.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy.exc import SQLAlchemyError

from e2vsearch import collection as _collection
from e2vsearch import settings
from e2vsearch.catalog import NewRecording
from e2vsearch.catalog.reading import Known
from e2vsearch.collection.hearing import Stopped
from e2vsearch.collection.opened import SAVED
from e2vsearch.encoders import Encoder
from e2vsearch.errors import CatalogError, E2vsearchError, SettingsError, TranscriptError
from e2vsearch.ingest.metadata import MetadataTable, Row
from e2vsearch.ingest.reading import read_audio, read_saved, sha256_of, stat_of, uri_of
from e2vsearch.ingest.sources import expand
from e2vsearch.space import Space

if TYPE_CHECKING:
    from e2vsearch.ingest.transcripts import Found, TranscriptFolder

__all__ = ["Collection", "FileFailure", "IngestReport", "MetadataTable", "Progress", "expand"]

_log = logging.getLogger(__name__)

Outcome = Literal["stored", "replaced", "already", "moved", "failed"]


@dataclass(frozen=True, slots=True)
class FileFailure:
    """One file that could not be ingested in this run."""

    uri: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run has come, after each file."""

    path: str  # the file just done
    outcome: Outcome
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


@dataclass(frozen=True, slots=True)
class _Read:
    """What a thread found out about one file."""

    path: Path
    uri: str
    row: Row | None
    known: Known | None = None  # stored before: under this URI, or with this content elsewhere
    recording: NewRecording | None = None
    space: Space | None = None  # of saved vectors
    error: E2vsearchError | None = None
    transcript: Found | None = None


class Collection(_collection.Collection):
    """A collection that can be added to: what `e2vsearch.open` gives."""

    def ingest(
        self,
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
            paths: see `e2vsearch.ingest.expand`.
            workers: recordings in work at a time, by default as many as there are cores.
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
        of_vectors = (self.settings.encoder or self.catalog.encoder_source) == SAVED
        files = list(expand(paths, of_vectors=of_vectors))
        table = MetadataTable(meta) if meta is not None else None
        folder = None
        if transcripts is not None:
            from e2vsearch.ingest.transcripts import TranscriptFolder  # not needed to open a collection and query it

            folder = TranscriptFolder(transcripts, files)
        run = _Run(self, table, folder, progress, stop or threading.Event())
        if dry_run:
            return run.rehearse(files)
        encoder = None
        if not of_vectors:
            encoder = self.encoder()
            self.catalog.pin(encoder.space, encoder.opened_by or encoder.space.encoder)
        count = workers or self.settings.workers or settings.cores()
        if count < 1:
            raise SettingsError(f"--workers must be 1 or more, not {count}")
        report = run.work(files, encoder, count)
        if self.catalog.space is not None and not report.interrupted:
            self.maintain()
        return report


class _Run:
    def __init__(
        self,
        collection: Collection,
        table: MetadataTable | None,
        folder: TranscriptFolder | None,
        progress: Callable[[Progress], None],
        stop: threading.Event,
    ) -> None:
        self._collection = collection
        self._catalog = collection.catalog
        self._table = table
        self._folder = folder
        self._progress = progress
        self._stop = stop
        self._known = self._catalog.known()
        self._failed_before = {failure.uri for failure in self._catalog.failures()}
        self._outcomes: Counter[Outcome] = Counter()
        self._failures: list[FileFailure] = []
        self._silent = 0
        self._segments = 0
        self._audio_s = 0.0
        self._total = 0
        self._transcripts = 0
        self._left_out_words = 0

    def rehearse(self, files: list[Path]) -> IngestReport:
        self._total = len(files)
        for path in files:
            try:
                stat = stat_of(path)
            except E2vsearchError as error:
                self._failed(path, error, note=False)
                continue
            known = self._known.get(uri_of(path))
            same = known is not None and known.is_as(stat)
            if self._table is not None:
                self._table.find(path)
            self._transcripts += self._folder is not None and self._folder.has(path)
            self._count(path, "already" if same else "replaced" if known else "stored")
        return self._finished(time.perf_counter())

    def work(self, files: list[Path], encoder: Encoder | None, workers: int) -> IngestReport:
        started = time.perf_counter()
        self._total = len(files)
        waiting = iter(files)
        with ThreadPoolExecutor(workers, thread_name_prefix="e2vsearch-read") as pool:
            running: set[Future[_Read]] = set()
            try:
                # twice as many as are read at once: the next is always ready, and memory stays bounded
                while self._fill(running, waiting, pool, encoder, 2 * workers) or running:
                    finished, running = wait(running, timeout=0.5, return_when=FIRST_COMPLETED)
                    for future in finished:
                        self._settle(future)
            except KeyboardInterrupt:
                self._stop.set()
            except BaseException:
                self._stop.set()  # or the pool would read on to the end before the error is seen
                raise
            for future in running:
                if not future.cancel():
                    self._settle(future)
        return self._finished(started)

    def _fill(
        self,
        running: set[Future[_Read]],
        waiting: Iterator[Path],
        pool: ThreadPoolExecutor,
        encoder: Encoder | None,
        limit: int,
    ) -> bool:
        while len(running) < limit and not self._stop.is_set():
            path = next(waiting, None)
            if path is None:
                return False
            running.add(pool.submit(self._read_all, path, encoder))
        return not self._stop.is_set()

    def _read_all(self, path: Path, encoder: Encoder | None) -> _Read:
        read = self._read(path, encoder)
        if self._folder is None or read.error is not None:
            return read
        return replace(read, transcript=self._folder.find(path))

    def _read(self, path: Path, encoder: Encoder | None) -> _Read:
        """In a thread of the pool: all that takes long. Never raises an error of the file's own."""
        row = self._table.find(path) if self._table is not None else None
        uri = uri_of(path)
        try:
            stat = stat_of(path)
            known = self._known.get(uri)
            if known is not None and known.is_as(stat):
                return _Read(path, uri, row, known=known)
            digest = sha256_of(path)
            known = self._catalog.known_content(digest)
            if known is not None:
                return _Read(path, uri, row, known=known)
            if encoder is None:
                recording, space = read_saved(path, digest, row)
                return _Read(path, uri, row, recording=recording, space=space)
            speech = self._collection.speech
            return _Read(path, uri, row, recording=read_audio(path, digest, encoder, speech, row, self._stop.is_set))
        except E2vsearchError as error:
            return _Read(path, uri, row, error=error)
        except (Stopped, SQLAlchemyError):
            raise
        except Exception as error:  # whatever a decoder or a network throws, one bad file never stops the rest
            _log.debug("%s", path, exc_info=True)
            message = f"{path}: unexpected {type(error).__name__}: {error} - please report it, with the file if you can"
            return _Read(path, uri, row, error=E2vsearchError(" ".join(message.split())))

    def _settle(self, future: Future[_Read]) -> None:
        """In the calling thread: write what a thread found."""
        try:
            read = future.result()
        except Stopped:
            return
        try:
            if read.error is not None:
                self._failed(read.path, read.error)
            elif read.known is not None:
                self._recognise(read, read.known)
            elif read.recording is not None:
                self._store(read, read.recording)
        except CatalogError:
            raise
        except E2vsearchError as error:
            self._failed(read.path, error)

    def _store(self, read: _Read, recording: NewRecording) -> None:
        if read.space is not None:
            self._catalog.pin(read.space, SAVED)
        stored = self._catalog.store(recording)
        if stored.outcome != "already":
            self._segments += len(recording.segments)
            self._silent += not recording.segments
        self._audio_s += recording.duration_s
        self._say(read, stored.id)
        self._count(read.path, stored.outcome)

    def _recognise(self, read: _Read, known: Known) -> None:
        moved = known.uri != read.uri and not Path(known.uri).exists()
        if moved or known.uri == read.uri:
            stat = stat_of(read.path)
            if moved or stat.st_mtime_ns != known.mtime_ns:
                self._catalog.relocate(known.id, read.uri, read.path.stem, stat.st_mtime_ns)
        if read.uri in self._failed_before:  # it could not be read once; now it is a copy of what is stored
            self._catalog.forgive([read.uri])
        if read.row is not None:
            self._catalog.annotate(known.id, read.row.metadata, read.row.recorded_at)
        self._say(read, known.id)
        self._count(read.path, "moved" if moved else "already")

    def _say(self, read: _Read, number: int) -> None:
        """Join the transcript; one that is broken fails by its own name, and its recording is stored all the same."""
        if read.transcript is None:
            return
        from e2vsearch.ingest.transcripts import store

        uri, error = str(read.transcript.path), read.transcript.error
        if read.transcript.transcript is not None:
            try:
                self._left_out_words += store(self._catalog, number, read.transcript.transcript).left_out
            except TranscriptError as wrong:
                error = wrong
        if error is not None:
            self._catalog.fail(uri, error.reason, str(error))
            self._failures.append(FileFailure(uri, error.reason, str(error)))
            return
        self._transcripts += 1
        if uri in self._failed_before:
            self._catalog.forgive([uri])

    def _failed(self, path: Path, error: E2vsearchError, *, note: bool = True) -> None:
        if note:
            self._catalog.fail(uri_of(path), error.reason, str(error))
        self._failures.append(FileFailure(str(path), error.reason, str(error)))
        self._count(path, "failed")

    def _count(self, path: Path, outcome: Outcome) -> None:
        self._outcomes[outcome] += 1
        failed = self._outcomes["failed"]
        self._progress(Progress(str(path), outcome, self._outcomes.total(), self._total, failed, self._audio_s))

    def _finished(self, started: float) -> IngestReport:
        return IngestReport(
            stored=self._outcomes["stored"],
            replaced=self._outcomes["replaced"],
            already=self._outcomes["already"],
            moved=self._outcomes["moved"],
            silent=self._silent,
            segments=self._segments,
            audio_s=self._audio_s,
            seconds=time.perf_counter() - started,
            interrupted=self._stop.is_set(),
            left=self._total - self._outcomes.total(),
            unused_metadata=self._table.unused() if self._table is not None else 0,
            failures=tuple(self._failures),
            transcripts=self._transcripts,
            unused_transcripts=self._folder.unused() if self._folder is not None else 0,
            left_out_words=self._left_out_words,
        )


def paths_from(lines: Iterable[str]) -> Iterator[str]:
    """Paths of a list, one a line; empty lines are passed over."""
    return (line.rstrip("\r\n") for line in lines if line.strip())
