"""What a run of ingestion does at the moment, told while it does it: its phase, the files at work, seconds of audio.

How much audio there is in all nobody knows before every file is opened. It is estimated from the files' sizes, by the
seconds a byte of those that have been opened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from e2vsearch.files import legible

Phase = Literal["listing", "opening", "listening", "indexing"]
"""Files are looked for, the encoder is opened, files are listened to, the index is built."""


@dataclass(frozen=True, slots=True)
class Activity:
    """What a run does at the moment."""

    phase: Phase
    at_work: tuple[str, ...] = ()  # names of the files being loaded, the first begun first
    audio_s: float = 0.0  # listened to so far, of the files at work too
    audio_left_s: float | None = None  # an estimate; None before any file has told how long it is


@dataclass(slots=True)
class _Loading:
    """A file at work."""

    name: str
    size_bytes: int
    heard_s: float = 0.0
    duration_s: float | None = None  # as its header has it

    @property
    def left_s(self) -> float:
        return max(0.0, (self.duration_s or 0.0) - self.heard_s)


class ActivityTracker:
    """Collects what loading threads do, and reports it.

    Args:
        report: called after each change, one call at a time, from the thread that made the change.
    """

    def __init__(self, report: Callable[[Activity], None] = lambda _: None) -> None:
        self._report = report
        self._sizes: Mapping[str, int] = {}
        self._unopened_bytes = 0
        self._heard_bytes = 0  # of files that are done and were listened to
        self._heard_s = 0.0
        self._at_work: dict[str, _Loading] = {}
        self._phase: Phase = "listening"
        self._lock = threading.Lock()

    def expect(self, sizes: Mapping[str, int]) -> None:
        """Take note of the bytes of all files that will be loaded, by URI, as far as they are known."""
        self._sizes = sizes
        self._unopened_bytes = sum(sizes.values())

    def enter(self, phase: Phase) -> None:
        """Report that another phase begins."""
        with self._lock:
            self._phase = phase
            self._tell()

    @contextmanager
    def loading(self, uri: str, name: str) -> Iterator[Callable[[float, float | None], None]]:
        """Count a file as one at work; gives what its loader calls with the seconds heard, and those of its header."""
        one = _Loading(legible(name), self._sizes.get(uri, 0))
        with self._lock:
            self._at_work[uri] = one
            self._unopened_bytes -= one.size_bytes
            self._tell()

        def heard(seconds: float, duration_s: float | None) -> None:
            with self._lock:
                one.heard_s, one.duration_s = seconds, duration_s
                self._tell()

        try:
            yield heard
        finally:
            with self._lock:
                self._at_work.pop(uri, None)
                self._heard_s += one.heard_s
                self._heard_bytes += one.size_bytes if one.heard_s else 0
                self._tell()

    def _tell(self) -> None:
        at_work = tuple(each.name for each in self._at_work.values())
        heard_s = self._heard_s + sum(each.heard_s for each in self._at_work.values())
        self._report(Activity(self._phase, at_work, heard_s, self._left_s()))

    def _left_s(self) -> float | None:
        known = [each for each in self._at_work.values() if each.duration_s]
        seconds = self._heard_s + sum(each.duration_s or 0.0 for each in known)
        size = self._heard_bytes + sum(each.size_bytes for each in known)
        if not size or not seconds:
            return None
        return sum(each.left_s for each in known) + self._unopened_bytes * seconds / size
