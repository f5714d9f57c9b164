"""A function called in a process of its own, so that its memory and threads are."""

from __future__ import annotations

import mmap
import multiprocessing
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
_MAP_LOCKED = 0x2000  # Linux; Python names it from 3.13 on
_HELD_SHARE = 0.6  # of what memory is free
_LEAST_FREE = 1 << 30  # bytes: below that the machine ends a process of its own choice, this one perhaps
_LOOK_S = 0.5


class NotFinishedError(Exception):
    """A process took too long, or failed; the text says which."""


def apart(limit_s: float, function: Callable[..., T], *arguments: Any) -> T:
    """Return what a function gives, called in a fresh process, so that its memory and threads are its own.

    Raises:
        NotFinishedError: it took longer than the limit or all memory there was, raised an error or died.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_called, args=(theirs, function, arguments))
    process.start()
    theirs.close()
    try:
        until = time.monotonic() + limit_s
        while not ours.poll(_LOOK_S):
            if time.monotonic() > until:
                raise NotFinishedError(f"not finished after {limit_s:.0f} s")
            if 0 < available_bytes() < _LEAST_FREE:
                taken_mb = memory_mb([process.pid or 0], "VmRSS")
                raise NotFinishedError(f"out of memory, of which its process had {taken_mb:.0f} MB")
        found, value = ours.recv()
        process.join(15)
    except EOFError:
        process.join()
        raise NotFinishedError(f"its process ended with {process.exitcode}") from None
    finally:
        process.terminate()  # one that has answered may still wait for threads of its library
        process.join(15)
        process.kill()
        process.join()
    if not found:
        raise NotFinishedError(str(value))
    return value  # type: ignore[no-any-return]


def _called(answer: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    warnings.simplefilter("ignore")  # rivals' own, of no use to who reads the table
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # what a side has started is ended on the way out
    try:
        answer.send((True, function(*arguments)))
    except Exception as error:  # whatever a rival's library raises is one line of the table
        traceback.print_exc()
        said = str(error).strip().splitlines() or [""]
        answer.send((False, f"{type(error).__name__}: {said[0][:160]}"))


@contextmanager
def in_memory(paths: Iterable[Path]) -> Iterator[None]:
    """Keep files in the page cache: some machines give pages back that nobody touched for seconds.

    Where that is not allowed, or there is no room, they are only read once.
    """
    with ExitStack() as held:
        left = _HELD_SHARE * available_bytes()
        for path in paths:
            with path.open("rb") as file:
                size = path.stat().st_size
                left -= size
                if size and left > 0:
                    with suppress(OSError, ValueError):
                        flags = mmap.MAP_SHARED | _MAP_LOCKED
                        held.enter_context(mmap.mmap(file.fileno(), 0, flags=flags, prot=mmap.PROT_READ))
                        continue
                while file.read(1 << 24):
                    pass
        yield


def available_bytes() -> int:
    """Memory that could be had without swapping, as Linux tells; 0 where it does not."""
    with suppress(OSError):
        told = Path("/proc/meminfo").read_text(encoding="utf-8")
        return int(re.findall(r"^MemAvailable:\s+(\d+) kB", told, re.MULTILINE)[0]) * 1024
    return 0


def memory_mb(pids: Iterable[int], field: str) -> float:
    """Return a field of /proc/PID/status, summed, in MB: VmRSS, RssAnon, VmHWM."""
    texts = [Path(f"/proc/{pid}/status").read_text(encoding="utf-8") for pid in pids]
    return sum(int(re.findall(rf"^{field}:\s+(\d+) kB", text, re.MULTILINE)[0]) for text in texts) * 1024 / 1e6
