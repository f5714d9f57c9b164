"""One encoder for all requests: the same bits as alone, batches of what waits, and errors that harm nobody else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import pytest
from made import speech
from numpy.typing import NDArray

pytest.importorskip("fastapi", reason="the 'serve' extra is not installed")
pytest.importorskip("prometheus_client", reason="the 'serve' extra is not installed")
pytest.importorskip("httpx", reason="the test client needs httpx")

from gated_service import PATIENCE_S, Gate

from e2vsearch.encoders import registry
from e2vsearch.encoders.base import Embeddings, Encoder
from e2vsearch.encoders.batcher import Batch, BatchedEncoder, BatchOptions
from e2vsearch.encoders.fake import FakeEncoder
from e2vsearch.errors import BadSignal, EncoderError, Overloaded
from e2vsearch.types import Head


def clips(count: int) -> list[NDArray[np.float32]]:
    return [speech(1.0 + 0.13 * number, seed=number, pitch_hz=90.0 + 10 * number) for number in range(count)]


@pytest.mark.parametrize("name", ["fake", "light"])
def test_batched_vectors_are_the_same_bits(name: str) -> None:
    encoder = registry.open(name)
    signals = clips(8)
    expected = [encoder.encode([signal]) for signal in signals]
    batches: list[Batch] = []
    batched = BatchedEncoder(encoder, watch=batches.append)
    assert (batched.space, batched.min_samples) == (encoder.space, encoder.min_samples)
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            for made, alone in zip(pool.map(lambda one: batched.encode([one]), signals), expected, strict=True):
                assert np.array_equal(made.vectors, alone.vectors)
                assert made.scores is not None
                assert alone.scores is not None
                assert np.array_equal(made.scores, alone.scores)
    batched.close()
    assert sum(batch.clips for batch in batches) == 24


def test_what_waits_is_encoded_in_one_call() -> None:
    gate = Gate()
    batched = BatchedEncoder(gate, BatchOptions(max_clips=5))
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batched.encode, clips(1))
        assert gate.entered.acquire(timeout=PATIENCE_S)
        rest = [pool.submit(batched.encode, clips(2)) for _ in range(4)]
        while batched.waiting < 8:
            pass
        gate.open.set()
        assert [len(each.result(PATIENCE_S).vectors) for each in (first, *rest)] == [1, 2, 2, 2, 2]
    batched.close()
    assert gate.calls == [1, 5, 3]


def test_a_bad_signal_harms_nobody_else() -> None:
    class Brittle(Gate):
        def _encode(self, signals: Any) -> Embeddings:
            if any(signal[0] == 0.5 for signal in signals):
                self.calls.append(len(signals))
                raise RuntimeError("cannot")
            return super()._encode(signals)

    gate = Brittle()
    batched = BatchedEncoder(gate)
    bad = speech(1.0)
    bad[0] = 0.5
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(batched.encode, clips(1))
        assert gate.entered.acquire(timeout=PATIENCE_S)
        good, wrong = pool.submit(batched.encode, clips(1)), pool.submit(batched.encode, [bad])
        while batched.waiting < 2:
            pass
        gate.open.set()
        assert first.result(PATIENCE_S).vectors.shape == good.result(PATIENCE_S).vectors.shape == (1, 16)
        with pytest.raises(RuntimeError, match="cannot"):
            wrong.result(PATIENCE_S)
        assert batched.encode(clips(2)).vectors.shape == (2, 16)  # its thread lives
    batched.close()


def test_a_full_encoder_queue_and_a_closed_one() -> None:
    gate = Gate()
    batched = BatchedEncoder(gate, BatchOptions(queue=1))
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(batched.encode, clips(1))
        assert gate.entered.acquire(timeout=PATIENCE_S)
        second = pool.submit(batched.encode, clips(1))
        while batched.waiting < 1:
            pass
        with pytest.raises(Overloaded):
            batched.encode(clips(1))
        gate.open.set()
        assert first.result(PATIENCE_S).vectors.shape == second.result(PATIENCE_S).vectors.shape
    batched.close()
    with pytest.raises(EncoderError):
        batched.encode(clips(1))


def test_a_shared_encoder_hides_nothing() -> None:
    """All that an encoder has is there, and the same, behind the queue of all requests."""

    class Headed(FakeEncoder):
        def head(self) -> Head:
            return Head(np.ones((2, 16), np.float32), np.zeros(2, np.float32))

        def projection(self) -> bytes:
            return b"packed"

        def _frames(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.full((3, 16), signal.size, np.float32)

        def _layers(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.full((4, 16), signal.size, np.float32)

    encoder = Headed()
    encoder.min_samples, encoder.frame_rate_hz, encoder.opened_by = 640, 12.5, "/models/mine"
    encoder.blocks, encoder.calls_at_once = 4, 7
    batched = BatchedEncoder(encoder)
    signal = speech(1.0)
    asked = {"encode": ([signal],), "frames": (signal,), "layers": (signal,), "head": (), "projection": ()}
    seen = {name for name in (*vars(Encoder), *Encoder.__annotations__) if not name.startswith("_")}
    # a new one is to be passed on, too
    assert seen == {"space", "min_samples", "frame_rate_hz", "blocks", "opened_by", "calls_at_once", *asked}
    for name in seen:
        own, shared = getattr(encoder, name), getattr(batched, name)
        if name in asked:
            own, shared = own(*asked[name]), shared(*asked[name])
        for one, other in zip(parts_of(own), parts_of(shared), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=name)
    with pytest.raises(BadSignal, match="640"):
        batched.encode([signal[:500]])
    batched.close()
    assert batched.head() is not None
    headless = BatchedEncoder(FakeEncoder())
    assert headless.head() is None
    headless.close()


def parts_of(value: Any) -> list[Any]:
    """Its arrays, where it is made of some."""
    return [getattr(value, each.name) for each in fields(value)] if is_dataclass(value) else [value]
