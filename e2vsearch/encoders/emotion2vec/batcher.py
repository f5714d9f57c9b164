"""Where calls leave their clips, and threads take them up in batches. Knows lengths and threads, nothing of networks.

Calls of several threads share batches: a thread that is free takes of what waits, whoever's it is. So thirty
recordings of one short clip each are encoded at 0.87 to 0.99 of the rate of one call of thirty (large shape, two cores,
decoding and all else included), where each call waited for the one before it at 0.59 to 0.72, and no
core waits for the slower half of a call. A clip that comes while nothing else is there has all cores to itself.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

Row = TypeVar("Row")

Signals = Sequence[NDArray[np.float32]]


@dataclass(slots=True, eq=False)
class _Call(Generic[Row]):
    """One call that waits for all its rows."""

    left: int
    rows: dict[int, Row] = field(default_factory=dict)
    error: Exception | None = None
    answer: Future[list[Row]] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, eq=False)
class _Clip(Generic[Row]):
    call: _Call[Row]
    position: int
    signal: NDArray[np.float32]
    frames: int


class Batcher(Generic[Row]):
    """Runs clips in batches, of any number of calls at a time.

    Args:
        compute: a row for each signal of a batch, called by `threads` threads at a time, each with one thread of torch.
        alone: the same for a call that is one batch while nothing else is there, in the calling thread.
        threads: how many batches run side by side.
        budget: the most that a batch may weigh, see `e2vsearch.encoders.emotion2vec.batcher.plan_batches`.
        spread: whether few clips are shared out among the threads: yes for cores, no for two that feed one GPU.
    """

    def __init__(
        self,
        compute: Callable[[Signals], list[Row]],
        alone: Callable[[Signals], list[Row]],
        *,
        threads: int,
        budget: float,
        spread: bool,
    ) -> None:
        self._compute = compute
        self._alone = alone
        self._threads = threads
        self._budget = budget
        self._shares = threads if spread else 1
        self._lock = threading.Lock()
        self._waiting: list[_Clip[Row]] = []  # by arrival
        self._busy = 0  # threads that take batches, all of them while a call runs alone
        self._pool: ThreadPoolExecutor | None = None

    def run(self, signals: Signals, frames: Sequence[int]) -> list[Row]:
        """A row for each signal.

        Args:
            signals: one or more.
            frames: their lengths.

        Raises:
            Exception: what `compute` raised for a clip of this call, which it raised for that clip alone as well.
        """
        call = _Call[Row](len(signals))
        clips = [_Clip(call, *each) for each in zip(range(len(signals)), signals, frames, strict=True)]
        with self._lock:
            alone = not self._busy and len(plan_batches(frames, self._budget, self._shares)) == 1
            if alone:
                self._busy = self._threads
            else:
                self._waiting += clips
                self._start()
        if not alone:
            return call.answer.result()
        try:
            return self._alone(signals)
        finally:
            with self._lock:
                self._busy = 0
                self._start()

    def _start(self) -> None:
        """Wake as many threads as there is work for."""
        for _ in range(min(self._threads - self._busy, len(self._waiting))):
            self._workers().submit(self._take_up)
            self._busy += 1

    def _take_up(self) -> None:
        while True:
            with self._lock:
                batch = self._next()
                if not batch:
                    self._busy -= 1
                    return
            for clip, row in zip(batch, self._computed(batch), strict=True):
                self._deliver(clip, row)

    def _next(self) -> list[_Clip[Row]]:
        """The batch with the longest of the clips that came first, filled with any of about that length."""
        if not self._waiting:
            return []
        first = self._waiting[0].call
        plan = plan_batches([clip.frames for clip in self._waiting], self._budget, self._shares)
        taken = next(batch for batch in plan if any(self._waiting[at].call is first for at in batch))
        batch = [self._waiting[at] for at in taken]
        kept = set(taken)
        self._waiting = [clip for at, clip in enumerate(self._waiting) if at not in kept]
        return batch

    def _computed(self, batch: Sequence[_Clip[Row]]) -> list[Row | Exception]:
        try:
            return [*self._compute([clip.signal for clip in batch])]
        except Exception as error:  # memory, most likely; alone a clip takes the least, and fails for nobody else
            return [error] if len(batch) == 1 else [self._computed([clip])[0] for clip in batch]

    def _deliver(self, clip: _Clip[Row], row: Row | Exception) -> None:
        call = clip.call
        with self._lock:
            if isinstance(row, Exception):
                call.error = row
            else:
                call.rows[clip.position] = row
            call.left -= 1
            if call.left:
                return
        if call.error is not None:
            call.answer.set_exception(call.error)
        else:
            call.answer.set_result([call.rows[position] for position in range(len(call.rows))])

    def _workers(self) -> ThreadPoolExecutor:
        """Threads that each compute with one thread of torch, made once.

        `torch.set_num_threads` is about the calling thread and about threads that have not used torch yet, so that the
        latter is put back once all workers are there.
        """
        if self._pool is None:
            import torch

            before, started = torch.get_num_threads(), threading.Barrier(self._threads + 1)

            def start() -> None:
                torch.set_num_threads(1)
                started.wait()

            self._pool = ThreadPoolExecutor(self._threads, "emotion2vec")
            for _ in range(self._threads):
                self._pool.submit(start)
            started.wait()
            torch.set_num_threads(before)
        return self._pool


CPU_BUDGET = 1000
"""Weighted frames of one batch on a core, 14 s of sound: by then the weights are read from memory seldom enough. With
2 s clips of the large shape one at a time cost 0.50 CPU s each, two 0.475, four 0.470, eight 0.460."""

GPU_BUDGET = 32_000
"""Weighted frames of one batch on a GPU: 70 clips of 6 s, at most 4 GB of activations and biases of the large shape."""

LEAST_FULL = 0.92
"""Of a batch's frames so many are some clip's own; the rest is padding, well under the 10 % that is allowed."""

_LEAST_SHARE = 250
"""Weighted frames below which work is not shared out any further: two clips of 2 s."""

_ATTENTION_FRAMES = 1000
"""A frame's share of the attention bias grows with the clip: 16 heads x 4 bytes a frame it attends to, so that 1000
frames make it as large as what else a frame of the large shape takes, some 60 kB."""


def weight(frames: int) -> float:
    """What one clip of so many frames counts for in a budget: its frames, and its attention's memory."""
    return frames * (1 + frames / _ATTENTION_FRAMES)


def plan_batches(frames: Sequence[int], budget: float, shares: int = 1) -> list[list[int]]:
    """Batches of clips, as positions in `frames`, the longest clips first.

    Args:
        frames: the length of each clip, at least 1.
        budget: the most that a batch may weigh, by `weight` of its longest clip times its clips; 0 for one clip each.
        shares: how many will take batches at a time: few clips are spread over all of them.

    Returns:
        Every position once. A clip that is too heavy for the budget by itself is a batch of its own.
    """
    order = sorted(range(len(frames)), key=lambda position: -frames[position])  # stable: no accident of ties
    if shares > 1:
        budget = min(budget, max(_LEAST_SHARE, sum(map(weight, frames)) / shares))
    batches: list[list[int]] = []
    longest = held = 0
    for position in order:
        clips = len(batches[-1]) + 1 if batches else 0
        held += frames[position]
        if not clips or clips * weight(longest) > budget or held < LEAST_FULL * clips * longest:
            batches.append([])
            longest = held = frames[position]
        batches[-1].append(position)
    return batches
