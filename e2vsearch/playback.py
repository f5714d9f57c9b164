"""The audio of stored recordings, wherever it lies: files by their paths, what lies in a store by ranges of its bytes.

A decoder reads what it needs of a recording, a part of a call its header and that part. Blocks of 1 MiB are kept in a
folder of this machine, beside the user's other caches: no export or backup holds them, and what erases a recording
erases its blocks here. Other machines delete theirs when they look next, as they do with their indexes.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

from e2vsearch.audio.sources import RangedAudio
from e2vsearch.catalog.recordings import stored_contents
from e2vsearch.catalog.writer import Catalog
from e2vsearch.errors import AudioEmpty, AudioTruncated, AudioUnreadable, SettingsError
from e2vsearch.files import unwritable, uri_scheme
from e2vsearch.remote.block_cache import BlockCache
from e2vsearch.remote.stores import Stores
from e2vsearch.remote.uris import Remote, State, remote
from e2vsearch.settings import Settings, user_cache
from e2vsearch.types import Recording

if TYPE_CHECKING:
    from e2vsearch.catalog.integrity import IntegrityCheck

BLOCK_BYTES = 1 << 20
"""Read of a store in one request: 30 s of a telephone call in stereo, more than a segment and its surroundings."""

_TRIES = 2  # whoever listens does not wait as long as an ingest


class Playback:
    """Opens the audio of stored recordings; safe to use from several threads.

    Args:
        catalog: of the collection.
        options: of which the cache's folder and size are used.
    """

    def __init__(self, catalog: Catalog, options: Settings) -> None:
        self._catalog = catalog
        self._stores = Stores(tries=_TRIES)
        base = Path(options.cache).expanduser() if options.cache else user_cache()
        self.cache = BlockCache(base / "audio" / catalog.collection_id, options.audio_cache_mb * 1_000_000)

    def source(self, recording: Recording) -> str | RangedAudio:
        """Return what `e2vsearch.audio` opens of a recording; a store is asked whether it is there.

        Raises:
            AudioNotFound, AudioForbidden, AudioUnreachable: its store does not give it.
            MissingExtra: a package for its store is not installed.
        """
        if uri_scheme(recording.uri) in (None, "file"):
            return recording.uri
        there = remote(recording.uri)
        state = self._stores.state(there)
        if state.size_bytes is None:
            raise AudioUnreadable(f"{there.uri}: its server states no size, so that no part of it can be read")
        if state.size_bytes == 0:
            raise AudioEmpty(f"{there.uri} is empty (0 bytes): copy or export it again")
        self.cache.open(recording.content_sha256)
        blocks = _Blocks(self._stores, self.cache, there, state, recording.content_sha256)
        return RangedAudio(there.uri, state.size_bytes, there.path.suffix.lower(), blocks.read)

    def clean(self) -> None:
        """Delete cached blocks of recordings that are no longer stored.

        Raises:
            SettingsError: they cannot be deleted.
        """
        owners = self.cache.owners()
        try:
            self.cache.keep(stored_contents(self._catalog, owners))
        except OSError as error:
            raise SettingsError(unwritable(self.cache.folder, error)) from error

    def verify(self) -> IntegrityCheck:
        """Return whether blocks are cached of recordings that are no longer stored, and of how many."""
        from e2vsearch.catalog.integrity import IntegrityCheck

        owners = self.cache.owners()
        left = set(owners) - stored_contents(self._catalog, owners)
        if left:
            found = f"of {len(left):,} recordings that are not stored: {self.cache.folder}"
            return IntegrityCheck("cached audio", False, found, "delete it: e2vsearch forget")
        return IntegrityCheck("cached audio", True, "intact" if owners else "none")


class _Blocks:
    """Reads one recording in blocks, through the cache."""

    def __init__(self, stores: Stores, cache: BlockCache, there: Remote, state: State, owner: str) -> None:
        self._stores = stores
        self._cache = cache
        self._there = there
        self._size = state.size_bytes or 0
        self._owner = owner
        # what is replaced in its bucket has another time or ETag; of a store that reports neither nothing is kept
        self._version = None if state.mtime_ns is None else f"{self._size:x}-{state.mtime_ns:x}"
        self._held: tuple[int, bytes] = (-1, b"")
        self._lock = threading.Lock()

    def read(self, position: int, count: int) -> bytes:
        """Return the bytes from a position on: up to so many, and none at the end alone."""
        if not 0 <= position < self._size:
            return b""
        number, at = divmod(position, BLOCK_BYTES)
        with self._lock:
            if self._held[0] != number:
                self._held = (number, self._block(number))
            return self._held[1][at : at + count]

    def _block(self, number: int) -> bytes:
        name = f"{self._version}-{number:x}"
        found = self._cache.read(self._owner, name) if self._version is not None else None
        start = number * BLOCK_BYTES
        wanted = min(BLOCK_BYTES, self._size - start)
        if found is not None and len(found) == wanted:
            return found
        data = self._stores.read(self._there, start, wanted)
        if len(data) != wanted:
            raise AudioTruncated(f"{self._there.uri}: {len(data):,} bytes came of {wanted:,} - try again")
        if self._version is not None:
            self._cache.write(self._owner, name, data)
        return data
