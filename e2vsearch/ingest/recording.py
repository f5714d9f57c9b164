"""One recording, from where it is to where it is stored. Knows the two halves of that, and no order between recordings.

`RecordingIngestor.read` does all that takes long, in any thread, and writes nothing; `settle` writes what was found, in
the calling thread, one transaction a recording. A run, a folder that is watched and a queue of jobs are built of them.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sqlalchemy.exc import SQLAlchemyError

from e2vsearch.catalog.queue import finish
from e2vsearch.catalog.reader import StoredFile
from e2vsearch.catalog.recordings import recording_at
from e2vsearch.catalog.rows import Lease, NewRecording
from e2vsearch.encoders.base import Encoder
from e2vsearch.encoders.embedding_files import content_of, uri_of
from e2vsearch.encoders.registry import SAVED
from e2vsearch.errors import AudioError, Cancelled, CatalogError, E2vsearchError, SettingsError, TranscriptError
from e2vsearch.files import readable, sha256, stat_of, uri_scheme
from e2vsearch.ingest.context import IngestContext
from e2vsearch.ingest.load import read_audio, read_remote, read_saved
from e2vsearch.ingest.metadata import MetadataTable, Row
from e2vsearch.ingest.remote.stores import Stores
from e2vsearch.ingest.remote.uris import Remote, State
from e2vsearch.ingest.throttle import ThrottledEncoder
from e2vsearch.settings import cores
from e2vsearch.types import Space

if TYPE_CHECKING:
    from e2vsearch.ingest.transcripts.alignment import Found, TranscriptFolder


RECORDS = logging.getLogger("e2vsearch.ingest.runner.recordings")
"""Says one line a recording at level INFO: ``uri=… outcome=… audio_s=…``, and the same by name in ``record.fields``."""

_log = logging.getLogger(__name__)
Kind = Literal["stored", "replaced", "already", "moved", "failed"]


@dataclass(frozen=True, slots=True)
class FileFailure:
    """One file that could not be ingested in this run."""

    uri: str
    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class Read:
    """What was found out about one recording, for `RecordingIngestor.settle`."""

    source: Path | Remote
    uri: str
    row: Row | None
    mtime_ns: int = 0
    known: StoredFile | None = None  # stored before: under this URI, or with this content elsewhere
    moved: bool = False  # known from a place where there is nothing any more
    recording: NewRecording | None = None
    space: Space | None = None  # of saved vectors
    error: E2vsearchError | None = None
    transcript: Found | None = None
    seconds: float = 0.0  # it took


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one recording."""

    uri: str
    outcome: Kind
    recording: int | None = None  # its number in the catalog, None where it failed
    audio_s: float = 0.0  # listened to: 0 where it was known before
    seconds: float = 0.0  # from the first look to the commit, waits for other recordings left out
    segments: int = 0  # newly stored
    failure: FileFailure | None = None  # of the recording
    transcript: bool = False  # one was joined
    left_out_words: int = 0  # of the transcript
    transcript_failure: FileFailure | None = None

    @property
    def real_time_factor(self) -> float | None:
        """Seconds of work a second of audio, None where nothing was listened to."""
        return self.seconds / self.audio_s if self.audio_s else None

    @property
    def fields(self) -> dict[str, str | float | int | None]:
        """What is logged of it, by stable names: plain values, None where there is nothing to say."""
        factor = self.real_time_factor
        return {
            "uri": self.uri,
            "outcome": self.outcome,
            "recording": None if self.recording is None else f"call:{self.recording}",
            "audio_s": round(self.audio_s, 3),
            "seconds": round(self.seconds, 3),
            "real_time_factor": None if factor is None else round(factor, 4),
            "segments": self.segments,
            "reason": self.failure.reason if self.failure else None,
            "message": self.failure.message if self.failure else None,
            "transcript": self.transcript_failure.message if self.transcript_failure else self.transcript or None,
        }


class RecordingIngestor:
    """Reads recordings and stores them.

    Args:
        context: what they are added to.
        encoder: of the collection's space; None where the sources are saved vectors.
        table: metadata, joined by file name.
        folder: transcripts, joined by file name.
        stop: reading is given up between blocks of audio once it is set.
    """

    def __init__(
        self,
        context: IngestContext,
        encoder: Encoder | None,
        table: MetadataTable | None = None,
        folder: TranscriptFolder | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._context = context
        self._catalog = context.catalog
        # where as many read as there are cores, that is bound enough
        self._stop = stop or threading.Event()
        self._encoder = (
            ThrottledEncoder(encoder, self._stop) if encoder is not None and encoder.calls_at_once else encoder
        )
        self._table = table
        self._folder = folder
        self._stores = Stores(self._stop)
        self._known: dict[str, StoredFile] | None = None
        self._failed_before: set[str] | None = None

    def look_ahead(self) -> None:
        """Fetch what is stored and what failed, once for many recordings, rather than ask for each."""
        self._known = self._catalog.stored_files()
        self._failed_before = {failure.uri for failure in self._catalog.failures()}

    def rehearse(self, source: Path | Remote) -> Outcome:
        """What would become of a recording as far as its name, size and time tell; nothing is read or written.

        Raises:
            MissingExtra: a package for its kind of store is not installed.
        """
        uri = named(source)
        try:
            state = self._state(source)
        except AudioError as error:
            return Outcome(uri, "failed", failure=FileFailure(uri, error.reason, str(error)))
        known = self._known_at(uri)
        same = known is not None and state.is_as(known.size_bytes, known.mtime_ns)
        self.row_of(source)
        transcript = self._folder is not None and self._folder.has(path_of(source))
        return Outcome(uri, "already" if same else "replaced" if known else "stored", transcript=transcript)

    def read(self, source: Path | Remote, row: Row | None = None) -> Read:
        """All that takes long, in any thread. An error of the file's own is in what it gives, and never raised.

        Args:
            source: the recording.
            row: what is said of it, in place of the table's.

        Raises:
            e2vsearch.errors.Cancelled: `stop` was set.
            sqlalchemy.exc.SQLAlchemyError: the catalog cannot be asked.
        """
        started = time.perf_counter()
        read = self._read(source, row or self.row_of(source))
        if self._folder is not None and read.error is None:
            read = replace(read, transcript=self._folder.find(path_of(source)))
        return replace(read, seconds=time.perf_counter() - started)

    def settle(self, read: Read, holding: Lease | None = None) -> Outcome:
        """Write what was found, in the calling thread; a recording that failed is noted with its reason.

        Args:
            read: what was found.
            holding: a worker's lease on it, which ends with what is written. The worker says what becomes of it in the
                log, and in the queue where it failed.

        Raises:
            CatalogError: the database cannot be written.
            LeaseLost: the lease is another's now, or has run out; nothing was stored.
            E2vsearchError: it failed, where there is a lease.
        """
        started = time.perf_counter()
        try:
            outcome = self._settle(read, holding)
        except CatalogError:
            raise
        except E2vsearchError as error:
            if holding is not None:
                raise
            outcome = self._failed(read, error)
        outcome = replace(outcome, seconds=read.seconds + time.perf_counter() - started)
        if holding is None:
            log(outcome.fields)
        return outcome

    # -- reading -----------------------------------------------------------------------------------------------

    def _known_at(self, uri: str) -> StoredFile | None:
        return recording_at(self._catalog, uri) if self._known is None else self._known.get(uri)

    def _state(self, source: Path | Remote) -> State:
        if isinstance(source, Remote):
            return self._stores.state(source)
        stat = stat_of(content_of(source))
        return State(stat.st_size, stat.st_mtime_ns, None)

    def row_of(self, source: Path | Remote) -> Row | None:
        """What the table says of a recording."""
        return self._table.find(path_of(source), named(source)) if self._table is not None else None

    def _read(self, source: Path | Remote, row: Row | None) -> Read:
        read = Read(source, named(source), row)
        try:
            return self._found(read)
        except E2vsearchError as error:
            return replace(read, error=error)
        except (Cancelled, SQLAlchemyError):
            raise
        except Exception as error:  # whatever a decoder or a network throws, one bad file never stops the rest
            _log.debug("%s", read.uri, exc_info=True)
            what = f"unexpected {type(error).__name__}: {error} - please report it, with the file if you can"
            return replace(read, error=E2vsearchError(" ".join(f"{read.uri}: {what}".split())))

    def _found(self, read: Read) -> Read:
        """Stored already, by name, size and time or else by content; or new."""
        source, row, speech, stopped = read.source, read.row, self._context.speech, self._stop.is_set
        state = self._state(source)
        read = replace(read, mtime_ns=state.mtime_ns or 0)
        known = self._known_at(read.uri)
        if known is not None and state.is_as(known.size_bytes, known.mtime_ns):
            return replace(read, known=known)
        if isinstance(source, Remote):
            with self._stores.fetched(source) as fetched:
                known = self._catalog.file_of_content(fetched.content_sha256)
                if known is None:
                    encoder = self._encoder or self._context.encoder()
                    heard = read_remote(source, state, fetched, encoder, speech, row, stopped)
                    return replace(read, recording=heard)
        else:
            content = content_of(source)
            with readable(content):
                digest = sha256(content)
            known = self._catalog.file_of_content(digest)
            if known is None and self._encoder is None:
                recording, space = read_saved(source, digest, row)
                return replace(read, recording=recording, space=space)
            if known is None and self._encoder is not None:
                return replace(read, recording=read_audio(source, digest, self._encoder, speech, row, stopped))
        moved = known is not None and known.uri != read.uri and self._gone(known.uri)
        return replace(read, known=known, moved=moved)

    def _gone(self, uri: str) -> bool:
        return not Path(uri).exists() if uri_scheme(uri) is None else self._stores.gone(uri)

    # -- writing -----------------------------------------------------------------------------------------------

    def _settle(self, read: Read, holding: Lease | None) -> Outcome:
        if read.recording is not None:
            return self._store(read, read.recording, holding)
        if read.known is not None:
            return self._recognise(read, read.known, holding)
        raise read.error or E2vsearchError(f"{read.uri}: nothing was read of it")

    def _store(self, read: Read, recording: NewRecording, holding: Lease | None) -> Outcome:
        if read.space is not None:
            self._catalog.pin(read.space, SAVED)
        stored = self._catalog.store(recording, holding)
        segments = len(recording.segments) if stored.outcome != "already" else 0
        outcome = Outcome(read.uri, stored.outcome, stored.id, recording.duration_s, segments=segments)
        return self._say(read, stored.id, outcome)

    def _recognise(self, read: Read, known: StoredFile, holding: Lease | None) -> Outcome:
        if read.moved or (known.uri == read.uri and read.mtime_ns != known.mtime_ns):
            self._catalog.relocate(known.id, read.uri, path_of(read.source).stem, read.mtime_ns)
        if self._may_have_failed(read.uri):  # it could not be read once; now it is a copy of what is stored
            self._catalog.clear_failures([read.uri])
        if read.row is not None:
            self._catalog.annotate(known.id, read.row.metadata, read.row.recorded_at)
        if holding is not None:
            finish(self._catalog, holding)
        return self._say(read, known.id, Outcome(read.uri, "moved" if read.moved else "already", known.id))

    def _say(self, read: Read, number: int, outcome: Outcome) -> Outcome:
        """Join the transcript; one that is broken fails by its own name, and its recording is stored all the same."""
        if read.transcript is None:
            return outcome
        from e2vsearch.ingest.transcripts.alignment import store

        uri, error, left_out = str(read.transcript.path), read.transcript.error, 0
        if read.transcript.transcript is not None:
            try:
                left_out = store(self._catalog, number, read.transcript.transcript).left_out
            except TranscriptError as wrong:
                error = wrong
        if error is not None:
            self._catalog.fail(uri, error.reason, str(error))
            return replace(outcome, transcript_failure=FileFailure(uri, error.reason, str(error)))
        if self._may_have_failed(uri):
            self._catalog.clear_failures([uri])
        return replace(outcome, transcript=True, left_out_words=left_out)

    def _may_have_failed(self, uri: str) -> bool:
        return self._failed_before is None or uri in self._failed_before

    def _failed(self, read: Read, error: E2vsearchError) -> Outcome:
        self._catalog.fail(read.uri, error.reason, str(error))
        return Outcome(read.uri, "failed", failure=FileFailure(read.uri, error.reason, str(error)))


def workers_of(context: IngestContext, encoder: Encoder | None, asked: int | None = None) -> int:
    """How many recordings are in work at a time: as asked for or set, else as many as keep the encoder busy.

    Raises:
        SettingsError: less than one.
    """
    count = asked or context.settings.workers or (encoder.calls_at_once if encoder else 0) or cores()
    if count < 1:
        raise SettingsError(f"--workers must be 1 or more, not {count}")
    return count


def named(source: Path | Remote) -> str:
    """A recording's URI, as it is stored."""
    return source.uri if isinstance(source, Remote) else uri_of(source)


def path_of(source: Path | Remote) -> Path:
    """What it is matched by to metadata and transcripts: its path, or what stands for one."""
    return source.path if isinstance(source, Remote) else source


def log(fields: Mapping[str, str | float | None], level: int = logging.INFO) -> None:
    """Say what became of a recording: ``name=value`` of all there is to say, in one line."""
    if RECORDS.isEnabledFor(level):
        said = (f"{key}={_worded(value)}" for key, value in fields.items() if value is not None)
        RECORDS.log(level, "%s", " ".join(said), extra={"fields": fields})


def _worded(value: str | float) -> str:
    text = str(value)
    return text if text.isprintable() and not set(text) & set(' "=') else json.dumps(text)
