"""Watched folders: recordings are ingested once they are complete.

Folders are listed again and again, since a network share reports no changes, and a listing misses none. A file is
taken once its size and time have stayed the same for a while by a clock of this machine: the share's own clock may be
wrong. Where the system reports it, a file that is still open to write is left alone, since a recorder may pause.

watchfiles does not replace this: its polling reports neither what is there at the start nor a share that is away, waits
by a clock that no test can turn, and the settling time needs size and time of each file all the same.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from e2vsearch.audio import AUDIO_SUFFIXES
from e2vsearch.catalog.recordings import local_place
from e2vsearch.errors import SettingsError
from e2vsearch.ingest.context import IngestContext
from e2vsearch.ingest.metadata import ReloadedMetadata
from e2vsearch.ingest.recording import LoadedRecording, RecordingIngestor, worker_count
from e2vsearch.ingest.reports import IngestCounts, IngestReport, RecordingReport
from e2vsearch.ingest.runner import FileList, IngestRunner, transcript_folder
from e2vsearch.policy import Role
from e2vsearch.remote.uris import Remote
from e2vsearch.vectors.background import BackgroundBuilder

STABLE_S = 10.0

_BUILD_EVERY_S = 60.0  # between two looks at whether the index of a watched collection is due

_MAX_LISTING_SHARE = 0.1  # of the time: a large share is listed less often

_MAX_PAUSE_S = 5.0

# what copying and downloading programs call a file that is not whole yet: a.wav.part, but also a.part.wav
_UNFINISHED = frozenset((".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", ".swp"))
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    size: int
    mtime_ns: int
    since_s: float  # by the watch's clock
    returned: bool = False


class FolderWatch:
    """The recordings of some folders, each returned once whenever it is new or changed, and complete.

    Args:
        folders: watched with all below them.
        stable_s: how long a file must have stayed as it is.
        failed: when a file failed, by its path: it is not returned before it changes.
        writing: whether a process has a file open to write.

    Raises:
        SettingsError: one of them is no folder.
    """

    def __init__(
        self,
        folders: Iterable[str | os.PathLike[str]],
        *,
        stable_s: float = STABLE_S,
        failed: Mapping[str, datetime] | None = None,
        writing: Callable[[str], bool] | None = None,
    ) -> None:
        self._folders = [os.path.abspath(Path(folder).expanduser()) for folder in folders]  # noqa: PTH100 - as expand
        for folder in self._folders:
            if not Path(folder).is_dir():
                raise SettingsError(f"{folder} is no folder to watch - name one that exists, or leave out --watch")
        if stable_s < 0:
            raise SettingsError(f"--stable-s must be 0 or more, not {stable_s:g}")
        self._stable_s = stable_s
        self._failed = dict(failed or {})
        self._writing = writing or being_written
        self._seen: dict[str, _Seen] = {}
        self._unreadable: set[str] = set()

    @property
    def files(self) -> list[Path]:
        """Every recording of the last listing."""
        return [Path(path) for path in self._seen]

    def pause_s(self, listing_s: float) -> float:
        """Return how long to wait after a listing that took `listing_s`."""
        return max(min(self._stable_s / 2, _MAX_PAUSE_S), 0.1, listing_s / _MAX_LISTING_SHARE)

    def look(self, now_s: float) -> list[Path]:
        """List the folders, and return the recordings that are ready, the oldest first.

        Args:
            now_s: the time, of any clock that never goes back.
        """
        found: dict[str, os.stat_result] = {}
        lost: list[str] = []  # what could not be looked at: it, or what was in it, may be there still
        for folder in self._folders:
            self._list(folder, found, lost)
        for path in [path for path in self._seen if path not in found]:
            if not any(path == each or path.startswith(each + os.sep) for each in lost):
                del self._seen[path]
        ready = []
        for path, stat in found.items():
            seen = self._seen.get(path)
            if seen is None or (seen.size, seen.mtime_ns) != (stat.st_size, stat.st_mtime_ns):
                self._seen[path] = seen = _Seen(stat.st_size, stat.st_mtime_ns, now_s, self._failed_since(path, stat))
            if not seen.returned and now_s - seen.since_s >= self._stable_s and not self._writing(path):
                seen.returned = True
                ready.append(path)
        return [Path(path) for path in sorted(ready, key=lambda path: (self._seen[path].mtime_ns, path))]

    def _failed_since(self, path: str, stat: os.stat_result) -> bool:
        failed_at = self._failed.pop(path, None)
        # st_ctime as well: a file moved here, or whose permissions were changed, keeps its old time of writing
        return failed_at is not None and max(stat.st_mtime, stat.st_ctime) < failed_at.timestamp()

    def _list(self, folder: str, found: dict[str, os.stat_result], lost: list[str]) -> None:
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except FileNotFoundError:  # removed since its parent was listed
            if folder not in self._folders:
                return
            self._lose(folder, "it is gone", lost)
            return
        except OSError as error:
            self._lose(folder, error.strerror or str(error), lost)
            return
        self._unreadable.discard(folder)
        for entry in listed:
            try:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    self._list(entry.path, found, lost)
                elif _is_finished(entry.name) and entry.is_file():
                    found[entry.path] = entry.stat()
            except OSError:  # gone between the two calls, or a share's hiccup: the next look will tell
                lost.append(entry.path)

    def _lose(self, folder: str, why: str, lost: list[str]) -> None:
        lost.append(folder)
        if folder not in self._unreadable:  # said once, not at every look
            self._unreadable.add(folder)
            _log.warning("%s cannot be listed: %s - what comes there is taken once it can be", folder, why)


def watch(
    context: IngestContext,
    *folders: str | os.PathLike[str],
    workers: int | None = None,
    meta: str | os.PathLike[str] | None = None,
    transcripts: str | os.PathLike[str] | None = None,
    channel_roles: Mapping[int, Role] | None = None,
    stable_s: float = STABLE_S,
    max_audio_s: float | None = None,
    each: Callable[[RecordingReport], None] = lambda _: None,
    stopping: Callable[[int], None] = lambda _: None,
    stop: threading.Event | None = None,
    clock: Callable[[], float] = time.monotonic,
    wait: Callable[[float], object] | None = None,
) -> IngestReport:
    """Add the recordings of some folders, and those that come or change, until told to stop.

    A file is taken once it has stayed as it is for a while and no process has it open to write. One that fails is
    recorded, and tried again when it changes, after a restart too. One that is deleted stays in the collection.

    Args:
        context: of the collection.
        folders: watched with all below them.
        workers: as for `ingest`.
        meta: as for `ingest`; the table is read again when it has changed.
        transcripts: as for `ingest`; one is joined if it is there when its recording is taken.
        channel_roles: as for `ingest`.
        stable_s: how long a file must have stayed as it is.
        max_audio_s: as for `ingest`.
        each: called after each recording.
        stopping: as for `ingest`.
        stop: set it from another thread to end it, as Ctrl-C does.
        clock: seconds, never going back.
        wait: waits so many seconds between two listings, by default until `stop` is set, at most.

    Returns:
        The counts, once it has been stopped.

    Raises:
        EncoderError, MissingExtra, SpaceMismatch, SettingsError, CatalogError: as `ingest`.
    """
    if context.of_vectors:
        raise SettingsError("saved vectors cannot be watched - run e2vsearch ingest when there are new ones")
    stop = stop or threading.Event()
    failed = {local_place(failure.uri): failure.failed_at for failure in context.catalog.failures()}
    folder = FolderWatch(folders, stable_s=stable_s, failed=failed)
    table = ReloadedMetadata(meta) if meta is not None else None
    transcript_folder(transcripts, ())  # what is no folder is an error now, and not at the first recording
    encoder = context.pinned_encoder()
    workers = worker_count(context, encoder, workers)
    counts = IngestCounts(each=each)

    def batch(files: list[Path]) -> FileList:
        found = transcript_folder(transcripts, folder.files)
        rows = table.current() if table else None
        ingestor = RecordingIngestor(context, encoder, rows, found, stop, max_audio_s, channel_roles)
        ingestor.prefetch(files)
        return FileList(ingestor, files, workers, counts)

    source = WatchedFolder(context, folder, batch, counts, clock=clock, wait=wait or stop.wait)
    with context.retention():
        IngestRunner(source, workers, stop, stopping).run()
    source.builder.join()
    return counts.report(interrupted=True)


class WatchedFolder:
    """A watched folder as a source of work: one listing's recordings after the other's.

    Args:
        context: of the collection, whose index is built as it grows.
        folder: what is watched.
        batch: makes a source of the recordings of one listing.
        counts: of the run.
        clock: seconds, never going back.
        wait: waits so many seconds, or less.
    """

    poll_s = FileList.poll_s
    ordered = False  # what was listened to is to be found at once

    def __init__(
        self,
        context: IngestContext,
        folder: FolderWatch,
        batch: Callable[[list[Path]], FileList],
        counts: IngestCounts,
        *,
        clock: Callable[[], float],
        wait: Callable[[float], object],
    ) -> None:
        self.builder = BackgroundBuilder(context.maintain)
        self._context = context
        self._folder = folder
        self._batch = batch
        self._files = batch([])
        self.limit = self._files.limit
        self._counts = counts
        self._clock = clock
        self._wait = wait
        self._built_s = clock() - _BUILD_EVERY_S
        self._pause_s = 0.0

    def take(self, count: int, in_work: int) -> Sequence[Path | Remote]:
        """Return recordings of the last listing, or of a new one once those are stored; never None."""
        files = self._files.take(count, in_work)
        if files is None and not in_work:
            self._build_index()
            began_s = self._clock()
            ready = self._folder.look(began_s)
            self._pause_s = self._folder.pause_s(self._clock() - began_s)
            if ready:
                self._counts.total += len(ready)
                self._files = self._batch(ready)
                files = self._files.take(count, in_work)
        return files or ()

    def load(self, item: Path | Remote) -> LoadedRecording:
        """Load one recording."""
        return self._files.load(item)

    def store(self, item: Path | Remote, loaded: Future[LoadedRecording]) -> bool:
        """Store one recording, or its failure."""
        return self._files.store(item, loaded)

    def idle(self) -> None:
        """Wait before the next listing."""
        self._wait(self._pause_s)

    def _build_index(self) -> None:
        """Build the index in the background, if segments came or went and the last look is a minute ago."""
        if self._counts.changed and self._clock() - self._built_s >= _BUILD_EVERY_S:
            self.builder.start(self._context.due)
            self._counts.changed, self._built_s = False, self._clock()


def being_written(path: str) -> bool:
    """Return whether a process has a file open to write; False where the system does not report it.

    Linux grants a read lease on a file of one's own only while nobody has it open to write (fcntl(2), F_SETLEASE): one
    call, no listing of all processes. It is given back at once. Network shares and other systems have no leases.
    """
    try:
        import fcntl

        set_lease, set_signal = fcntl.F_SETLEASE, fcntl.F_SETSIG
    except (ImportError, AttributeError):
        return False
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        # who opens it to write while the lease lasts makes the kernel signal us: with one that is ignored by default,
        # where SIGIO would end the process
        fcntl.fcntl(file, set_signal, signal.SIGURG)
        fcntl.fcntl(file, set_lease, fcntl.F_RDLCK)
        fcntl.fcntl(file, set_lease, fcntl.F_UNLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def _is_finished(name: str) -> bool:
    suffixes = [suffix.lower() for suffix in Path(name).suffixes]
    return bool(suffixes) and suffixes[-1] in AUDIO_SUFFIXES and not _UNFINISHED & set(suffixes)
