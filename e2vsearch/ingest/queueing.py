"""Recordings into the queue, for workers to take. Knows paths and metadata; reads no audio and opens no encoder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2vsearch.catalog import jobs
from e2vsearch.catalog.jobs import NewJob
from e2vsearch.collection import Collection
from e2vsearch.collection.opened import SAVED
from e2vsearch.errors import SettingsError
from e2vsearch.ingest.metadata import MetadataTable
from e2vsearch.ingest.one import FileFailure, Steps, named, path_of
from e2vsearch.ingest.remote import Stores
from e2vsearch.ingest.sources import sources


@dataclass(frozen=True, slots=True)
class QueueReport:
    """What became of the recordings that were to be queued."""

    queued: int
    waiting: int  # in the queue before, or in work
    parked: int  # given up before, and left so: `e2vsearch queue retry` queues them again
    already: int  # stored before, unchanged
    unused_metadata: int  # rows of --meta that named no recording
    failures: tuple[FileFailure, ...]  # not there, or not to be listed


def enqueue(
    collection: Collection,
    *paths: str | os.PathLike[str],
    priority: int = 0,
    meta: str | os.PathLike[str] | None = None,
) -> QueueReport:
    """Queue recordings for workers, see `e2vsearch.ingest.worker`.

    Args:
        collection: whose queue.
        paths: files, folders, globs and URLs; workers find them by the same names.
        priority: those of a higher one are taken first.
        meta: a CSV whose columns are joined by file name, see `MetadataTable`.

    Raises:
        SettingsError: the metadata cannot be read, or a URL is no recording's or is signed: its signature would have to
            be kept with it.
        CatalogError: the database cannot be written.
    """
    of_vectors = (collection.settings.encoder or collection.catalog.encoder_source) == SAVED
    table = MetadataTable(meta) if meta is not None else None
    stores = Stores()
    steps = Steps(collection, None, table)
    steps.look_ahead()
    already = 0
    failures: list[FileFailure] = []

    def new() -> Iterator[NewJob]:
        nonlocal already
        for source in sources(paths, stores, of_vectors=of_vectors):
            if not isinstance(source, Path) and source.url != source.uri:
                raise SettingsError(f"{source.uri}: a signed address is no good in a queue - use e2vsearch ingest")
            outcome = steps.rehearse(source)
            row = table.find(path_of(source), named(source)) if table is not None else None
            if outcome.failure is not None:
                failures.append(outcome.failure)
            elif outcome.outcome == "already" and row is None:  # with metadata, a worker joins that
                already += 1
            else:
                uri = str(source) if isinstance(source, Path) else source.uri
                yield NewJob(uri, row.metadata if row else None, row.recorded_at if row else None)

    done = jobs.enqueue(collection.catalog, new(), priority)
    unused = table.unused() if table is not None else 0
    return QueueReport(done.queued, done.waiting, done.parked, already, unused, tuple(failures))
