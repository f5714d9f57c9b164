"""Embeds what requests send: within the service's limits, for as long as a request may take, by one shared encoder."""

from __future__ import annotations

import threading
from collections.abc import Callable

from e2vsearch import audio
from e2vsearch.audio import AudioSource
from e2vsearch.encoders.base import Encoder
from e2vsearch.encoders.batcher import Batch, BatchedEncoder
from e2vsearch.errors import AudioInvalid
from e2vsearch.pipeline import embed_audio
from e2vsearch.server.executor import asked_to_stop
from e2vsearch.speech import SpeechOptions
from e2vsearch.types import EmbeddedAudio

MAX_CHANNELS = 8
"""Call recorders write 1 to 8; every channel costs as much as a recording of its own."""


class LimitedEmbedder:
    """The strategy that a served collection embeds with."""

    def __init__(self, encoder: Callable[[], Encoder], max_audio_s: float, watch: Callable[[Batch], None]) -> None:
        """Open nothing yet.

        Args:
            encoder: opens the collection's encoder.
            max_audio_s: how long a clip may be.
            watch: called after each batch.
        """
        self._open = encoder
        self._max_audio_s = max_audio_s
        self._watch = watch
        self._batched: BatchedEncoder | None = None
        self._opening = threading.Lock()

    def encoder(self) -> Encoder:
        """Return the collection's encoder, behind one queue for all requests."""
        with self._opening:
            if self._batched is None:
                self._batched = BatchedEncoder(self._open(), None, asked_to_stop, self._watch)
            return self._batched

    def __call__(self, source: AudioSource, _: Callable[[], Encoder], speech: SpeechOptions) -> EmbeddedAudio:
        """Return the spoken segments of a clip, for as long as the request in hand may take.

        Raises:
            AudioTooLong: it is longer than the service allows, whatever its header says.
            AudioInvalid: it has more channels than calls have.
            Cancelled: nobody waits for it any more.
        """
        with audio.open(source) as opened:
            if (channels := opened.info.channels) > MAX_CHANNELS:
                raise AudioInvalid(f"{channels} channels are more than the {MAX_CHANNELS} of a call: send fewer")
            return embed_audio(opened, self.encoder(), speech, asked_to_stop(), self._max_audio_s)

    def close(self) -> None:
        """Encode what is waiting."""
        if self._batched is not None:
            self._batched.close()
