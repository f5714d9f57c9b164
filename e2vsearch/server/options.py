"""The options of a service are its key, its folders and its limits."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from e2vsearch import settings
from e2vsearch.errors import SettingsError


@dataclass(frozen=True, slots=True)
class ServiceOptions:
    """The limits of a service.

    Raises:
        SettingsError: a value out of range, or an empty key.
    """

    api_key: str | None = field(default=None, repr=False)  # None: no key, and loopback names only
    roots: tuple[str | os.PathLike[str], ...] = ()  # of files a client may name; outside them no stored one is played
    max_upload_mb: float = 50.0  # of one request's body, all of its files together
    max_audio_s: float = 3600.0  # of one recording that is embedded
    timeout_s: float = 60.0  # from a request to its response, its upload included
    header_s: float = 10.0  # from a connection to the end of a request's header
    body_s: float = 10.0  # from there until the body must come in at 10 kB/s or more
    queue: int = 64  # requests that wait for a thread; further ones get 503
    threads: int = 0  # that embed audio, and as many that read what is stored; 0: one a core

    def __post_init__(self) -> None:
        """Check every value."""
        for name in ("max_upload_mb", "max_audio_s", "timeout_s", "header_s", "body_s"):
            if not 0 < getattr(self, name) < float("inf"):
                raise SettingsError(f"{name} is {getattr(self, name)}: give more than 0")
        for name in ("queue", "threads"):
            if getattr(self, name) < 0:
                raise SettingsError(f"{name} is {getattr(self, name)}: give 0 or more")
        if self.api_key is not None and not self.api_key.strip():
            raise SettingsError("the API key is empty: write one into the file or variable that it comes from")

    @property
    def max_upload_bytes(self) -> int:
        """Return `max_upload_mb` in bytes."""
        return int(self.max_upload_mb * 1_000_000)

    @property
    def thread_count(self) -> int:
        """Return `threads`, with one a core for 0."""
        return self.threads or settings.cores()
