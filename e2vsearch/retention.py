"""Retention: what is older than the collection's ``retention_days`` is forgotten, at once and then each day."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from e2vsearch.catalog.writer import Catalog
from e2vsearch.erasure import forget, retention
from e2vsearch.errors import E2vsearchError
from e2vsearch.files import private_folder
from e2vsearch.index import Index
from e2vsearch.playback import Playback
from e2vsearch.projections.base import RAW

EVERY_S = 86_400.0
"""Between two looks. Each that forgets anything builds the index anew."""

LOCK = "retention.lock"
"""Name of the file in the collection's folder that lets one process at a time forget."""

_log = logging.getLogger(__name__)


def expire(catalog: Catalog, index: Index, playback: Playback) -> int:
    """Forget what is older than the policy of the collection allows, and return how many recordings that were.

    The database is not rewritten as a whole, which would hold up writers: deleted rows are overwritten all the same,
    and in Postgres once it reuses their place. Nothing is done while another process does it.

    Raises:
        CatalogError, GenerationError, SettingsError: the database, the index or the cache cannot be written.
    """
    playback.clean()  # of what was removed elsewhere: each machine has a cache of its own
    age = retention(catalog)
    if age is None:
        return 0
    from filelock import FileLock, Timeout

    try:
        with FileLock(private_folder(index.folder(RAW.revision)) / LOCK, timeout=0, mode=0o600):
            report = forget(catalog, index, playback, older_than=age, vacuum=False, proof=False)
            if index.generations_with(None):  # of what was removed elsewhere: each machine has an index of its own
                index.renew()
    except Timeout:
        return 0
    if report.erased.recordings:
        _log.info("retention: forgot %d recordings older than %g days", report.erased.recordings, age.days)
    return report.erased.recordings


@contextmanager
def running(catalog: Catalog, index: Index, playback: Playback, every_s: float = EVERY_S) -> Iterator[None]:
    """Expire recordings in a thread: when the context begins, and again and again for as long as it lasts."""
    ended = threading.Event()

    def run() -> None:
        while True:
            try:
                expire(catalog, index, playback)
            except (E2vsearchError, OSError) as error:  # a full disk must not end a service
                _log.warning("retention: not done, %s", error)
            if ended.wait(every_s):
                return

    thread = threading.Thread(target=run, name="e2vsearch-retention", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
