"""The segments that met recent filters, until anything is committed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from datetime import UTC, datetime

import numpy as np
from cachetools import LRUCache
from numpy.typing import NDArray

from e2vsearch.catalog.changes import ChangeDetector

_MOST_IDS = 4_000_000  # in all cached arrays: 32 MB
_ENTRY_IDS = 100  # what an entry without ids counts


class FilterCache:
    """The segments that met recent conditions, least recently used ones dropped; safe to use from several threads."""

    def __init__(self, detector: ChangeDetector, max_ids: int = _MOST_IDS) -> None:
        """Run no statement yet; `max_ids` counts over all cached arrays."""
        self._detector = detector
        self._lock = threading.Lock()
        self._cached: LRUCache[Hashable, tuple[Hashable, NDArray[np.int64]]] = LRUCache(
            max_ids, getsizeof=lambda entry: len(entry[1]) + _ENTRY_IDS
        )

    def of(self, condition: Hashable, select_ids: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """Return the ids that meet a condition: the same array, not writeable, until anything is committed.

        Args:
            condition: the key.
            select_ids: reads the ids.
        """
        # before the ids: too old a state only causes another read. The day counts, for a filter may say "today"
        state = (datetime.now(UTC).date(), self._detector.state())
        with self._lock:
            before, ids = self._cached.get(condition, (None, None))
        if ids is not None and before == state:
            return ids
        ids = select_ids()
        ids.flags.writeable = False
        if len(ids) + _ENTRY_IDS <= self._cached.maxsize:  # a larger one cannot be cached
            with self._lock:
                self._cached[condition] = state, ids
        return ids
