"""Who may work when. Knows threads, queues and deadlines, nothing of audio or of routes.

A request takes a *turn* in a *lane*: a fixed number of threads and a bounded number of requests that wait for one.
Listening to audio and reading what is stored have a lane each, so that a clip that is played does not wait behind
sixty uploads. A turn ends when its answer is there, its time is up or its client is gone; work that still waits for a
thread is then taken out of the queue, and work that runs finds out through `asked_to_stop`.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

from e2vsearch.errors import Cancelled, Overloaded, TooSlow

T = TypeVar("T")

Gone = Callable[[], Awaitable[object]]
"""Returns once the client has gone away."""

_turn: ContextVar[Ticket | None] = ContextVar("turn", default=None)


class ClientGone(Exception):
    """Nobody waits for the answer any more."""


def asked_to_stop() -> Callable[[], bool]:
    """Whether the request that this thread works for is over; asked again and again, by whatever takes long."""
    turn = _turn.get()
    return turn.over if turn is not None else lambda: False


class BoundedExecutor:
    """Some threads, and a bounded number of requests that wait for one of them."""

    def __init__(self, name: str, threads: int, queue: int) -> None:
        self.name = name
        self.threads = threads
        self._room = threads + queue
        self._held = 0
        self._running = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=f"e2vsearch-{name}")

    @property
    def working(self) -> int:
        """Threads that are at work."""
        return self._running

    @property
    def waiting(self) -> int:
        """Requests that were let in and have no thread: they queue for one, or are still being uploaded."""
        return max(0, self._held - self._running)

    @contextmanager
    def turn(self, timeout_s: float) -> Iterator[Ticket]:
        """A place in this lane for one request, for so long.

        Raises:
            Overloaded: every place is taken.
        """
        with self._lock:
            if self._held >= self._room:
                raise Overloaded(f"{self._held} requests are in work or waiting already - ask again in a few seconds")
            self._held += 1
        turn = Ticket(self, time.monotonic() + timeout_s)
        try:
            yield turn
        finally:
            turn.end(self._leave)

    def submit(self, function: Callable[[], T]) -> Future[T]:
        """Have a thread of this lane call `function`, in the context of the caller, as soon as one is free."""
        return self._pool.submit(copy_context().run, self._counted, function)

    async def aside(self, function: Callable[[], T]) -> T:
        """What `function` returns, without a turn: more of an answer that has begun already."""
        return await asyncio.wrap_future(self.submit(function))

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


class Ticket:
    """One request's place in a lane. It is given back when the request is over *and* no thread works for it."""

    def __init__(self, lane: BoundedExecutor, until: float) -> None:
        self._lane = lane
        self._until = until  # of `time.monotonic`
        self._ended = threading.Event()
        self._future: Future[Any] | None = None

    @property
    def left_s(self) -> float:
        """How long it may still take."""
        return max(0.0, self._until - time.monotonic())

    def over(self) -> bool:
        """Whether nobody waits for it any more."""
        return self._ended.is_set() or time.monotonic() > self._until

    async def run(self, function: Callable[[], T], gone: Gone) -> T:
        """What `function` returns, called by a thread of the lane.

        Raises:
            TooSlow: the time is up.
            ClientGone: nobody waits for the answer any more.
        """
        token = _turn.set(self)
        try:
            self._future = future = self._lane.submit(function)
        finally:
            _turn.reset(token)
        answer = asyncio.wrap_future(future)
        watch = asyncio.ensure_future(gone())
        try:
            either: set[asyncio.Future[Any]] = {answer, watch}
            await asyncio.wait(either, timeout=self.left_s, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise ClientGone if watch.done() else self.too_slow()
        except Cancelled as error:  # the thread saw the clock first
            raise self.too_slow() from error
        finally:
            if not answer.done():
                self._ended.set()
                answer.cancel()  # takes it out of the queue, if it is still in there
            watch.cancel()

    def too_slow(self) -> TooSlow:
        """The error for a request whose time is up."""
        return TooSlow("this took longer than a request may - send less audio, or start the service with --timeout-s")

    def end(self, leave: Callable[[object], None]) -> None:
        """Call `leave` as soon as no thread works for this turn."""
        self._ended.set()
        if self._future is None:
            leave(None)
        else:
            self._future.add_done_callback(leave)
