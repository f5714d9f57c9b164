"""A small encoder for tests: loudness and pitch in 16 numbers, no weights, no extras. It tells no emotions apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ
from e2vsearch.encoders.base import Embeddings, Encoder
from e2vsearch.types import Space

_BANDS = 16
_FRAME = 640  # samples: 40 ms, so that 25 Hz resolution separates the sines that tests are made of
_HOP = 320  # samples: 50 frames a second, as emotion2vec has


class FakeEncoder(Encoder):
    """Log energies of 16 bands, averaged over time; two made-up classes, "low" and "high", by spectral balance."""

    def __init__(self, revision: str = "fake-1") -> None:
        self.space = Space("fake", revision, _BANDS, ("low", "high"))
        self.min_samples = _FRAME

    def _encode(self, signals: Sequence[NDArray[np.float32]]) -> Embeddings:
        vectors = np.stack([self._frames(signal).mean(axis=0) for signal in signals])
        half = _BANDS // 2
        balance = vectors[:, half:].mean(axis=1) - vectors[:, :half].mean(axis=1)
        high = 1.0 / (1.0 + np.exp(-balance))
        return Embeddings(vectors, np.stack([1.0 - high, high], axis=1).astype(np.float32))

    def _frames(self, signal: NDArray[np.float32]) -> NDArray[np.float32]:
        windows = np.lib.stride_tricks.sliding_window_view(signal, _FRAME)[::_HOP] * np.hanning(_FRAME)
        power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
        edges = np.geomspace(2, power.shape[1], _BANDS + 1).astype(int)  # from 50 Hz to half of SAMPLING_RATE_HZ
        bands = np.add.reduceat(power, edges[:-1], axis=1)
        return np.log(bands / SAMPLING_RATE_HZ + 1e-6).astype(np.float32)
