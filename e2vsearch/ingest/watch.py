"""A folder that is watched: which recordings in it are whole and not read yet. Knows names, sizes and times, no audio.

Folders are listed again and again, since a network share tells nobody that something changed, and a listing misses
nothing. A file is taken once its size and time have stayed as they are for a while, as a clock of this machine counts:
the share's own clock may be wrong. Where the system tells, a file that somebody still has open to write is left alone
however quiet it is: a recorder may wait for the next word.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from e2vsearch.audio import AUDIO_SUFFIXES
from e2vsearch.errors import SettingsError
from e2vsearch.ingest.metadata import MetadataTable

STABLE_S = 10.0
_MOST_OF_TIME = 0.1  # listing takes no more of it: a large share is listed less often
_LONGEST_PAUSE_S = 5.0

# what copying and downloading programs call a file that is not whole yet: a.wav.part, but also a.part.wav
_UNFINISHED = frozenset((".part", ".partial", ".tmp", ".temp", ".crdownload", ".download", ".filepart", ".swp"))
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Seen:
    size: int
    mtime_ns: int
    since_s: float  # the watch's clock, when it was first seen so
    given: bool = False


class ReloadedMetadata:
    """A metadata table that is read again when its file has changed.

    Raises:
        SettingsError: it cannot be read now; later that is logged, and what it said before holds.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path).expanduser()
        self._version = self._look()
        self._table = MetadataTable(path)

    def now(self) -> MetadataTable:
        """The table as it is now."""
        version = self._look()
        if version != self._version:
            self._version = version
            try:
                self._table = MetadataTable(self._path)
            except SettingsError as error:
                _log.warning("%s - what it said before holds", error)
        return self._table

    def _look(self) -> tuple[int, int] | None:
        try:
            stat = self._path.stat()
        except OSError:
            return None
        return stat.st_size, stat.st_mtime_ns


class FolderWatch:
    """The recordings of some folders, each given once whenever it is new or changed, and whole.

    Args:
        folders: what is watched, and all below.
        stable_s: how long a file must have stayed as it is.
        parked: when a file failed, by its path: it is not given before it changes.
        writing: whether somebody has a file open to write, where that can be told.

    Raises:
        SettingsError: one of them is no folder.
    """

    def __init__(
        self,
        folders: Iterable[str | os.PathLike[str]],
        *,
        stable_s: float = STABLE_S,
        parked: Mapping[str, datetime] | None = None,
        writing: Callable[[str], bool] | None = None,
    ) -> None:
        self._folders = [os.path.abspath(Path(folder).expanduser()) for folder in folders]  # noqa: PTH100 - as expand
        for folder in self._folders:
            if not Path(folder).is_dir():
                raise SettingsError(f"{folder} is no folder to watch - name one that exists, or leave out --watch")
        if stable_s < 0:
            raise SettingsError(f"--stable-s must be 0 or more, not {stable_s:g}")
        self._stable_s = stable_s
        self._parked = dict(parked or {})
        self._writing = writing or being_written
        self._seen: dict[str, _Seen] = {}
        self._unreadable: set[str] = set()

    @property
    def files(self) -> list[Path]:
        """Every recording seen at the last look."""
        return [Path(path) for path in self._seen]

    def pause_s(self, looked_s: float) -> float:
        """How long to wait after a look that took so long."""
        return max(min(self._stable_s / 2, _LONGEST_PAUSE_S), 0.1, looked_s / _MOST_OF_TIME)

    def look(self, now_s: float) -> list[Path]:
        """Recordings that are ready now, the oldest first.

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
                self._seen[path] = seen = _Seen(stat.st_size, stat.st_mtime_ns, now_s, self._is_parked(path, stat))
            if not seen.given and now_s - seen.since_s >= self._stable_s and not self._writing(path):
                seen.given = True
                ready.append(path)
        return [Path(path) for path in sorted(ready, key=lambda path: (self._seen[path].mtime_ns, path))]

    def _is_parked(self, path: str, stat: os.stat_result) -> bool:
        failed_at = self._parked.pop(path, None)
        # st_ctime as well: a file moved here, or whose permissions were mended, keeps its old time of writing
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


def rounds(
    watch: FolderWatch, stopped: Callable[[], bool], clock: Callable[[], float], wait: Callable[[float], object]
) -> Iterator[list[Path]]:
    """What is ready, look by look, often nothing, until told to stop.

    Args:
        watch: what is looked at.
        stopped: whether to stop.
        clock: seconds, never going back.
        wait: waits so many seconds, or less.
    """
    while not stopped():
        began = clock()
        ready = watch.look(began)
        looked_s = clock() - began
        yield ready
        if not ready and not stopped():
            wait(watch.pause_s(looked_s))


def being_written(path: str) -> bool:
    """Whether some process has a file open to write; False where the system does not tell.

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
