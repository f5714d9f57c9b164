"""Calls share batches, the oldest is served first, each fails for itself, and what waits can be cancelled."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from e2vsearch.encoders.batcher import Batch, Batcher
from e2vsearch.encoders.emotion2vec.batch_plan import plan_batches
from e2vsearch.errors import Cancelled, EncoderError, Overloaded

LONG_S = 60.0


def clip(frames: int, number: int = 0) -> NDArray[np.float32]:
    return np.full(frames, number, np.float32)


class Network:
    """Gives each clip's length and number, and notes its batches; the first waits until it is let go."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.began, self.go_on = threading.Event(), threading.Event()
        self.bad: set[int] = set()

    def __call__(self, signals: Sequence[NDArray[np.float32]]) -> list[tuple[int, int]]:
        self.batches.append([int(signal[0]) for signal in signals])
        self.began.set()
        assert self.go_on.wait(LONG_S)
        if self.bad & set(self.batches[-1]):
            raise MemoryError(f"no room for {self.batches[-1]}")
        return [(signal.size, int(signal[0])) for signal in signals]


class Callers:
    """Calls from threads of their own, one after another; the first finds nobody else there."""

    def __init__(self, batcher: Batcher[Any], network: Network, pool: ThreadPoolExecutor) -> None:
        self.batcher, self.network, self.pool = batcher, network, pool

    def call(self, *signals: NDArray[np.float32], stop: Callable[[], bool] = lambda: False) -> Future[list[Any]]:
        before, first = self.batcher.waiting, not self.network.began.is_set()
        future = self.pool.submit(self.batcher.run, signals, [signal.size for signal in signals], stop)
        if first:
            assert self.network.began.wait(LONG_S)
        else:
            until(lambda: self.batcher.waiting == before + len(signals))
        return future


def until(condition: Callable[[], bool]) -> None:
    for _ in range(20_000):
        if condition():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it never came to that")


def batched(network: Network, threads: int = 1, budget: float = 10_000, **options: Any) -> Batcher[tuple[int, int]]:
    plan = partial(plan_batches, budget=budget, shares=threads)
    return Batcher(network, plan, threads=threads, **options)


def test_calls_that_wait_share_a_batch() -> None:
    network = Network()
    with ThreadPoolExecutor(6) as pool:
        callers = Callers(batched(network), network, pool)
        futures = [callers.call(clip(100, number)) for number in range(5)]
        futures.append(callers.call(clip(99, 5), clip(500, 6)))
        network.go_on.set()
        rows = [future.result(LONG_S) for future in futures]
    assert rows == [*([(100, number)] for number in range(5)), [(99, 5), (500, 6)]]
    assert network.batches == [[0], [1, 2, 3, 4, 5], [6]]


def test_who_came_first_is_served_first() -> None:
    network = Network()
    with ThreadPoolExecutor(4) as pool:
        callers = Callers(batched(network, budget=400), network, pool)
        futures = [callers.call(clip(frames, number)) for number, frames in enumerate((100, 50, 300, 200))]
        network.go_on.set()
        for future in futures:
            future.result(LONG_S)
    assert network.batches == [[0], [1], [2], [3]]


def test_a_call_of_few_clips_is_shared_out_among_threads() -> None:
    network = Network()
    network.go_on.set()
    served = batched(network, threads=2)
    signals = [clip(200, number) for number in range(4)]
    assert served.run(signals, [200] * 4) == [(200, number) for number in range(4)]
    assert sorted(len(batch) for batch in network.batches) in ([1, 1, 2], [2, 2])
    assert served.run([clip(7)], [7]) == [(7, 0)], "and is ready for the next"


def test_a_clip_that_fails_fails_for_its_own_call_alone() -> None:
    network = Network()
    network.bad = {2, 4}
    with ThreadPoolExecutor(4) as pool:
        callers = Callers(batched(network), network, pool)
        futures = [callers.call(clip(100, 0)), callers.call(clip(100, 1)), callers.call(clip(100, 2), clip(100, 3))]
        network.go_on.set()
        assert [futures[each].result(LONG_S) for each in (0, 1)] == [[(100, 0)], [(100, 1)]]
        with pytest.raises(MemoryError, match=r"no room for \[2\]"):
            futures[2].result(LONG_S)
        assert network.batches == [[0], [1, 2, 3], [1], [2], [3]]
        with pytest.raises(MemoryError, match=r"no room for \[4\]"):
            callers.batcher.run([clip(100, 4)], [100])
        assert callers.batcher.run([clip(100, 5)], [100]) == [(100, 5)]


def test_many_threads_and_none_is_forgotten() -> None:
    network = Network()
    network.go_on.set()
    served = batched(network, threads=3, budget=700)
    rng = np.random.default_rng(0)
    calls = [[clip(int(each), number) for each in rng.integers(1, 400, 3)] for number in range(60)]
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda call: served.run(call, [each.size for each in call]), calls))
    assert rows == [[(each.size, number) for each in call] for number, call in enumerate(calls)]
    assert sum(map(len, network.batches)) == 180


def test_a_call_that_is_wanted_no_more_is_passed_over() -> None:
    network = Network()
    with ThreadPoolExecutor(4) as pool:
        callers = Callers(batched(network), network, pool)
        futures = [callers.call(clip(100, 0))]
        futures.append(callers.call(clip(100, 1), clip(300, 2), stop=lambda: True))
        futures.append(callers.call(clip(100, 3)))
        network.go_on.set()
        assert [futures[each].result(LONG_S) for each in (0, 2)] == [[(100, 0)], [(100, 3)]]
        with pytest.raises(Cancelled):
            futures[1].result(LONG_S)
        with pytest.raises(Cancelled):
            callers.batcher.run([clip(100, 4)], [100], lambda: True)
    assert network.batches == [[0], [3]]


def test_so_many_calls_wait_and_no_more() -> None:
    network = Network()
    with ThreadPoolExecutor(4) as pool:
        callers = Callers(batched(network, queue=2), network, pool)
        futures = [callers.call(clip(100, number), clip(100, number)) for number in range(3)]
        with pytest.raises(Overloaded, match="ask again in a few seconds"):
            callers.batcher.run([clip(100)], [100])
        network.go_on.set()
        assert [future.result(LONG_S) for future in futures] == [[(100, number)] * 2 for number in range(3)]


@pytest.mark.parametrize("alone", [True, False])
def test_closing_computes_what_waits_and_takes_nothing_more(alone: bool) -> None:
    network = Network()
    batches: list[Batch] = []
    with ThreadPoolExecutor(4) as pool:
        callers = Callers(batched(network, watch=batches.append), network, pool)
        futures = [callers.call(clip(160, 0), *[] if alone else [clip(400, 1)]), callers.call(clip(160, 2))]
        closing = pool.submit(callers.batcher.close)
        network.go_on.set()
        closing.result(LONG_S)
        assert [future.result(LONG_S) for future in futures][1] == [(160, 2)]
        with pytest.raises(EncoderError, match="closed"):
            callers.batcher.run([clip(100)], [100])
    callers.batcher.close()
    assert sum(batch.clips for batch in batches) == sum(map(len, network.batches)) == (2 if alone else 3)
    assert sum(batch.audio_s for batch in batches) == (0.02 if alone else 0.045)
