"""One recording is ingested in two halves.

`RecordingIngestor.load` does all that takes long, in any thread, and writes nothing; `store` writes the result in the
calling thread, one transaction a recording.
"""

from __future__ import annotations

import json
import logging
import stat
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy.exc import SQLAlchemyError

from e2vsearch import telemetry
from e2vsearch.catalog.queue import finish
from e2vsearch.catalog.recordings import recording_at
from e2vsearch.catalog.rows import Lease, NewRecording
from e2vsearch.catalog.stored_file import StoredFile
from e2vsearch.encoders.base import Encoder
from e2vsearch.encoders.embedding_files import content_of, uri_of
from e2vsearch.encoders.registry import SAVED
from e2vsearch.errors import AudioError, Cancelled, CatalogError, E2vsearchError, SettingsError, TranscriptError
from e2vsearch.files import file_uri, legible, local_path, readable, sha256, stat_of, uri_scheme
from e2vsearch.ingest.activity import ActivityTracker
from e2vsearch.ingest.context import IngestContext
from e2vsearch.ingest.load import Embed, read_audio, read_remote, read_saved
from e2vsearch.ingest.metadata import MetadataTable, Row
from e2vsearch.ingest.reports import FileFailure, Outcome, RecordingReport
from e2vsearch.ingest.throttle import ThrottledEncoder
from e2vsearch.pipeline import embed_audio
from e2vsearch.policy import Policy, Role, roles_of
from e2vsearch.remote.stores import Stores
from e2vsearch.remote.uris import Remote, State
from e2vsearch.settings import cores
from e2vsearch.types import EmbeddedAudio, Space

if TYPE_CHECKING:
    from e2vsearch.ingest.transcripts.alignment import Found, TranscriptFolder


RECORDS = logging.getLogger("e2vsearch.ingest.recordings")
"""The record log, by a stable name: one line a recording at level INFO, ``uri=… outcome=… audio_s=…``, and the same by
name in ``record.fields``."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedRecording:
    """What is to be stored of one recording."""

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


class RecordingIngestor:
    """The two halves of ingesting a recording.

    Args:
        context: what they are added to.
        encoder: of the collection's space; None where the sources are saved vectors.
        table: metadata, joined by file name.
        folder: transcripts, joined by file name.
        stop: loading ends between blocks of audio once it is set.
        max_audio_s: how long a recording may be; None: as the settings say.
        roles: whose voice a channel has, in place of what the table or the collection's policy says.
        activity: what is told which files are at work.
    """

    def __init__(
        self,
        context: IngestContext,
        encoder: Encoder | None,
        table: MetadataTable | None = None,
        folder: TranscriptFolder | None = None,
        stop: threading.Event | None = None,
        max_audio_s: float | None = None,
        roles: Mapping[int, Role] | None = None,
        activity: ActivityTracker | None = None,
    ) -> None:
        self._context = context
        self._activity = activity or ActivityTracker()
        self._roles = None if roles is None else roles_of(roles)
        self._catalog = context.catalog
        self._longest_s = context.settings.max_audio_s if max_audio_s is None else max_audio_s
        if not self._longest_s > 0:
            raise SettingsError(f"--max-audio-s must be more than 0, not {self._longest_s:g}")
        # an encoder that is called by as many threads as there are cores needs no further bound
        self._stop = stop or threading.Event()
        self._encoder = (
            ThrottledEncoder(encoder, self._stop) if encoder is not None and encoder.calls_at_once else encoder
        )
        self._table = table
        self._folder = folder
        self._stores = Stores(self._stop)
        self._known: dict[str, StoredFile] | None = None
        self._failed_before: set[str] | None = None
        self._policy_before: Policy | None = None

    def prefetch(self, sources: Iterable[Path | Remote] | None = None) -> None:
        """Fetch what is stored, what failed and the policy, once for many recordings, rather than query for each.

        Only recordings that are stored already are compared with that policy; any other is read by the one in force.

        Args:
            sources: the recordings, by default all that are stored.
        """
        self._known = self._catalog.stored_files(None if sources is None else [source_uri(each) for each in sources])
        self._policy_before = self._catalog.policy
        self._failed_before = {failure.uri for failure in self._catalog.failures()}

    def recognised(self, source: Path | Remote) -> RecordingReport | None:
        """Return the report of a file that is stored and needs nothing more, by its name, size and time; else None.

        After `prefetch` that takes 20 us, a tenth of what `load` and `store` take to find the same.
        """
        if self._known is None or self._table or self._folder or isinstance(source, Remote):
            return None
        uri = file_uri(source)
        known = self._known.get(uri)
        if known is None or self._may_have_failed(uri):
            return None
        try:
            state = source.stat()
        except OSError:  # `load` says why
            return None
        if not (stat.S_ISREG(state.st_mode) and known.matches(state)):
            return None
        report = self._update_known(LoadedRecording(source, uri, None, state.st_mtime_ns, known), known, None)
        log(report.fields)
        return report

    def plan(self, source: Path | Remote) -> RecordingReport:
        """Return what would become of a recording by its name, size and time; nothing is read or written.

        Raises:
            MissingExtra: a package for its kind of store is not installed.
        """
        uri = source_uri(source)
        try:
            state = self._state(source)
        except AudioError as error:
            return RecordingReport(uri, "failed", failure=FileFailure(uri, error.reason, str(error)))
        known = self._known_at(uri)
        same = known is not None and state.is_as(known.size_bytes, known.mtime_ns)
        self.row_of(source)
        transcript = self._folder is not None and self._folder.has(source_path(source))
        return RecordingReport(uri, "already" if same else "replaced" if known else "stored", transcript=transcript)

    def load(self, source: Path | Remote, row: Row | None = None) -> LoadedRecording:
        """Decode, segment and encode one recording, in any thread; an error of the file's own is returned, not raised.

        Args:
            source: the recording.
            row: its metadata, in place of the table's.

        Raises:
            e2vsearch.errors.Cancelled: `stop` was set.
            CatalogError, sqlalchemy.exc.SQLAlchemyError: the catalog cannot be read.
        """
        started = time.perf_counter()
        with telemetry.span("load recording") as span:
            loaded = self._load(source, row or self.row_of(source))
            if self._folder is not None and loaded.error is None:
                loaded = replace(loaded, transcript=self._folder.find(source_path(source)))
            new = loaded.recording
            if new is not None:
                span.note(audio_s=new.duration_s, channels=new.channels, segments=len(new.segments))
            if loaded.error is not None:
                span.fail(loaded.error)
        return replace(loaded, seconds=time.perf_counter() - started)

    def store(self, loaded: LoadedRecording, lease: Lease | None = None) -> RecordingReport:
        """Store a loaded recording, in the calling thread; the failure of one is stored with its reason.

        Args:
            loaded: what `load` returned.
            lease: a worker's lease on it, which ends in the same transaction. The worker logs the result, and records
                the failure in the queue.

        Raises:
            CatalogError: the database cannot be written.
            LeaseLost: the lease is another's now, or has run out; nothing was stored.
            E2vsearchError: it failed, where there is a lease.
        """
        with telemetry.span("store recording") as span:
            report = self._stored(loaded, lease)
            span.note(outcome=report.outcome, segments=report.segments)
        return report

    def _stored(self, loaded: LoadedRecording, lease: Lease | None) -> RecordingReport:
        started = time.perf_counter()
        try:
            report = self._store(loaded, lease)
        except CatalogError:
            raise
        except E2vsearchError as error:
            if lease is not None:
                raise
            report = self._failed(loaded, error)
        report = replace(report, seconds=loaded.seconds + time.perf_counter() - started)
        if lease is None:
            log(report.fields)
        return report

    # -- loading -----------------------------------------------------------------------------------------------

    def _known_at(self, uri: str) -> StoredFile | None:
        return recording_at(self._catalog, uri) if self._known is None else self._known.get(uri)

    def _state(self, source: Path | Remote) -> State:
        if isinstance(source, Remote):
            return self._stores.state(source)
        state = stat_of(content_of(source))
        return State(state.st_size, state.st_mtime_ns, None)

    def row_of(self, source: Path | Remote) -> Row | None:
        """Return the metadata that the table has for a recording."""
        return self._table.find(source_path(source), source_uri(source)) if self._table is not None else None

    def policy_of(self, row: Row | None) -> Policy:
        """Return the policy for a recording; the roles that were given count first, then its metadata's."""
        return self._with_given_roles(self._catalog.policy, row)

    def _with_given_roles(self, policy: Policy, row: Row | None) -> Policy:
        return policy.with_roles(self._roles or (row.roles if row is not None else None))

    def _load(self, source: Path | Remote, row: Row | None) -> LoadedRecording:
        loaded = LoadedRecording(source, source_uri(source), row)
        try:
            with self._activity.loading(loaded.uri, source_path(source).name) as heard:
                return self._found(loaded, partial(self._embed, heard))
        except (Cancelled, CatalogError, SQLAlchemyError):
            raise
        except E2vsearchError as error:
            return replace(loaded, error=error)
        except Exception as error:  # whatever a decoder or a network throws, one bad file never stops the rest
            _log.debug("%s", loaded.uri, exc_info=True)
            what = f"unexpected {type(error).__name__}: {error} - please report it, with the file if you can"
            return replace(loaded, error=E2vsearchError(" ".join(f"{loaded.uri}: {what}".split())))

    def _embed(
        self, heard: Callable[[float, float | None], None], path: Path, analysed: Callable[[int], Sequence[int]]
    ) -> EmbeddedAudio:
        encoder = self._encoder or self._context.encoder()
        options, stopped = self._context.speech, self._stop.is_set
        return embed_audio(path, encoder, options, stopped, self._longest_s, analysed, heard)

    def _found(self, loaded: LoadedRecording, embed: Embed) -> LoadedRecording:
        """Recognise what is stored already, by name, size and time or else by content; load what is new."""
        source, row = loaded.source, loaded.row
        state = self._state(source)
        loaded = replace(loaded, mtime_ns=state.mtime_ns or 0)
        known = self._known_at(loaded.uri)
        if known is not None and state.is_as(known.size_bytes, known.mtime_ns):
            return replace(loaded, known=known)
        policy = self.policy_of(row)
        if isinstance(source, Remote):
            with self._stores.fetched(source) as fetched:
                known = self._catalog.file_of_content(fetched.content_sha256)
                if known is None:
                    recording = read_remote(source, state, fetched, embed, row, policy)
                    return replace(loaded, recording=recording)
        else:
            content = content_of(source)
            with readable(content):
                digest = sha256(content, self._stop.is_set)
            known = self._catalog.file_of_content(digest)
            if known is None and self._encoder is None:
                recording, space = read_saved(source, digest, row, policy)
                return replace(loaded, recording=recording, space=space)
            if known is None:
                return replace(loaded, recording=read_audio(source, digest, embed, row, policy))
        moved = known is not None and known.uri != loaded.uri and self._gone(known.uri)
        return replace(loaded, known=known, moved=moved)

    def _gone(self, uri: str) -> bool:
        return not local_path(uri).exists() if uri_scheme(uri) in (None, "file") else self._stores.gone(uri)

    # -- storing -----------------------------------------------------------------------------------------------

    def _store(self, loaded: LoadedRecording, lease: Lease | None) -> RecordingReport:
        if loaded.recording is not None:
            return self._insert(loaded, loaded.recording, lease)
        if loaded.known is not None:
            return self._update_known(loaded, loaded.known, lease)
        raise loaded.error or E2vsearchError(f"{loaded.uri}: nothing was loaded of it")

    def _insert(self, loaded: LoadedRecording, recording: NewRecording, lease: Lease | None) -> RecordingReport:
        if loaded.space is not None:
            self._catalog.pin(loaded.space, SAVED)
        stored = self._catalog.store(recording, lease)
        new = stored.outcome != "already"
        segments = len(recording.segments) if new else 0
        report = RecordingReport(loaded.uri, stored.outcome, stored.id, recording.duration_s, segments=segments)
        if recording.roles is None and new:
            unknown = recording.channels > 1 or bool(self.policy_of(loaded.row).channel_roles)
            report = replace(report, unknown_roles=unknown)
        return self._attach_transcript(loaded, stored.id, report)

    def _update_known(self, loaded: LoadedRecording, known: StoredFile, lease: Lease | None) -> RecordingReport:
        if loaded.moved or (known.uri == loaded.uri and loaded.mtime_ns != known.mtime_ns):
            self._catalog.relocate(known.id, loaded.uri, legible(source_path(loaded.source).stem), loaded.mtime_ns)
        if self._may_have_failed(loaded.uri):  # it could not be read once; now it is a copy of what is stored
            self._catalog.clear_failures([loaded.uri])
        if loaded.row is not None:
            self._catalog.annotate(known.id, loaded.row.metadata, loaded.row.recorded_at)
        if lease is not None:
            finish(self._catalog, lease)
        roles = self._with_given_roles(self._policy_before or self._catalog.policy, loaded.row).roles(known.channels)
        outcome: Outcome = "moved" if loaded.moved else "already"
        other = roles is not None and roles != known.roles
        report = RecordingReport(loaded.uri, outcome, known.id, other_roles=other)
        return self._attach_transcript(loaded, known.id, report)

    def _attach_transcript(self, loaded: LoadedRecording, number: int, report: RecordingReport) -> RecordingReport:
        """Join the transcript; one that is broken fails by its own name, and its recording is stored all the same."""
        if loaded.transcript is None:
            return report
        from e2vsearch.ingest.transcripts.alignment import store

        uri, error, left_out = file_uri(loaded.transcript.path), loaded.transcript.error, 0
        if loaded.transcript.transcript is not None:
            try:
                left_out = store(self._catalog, number, loaded.transcript.transcript).left_out
            except TranscriptError as wrong:
                error = wrong
        if error is not None:
            self._catalog.fail(uri, error.reason, str(error))
            return replace(report, transcript_failure=FileFailure(uri, error.reason, str(error)))
        if self._may_have_failed(uri):
            self._catalog.clear_failures([uri])
        return replace(report, transcript=True, left_out_words=left_out)

    def _may_have_failed(self, uri: str) -> bool:
        return self._failed_before is None or uri in self._failed_before

    def _failed(self, loaded: LoadedRecording, error: E2vsearchError) -> RecordingReport:
        failure = FileFailure(loaded.uri, error.reason, legible(str(error)))
        self._catalog.fail(failure.uri, failure.reason, failure.message)
        return RecordingReport(loaded.uri, "failed", failure=failure)


def worker_count(context: IngestContext, encoder: Encoder | None, requested: int | None = None) -> int:
    """Return how many recordings are loaded at a time: as requested or set, else as many as keep the encoder busy.

    Raises:
        SettingsError: less than one.
    """
    count = requested or context.settings.workers or (encoder.calls_at_once if encoder else 0) or cores()
    if count < 1:
        raise SettingsError(f"--workers must be 1 or more, not {count}")
    return count


def source_uri(source: Path | Remote) -> str:
    """Return the URI of a recording, as it is stored."""
    return source.uri if isinstance(source, Remote) else uri_of(source)


def source_path(source: Path | Remote) -> Path:
    """Return the path by which a recording is matched to metadata and transcripts; of a URL, its path part."""
    return source.path if isinstance(source, Remote) else source


def log(fields: Mapping[str, str | float | None], level: int = logging.INFO) -> None:
    """Write one line of the record log: ``name=value`` of all that is not None."""
    if RECORDS.isEnabledFor(level):
        parts = (f"{key}={_worded(value)}" for key, value in fields.items() if value is not None)
        RECORDS.log(level, "%s", " ".join(parts), extra={"fields": fields})


def _worded(value: str | float) -> str:
    text = str(value)
    return text if text.isprintable() and not set(text) & set(' "=') else json.dumps(text)
