"""Audio is embedded within the limits of the service, with one encoder that all requests share."""

from __future__ import annotations

import threading
from collections.abc import Callable

from e2vsearch import audio
from e2vsearch.audio import AudioSource
from e2vsearch.collection import Collection
from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import AudioInvalid
from e2vsearch.pipeline import embed_audio
from e2vsearch.projections.recenter import recalibrate_stored
from e2vsearch.server.batcher import Batch, BatchedEncoder
from e2vsearch.server.executor import stop_requested
from e2vsearch.speech import SpeechOptions
from e2vsearch.types import EmbeddedAudio

MAX_CHANNELS = 8
"""Call recorders write 1 to 8; every channel costs as much as a recording of its own."""


class LimitedEmbedder:
    """Embed audio of limited length and channels, for no longer than the request that asks for it may take."""

    def __init__(self, max_audio_s: float, watch: Callable[[Batch], None]) -> None:
        """Open nothing yet.

        Args:
            max_audio_s: the longest recording.
            watch: called with every batch that was encoded.
        """
        self._max_audio_s = max_audio_s
        self._watch = watch
        self._batched: BatchedEncoder | None = None
        self._opening = threading.Lock()

    def encoder(self, open_encoder: Callable[[], Encoder]) -> BatchedEncoder:
        """Return the encoder behind one queue for all requests, opened once."""
        with self._opening:
            if self._batched is None:
                self._batched = BatchedEncoder(open_encoder(), watch=self._watch)
            return self._batched

    def embed(self, source: AudioSource, open_encoder: Callable[[], Encoder], speech: SpeechOptions) -> EmbeddedAudio:
        """Return the segments of a recording with their vectors and the encoder's own probabilities.

        Raises:
            AudioTooLong: it is longer than the service allows, whatever its header says.
            AudioInvalid: it has more than `MAX_CHANNELS` channels.
            Cancelled: the request is over.
        """
        info = audio.probe(source)
        if info.channels > MAX_CHANNELS:
            raise AudioInvalid(f"{info.channels} channels are more than the {MAX_CHANNELS} of a call: send fewer")
        return embed_audio(source, self.encoder(open_encoder), speech, stop_requested(), self._max_audio_s)

    def close(self) -> None:
        """Encode what is waiting."""
        if self._batched is not None:
            self._batched.close()


class LimitedCollection(Collection):
    """A collection that embeds through a `LimitedEmbedder`, until `Collection` itself takes ``embed``."""

    def __init__(self, collection: Collection, embedder: LimitedEmbedder) -> None:
        """Share the catalog and the index of an open collection."""
        super().__init__(collection.place, collection.catalog, collection.settings, collection.speech)
        self._shared = collection
        self._lenses = collection._lenses
        self._embedder = embedder

    def encoder(self) -> Encoder:
        """Return the shared encoder."""
        return self._embedder.encoder(self._shared.encoder)

    def hear(self, source: AudioSource) -> EmbeddedAudio:
        """Embed a recording, with probabilities recalibrated as those of stored segments are."""
        embedded = self._embedder.embed(source, self._shared.encoder, self.speech)
        return recalibrate_stored(self.catalog, embedded)

    def close(self) -> None:
        """Wait for an index build; the catalog stays open."""
        self._mender.join()
