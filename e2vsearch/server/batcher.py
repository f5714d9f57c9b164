"""One encoder for all requests. Knows signals and vectors, nothing of HTTP, files or collections.

Requests listen in threads of their own; what they want encoded meets in one queue, and one thread encodes it, the
signals of several requests in one call. Encoders make each vector independently of its neighbours, so a vector is the
same bits as without this (a test holds that), and a network that is not safe to share is used by one thread at a time.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ
from e2vsearch.encoders.base import Embeddings, Encoder
from e2vsearch.errors import Cancelled, EncoderError, Overloaded
from e2vsearch.server.executor import stop_requested
from e2vsearch.types import Head

Signals = Sequence[NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """How much is encoded at a time. None of these changes a vector."""

    max_audio_s: float = 120.0  # one request brings 75 s at most, see `collection.hearing`
    max_clips: int = 64
    wait_s: float = 0.003  # for others to join; a clip takes light 20 ms, emotion2vec ten times that
    queue: int = 256  # requests that wait to be encoded


@dataclass(frozen=True, slots=True)
class Batch:
    """What was encoded in one call."""

    clips: int
    audio_s: float
    seconds: float
    requests: int


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    signals: Signals
    stop: Callable[[], bool]
    answer: Future[Embeddings] = field(default_factory=Future)

    @property
    def audio_s(self) -> float:
        return sum(signal.size for signal in self.signals) / SAMPLING_RATE_HZ


class BatchedEncoder(Encoder):
    """An encoder that any number of threads may use at a time."""

    def __init__(
        self,
        encoder: Encoder,
        options: BatchOptions | None = None,
        watch: Callable[[Batch], None] = lambda _: None,
    ) -> None:
        """Starts its thread.

        Args:
            encoder: what encodes; nobody else may use it meanwhile.
            options: how much at a time.
            watch: told of every batch, by the thread that encoded it.
        """
        self.space = encoder.space
        self.min_samples = encoder.min_samples
        self.frame_rate_hz = encoder.frame_rate_hz
        self.blocks = encoder.blocks
        self.opened_by = encoder.opened_by
        self.calls_at_once = encoder.calls_at_once
        self._encoder = encoder
        self._using = threading.Lock()
        self._options = options or BatchOptions()
        self._watch = watch
        self._jobs: queue.Queue[_Job | None] = queue.Queue(self._options.queue)
        self._thread = threading.Thread(target=self._work, name="e2vsearch-encoder", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Encode what is waiting, and end the thread."""
        if self._thread.is_alive():
            self._jobs.put(None)
            self._thread.join()

    def head(self) -> Head | None:
        """The encoder's own."""
        with self._using:
            return self._encoder.head()

    def projection(self) -> bytes | None:
        """The encoder's own."""
        return self._encoder.projection()

    def _encode(self, signals: Signals) -> Embeddings:
        job = _Job(signals, stop_requested())
        if not self._thread.is_alive():
            raise EncoderError("the encoder has been closed - start the service again")
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            raise Overloaded("too many clips wait to be encoded - ask again in a few seconds") from None
        return job.answer.result()

    def _frames(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._using:
            return self._encoder.frames(signal)

    def _layers(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._using:
            return self._encoder.layers(signal)

    def _check(self, signal: NDArray[np.float32]) -> None:
        self._encoder._check(signal)  # refused before it shares a call with the signals of others

    def _work(self) -> None:
        ahead: _Job | None = None  # did not fit into the batch before
        while True:
            job = ahead or self._jobs.get()
            if job is None:
                return
            batch, ahead, closing = self._joined(job)
            self._answer(batch)
            if closing:
                return

    def _joined(self, first: _Job) -> tuple[list[_Job], _Job | None, bool]:
        """A batch that begins with `first`, a job that did not fit in, and whether that was the last of all."""
        batch, audio_s, clips = [first], first.audio_s, len(first.signals)
        until = time.monotonic() + self._options.wait_s
        while True:
            try:
                job = self._jobs.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return batch, None, False
            if job is None:
                return batch, None, True
            audio_s += job.audio_s
            clips += len(job.signals)
            if audio_s > self._options.max_audio_s or clips > self._options.max_clips:
                return batch, job, False
            batch.append(job)

    def _answer(self, batch: list[_Job]) -> None:
        wanted = [job for job in batch if not job.stop()]
        for job in batch:
            if job not in wanted:
                job.answer.set_exception(Cancelled())
        if not wanted:
            return
        signals = [signal for job in wanted for signal in job.signals]
        started = time.perf_counter()
        try:
            with self._using:
                made = self._encoder.encode(signals)
        except Exception as error:  # whatever a network raises belongs to the request, not to this thread
            if len(wanted) == 1:
                wanted[0].answer.set_exception(error)
                return
            for job in wanted:  # whose signal it was shows when each is alone
                self._answer([job])
            return
        self._watch(Batch(len(signals), sum(job.audio_s for job in wanted), time.perf_counter() - started, len(wanted)))
        at = 0
        for job in wanted:
            rows = slice(at, at + len(job.signals))
            at += len(job.signals)
            job.answer.set_result(Embeddings(made.vectors[rows], None if made.scores is None else made.scores[rows]))
