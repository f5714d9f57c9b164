"""Segments that conditions leave, kept while nothing in the database changes. Knows statements and ids, no words.

People ask many questions of one filter. Of 1,000,000 segments SQLite takes 0.3 s to give out half.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog.watching import Watch

_MOST_IDS = 4_000_000  # kept over all conditions: 32 MB


class Choices:
    """What was chosen by each condition lately; any number of threads may ask."""

    def __init__(self, watch: Watch) -> None:
        """Asks the database nothing yet."""
        self._watch = watch
        self._lock = threading.Lock()
        self._known: OrderedDict[Hashable, tuple[Hashable, NDArray[np.int64]]] = OrderedDict()

    def of(self, condition: Hashable, choose: Callable[[], NDArray[np.int64]]) -> NDArray[np.int64]:
        """What a condition leaves, not to be written to: the very array given before, where nothing changed since.

        Args:
            condition: what tells it from others.
            choose: looks it up.
        """
        # taken before it is looked up: too old a state only looks again. The day counts, for a filter may say "today"
        state = (datetime.now(UTC).date(), self._watch.state())
        with self._lock:
            before, ids = self._known.get(condition, (None, None))
            if ids is not None and before == state:
                self._known.move_to_end(condition)
                return ids
        ids = choose()
        ids.flags.writeable = False
        with self._lock:
            self._known[condition] = state, ids
            self._known.move_to_end(condition)
            while sum(len(each) for _, each in self._known.values()) > _MOST_IDS:
                self._known.popitem(last=False)
        return ids
