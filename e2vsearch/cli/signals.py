"""SIGTERM and Ctrl-C: the first one ends a command in order, a second one at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from e2vsearch.cli.output import note

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def ended_by_signals(first: Handler = signal.default_int_handler) -> Iterator[None]:
    """Have the first signal call a function, by default raise KeyboardInterrupt, and the second end the process.

    Nothing is lost then either: what was committed stays, and leases run out.
    """
    seen = False

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal seen
        if seen:
            os._exit(128 + number)  # as a shell reports it: 130 and 143
        seen = True
        first(number, frame)

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def note_stopping(*, quiet: bool) -> Callable[[int], None]:
    """Return what says how many recordings are waited for, and how not to."""
    return lambda count: note(f"stopping after {count:,} recordings in work, Ctrl-C again to stop now", quiet=quiet)
