"""Voice activity detection: how likely each window of samples is speech, by Silero VAD.

A window is 512 samples (32 ms) at 16 kHz, Silero's own step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from e2vsearch.audio import SAMPLING_RATE_HZ
from e2vsearch.speech import silero
from e2vsearch.speech.silero import CONTEXT, WINDOW

FRAMES_HZ = SAMPLING_RATE_HZ / WINDOW
SILENT_DB = -90.0
"""The level given to digital silence, below the last bit of 16-bit audio."""

Windows = NDArray[np.float32]
"""``(windows, channels, 512)``"""


class SileroVAD:
    """Silero VAD on a single-threaded onnxruntime session, see `e2vsearch.speech.silero`.

    Music, tones and noise are no speech to it, in any language. One object takes all channels of one recording and
    keeps their states. A channel that has been silent for half a second is not computed until there is sound again: in
    a call, each side is silent half the time.

    Raises:
        MissingExtra: the package that has the network is not installed.
    """

    QUIET_DB = -75.0  # below G.711's smallest step, so nothing that a telephone carried
    QUIET_WINDOWS = 16  # by then the network has settled on silence, and its state would change no more

    def __init__(self, channels: int) -> None:
        self._session = silero.session(silero.network_path())
        self._states = [(np.zeros(silero.STATE, np.float32), np.zeros(silero.STATE, np.float32))] * channels
        self._context = np.zeros((channels, CONTEXT), np.float32)
        self._quiet = np.zeros(channels, int)  # windows since the channel's last sound

    def push(self, windows: Windows, levels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probabilities ``(windows, channels)`` of the next windows.

        Args:
            windows: one or more.
            levels: ``(windows, channels)`` of `levels_db`.
        """
        out = np.zeros(windows.shape[:2], np.float32)
        contexts = np.concatenate([self._context[None], windows[:-1, :, -CONTEXT:]])
        self._context = windows[-1, :, -CONTEXT:]
        for channel, computed in enumerate(self._computed(levels < self.QUIET_DB).T):
            run = np.flatnonzero(computed)
            if run.size:
                samples = np.concatenate([contexts[run, channel], windows[run, channel]], axis=1)
                hidden, cell = self._states[channel]
                feed = {"windows": samples, "hidden": hidden, "cell": cell}
                out[run, channel], *states = self._session.run(None, feed)
                self._states[channel] = (states[0], states[1])
        return out

    def _computed(self, quiet: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which windows ``(windows, channels)`` come soon enough after a sound."""
        at = np.arange(len(quiet))[:, None]
        after = at - np.maximum.accumulate(np.where(quiet, -1 - self._quiet, at))
        self._quiet = after[-1]
        return after <= self.QUIET_WINDOWS


def levels_db(windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the root mean square of each window ``(..., samples)`` in dB below full scale."""
    out: NDArray[np.float32] = 10 * np.log10(np.mean(windows**2, axis=-1) + np.float32(10 ** (SILENT_DB / 10)))
    return out
