"""A collection whose encoder costs nothing, and patience that a test can bear."""

from __future__ import annotations

import e2vsearch
from e2vsearch.collection import Collection
from e2vsearch.ingest.remote.stores import Backoff

QUICK = Backoff(tries=3, first_s=1.0, chance=lambda: 0.5)


def opened(place: object) -> Collection:
    """The collection there, new or not, whose encoder needs no weights."""
    return e2vsearch.open(place, encoder="fake", create=True)  # type: ignore[arg-type]
