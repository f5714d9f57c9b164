"""How much speech is with an encoder at a time, and how many recordings are in work for one that joins them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from made import noise, save, speech
from numpy.typing import NDArray

import e2vsearch
from e2vsearch.encoders.base import Embeddings
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import BadSignal, Cancelled
from e2vsearch.ingest.throttle import ThrottledEncoder
from e2vsearch.ingest.worker import WorkerOptions

LONG_S = 20.0


class Slow(FakeEncoder):
    """Takes its time until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_at_once = 2  # 30 s of speech
        self.entered, self.go_on = threading.Semaphore(0), threading.Event()

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        self.entered.release()
        assert self.go_on.wait(LONG_S)
        return super()._encode(signals)


def test_what_is_too_much_waits_and_then_has_its_turn() -> None:
    slow, stop = Slow(), threading.Event()
    encoder = ThrottledEncoder(slow, stop)
    signals = [noise(20.0, seed=1), noise(9.0, seed=2), noise(15.0, seed=3)]
    with ThreadPoolExecutor(3) as pool:
        futures = [pool.submit(encoder.encode, [signal]) for signal in signals[:2]]
        for _ in futures:
            assert slow.entered.acquire(timeout=LONG_S)
        futures.append(pool.submit(encoder.encode, [signals[2]]))
        assert not slow.entered.acquire(timeout=0.05), "29 s are with the encoder"
        slow.go_on.set()
        for future, signal in zip(futures, signals, strict=True):
            np.testing.assert_array_equal(
                future.result(LONG_S).vectors, FakeEncoder().encode([signal]).vectors, strict=True
            )
    many = [noise(20.0)] * 2
    np.testing.assert_array_equal(encoder.encode(many).vectors, FakeEncoder().encode(many).vectors)  # 40 s, by itself


def test_who_waits_is_told_to_stop() -> None:
    slow, stop = Slow(), threading.Event()
    encoder = ThrottledEncoder(slow, stop)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(encoder.encode, [noise(30.0)])
        assert slow.entered.acquire(timeout=LONG_S)
        second = pool.submit(encoder.encode, [noise(1.0)])
        stop.set()
        with pytest.raises(Cancelled):
            second.result(LONG_S)
        slow.go_on.set()
        assert len(first.result(LONG_S).vectors) == 1
    assert len(encoder.encode([noise(30.0)]).vectors) == 1, "nothing of it is left behind"


def test_it_is_the_encoder_in_all_else() -> None:
    slow = Slow()
    slow.go_on.set()
    encoder = ThrottledEncoder(slow, threading.Event())
    assert (encoder.space, encoder.min_samples, encoder.opened_by) == (slow.space, slow.min_samples, slow.opened_by)
    with pytest.raises(BadSignal):
        encoder.encode([noise(1.0)[:100]])
    np.testing.assert_array_equal(encoder.encode([speech(1.0)]).vectors, FakeEncoder().encode([speech(1.0)]).vectors)


class Joining(FakeEncoder):
    """Gives nothing until five calls are there at a time: as many as it says that it joins."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_at_once = 5
        self.all_there = threading.Barrier(5)
        self.looked_at = False

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        if self.looked_at:  # the golden vector has been made
            self.all_there.wait(LONG_S)
        self.looked_at = True
        return super()._encode(signals)


@pytest.mark.parametrize("by", ["ingest", "work"])
def test_as_many_recordings_are_in_work_as_the_encoder_joins(tmp_path: Path, by: str) -> None:
    (tmp_path / "calls").mkdir()
    for number in range(5):
        save(tmp_path / "calls" / f"{number}.wav", speech(1.5, seed=number))
    with e2vsearch.open(tmp_path / "index", encoder=Joining(), create=True) as collection:
        if by == "ingest":
            assert collection.ingest(tmp_path / "calls").stored == 5
        else:
            assert collection.queue.add(tmp_path / "calls").queued == 5
            done: list[str] = []
            report = collection.queue.work(WorkerOptions(drain=True), done=lambda each: done.append(each.outcome))
            assert (report.stored, report.dead_letters) == (5, 0)
            assert done == ["stored"] * 5
        assert collection.catalog.counts().recordings == 5
