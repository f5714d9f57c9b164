"""Whisper's log-mel picture of a signal, in numpy.

The constants are those of Whisper's front end (https://github.com/openai/whisper, `whisper/audio.py`), and the bands
are Slaney's (Auditory Toolbox, 1998): linear below 1 kHz, logarithmic above, each triangle of unit area. Unlike
Whisper, nothing is padded to 30 s: a signal gives as many frames as it is long.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ

__all__ = [
    "BANDS",
    "HOP",
    "MIN_SAMPLES",
    "RATE_HZ",
    "WINDOW",
    "centres_hz",
    "decades",
    "log_mel",
    "scaled",
    "speech_level",
]

BANDS = 80
WINDOW = SAMPLING_RATE_HZ * 25 // 1000  # samples: 25 ms
HOP = SAMPLING_RATE_HZ * 10 // 1000  # samples: 10 ms
RATE_HZ = SAMPLING_RATE_HZ / HOP  # frames a second
MIN_SAMPLES = WINDOW  # half a window is mirrored at either end, so half a window and one sample would be the least
_HALF = WINDOW // 2
_FLOOR = 1e-10  # power, so that silence has a logarithm
_LOG_10 = np.float32(np.log(10.0))
_RANGE = 8.0  # decades below the loudest cell of the picture, where the rest is cut off
_ACTIVE = 2.0  # decades below the loudest frame: louder ones are speech, the rest pauses
_SLANEY_BREAK_HZ = 1000.0
_SLANEY_HZ_A_MEL = 200.0 / 3.0  # below the break
_SLANEY_STEP = np.log(6.4) / 27.0  # above it: 27 mels span a factor of 6.4


def log_mel(signal: NDArray[np.float32], ceiling_hz: float | None = None) -> NDArray[np.float32]:
    """Return the log-mel picture of one signal.

    What is more than 8 decades (80 dB) below the loudest cell is cut off there, so the floor depends on the clip's own
    peak, and a gain of g adds log10(g) / 2 to every cell that is above `_FLOOR`.

    Args:
        signal: ``(samples,)`` float32 at 16 kHz, at least `MIN_SAMPLES` long.
        ceiling_hz: bands centred above it are empty, as if the signal had been recorded without them.

    Returns:
        ``(BANDS, samples // HOP)`` float32, C-contiguous; digital silence is -1.5 everywhere.
    """
    return scaled(decades(signal, ceiling_hz))


def decades(signal: NDArray[np.float32], ceiling_hz: float | None = None) -> NDArray[np.float32]:
    """Log10 of the power in each band, ``(BANDS, samples // HOP)``: the picture before it is cut off and scaled."""
    padded = np.pad(signal, _HALF, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: signal.size // HOP]
    filters, cosines, sines = _transform(ceiling_hz)
    after, before = frames[:, 1 : _HALF + 1], frames[:, :_HALF:-1]  # the middle, and around it n and WINDOW - n
    even = after.copy()
    even[:, :-1] += before
    power, imaginary = even @ cosines, (after[:, :-1] - before) @ sines
    power *= power
    imaginary *= imaginary
    power += imaginary
    logarithm: NDArray[np.float32] = np.log10(np.maximum(filters @ power.T, np.float32(_FLOOR)))
    return logarithm


def scaled(logarithm: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the picture of `decades`: cut off 8 decades below the loudest cell, and in Whisper's scale."""
    cut: NDArray[np.float32] = np.maximum(logarithm, logarithm.max() - np.float32(_RANGE))
    cut += np.float32(4.0)
    cut /= np.float32(4.0)
    return cut


def speech_level(logarithm: NDArray[np.float32]) -> float:
    """Log10 of the mean power of the frames of `decades` that are not pauses: within 20 dB of the loudest."""
    power = np.exp(logarithm * _LOG_10).sum(axis=0)
    return float(np.log10(power[power >= power.max() * np.float32(10.0**-_ACTIVE)].mean()))


def centres_hz() -> NDArray[np.float64]:
    """Return the frequency at the top of each band's triangle, ``(BANDS,)``."""
    return _edges_hz()[1:-1]


@cache
def _transform(ceiling_hz: float | None) -> tuple[NDArray[np.float32], ...]:
    """Return filters ``(BANDS, bins)``, cosines ``(_HALF, bins)`` and sines ``(_HALF - 1, bins)``, the window in both.

    The window is even about its middle and zero at its first sample, so what is even of a frame meets cosines alone and
    what is odd sines alone: two products a quarter as large as the transform's own. They take half as long as numpy's
    FFT, which has to transform what lies above the ceiling, too.
    """
    filters = _filters(ceiling_hz)
    filters = filters[:, : 1 + int(np.flatnonzero(filters.any(axis=0)).max())]
    # periodic, as torch.hann_window is by default: np.hanning is symmetric
    window = np.hanning(WINDOW + 1)[1 : _HALF + 1, None]
    angles = np.outer(np.arange(1, _HALF + 1), np.arange(filters.shape[1])) * (2 * np.pi / WINDOW)
    cosines, sines = (window * wave(angles) for wave in (np.cos, np.sin))
    return np.ascontiguousarray(filters), cosines.astype(np.float32), sines[:-1].astype(np.float32)


@cache
def _edges_hz() -> NDArray[np.float64]:
    break_mel = _SLANEY_BREAK_HZ / _SLANEY_HZ_A_MEL
    top_mel = break_mel + np.log(SAMPLING_RATE_HZ / 2 / _SLANEY_BREAK_HZ) / _SLANEY_STEP
    mels = np.linspace(0.0, top_mel, BANDS + 2)
    above = _SLANEY_BREAK_HZ * np.exp(_SLANEY_STEP * (mels - break_mel))
    return np.where(mels < break_mel, mels * _SLANEY_HZ_A_MEL, above)


@cache
def _filters(ceiling_hz: float | None = None) -> NDArray[np.float32]:
    edges = _edges_hz()
    bins_hz = np.fft.rfftfreq(WINDOW, 1.0 / SAMPLING_RATE_HZ)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising = (bins_hz - lower) / (centre - lower)
    falling = (upper - bins_hz) / (upper - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    triangles *= 2.0 / (upper - lower)  # unit area
    if ceiling_hz is not None:
        triangles[centre[:, 0] > ceiling_hz] = 0.0
    return triangles.astype(np.float32)
