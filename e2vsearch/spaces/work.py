"""Recordings as a source of work: their segments' vectors in the new space, one recording at a time."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from e2vsearch.catalog import spaces
from e2vsearch.catalog.writer import Catalog
from e2vsearch.encoders.base import Encoder
from e2vsearch.errors import Cancelled, CatalogError, DamagedRow, E2vsearchError, MissingExtra
from e2vsearch.ingest.reports import FileFailure
from e2vsearch.remote.stores import Stores
from e2vsearch.spaces.spans import Span, embed_spans, opened_source
from e2vsearch.types import recording_id


@dataclass(frozen=True, slots=True)
class Reembedded:
    """The new vectors of one recording's segments, or why there are none."""

    vectors: dict[int, NDArray[np.float32]]  # (dim,), by the segment's number
    scores: dict[int, NDArray[np.float32] | None]  # (labels,)
    failure: FileFailure | None = None


class StoredRecordings:
    """Recordings that lack vectors of the space of a catalog.

    Args:
        target: in the new space.
        numbers: of the recordings.
        encoder: of that space.
        workers: threads that load.
        stop: loading ends between blocks of audio once it is set.
        note: whether the change feed is told of what is stored.
        progress: called with the number of recordings done and of all.
    """

    poll_s = 0.5
    ordered = False

    def __init__(
        self,
        target: Catalog,
        numbers: Iterable[int],
        encoder: Encoder,
        workers: int,
        stop: threading.Event,
        *,
        note: bool,
        progress: Callable[[int, int], None],
    ) -> None:
        self.limit = 2 * workers
        self.failures: dict[int, FileFailure] = {}
        self.recordings = self.segments = 0
        self._target = target
        self._numbers = deque(numbers)
        self._all = len(self._numbers)
        self._encoder = encoder
        self._stop = stop
        self._stores = Stores(stop)
        self._note = note
        self._progress = progress

    def take(self, count: int, in_work: int) -> list[int] | None:  # noqa: ARG002 - as every source
        """Return the next recordings; None after the last."""
        return [self._numbers.popleft() for _ in range(min(count, len(self._numbers)))] or None

    def load(self, item: int) -> Reembedded:
        """Read and embed the segments of one recording; an error of its own is returned, not raised."""
        found = next(iter(self._target.recordings([item], damaged=True)), None)
        if found is None:  # removed meanwhile
            return Reembedded({}, {})
        recording = found[1]
        try:
            rows = spaces.segments_without_vector(self._target, item)
            spans = [Span(row.channel, row.start_s, row.end_s) for row in rows]
            with opened_source(recording, self._stores, self._stop.is_set) as path:
                made = embed_spans(path, spans, self._encoder, self._stop.is_set)
        except (Cancelled, MissingExtra):
            raise
        except E2vsearchError as error:
            if isinstance(error, CatalogError) and not isinstance(error, DamagedRow):
                raise
            return Reembedded({}, {}, FileFailure(recording.uri, error.reason, f"{recording_id(item)}: {error}"))
        numbers = [row.id for row in rows]
        scores = [None] * len(rows) if made.scores is None else list(made.scores)
        return Reembedded(
            dict(zip(numbers, made.vectors, strict=True)), dict(zip(numbers, scores, strict=True))
        )  # fmt: skip

    def store(self, item: int, loaded: Future[Reembedded]) -> bool:
        """Store the vectors of one recording, or note why there are none."""
        with suppress(Cancelled, CancelledError):
            made = loaded.result()
            if made.failure is not None:
                self.failures[item] = made.failure
            elif made.vectors:
                self.segments += spaces.store(self._target, item, made.vectors, made.scores, note=self._note)
                self.recordings += 1
            self._progress(self.recordings + len(self.failures), self._all)
        return True

    def idle(self) -> None:
        """Return at once: there is no waiting for more."""
