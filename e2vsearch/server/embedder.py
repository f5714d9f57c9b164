"""A collection as requests may use it. Knows the limits of listening, nothing of HTTP.

Whatever a route calls (`query`, `compare`, a classifier), audio is embedded within the limits of
the service, for no longer than the request in hand may take, and with the one encoder that all requests share.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from e2vsearch import audio
from e2vsearch.audio import AudioSource
from e2vsearch.collection import Collection
from e2vsearch.encoders.base import Encoder
from e2vsearch.encoders.batcher import Batch, BatchedEncoder
from e2vsearch.errors import AudioInvalid
from e2vsearch.pipeline import embed_audio
from e2vsearch.server.executor import asked_to_stop
from e2vsearch.types import EmbeddedAudio

MAX_CHANNELS = 8
"""Call recorders write 1 to 8; every channel costs as much as a recording of its own."""


class LimitedCollection(Collection):
    """An open collection, shared by requests. Closing it leaves the collection it was made of open."""

    def __init__(self, collection: Collection, max_audio_s: float, watch: Callable[[Batch], None]) -> None:
        """Opens nothing yet."""
        super().__init__(collection.place, collection.catalog, collection.settings, collection.speech)
        self._shared = collection
        self._lenses = collection._lenses  # one index for all, whichever projection is in use
        self._max_audio_s = max_audio_s
        self._watch = watch
        self._batched: BatchedEncoder | None = None
        self._opening = threading.Lock()

    def encoder(self) -> Encoder:
        """The collection's encoder, behind one queue for all requests."""
        with self._opening:
            if self._batched is None:
                self._batched = BatchedEncoder(self._shared.encoder(), None, asked_to_stop, self._watch)
            return self._batched

    def hear(self, source: AudioSource) -> EmbeddedAudio:
        """The spoken spans of a recording, with their vectors, for as long as the request in hand may take.

        Raises:
            AudioTooLong: it is longer than the service allows, whatever its header says.
            AudioInvalid: it has more channels than calls have.
            Stopped: nobody waits for it any more.
        """
        with audio.open(source) as opened:
            if (channels := opened.info.channels) > MAX_CHANNELS:
                raise AudioInvalid(f"{channels} channels are more than the {MAX_CHANNELS} of a call: send fewer")
            return embed_audio(opened, self.encoder(), self.speech, asked_to_stop(), self._max_audio_s)

    def close(self) -> None:
        """Encode what is waiting, and wait for an index build that is under way."""
        if self._batched is not None:
            self._batched.close()
        self._mender.join()
