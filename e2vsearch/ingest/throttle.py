"""An encoder behind a limit on the seconds of speech that it is given at a time.

An encoder that batches the segments of several recordings needs more of them in work than there are cores. Eight long
ones would bring a minute of speech each, and Ctrl-C would wait until all of it is encoded.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ
from e2vsearch.encoders.base import Embeddings, Encoder
from e2vsearch.errors import Cancelled

_A_CALL_S = 15.0  # of speech: two calls of a minute on two cores, where eight of a clip are joined
_LOOK_S = 0.5  # how soon it is seen that `stop` was set


class ThrottledEncoder(Encoder):
    """An encoder that many threads call; those beyond its limit wait.

    Args:
        encoder: what encodes, with `calls_at_once` set.
        stop: once it is set, waiting calls raise `Cancelled`.
    """

    def __init__(self, encoder: Encoder, stop: threading.Event) -> None:
        self.space = encoder.space
        self.min_samples = encoder.min_samples
        self.frame_rate_hz = encoder.frame_rate_hz
        self.opened_by = encoder.opened_by
        self.calls_at_once = encoder.calls_at_once
        self._encoder = encoder
        self._stop = stop
        self._most = round(_A_CALL_S * encoder.calls_at_once * SAMPLING_RATE_HZ)
        self._held = 0  # samples
        self._changed = threading.Condition()

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        """Encode with the wrapped encoder, when it is this call's turn.

        Raises:
            e2vsearch.errors.Cancelled: `stop` was set before it was this call's turn.
        """
        samples = sum(signal.size for signal in signals)
        with self._changed:
            while self._held and self._held + samples > self._most:  # one that is too long by itself goes alone
                if self._stop.is_set():
                    raise Cancelled
                self._changed.wait(_LOOK_S)
            self._held += samples
        try:
            return self._encoder.encode(signals)
        finally:
            with self._changed:
                self._held -= samples
                self._changed.notify_all()

    def _check(self, signal: NDArray[np.float32]) -> None:
        self._encoder._check(signal)
