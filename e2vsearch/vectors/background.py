"""Index builds in a background thread, so that no query waits for one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from e2vsearch.errors import E2vsearchError

_log = logging.getLogger(__name__)


class BackgroundBuilder:
    """One build at a time, in a thread of its own."""

    def __init__(self, maintain: Callable[[], object]) -> None:
        """Start nothing yet.

        Args:
            maintain: builds what is due.
        """
        self._maintain = maintain
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._due: str | None = None

    @property
    def building(self) -> str | None:
        """Why a build is under way, None if none is."""
        return self._due if self._thread is not None and self._thread.is_alive() else None

    def start(self, due: Callable[[], str | None]) -> None:
        """Start a build, if `due` returns a reason and none is under way."""
        with self._lock:
            if self.building:
                return
            self._due = due()
            if self._due is not None:
                self._thread = threading.Thread(target=self._work, name="e2vsearch-build")
                self._thread.start()

    def join(self) -> None:
        """Wait for the build that is under way."""
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        try:
            self._maintain()
        except (E2vsearchError, OSError) as error:  # queries stay exact without it, so this must not end anything
            _log.warning("the index was not rebuilt: %s", error)
