"""Scrub: the service checks the database against itself once a day, in a process of its own.

Rows and vectors prove themselves by checksums whenever they are read. An index of SQLite does not: a bit that changes
in one can hide rows from a filter (1 of 1,080 flips of `benchmarks/faults.py` did), and only a look at the whole file
tells. The look is `e2vsearch db verify`, at low priority, so that no query waits for it.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from e2vsearch.catalog.database import Location
from e2vsearch.errors import E2vsearchError
from e2vsearch.files import private_folder

EVERY_S = 86_400.0
"""Between two looks, on one machine."""

FIRST_S = 60.0
"""After a start, which is busy enough."""

STAMP = "scrubbed"
"""Name of the file in the collection's folder whose time is that of the last look."""

_NICE = 15  # of 19: it takes the time that nobody wants
_log = logging.getLogger(__name__)


class Scrub:
    """Looks at a database a minute after it begins, if nobody here has for a day, and then each day until it ends.

    Args:
        location: of the collection.
        folder: on this machine, where the time of the last look is kept.
        first_s: seconds before the first look.
        every_s: seconds between two looks.

    Attributes:
        faults: what the last look found, one line each with its cure; None before the first.
    """

    def __init__(self, location: Location, folder: Path, first_s: float = FIRST_S, every_s: float = EVERY_S) -> None:
        self.faults: list[str] | None = None
        # not the URL of a folder's database: its name may hold "?" or "%", which mean something there
        url = location.url.render_as_string(hide_password=False)
        self._index = url if "://" in location.named else str(Path(location.named).expanduser().absolute())
        self._folder = folder
        self._first_s = first_s
        self._every_s = every_s
        self._ended = threading.Event()
        self._process: subprocess.Popen[str] | None = None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Look in a thread for as long as the context lasts; a look that is under way is ended with it."""
        thread = threading.Thread(target=self._run, name="e2vsearch-scrub", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            if self._process is not None:
                with suppress(OSError):
                    self._process.kill()
            thread.join()

    def _run(self) -> None:
        wait_s = self._first_s
        while not self._ended.wait(wait_s):
            try:
                wait_s = self._look_when_due()
            except (E2vsearchError, OSError, ValueError) as error:
                _log.warning("scrub: the database was not checked, %s", error)
                wait_s = self._every_s

    def _look_when_due(self) -> float:
        """Return seconds until the next look is due."""
        from filelock import FileLock, Timeout

        stamp = private_folder(self._folder) / STAMP
        try:
            with FileLock(stamp.with_name("scrub.lock"), timeout=0, mode=0o600):
                age_s = time.time() - stamp.stat().st_mtime if stamp.exists() else self._every_s
                if 0 <= age_s < self._every_s:
                    return self._every_s - age_s
                faults = self.look()
                if not self._ended.is_set():
                    self.faults = faults
                    stamp.touch(mode=0o600)
        except Timeout:  # another service of this collection is at it
            pass
        return self._every_s

    def look(self) -> list[str]:
        """Check the database now, and warn of each fault.

        Returns:
            What is damaged, one line each with its cure.

        Raises:
            OSError: no process can be started.
            ValueError: the process ended without an answer; the message is its own.
        """
        command = [sys.executable, "-m", "e2vsearch", "db", "verify", "--format", "jsonl"]
        environment = os.environ | {"E2VSEARCH_INDEX": self._index}  # a URL's password is not for the process list
        with subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            self._process = process
            if hasattr(os, "setpriority"):
                with suppress(OSError):
                    os.setpriority(os.PRIO_PROCESS, process.pid, _NICE)
            if self._ended.is_set():
                process.kill()
            out, err = process.communicate()
            self._process = None
        if self._ended.is_set():
            return []
        if process.returncode not in (0, 1) or not out:
            raise ValueError(err.strip() or f"the process ended with {process.returncode}")
        rows: list[dict[str, Any]] = [json.loads(line) for line in out.splitlines()]
        faults = [f"{row['name']}: {row['found']} - {row['cure']}" for row in rows if not row["ok"]]
        for fault in faults:
            _log.warning("scrub: the database is damaged, %s", fault)
        return faults
