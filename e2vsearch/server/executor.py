"""A bounded executor runs the work of requests: so many threads, so many that wait, each until its deadline.

A request holds a *ticket*. It ends when its result is there, its time is up or its client has disconnected; work that
still waits for a thread is then taken out of the queue, and work that runs finds out through `stop_requested`.
Embedding and reading have an executor each, so that a clip is played without waiting behind sixty uploads.

`anyio.to_thread` would give a thread's token back as soon as its request is over: after a burst of timeouts any number
of threads would then be encoding at a time. Here the place is given back when the thread has ended.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from e2vsearch.errors import Cancelled, Overloaded, TooSlow

T = TypeVar("T")
Disconnected = Callable[[], Awaitable[object]]
"""Returns once the client has gone away."""

_ticket: ContextVar[Ticket | None] = ContextVar("ticket", default=None)


class ClientDisconnected(Exception):
    """The client has gone away."""


def stop_requested() -> Callable[[], bool]:
    """Return a function that says whether the request of this thread is over, for loops that take long."""
    ticket = _ticket.get()
    return ticket.over if ticket is not None else lambda: False


class BoundedExecutor:
    """A fixed number of threads, and a bounded number of requests that wait for one of them.

    Args:
        name: of its threads, and in metrics.
        threads: how many.
        queue: requests that may wait.
        nice: how far its threads step back for all others of the machine, 0 to 19, where threads have priorities of
            their own (Linux).
    """

    def __init__(self, name: str, threads: int, queue: int, nice: int = 0) -> None:
        self.name = name
        self._places = threads + queue
        self._held = 0
        self._running = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, f"e2vsearch-{name}", _step_back, (nice,))

    @property
    def working(self) -> int:
        """Threads at work."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests that wait for a thread."""
        return max(0, self._held - self._running)

    def check(self) -> None:
        """See that there is a place.

        Raises:
            Overloaded: every place is taken.
        """
        if self._held >= self._places:
            raise Overloaded(f"{self._held} requests are in work or waiting already - ask again in a few seconds")

    @contextmanager
    def ticket(self, timeout_s: float) -> Iterator[Ticket]:
        """Hold a place for one request.

        Raises:
            Overloaded: every place is taken.
        """
        with self._lock:
            self.check()
            self._held += 1
        ticket = Ticket(self, time.monotonic() + timeout_s)
        try:
            yield ticket
        finally:
            ticket.ended.set()
            if ticket.future is None:
                self._leave()
            else:
                ticket.future.add_done_callback(self._leave)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Call `function` in a thread, in the context of the caller, as soon as one is free."""
        return self._pool.submit(copy_context().run, self._counted, function)

    def close(self) -> None:
        """Wait for what is in work."""
        self._pool.shutdown()

    def _counted(self, function: Callable[[], T]) -> T:
        with self._lock:
            self._running += 1
        try:
            return function()
        finally:
            with self._lock:
                self._running -= 1

    def _leave(self, _: object = None) -> None:
        with self._lock:
            self._held -= 1


def _step_back(nice: int) -> None:
    """Lower the priority of this thread; elsewhere than on Linux that would be the whole process's."""
    if nice and sys.platform == "linux":
        with suppress(OSError):
            thread = threading.get_native_id()
            os.setpriority(os.PRIO_PROCESS, thread, max(nice, os.getpriority(os.PRIO_PROCESS, thread)))


class Ticket:
    """One request's place, given back when the request is over *and* no thread works for it."""

    def __init__(self, executor: BoundedExecutor, until: float) -> None:
        self._executor = executor
        self._until = until  # of `time.monotonic`
        self.ended = threading.Event()
        self.future: Future[Any] | None = None

    @property
    def left_s(self) -> float:
        """Seconds until its deadline."""
        return max(0.0, self._until - time.monotonic())

    def over(self) -> bool:
        """Return whether the request has ended or its time is up."""
        return self.ended.is_set() or time.monotonic() > self._until

    async def run(self, function: Callable[[], T], disconnected: Disconnected) -> T:
        """Return what `function` returns in a thread of the executor.

        Raises:
            TooSlow: the time is up.
            ClientDisconnected: the client has gone away.
        """
        token = _ticket.set(self)
        try:
            self.future = future = self._executor.submit(function)
        finally:
            _ticket.reset(token)
        result = asyncio.wrap_future(future)
        watch = asyncio.ensure_future(disconnected())
        try:
            either: set[asyncio.Future[Any]] = {result, watch}
            await asyncio.wait(either, timeout=self.left_s, return_when=asyncio.FIRST_COMPLETED)
            if result.done():
                return result.result()
            raise ClientDisconnected if watch.done() else too_slow()
        except Cancelled as error:  # the thread saw the clock first
            raise too_slow() from error
        finally:
            if not result.done():
                self.ended.set()
                result.cancel()  # takes it out of the queue, if it is still in there
            watch.cancel()


def too_slow() -> TooSlow:
    """Return the error for a request whose time is up."""
    return TooSlow("this took longer than a request may - send less audio, or start the service with --timeout-s")
