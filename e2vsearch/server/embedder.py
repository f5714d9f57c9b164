"""Audio is embedded within the limits of the service, with one encoder that all requests share."""

from __future__ import annotations

import threading
from collections.abc import Callable

from e2vsearch import audio
from e2vsearch.audio import AudioSource
from e2vsearch.encoders.base import Encoder
from e2vsearch.encoders.batcher import Batch, BatchedEncoder
from e2vsearch.errors import AudioInvalid
from e2vsearch.pipeline import embed_audio
from e2vsearch.server.executor import stop_requested
from e2vsearch.speech import SpeechOptions
from e2vsearch.types import EmbeddedAudio

MAX_CHANNELS = 8
"""Call recorders write 1 to 8; every channel costs as much as a recording of its own."""


class LimitedEmbedder:
    """Embed audio of limited length and channels, for no longer than the request that asks for it may take."""

    def __init__(self, open_encoder: Callable[[], Encoder], max_audio_s: float, watch: Callable[[Batch], None]) -> None:
        """Open nothing yet.

        Args:
            open_encoder: opens the collection's encoder.
            max_audio_s: the longest recording.
            watch: called with every batch that was encoded.
        """
        self._open_encoder = open_encoder
        self._max_audio_s = max_audio_s
        self._watch = watch
        self._batched: BatchedEncoder | None = None
        self._opened: Encoder | None = None  # that `_batched` stands for
        self._former: list[BatchedEncoder] = []  # of spaces that were in use before: requests may still hold them
        self._opening = threading.Lock()

    def encoder(self) -> BatchedEncoder:
        """Return the encoder behind one queue for all requests, opened once for each space that is in use."""
        with self._opening:
            opened = self._open_encoder()
            if self._batched is None or opened is not self._opened:
                if self._batched is not None:
                    self._former.append(self._batched)
                self._opened, self._batched = opened, BatchedEncoder(opened, None, stop_requested, self._watch)
            return self._batched

    def __call__(self, source: AudioSource, _: Callable[[], Encoder], speech: SpeechOptions) -> EmbeddedAudio:
        """Return the segments of a recording with their vectors and the encoder's own probabilities.

        Raises:
            AudioTooLong: it is longer than the service allows, whatever its header says.
            AudioInvalid: it has more than `MAX_CHANNELS` channels.
            Cancelled: the request is over.
        """
        stop = stop_requested()
        with audio.open(source, stop=stop) as opened:
            if (channels := opened.info.channels) > MAX_CHANNELS:
                raise AudioInvalid(f"{channels} channels are more than the {MAX_CHANNELS} of a call: send fewer")
            return embed_audio(opened, self.encoder(), speech, stop, self._max_audio_s)

    def close(self) -> None:
        """Encode what is waiting."""
        for each in (*self._former, self._batched):
            if each is not None:
                each.close()
